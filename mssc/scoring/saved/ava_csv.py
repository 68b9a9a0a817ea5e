"""AVA's csv of detections or ground truth: ``video,second,x1,y1,x2,y2,action[,person][,score]``.

Rows that name a second and no box (",,,,") say nothing. A row of 8 columns ends in a person if all of those are whole numbers
from 0 on and one exceeds 1, or if ground truth is asked for, else in a score.
"""

import csv
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ...boxes import BoxTable
from ...data.annotations.table import numbers_of
from ...data.ava import COLUMNS
from ...structures import InputError
from .checks import finite

EDGE = 0.05
"""Boxes may reach so far out of the frame: published detections do, a little."""


def read_ava(path: Path, classes: Collection[int], videos: Collection[str] | None = None, scored: bool = True) -> BoxTable:
    """A csv as columns.

    Args:
        path: of the file.
        classes: every action number that may occur.
        videos: every video that may occur; None for any.
        scored: whether these are detections; ground truth has no scores.

    Raises:
        InputError: for another number of columns, what is no number, NaN, pixels, inverted boxes, an unknown class or video,
            scores outside [0, 1], rows given twice and no row at all.
    """
    names, cells = _cells(path)
    table = numbers_of(path, (*COLUMNS[:6], "the person or score", "the score"), cells, range(1, len(cells) + 1), "row")
    finite(table, str(path))
    _check(path, names, table, classes, videos)
    score = np.ones(len(table))
    if scored and table.shape[1] == 8:
        score = table[:, 7]
    elif scored and table.shape[1] == 7 and not _persons(table[:, 6]):
        score = table[:, 6]
    if score.min() < 0 or score.max() > 1:
        raise InputError(f"{path}: scores run from {score.min():g} to {score.max():g}; they must lie in [0, 1].")
    rows = np.column_stack([np.unique(names, return_inverse=True)[1], table])
    _, first, again = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if scored and len(first) < len(rows):
        second = int(np.setdiff1d(np.arange(len(rows)), first)[0])
        which = f"rows {first[again.ravel()[second]] + 1} and {second + 1} are equal"
        raise InputError(f"{path}: {which}, {len(rows) - len(first)} duplicates in all; remove them.")
    frame = np.char.add(np.char.add(names, ","), table[:, 0].astype(np.int64).astype(str))
    return BoxTable(frame, table[:, 5].astype(np.int64), table[:, 1:5], score)


def _cells(path: Path) -> tuple[np.ndarray, list[list[str]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row[2:]) or 0 < len(row) < 3]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a csv: {error}.") from None
    if not rows:
        raise InputError(f"{path} holds no row at all; it cannot be scored.")
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width or not 7 <= width <= 9:
            form = "video,second,x1,y1,x2,y2,action[,person][,score]"
            raise InputError(f"{path}, row {number} has {len(row)} columns; all must have the same 7 to 9: {form}.")
    return np.array([row[0] for row in rows]), [row[1:] for row in rows]


def _check(path: Path, names: np.ndarray, table: np.ndarray, classes: Collection[int], videos: Collection[str] | None) -> None:
    box = table[:, 1:5]
    if box.max() > 1.5:
        raise InputError(
            f"{path}: boxes run up to {box.max():g}, so they seem to be pixels; AVA's are shares of the frame, 0 to 1."
        )
    bad = np.flatnonzero((box < -EDGE).any(axis=1) | (box > 1 + EDGE).any(axis=1) | (box[:, 2:] < box[:, :2]).any(axis=1))
    if len(bad):
        what = box[bad[0]].tolist()
        raise InputError(
            f"{path}: the box in row {bad[0] + 1} is {what}; it must be x1, y1, x2, y2 with 0 <= x1 <= x2 <= 1, likewise y."
        )
    for what, values in (("second", table[:, 0]), ("action", table[:, 5])):
        if (values != np.round(values)).any():
            raise InputError(f"{path}: the {what} {values[values != np.round(values)][0]:g} is no whole number.")
    unknown = np.flatnonzero(~np.isin(table[:, 5], list(classes)))
    if len(unknown):
        raise InputError(
            f"{path}: row {unknown[0] + 1} has action {table[unknown[0], 5]:g}, which the list of actions does not have."
        )
    strange = sorted(set(names.tolist()) - set(videos)) if videos is not None else []
    if strange:
        raise InputError(
            f"{path} has results for {len(strange)} unknown videos, e.g. '{strange[0]}'; was it made for another part?"
        )


def _persons(column: np.ndarray) -> bool:
    return bool((column == np.round(column)).all() and column.min() >= 0 and column.max() > 1)
