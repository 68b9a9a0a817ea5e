"""What detections from outside must be before they are scored: complete, finite, in the right units, of known videos."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...boxes import CONTINUOUS, BoxTable, box_iou
from ...evaluate import Truth
from ...structures import Detections, InputError

log = logging.getLogger(__name__)


class Known(NamedTuple):
    """What detections are scored with.

    Attributes:
        truth: by video, in the data set's own order, to which indices refer.
        classes: names of the classes.
    """

    truth: Mapping[str, Truth]
    classes: Sequence[str]


def finite(rows: np.ndarray, where: str) -> None:
    """Refuse, with an InputError, NaN and infinity, by row."""
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise InputError(f"{where}: row {bad[0] + 1} is {rows[bad[0]].tolist()}; NaN and infinity cannot be scored.")


def whole(values: np.ndarray, what: str, where: str) -> np.ndarray:
    """The values as integers; an InputError if one is none."""
    bad = np.flatnonzero(values != np.round(values))
    if len(bad):
        raise InputError(f"{where}: {what} is {values[bad[0]]:g} in row {bad[0] + 1}; it must be a whole number.")
    return values.astype(np.int64)


def build(videos: np.ndarray, table: BoxTable, known: Known, first: int, where: str) -> dict[str, dict[int, Detections]]:
    """Check a table, and sort it by video and frame. Frames that seem to be counted from another number are warned of.

    Args:
        videos: (N,) index into the videos of `known`.
        table: all finite, frames and labels as the file counts them.
        known: what it is scored with.
        first: the number of a video's first frame.
        where: the file, for messages.

    Raises:
        InputError: for no row, an unknown video, class or frame, frames counted from another number, normalised boxes, inverted
            boxes, scores outside [0, 1], and a row given twice.
    """
    names = list(known.truth)
    if not len(videos):
        raise InputError(f"{where} holds no detection at all; it cannot be scored.")
    for what, values, count in (("video", videos, len(names)), ("class", table.labels, len(known.classes))):
        bad = np.flatnonzero((values < 0) | (values >= count))
        if len(bad):
            raise InputError(
                f"{where}: row {bad[0] + 1} names {what} {values[bad[0]]}, but there are {count}, counted from 0: "
                "was it made for another data set or split?"
            )
    _check_frames(videos, table, known, first, where)
    _check_boxes(table, known, where)
    bad = np.flatnonzero((table.scores < 0) | (table.scores > 1))
    if len(bad):
        raise InputError(f"{where}: the score in row {bad[0] + 1} is {table.scores[bad[0]]:g}; scores must lie in [0, 1].")
    order = np.lexsort((*table.boxes.T, table.scores, table.labels, table.frames, videos))
    sorted_rows = np.column_stack([videos, table.frames, table.labels, table.scores, table.boxes])[order]
    twice = np.flatnonzero((np.diff(sorted_rows, axis=0) == 0).all(axis=1))
    if len(twice):
        a, b = sorted(order[twice[0] : twice[0] + 2] + 1)
        raise InputError(f"{where}: rows {a} and {b} are equal, {len(twice)} duplicates in all; remove them.")
    found = _split(videos, table, names, first)
    say_shift(found, known, first, where)
    return found


def _check_frames(videos: np.ndarray, table: BoxTable, known: Known, first: int, where: str) -> None:
    names = list(known.truth)
    lengths = np.array([video.frames for video in known.truth.values()])
    low, high = table.frames < first, table.frames >= lengths[videos] + first
    if first == 1 and table.frames.min() == 0 and not (table.frames >= lengths[videos]).any():
        raise InputError(
            f"{where}: frames seem to be counted from 0, but this layout counts from 1; say so with --first-frame 0."
        )
    if first == 0 and table.frames.min() == 1 and high.any() and not (table.frames > lengths[videos]).any():
        raise InputError(f"{where}: frames seem to be counted from 1, not from 0; say so with --first-frame 1.")
    bad = np.flatnonzero(low | high)
    if len(bad):
        video = videos[bad[0]]
        raise InputError(
            f"{where}: row {bad[0] + 1} is of frame {table.frames[bad[0]]} of '{names[video]}', whose {lengths[video]} frames are "
            f"{first} to {lengths[video] - 1 + first}."
        )


def _check_boxes(table: BoxTable, known: Known, where: str) -> None:
    boxes = [tube.boxes for video in known.truth.values() for tube in video.tubes]
    extent = max((float(each.max()) for each in boxes), default=0.0)
    largest = float(table.boxes.max())
    if extent > 4 and largest <= 1.5:
        raise InputError(
            f"{where}: boxes run up to {largest:g}, so they seem to be normalised; multiply them by the frame's size."
        )
    if 0 < extent <= 1.5 < largest:
        raise InputError(f"{where}: boxes run up to {largest:g}, so they seem to be pixels; divide them by the frame's size.")
    bad = np.flatnonzero((table.boxes[:, 2:] < table.boxes[:, :2]).any(axis=1))
    if len(bad):
        row = table.boxes[bad[0]].tolist()
        raise InputError(f"{where}: the box in row {bad[0] + 1} is {row}, x2 < x1 or y2 < y1; boxes are x1, y1, x2, y2.")


def _split(videos: np.ndarray, table: BoxTable, names: list[str], first: int) -> dict[str, dict[int, Detections]]:
    order = np.lexsort((table.frames, videos))  # stable: rows of a frame stay in the order given
    video, frame = videos[order], table.frames[order] - first
    cuts = np.flatnonzero((np.diff(video) != 0) | (np.diff(frame) != 0)) + 1
    found: dict[str, dict[int, Detections]] = {}
    for rows in np.split(order, cuts):
        here = found.setdefault(names[videos[rows[0]]], {})
        here[int(table.frames[rows[0]]) - first] = Detections(table.boxes[rows], table.labels[rows], table.scores[rows])
    return found


LEAST_ROWS = 12
"""Rows that tell whether frames are counted from another number."""


def say_shift(found: Mapping[str, Mapping[int, Detections]], known: Known, first: int, where: str) -> None:
    """Warn if detections fit the ground truth of the frame before or after clearly better than that of their own.

    Frame numbers that lie in range may be wrong by one all the same. Actors move, so their boxes tell: compared are, of each frame and
    class, the best-scored box with the boxes that a true tube has there, one frame earlier and one frame later.
    """
    fits = np.array([row for name, frames in found.items() for row in _fits(frames, known.truth[name])]).reshape(-1, 3)
    fits = fits[fits.max(axis=1) >= 0.5]
    if len(fits) < LEAST_ROWS:
        return
    for column, other, side in ((0, first + 1, "before"), (2, first - 1, "after")):
        gain = fits[:, column] - fits[:, 1]
        if gain.mean() > 0.002 and gain.mean() > 6 * gain.std() / len(gain) ** 0.5:
            advice = f"say --first-frame {other}" if other in (0, 1) else "correct their numbers"
            log.warning(
                "%s: boxes fit the truth of the frame %s theirs better (overlap %.3f, not %.3f): if frames are counted from %d, %s.",
                *(where, side, fits[:, column].mean(), fits[:, 1].mean(), other, advice),
            )


def _fits(frames: Mapping[int, Detections], video: Truth) -> Iterator[list[float]]:
    """Of each frame's best row: overlaps with a true tube of its class one frame before, there, one frame after."""
    for frame, rows in frames.items():
        best = int(rows.scores.argmax())
        for tube in video.tubes:
            if tube.label == rows.labels[best] and tube.start < frame < tube.stop - 1:
                at = frame - tube.start
                yield box_iou(rows.boxes[best], tube.boxes[at - 1 : at + 2], CONTINUOUS).tolist()
