"""Tubes of other systems, which are scored as they are instead of being linked here.

::

    <name>.npz                    idx (M, 4): index of the video in the list of the part, class from 0, score, number of boxes;
                                  boxes (N, 5): frame from 1, x1, y1, x2, y2, tube after tube
    <class>/<video>_tubes.pkl     ACT's and MOC's: {class from 0: [((n, 6) of frame from 1, box, score; score of the tube), …]}
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...boxes import BoxTable
from ...data import plain_pickle
from ...files import undamaged, visible
from ...structures import Detections, InputError, Tube
from .checks import Known, build, finite, whole

SUFFIX = "_tubes.pkl"


class _Raw(NamedTuple):
    """A tube as it stands in a file: frames and boxes (n, 5), a score per box."""

    video: int
    label: int
    score: float
    rows: np.ndarray
    scores: np.ndarray


def tube_files(path: Path) -> list[Path]:
    """The files of tubes that a path is or holds: one .npz, or a file for each video."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".npz" or path.name.endswith(SUFFIX) else []
    arrays = visible(path, "*.npz")
    if len(arrays) > 1:
        raise InputError(
            f"{path} holds {len(arrays)} files of tubes, {arrays[0].name} and {arrays[1].name} among them; name one."
        )
    return arrays or visible(path, "**/*" + SUFFIX)


def read_tubes(path: Path, known: Known, first: int = 1) -> tuple[dict[str, list[Tube]], dict[str, dict[int, Detections]]]:
    """Tubes by video, and their boxes as detections by video and frame.

    Args:
        path: one that `tube_files` finds some in.
        known: the videos and classes that they are scored with.
        first: the number of a video's first frame in the files.

    Raises:
        InputError: for unreadable files, other layouts, frames that do not follow one another, and all that `checks.build`
            refuses, box by box.
    """
    files = tube_files(path)
    raw = list(_from_arrays(files[0]) if files[0].suffix.lower() == ".npz" else _from_pickles(files, known))
    if not raw:
        raise InputError(f"{path} holds no tube at all; it cannot be scored.")
    where = str(files[0] if len(files) == 1 else path)
    lengths = np.array([len(tube.rows) for tube in raw])
    rows = np.concatenate([np.column_stack([tube.rows, tube.scores]) for tube in raw])
    finite(np.column_stack([rows, np.repeat([tube.score for tube in raw], lengths)]), where)
    video, label = (np.repeat(values, lengths) for values in ([tube.video for tube in raw], [tube.label for tube in raw]))
    frame = whole(rows[:, 0], "the frame", where)
    jumps = np.flatnonzero((np.diff(frame) != 1) & (np.diff(np.repeat(np.arange(len(raw)), lengths)) == 0))
    if len(jumps):
        jump = f"from frame {frame[jumps[0]]} to {frame[jumps[0] + 1]}"
        raise InputError(f"{where}: a tube goes {jump} in row {jumps[0] + 2}; its frames must follow one another, fill the gap.")
    for number, tube in enumerate(raw, 1):
        if not 0 <= tube.score <= 1:
            raise InputError(f"{where}: tube {number} scores {tube.score:g}; scores must lie in [0, 1].")
    boxes = build(video, BoxTable(frame, label, rows[:, 1:5], rows[:, 5]), known, first, where)
    names = list(known.truth)
    tubes: dict[str, list[Tube]] = {name: [] for name in names}
    for tube in raw:
        start = int(tube.rows[0, 0]) - first
        tubes[names[tube.video]].append(Tube(tube.label, tube.score, start, tube.rows[:, 1:], tube.scores))
    return tubes, boxes


def _from_arrays(path: Path) -> Iterator[_Raw]:
    with undamaged(path, "a file of tubes has the arrays idx and boxes, of numbers"), np.load(path, allow_pickle=False) as saved:
        index, boxes = (np.asarray(saved[key], np.float64) for key in ("idx", "boxes"))
    if index.ndim != 2 or index.shape[1] != 4 or boxes.ndim != 2 or boxes.shape[1] != 5:
        raise InputError(f"{path} has idx of shape {index.shape} and boxes of {boxes.shape}; they must be (M, 4) and (N, 5).")
    finite(index, f"{path}, idx")
    video, label, count = (
        whole(index[:, i], what, f"{path}, idx") for i, what in ((0, "the video"), (1, "the class"), (3, "a count"))
    )
    if (count < 1).any() or count.sum() != len(boxes):
        raise InputError(
            f"{path}: idx counts {count.sum()} boxes, at least {count.min(initial=0)} a tube, but there are {len(boxes)}."
        )
    for tube, rows in enumerate(np.split(boxes, np.cumsum(count)[:-1]) if len(count) else []):
        score = float(index[tube, 2])
        yield _Raw(int(video[tube]), int(label[tube]), score, rows, np.full(len(rows), score))


def _from_pickles(files: list[Path], known: Known) -> Iterator[_Raw]:
    index = {name: number for number, name in enumerate(known.truth)}
    for file in files:
        stem = file.name.removesuffix(SUFFIX)
        video = index.get(f"{file.parent.name}/{stem}", index.get(stem))
        if video is None:
            raise InputError(
                f"{file} is of the unknown video '{file.parent.name}/{stem}'; was it made for another data set or part?"
            )
        content = plain_pickle.load(file)
        if not isinstance(content, dict) or not all(isinstance(key, int | np.integer) for key in content):
            raise InputError(f"{file} is a {type(content).__name__}; it must be a dictionary of tubes by class, counted from 0.")
        for label, tubes in content.items():
            for tube in tubes if isinstance(tubes, list | tuple) else [None]:
                yield _one(tube, video, int(label), file)


def _one(tube: Any, video: int, label: int, file: Path) -> _Raw:
    rows, score = np.zeros((0, 0)), 0.0
    with contextlib.suppress(TypeError, ValueError):  # refused below
        boxes, value = tube
        rows, score = np.array(boxes, np.float64), float(value)
    if rows.ndim != 2 or rows.shape[1] != 6 or not len(rows):
        raise InputError(f"{file}: class {label} has a tube that is no pair of (n, 6) numbers and a score: {str(tube)[:60]!r}.")
    return _Raw(video, label, score, rows[:, :5], rows[:, 5])
