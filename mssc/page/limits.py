"""What the page takes, said before the upload, and checked after it: each refusal is a sentence."""

import os
import shutil
import tempfile
from pathlib import Path

from ..structures import InputError
from ..video import VideoInfo, probe
from ..video.container import VIDEO_SUFFIXES

MAX_UPLOAD_MB = 500
MAX_SECONDS = 300
MAX_SIDE = 4096  # pixels: 4K; larger frames only cost time, the network sees 224
MAX_FRAMES = MAX_SECONDS * 60
MAX_WAITING = 16  # requests in the queue; the next one is told to come back later
KEEP_SECONDS = 3600  # what a visitor leaves behind is deleted when the tab closes, and at the latest after this
FREE_MB = 1000  # left on the disk for others, whatever a visitor wants
DISK_FULL = "The server's disk is full at the moment; please try again in an hour, or run the page on your own machine."
ACCEPTED = ",".join(["video/*", "image/gif", *sorted(VIDEO_SUFFIXES)])
LIMITS = (
    f"Up to {MAX_SECONDS // 60} minutes, {MAX_UPLOAD_MB} MB and {MAX_SIDE} pixels a side; MP4, WebM, MOV, AVI, MKV, GIF and more."
)


def check_upload(path: str | Path | None) -> VideoInfo:
    """Look at what was uploaded, without decoding more than a frame.

    Raises:
        InputError: for no file, no video, one beyond the limits, or a disk too full to work on it. The path is not told.
    """
    if not path:
        raise InputError("Choose or record a video first.")
    try:
        size = os.path.getsize(path) / 2**20
        if size > MAX_UPLOAD_MB:
            raise InputError(f"{path}: has {size:.0f} MB; the limit is {MAX_UPLOAD_MB} MB. Cut it or scale it down first.")
        info = probe(path)
    except OSError:
        raise InputError(f"{path}: is no longer on the server; upload it again.") from None
    if max(info.width, info.height) > MAX_SIDE:
        raise InputError(f"{path}: is {info.width}x{info.height}; the limit is {MAX_SIDE} pixels a side. Scale it down first.")
    if info.duration is not None:
        check_length(path, info.duration, info.frames or 0)
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**20
    if free < FREE_MB + 2 * size:
        raise InputError(DISK_FULL)
    return info


def check_length(path: str | Path, seconds: float, frames: int) -> None:
    """Refuse a video that is too long; also while it is decoded, for files do not always tell, nor always the truth.

    Raises:
        InputError: beyond `MAX_SECONDS` or `MAX_FRAMES`.
    """
    if seconds > MAX_SECONDS or frames > MAX_FRAMES:
        long = f"{clock(seconds)} long" if seconds > MAX_SECONDS else f"{frames} frames long"
        raise InputError(f"{path}: is {long}; the limit is {MAX_SECONDS // 60} minutes (or {MAX_FRAMES} frames). Cut it first.")


def without_folders(error: InputError, *paths: str | Path | None) -> str:
    """The error's sentence with the names of files, but not where they are on the server."""
    sentence = str(error)
    for path in paths:
        if path:
            sentence = sentence.replace(f"{Path(path).parent}{os.sep}", "")
    return sentence


def clock(seconds: float) -> str:
    """Seconds as a person says them: 7 s, 2 min 5 s, 4 h 0 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
