"""Open a video file that nobody vouches for, and decode what can be decoded.

The demuxer gets an open file instead of a name, and a list of the formats it may use, so a playlist that poses as a video cannot
make it open another file or an address. Sizes are checked before a frame is allocated. Damage is logged and passed over.
"""

import contextlib
import io
import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av
from av.container import Container, InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from ..structures import InputError

log = logging.getLogger(__name__)

MAX_SIDE = 8192
"""The longest side of a frame, in pixels."""

MAX_PIXELS = 8192 * 4352
"""The largest frame: 8K with room for a codec's padding, 107 MB as RGB."""

MAX_THREADS = 4
"""Of a decoder or encoder. Each thread holds a frame, so their number bounds memory; more gain little beside the detector."""

_NAMES = (
    "264 265 3g2 3gp 3gpp asf avi divx dv f4v flv gif h264 h265 hevc insv ivf lrv m2p m2t m2ts m2v m4v mjpeg mjpg mkv mod mov mp4 mpe "
    "mpeg mpg mpv mts mxf nut ogm ogv qt rm rmvb tod tp trp ts vob vro webm wmv wtv xvid y4m"
)
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
"""What a file is named that may be a video, in small letters: in folders, in lists of data sets, in the page's picker."""

FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,mxf,nut,ivf,obu,h264,hevc,vvc,h263,m4v,mjpeg,"
    "yuv4mpegpipe,dv,rm,wtv,amv,mp3,wav,flac,aac,ac3,aiff"
)
"""Demuxers that read the one file they are given. Left out are playlists (hls, dash, concat), session descriptions, numbered
images and devices. Sound is in, so that it can be told from damage."""

PLAYLISTS = {
    b"#EXTM3U": "an HLS playlist",
    b"ffconcat": "a list of files to join",
    b"v=0": "a session description (SDP)",
    b"<?xml": "an XML file, perhaps a playlist",
    b"<MPD": "a DASH playlist",
    b"[playlist]": "a playlist",
}

PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
"""How JPEG, PNG, BMP and TIFF begin."""

PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"avif")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # `Path` makes one slash of two; one letter is a drive
_BOXES = (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip")
_EBML = b"\x1a\x45\xdf\xa3"
UNKNOWN = 2  # a tag of colour that says nothing
_MOST_BOXES = 10_000
_FAILURES = 50  # in a row, after which the rest of a file counts as unreadable


@contextlib.contextmanager
def open_video(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the film of a file: its default or its longest video stream, no cover picture.

    Raises:
        InputError: if the path is no readable regular file, or its content no video of at most `MAX_SIDE` and `MAX_PIXELS`.
    """
    with _open_file(path) as file:
        with _demuxer(path, file) as container:
            films = find_films(path, container)
            if len(films) == 1:
                yield container, _ready(path, films[0])
                return
            index = container.streams.video.index(_longest(path, container, films))
        with _demuxer(path, file) as container:
            yield container, _ready(path, container.streams.video[index])


def _demuxer(path: str | Path, file: BinaryIO) -> InputContainer:
    file.seek(0)
    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
        return av.open(file, "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path}: {_why_not_opened(file, error)}") from error


def _ready(path: str | Path, stream: VideoStream) -> VideoStream:
    """The stream, checked and set up to be decoded."""
    context = stream.codec_context
    check_size(path, context.width, context.height)
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_type = "AUTO"
    context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
    return stream


def decode(path: str | Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield every frame that can be had, in the order of presentation. Errors are counted, logged and passed over.

    Raises:
        InputError: if there is no frame at all, or one is larger than allowed.
    """
    frames, errors, patched, avi = 0, 0, 0, is_avi(container)
    context = stream.codec_context
    # By the container, before the decoder has its say.
    told = context.colorspace, context.color_primaries, context.color_trc, context.color_range
    for packet in demux(path, container, stream):
        try:
            decoded = packet.decode()
        except (av.FFmpegError, OSError) as error:
            errors += 1
            if errors == 1:
                log.warning("%s: damaged after %d frames (%s); what can be decoded is kept.", path, frames, _reason(error))
            continue
        for frame in decoded:
            check_size(path, frame.width, frame.height)
            frames += 1
            patched += frame.is_corrupt
            if avi:
                frame.pts = frame.dts
            _tag(frame, *told)
            yield frame
    if errors > 1:
        log.warning("%s: %d pieces of it could not be decoded.", path, errors)
    if patched:
        log.warning("%s: %d of its %d frames are damaged; the decoder patched them.", path, patched, frames)
    if not frames:
        why = f"it is empty, damaged, encrypted or larger than {MAX_SIDE} pixels a side"
        raise InputError(f"{path}: not one frame can be decoded: {why}. Get the complete file.")


def _tag(frame: VideoFrame, matrix: int, primaries: int, transfer: int, reach: int) -> None:
    """Give a frame the container's tags of colour where its own say nothing: some encoders, and tools that mend tags, write only those."""
    if frame.colorspace == frame.color_primaries == frame.color_trc == UNKNOWN and reach == ColorRange.JPEG:
        frame.color_range = reach  # HEVC's decoder says limited where nothing is said
    if frame.colorspace == UNKNOWN != matrix:
        frame.colorspace = matrix
    if frame.color_primaries == UNKNOWN != primaries:
        frame.color_primaries = primaries
    if frame.color_trc == UNKNOWN != transfer:
        frame.color_trc = transfer


def ignored_films(path: str | Path, container: Container) -> int:
    """How many more MP4s or FLVs follow the first one in a file, as `cat` joins them: players show the first alone, and so does FFmpeg."""
    names = container.format.name.split(",")
    return _more_mp4s(path) if "mov" in names else _more_flvs(path) if "flv" in names else 0


def _more_flvs(path: str | Path) -> int:
    """FLVs behind the first: where a piece of it, with its length behind it, would begin, another one does."""
    found = 0
    with contextlib.suppress(OSError), open(path, "rb") as file:
        while len(head := file.read(11)) == 11:
            if head[:3] == b"FLV":
                found += 1
                file.seek(int.from_bytes(head[5:9], "big") + 4 - 11, os.SEEK_CUR)
            elif head[0] in (8, 9, 18):  # sound, pictures, data
                file.seek(int.from_bytes(head[1:4], "big") + 4, os.SEEK_CUR)
            else:
                break  # damage
    return max(found - 1, 0)


def _more_mp4s(path: str | Path) -> int:
    kinds = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        size, place = os.fstat(file.fileno()).st_size, 0
        while place + 8 <= size and len(kinds) < _MOST_BOXES:
            file.seek(place)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            length = int.from_bytes(head[8:16], "big") if length == 1 else length
            if length < 8:
                break  # to the end of the file, or damage
            kinds.append(kind)
            place += length
    # Pieces of a stream repeat their index, and are all shown.
    return 0 if b"moof" in kinds else max(kinds.count(b"moov") - 1, 0)


def is_avi(container: Container) -> bool:
    """Whether frames have no time stamps but the order of their packets, and those that FFmpeg makes up are wrong with B-frames."""
    return container.format.name == "avi"


def check_size(path: str | Path, width: int, height: int) -> None:
    """Refuse frames that would not fit into memory.

    Raises:
        InputError: beyond `MAX_SIDE` or `MAX_PIXELS`.
    """
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        limit = f"{MAX_SIDE} pixels a side and {MAX_PIXELS / 1e6:.1f} million in all"
        raise InputError(f"{path}: says that it is {width}x{height}; the limit is {limit}. Scale it down first.")


def _open_file(path: str | Path) -> BinaryIO:
    try:
        # Without blocking: opening a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        if _ADDRESS.match(str(path)):
            raise InputError(f"{path}: is an address, not a file; download the video first and give its path.") from error
        if os.path.islink(path):
            raise InputError(f"{path}: is a link to {os.readlink(path)}, which is not there.") from error
        raise InputError(f"{path}: there is no such file; check the path.") from error
    except PermissionError as error:
        # Windows says so of folders too.
        why = "is a folder; give a video file in it" if Path(path).is_dir() else "no permission to read it; ask its owner"
        raise InputError(f"{path}: {why}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({_reason(error)}); check the path.") from error
    status, why = os.fstat(descriptor), ""
    if stat.S_ISDIR(status.st_mode):
        why = "is a folder; give a video file in it"
    elif not stat.S_ISREG(status.st_mode):
        why = "is no regular file; give a video file"
    elif status.st_size == 0:
        why = "is empty (0 bytes); copy or download it again"
    if why:
        os.close(descriptor)
        raise InputError(f"{path}: {why}.")
    # Opened by number: the demuxer sees no name, so neither a pattern nor a wrong extension in it matters.
    return _File(io.FileIO(descriptor))


class _File(io.BufferedReader):
    def seek(self, offset: int, whence: int = 0) -> int:
        """As always, but that places which are none, as damaged files name them, give -1: what is raised here, PyAV prints."""
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _why_not_opened(file: BinaryIO, error: Exception) -> str:
    file.seek(0)
    head = file.read(4096)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, kind in PLAYLISTS.items():
        if text.startswith(start):
            return f"is {kind}, not a video; give the video file itself."
    if head.startswith(PICTURES) or head[8:12] == b"WEBP" or head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS:
        return "is a picture, not a video; give a video file."
    if not head.translate(None, bytes(range(7, 14)) + bytes(range(32, 256))):
        return "is a text file, not a video; give a video file."
    if head[4:8] in _BOXES or head.startswith(_EBML):
        return "its index is missing or damaged, as when a recording or download is cut short; get the complete file."
    return f"is not a video that can be read ({_reason(error)}); convert it to MP4 first."


def _reason(error: Exception) -> str:
    """Without PyAV's "[Errno 1094995529] … : 'name'"."""
    return getattr(error, "strerror", None) or str(error)


def find_films(path: str | Path, container: InputContainer) -> list[VideoStream]:
    """The video streams that are no pictures and can be decoded: one at least."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        kinds = ["a cover picture" if s.type == "video" else s.type for s in container.streams]
        found = f", only {' and '.join(dict.fromkeys(kinds))}" if kinds else ""
        raise InputError(f"{path}: has no video{found}; give a file with moving pictures.")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise InputError(f"{path}: its video codec is unknown here; convert it to H.264 first.")
    return decodable


def _longest(path: str | Path, container: InputContainer, films: list[VideoStream]) -> VideoStream:
    """The stream that a player shows: of those with more than one frame the default, else the longest, else the largest.

    Their packets are read for it: what containers say of single streams is too often missing.
    """
    shown: dict[int, list[float]] = {film.index: [] for film in films}
    for packet in demux(path, container, *films):
        if packet.size and packet.dts is not None and not packet.is_discard:
            shown[packet.stream.index].append(float(packet.dts * packet.time_base))
    length = {index: max(seconds) - min(seconds) if len(seconds) > 1 else 0.0 for index, seconds in shown.items()}
    moving = [film for film in films if len(shown[film.index]) > 1] or films
    moving = [film for film in moving if film.disposition & Disposition.default] or moving
    most = max(length[film.index] for film in moving)
    alike = [film for film in moving if length[film.index] >= 0.95 * most]
    return max(alike, key=lambda film: film.codec_context.width * film.codec_context.height)


def demux(path: str | Path, container: InputContainer, stream: Stream, *more: Stream) -> Iterator[av.Packet]:
    """Packets up to the end of the file, over damage, and last the empty one that makes the decoder give what it still holds."""
    failures = 0
    while 0 <= failures < _FAILURES:
        try:
            for packet in container.demux(stream, *more):
                # An empty one in the middle stands for a dropped frame and is no damage; to some decoders it would mean the end.
                if packet.size:
                    failures = 0
                    yield packet
            failures = -1
        except IndexError:  # PyAV's, behind the last packet, where streams appeared in mid-file
            failures = -1
        except (av.FFmpegError, OSError) as error:
            failures += 1
            if failures == 1:
                log.warning("%s: damaged (%s); reading on behind the damage.", path, _reason(error))
    flush = av.Packet()
    flush.stream = stream
    if stream.time_base:
        flush.time_base = stream.time_base
    yield flush
