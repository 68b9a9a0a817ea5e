"""AVA's frame-mAP, as the evaluator of the ActivityNet challenge computes it.

A frame is a video and a second; boxes are normalised to [0, 1]; a person has a row for each of its actions. Matching and
average precision are those of ``voc``, with detections in frames without ground truth counted as wrong. Rows of classes
outside the list, of excluded frames, and detections without area are left out; of a frame's detections, of whatever class,
only the best 50 count.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from ..structures import InputError
from .frames import score_rows
from .protocols import PROTOCOLS, Rows, Score

CAPACITY = 50
"""Rows per frame that the official evaluator looks at."""


class AvaTable(NamedTuple):
    """Rows of an AVA csv as columns.

    Attributes:
        frame: (N,) str, "video,second".
        label: (N,) int64, AVA's action numbers, from 1.
        box: (N, 4) float64, x1, y1, x2, y2 in [0, 1].
        score: (N,) float64; 1 where the file has none.
    """

    frame: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray


def ava_map(
    found: AvaTable,
    wanted: AvaTable,
    classes: Sequence[int],
    excluded: Collection[str] = (),
    iou: float = 0.5,
    capacity: int | None = CAPACITY,
) -> Score:
    """AVA's frame-mAP.

    Args:
        found: detections.
        wanted: ground truth.
        classes: the action numbers that count: 60 in the challenge.
        excluded: frames, "video,second", that do not count.
        iou: a detection is right from this overlap on.
        capacity: detections per frame that are looked at; None for all, as in evaluators that were derived from the official
            one.

    Returns:
        A score whose `per_class` follows the order of `classes`.

    Raises:
        InputError: for an empty list of classes, or a class named twice.
    """
    if not classes or len(set(classes)) < len(classes):
        raise InputError(
            f"the list of classes has {len(classes)} entries, {len(set(classes))} different; it must name each once."
        )
    number = np.full(max(max(classes), found.label.max(initial=0), wanted.label.max(initial=0)) + 1, -1)
    number[list(classes)] = np.arange(len(classes))
    names = np.unique(np.concatenate([found.frame, wanted.frame, np.array(list(excluded), dtype=str)]))
    out = np.isin(names, list(excluded))
    ours, theirs = _rows(found, number, names, out), _rows(wanted, number, names, out)
    ours = ours.where(np.flatnonzero((ours.box[:, 2:] > ours.box[:, :2]).all(axis=1)))
    if capacity is not None:
        ours = ours.where(np.sort(_best(ours, capacity)))
    return score_rows(ours, theirs, len(classes), iou, PROTOCOLS["voc"], "ava")


def _rows(table: AvaTable, number: np.ndarray, names: np.ndarray, out: np.ndarray) -> Rows:
    rows = Rows(np.searchsorted(names, table.frame), number[table.label], table.box, table.score)
    return rows.where(np.flatnonzero((rows.label >= 0) & ~out[rows.frame]))


def _best(rows: Rows, capacity: int) -> np.ndarray:
    order = np.lexsort((-rows.score, rows.frame))
    frame = rows.frame[order]
    rank = np.arange(len(order)) - np.searchsorted(frame, frame)
    return order[rank < capacity]
