"""Video files and folders of frames below a folder: which there are, what annotations call them, how long and large they are."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mssc import video as video_files
from mssc.data.decoding import IMAGES
from mssc.structures import InputError

FRAMES_RATE = Fraction(25)
"""Frames per second of a folder of images, which does not say."""


class Media(NamedTuple):
    """A video before it is decoded: frames, width and height in pixels as shown, frames per second, seconds of each frame."""

    frames: int
    width: int
    height: int
    rate: Fraction
    times: np.ndarray


def find(folder: Path) -> dict[str, Path]:
    """Videos below a folder, at any depth: files by their suffix, and folders that hold images and no video.

    Returns:
        Paths by name, in order; the name is the path relative to `folder`, with "/" between its parts, with the suffix.
    """
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(place)
        shown = [name for name in sorted(files) if not name.startswith(".")]
        videos = [here / name for name in shown if Path(name).suffix.lower() in video_files.VIDEO_SUFFIXES]
        images = any(Path(name).suffix.lower() in IMAGES for name in shown)
        if images and not videos and here != folder:
            videos = [here]
        found |= {path.relative_to(folder).as_posix(): path for path in videos}
    return dict(sorted(found.items()))


def resolve(given: Iterable[str], names: Iterable[str]) -> dict[str, str | None]:
    """What annotations call videos, to names of `find`: with or without the suffix, with or without the folder.

    Returns:
        For each given name the one that it means; None if there is none.

    Raises:
        InputError: for a name that fits several videos.
    """
    meant: list[defaultdict[str, list[str]]] = [defaultdict(list) for _ in range(4)]
    for name in names:
        path = Path(name)
        stem = path.name if path.suffix.lower() not in video_files.VIDEO_SUFFIXES else path.stem
        for table, key in zip(meant, (name, path.with_name(stem).as_posix(), path.name, stem), strict=True):
            table[key].append(name)
    result: dict[str, str | None] = {}
    for name in given:
        plain = name.replace("\\", "/").removeprefix("./")
        fits = next((table[plain] for table in meant if plain in table), [])
        if len(fits) > 1:
            raise InputError(
                f"the video {name!r} may be {fits[0]} or {fits[1]}; write the path from the videos' folder, with the suffix."
            )
        result[name] = fits[0] if fits else None
    return result


def look(path: Path, rate: Fraction = FRAMES_RATE) -> Media:
    """Open a video, count its frames and decode its first one. Containers' own counts are often wrong: see `mssc.video.times`.

    Args:
        path: a video file, or a folder of images.
        rate: frames per second of a folder of images.

    Raises:
        InputError: if it cannot be read.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith("."))
        if not files:
            raise InputError(f"the folder {path} holds no image ({', '.join(IMAGES)}).")
        try:
            with Image.open(files[0]) as image:
                return Media(len(files), image.width, image.height, rate, np.arange(len(files)) / float(rate))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{files[0]} cannot be read as an image: {error}.") from None
    status = path.stat()
    return _look(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=10_000)
def _look(path: Path, *_: int) -> Media:
    """Of a video file as it is; each part of a data set asks anew."""
    info = video_files.probe(path)
    times = video_files.times(path)
    return Media(len(times), info.width, info.height, info.rate, times)


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Names for a message: "a, b, c and 4 more"."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def say_missing(absent: Mapping[str, object] | list[str], total: int, where: str) -> str:
    """The sentence on videos that are annotated and not there."""
    return f"{len(absent)} of {total} annotated videos are not in {where}: {first_few(absent)}"
