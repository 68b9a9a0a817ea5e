"""Import of tracking text, as YOLO trackers and MOTChallenge write it: a file for each video, a line for each box.

::

    frame id x y w h [score [class [visibility …]]]        separated by commas or spaces

The video is named as the file, or as the folder around ``gt/gt.txt``. x, y is the box's first corner in pixels, or its centre where all
numbers are shares of the frame, as YOLO has them. Frames count from 1, unless there is a frame 0. The action is the class's name in
classes.txt or labels.txt beside the file or above it, counted from 0 or, in ``gt/gt.txt`` as in MOTChallenge, from 1, unless only the
other fits; without classes, the only name there.
"""

import logging
import re
from pathlib import Path

import numpy as np

from ...structures import InputError
from ..media import Videos
from . import table
from .shared import counted_from

log = logging.getLogger(__name__)

NAMES = ("classes.txt", "labels.txt")
LISTS = ("train.txt", "val.txt", "test.txt")
NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
LINE = re.compile(rf"\s*{NUMBER}([,\s]+{NUMBER}){{5,}}[,\s]*", re.IGNORECASE)


def files_of(place: Path) -> list[Path]:
    """The texts of this kind that a path is, or that lie in or below it."""
    found = [place] if place.is_file() else sorted(place.rglob("*.txt"))
    found = [file for file in found if file.name not in (*NAMES, *LISTS) and not file.name.startswith(".")]
    return [file for file in found if file.suffix.lower() == ".txt" and _is_one(file)]


def _is_one(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return bool(LINE.fullmatch(next((line for line in lines if line.strip()), "")))
    except (OSError, UnicodeDecodeError):
        return False


def read(place: Path, videos: Videos, first_frame: int | None = None, video: str | None = None) -> table.Rows:
    """Reads the texts in a folder, or one. Arguments and errors are those of `coco.read`."""
    files = files_of(place)
    if video is not None and len(files) > 1:
        raise InputError(f"{place} holds texts of {len(files)} videos; --video names one.")
    values = {file: _numbers(file) for file in files}
    for file, rows in values.items():
        if (rows[:, 1] % 1 != 0).any():
            line = int(np.flatnonzero(rows[:, 1] % 1)[0])
            looks = (
                " It looks like YOLO's text of a single frame (class x y w h): write one text a video." if _is_yolo(rows) else ""
            )
            raise InputError(f"{file} has {rows[line, 1]:g} for an id, its second number; it must be a whole one.{looks}")
    left_out = sum(int(_ignored(rows).sum()) for rows in values.values())
    if left_out:
        log.info("%s: %d lines have a score of 0, which says that they do not count; they are left out.", place, left_out)
    values = {file: rows[~_ignored(rows)] for file, rows in values.items() if not _ignored(rows).all()}
    if not values:
        raise InputError(f"{place} holds no box that counts: the score of all is 0.")
    names = {file: video or (file.parent.parent.name if file.stem in ("gt", "det") else file.stem) for file in files}
    whole = {file: table.whole_frames(file, rows[:, 0], range(1, len(rows) + 1), 0) for file, rows in values.items()}
    numbers = {names[file]: set(frames.tolist()) for file, frames in whole.items()}
    first = counted_from(place, numbers, videos, 1) if first_frame is None else first_frame
    every = np.concatenate([rows[:, 2:6] for rows in values.values()])
    shares = bool(every.max() <= table.NORMALISED)
    if shares:
        log.info("%s: boxes are shares of the frame, so x, y are taken for their centres.", place)
    classes, offset = _classes(place, values)
    found: list[table.Row] = []
    for file, rows in values.items():
        frames = table.whole_frames(file, rows[:, 0], range(1, len(rows) + 1), first)
        boxes = rows[:, 2:6].copy()
        if shares:
            boxes[:, :2] -= boxes[:, 2:] / 2
            boxes *= [*videos.size(names[file], file)] * 2
        boxes[:, 2:] += boxes[:, :2]
        for number, (frame, box, row) in enumerate(zip(frames.tolist(), boxes.tolist(), rows, strict=True), 1):
            action = classes[int(row[7]) - offset] if offset is not None else classes[0]
            found.append(table.Row(names[file], frame, tuple(box), action, f"{row[1]:g}" if row[1] >= 0 else "", number))
    return table.make(files[0] if len(files) == 1 else place, found)


def _is_yolo(rows: np.ndarray) -> bool:
    """Whether lines are as YOLO writes them of one image: a class, then shares of the frame."""
    return bool(((rows[:, 1:5] >= 0) & (rows[:, 1:5] <= 1)).all())


def _ignored(rows: np.ndarray) -> np.ndarray:
    return rows[:, 6] == 0 if rows.shape[1] > 6 else np.zeros(len(rows), bool)


def _numbers(file: Path) -> np.ndarray:
    """The lines' numbers, (N, columns)."""
    rows = []
    for number, line in enumerate(table.read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        cells = re.split(r"[,\s]+", line.strip(" ,\t"))
        if not LINE.fullmatch(line) or (rows and len(cells) != len(rows[0])):
            raise InputError(
                f"{file}, line {number} is {line[:80]!r}; it must be numbers: frame id x y w h, and as many as in the others."
            )
        rows.append([float(cell) for cell in cells])
    return np.array(rows)


def _classes(place: Path, values: dict[Path, np.ndarray]) -> tuple[list[str], int | None]:
    """Names of the actions, and the number of the first one; None where lines have no class."""
    folders = dict.fromkeys(folder for file in values for folder in (file.parent, *file.parents[1:3]))
    listed = next((folder / name for folder in folders for name in NAMES if (folder / name).is_file()), None)
    names = [line.strip() for line in table.read_text(listed).splitlines() if line.strip()] if listed else []
    if all(rows.shape[1] > 7 and (rows[:, 7] >= 0).all() for rows in values.values()):
        numbers = {int(number) for rows in values.values() for number in rows[:, 7]}
        challenge = all(file.stem == "gt" for file in values)  # MOTChallenge's own layout, which CVAT exports
        for offset in (1, 0) if challenge else (0, 1):
            if names and offset <= min(numbers) and max(numbers) < len(names) + offset:
                log.info("%s: classes are counted from %d, so %d is %s.", place, offset, offset, names[0])
                return names, offset
        says = f"{listed} has {len(names)} names" if listed else "no classes.txt names them"
        raise InputError(
            f"{place} has classes from {min(numbers)} to {max(numbers)}, but {says}; list all names there, one a line."
        )
    if len(names) != 1:
        says = f"{listed} has {len(names)} names" if listed else "there is no classes.txt"
        raise InputError(
            f"{place} has no class in its eighth column, and {says}; write the action's name into classes.txt beside it."
        )
    return names, None
