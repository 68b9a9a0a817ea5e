"""What is input, and where results go: names under which nothing of anybody else's is overwritten."""

import csv
import json
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from ..files import IMAGES, shortened, walk
from ..structures import InputError
from ..video import VIDEO_SUFFIXES, is_drawn
from .result import CSV_COLUMNS

SUFFIXES = (".json", ".csv", ".mp4")
LONGEST_NAME = 255  # bytes: what most file systems allow


class Source(NamedTuple):
    """A video to look at, and its path below the folder that was given: its name, if it was named itself."""

    file: Path
    below: Path


def find_sources(given: Iterable[Path]) -> tuple[list[Source], list[Path], list[Path]]:
    """Videos that are named, or lie in folders that are, at any depth.

    Files and folders whose names begin with a dot are none: macOS keeps notes beside each file under such names.

    Args:
        given: files and folders, also with ``*`` and ``?`` in their names, which some shells leave to the programs.

    Returns:
        The videos, each once; and of those folders, left out, the annotated videos of earlier runs, and what is no video by its name.

    Raises:
        InputError: if nothing was given, nothing has such a name, or a folder holds no video.
    """
    found: dict[Path, Source] = {}
    drawn: list[Path] = []
    others: list[Path] = []
    for path in (match for one in given for match in _matches(one)):
        if not path.is_dir():
            found.setdefault(path.resolve(), Source(path, Path(path.name)))
            continue
        files = sorted(file for _, files in walk(path) for file in files)
        inside = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
        others += [file for file in files if file.suffix.lower() not in VIDEO_SUFFIXES]
        earlier = [file for file in inside if is_drawn(file)]
        drawn += earlier
        if len(earlier) == len(inside):
            but = f" but {len(earlier)} annotated by an earlier run" if earlier else ""
            if any(file.suffix.lower() in IMAGES for file in others):
                raise InputError(f"the folder {path} holds images and no video{but}; make a video file of them first.")
            raise InputError(
                f"the folder {path} holds no video{but} ({', '.join(sorted(VIDEO_SUFFIXES))}); name the files themselves."
            )
        for file in inside:
            if file not in earlier:
                found.setdefault(file.resolve(), Source(file, file.relative_to(path)))
    if not found:
        raise InputError("no video was named; give video files or folders of them.")
    return list(found.values()), drawn, others


def _matches(path: Path) -> list[Path]:
    """The path itself, or what a pattern stands for where there is no such file."""
    if path.exists() or not set("*?") & set(path.name):
        return [path]
    matches = sorted(one for one in path.parent.glob(path.name) if not one.name.startswith("."))
    if not matches:
        raise InputError(f"no file or folder has a name like {path}; check the path.")
    return matches


def free_places(folder: Path, sources: Iterable[Source]) -> list[Path]:
    """Where the results of videos go, without a suffix: named as their paths below the folder that was given.

    What an earlier run wrote about the same file is replaced. If anything else is in the way, or meant for another of the videos, the name
    gets a number; names that are too long for the file system are cut and get one too. So names depend on all videos of a command, but
    not on which of them are done already, or by whom.

    Raises:
        InputError: if the folder cannot be looked into.
    """
    places: list[Path] = []
    taken: set[str] = set()
    try:
        for source in sources:
            place = folder / source.below.with_suffix("")
            longest = _longest_name(place.parent)
            bases = (place.with_name(_fitting(place.name, number, longest)) for number in count(1))
            places.append(next(base for base in bases if str(base).casefold() not in taken and is_free(base, source.file)))
            taken.add(str(places[-1]).casefold())  # where case makes no difference, too
    except OSError as error:
        raise InputError(f"{folder} cannot hold results: {error.strerror or error}; name another folder with -o.") from None
    return places


def with_suffix(base: Path, suffix: str) -> Path:
    """One of the files of a video's results."""
    return base.with_name(base.name + suffix)


def is_free(base: Path, source: Path) -> bool:
    """Whether a video's results may be written here: nothing is there, or what an earlier run wrote about this video."""
    there = [file for suffix in SUFFIXES if os.path.lexists(file := with_suffix(base, suffix))]
    return not there or _is_result_of(base, there, source)


def _longest_name(folder: Path) -> int:
    """In bytes, of a file in this folder or, as long as it is not there, the nearest one above."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return LONGEST_NAME


def _fitting(stem: str, number: int, longest: int) -> str:
    """The name, cut between two letters if it is too long, with the number unless it is whole and the first."""
    room = longest - max(map(len, SUFFIXES))
    if len(os.fsencode(stem)) <= room and number == 1:
        return stem
    tail = f"-{number}"
    return shortened(stem, room - len(tail)) + tail


def _is_result_of(base: Path, there: Iterable[Path], source: Path) -> bool:
    """Whether we wrote these files, and about this video."""
    try:
        content = json.loads(with_suffix(base, ".json").read_text(encoding="utf-8"))
        if not os.path.samefile(base.parent / content["source"], source):
            return False
        for file in there:
            if file.suffix == ".csv":
                with file.open(newline="", encoding="utf-8") as lines:
                    if next(csv.reader(lines), []) != list(CSV_COLUMNS):
                        return False
            elif file.suffix == ".mp4" and not is_drawn(file):
                return False
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return False
    return True
