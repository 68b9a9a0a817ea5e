"""A copy of a video that every browser plays: H.264 without boxes, which the page draws over it."""

from collections.abc import Callable
from pathlib import Path

from ..data.decoding import resize
from ..structures import InputError
from ..video import Writer, probe, read

MAX_COPY_SIDE = 1280  # pixels of the longer side


def make_playable(path: str, target: Path, wanted: Callable[[], bool]) -> None:
    """Write the copy, of the same frames at the same times, with its sound.

    Args:
        path: of the video.
        target: of the MP4.
        wanted: whether somebody still waits for it.

    Raises:
        InputError: if the video cannot be read, the copy not written, or nobody wants it any more; nothing is left then.
    """
    info = probe(path)
    scale = min(1.0, MAX_COPY_SIDE / max(info.width, info.height))
    width, height = (max(2, round(side * scale)) for side in (info.width, info.height))
    with Writer(target, width, height, info.rate, info.pixel_aspect, sound=path) as writer:
        for frame in read(path):
            if not wanted():
                raise InputError("Nobody waits for the copy any more.")
            writer.write(resize(frame.image, height, width) if scale < 1 else frame.image, frame.time)
