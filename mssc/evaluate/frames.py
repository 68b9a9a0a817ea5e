"""Frame-mAP: are the boxes and actions of single frames right?"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ..boxes import BoxTable
from ..structures import InputError
from .matching import Hits, collect, count_by_video, find_hits, select, without_labels
from .protocols import PROTOCOLS, FrameDetections, Score, Truth, convention_of

CAPACITY = 50
"""Rows per frame, of whatever class, that AVA's official evaluator looks at."""


def frame_map(
    detections: Mapping[str, FrameDetections],
    truth: Mapping[str, Truth],
    classes: int,
    iou: float = 0.5,
    protocol: str = "voc",
    frames: str | None = None,
) -> Score:
    """Frame-mAP: are the boxes and actions of single frames right?

    Args:
        detections: by video; a video that is missing here has no detections, and its ground truth is missed.
        truth: every video to score.
        classes: how many classes there are.
        iou: a detection is right from this overlap on.
        protocol: a name in `PROTOCOLS`.
        frames: "annotated" (frames with any ground truth) or "every"; the protocol's own choice if None.

    Raises:
        InputError: for detections of an unknown video, frame or class, an unknown protocol, or a threshold outside (0, 1].
    """
    return frame_hits(detections, truth, classes, iou, protocol, frames).score()


def actor_ap(detections: Mapping[str, FrameDetections], truth: Mapping[str, Truth]) -> float:
    """Average precision of the boxes alone by ``voc``, whatever the action: tells a misplaced box from a wrong class.

    The rows of one box with several actions count as one detection with their best score, and so do ground-truth boxes that
    are equal. Arguments and errors are those of `frame_map`.
    """
    return frame_hits(detections, truth, None).score().map


def frame_hits(
    detections: Mapping[str, FrameDetections],
    truth: Mapping[str, Truth],
    classes: int | None,
    iou: float = 0.5,
    protocol: str = "voc",
    frames: str | None = None,
) -> Hits:
    """Which detections are right. Arguments and errors as of `frame_map`; without `classes` boxes count alone, as for `actor_ap`."""
    convention = convention_of(protocol, frames)
    found, wanted = select(*collect(detections, truth, classes), convention)
    if classes is None:
        found, wanted, classes = without_labels(found), without_labels(wanted), 1
    found = found.ranked()
    right = find_hits(found, wanted, classes, iou, convention)
    starts = np.cumsum([0, *(video.frames + 1 for video in truth.values())])  # as `collect` numbers frames
    videos, places = (np.searchsorted(starts, rows.frames, "right") - 1 for rows in (found, wanted))
    return Hits(found.labels, right, videos, count_by_video(places, wanted.labels, len(truth), classes), iou, protocol)


def ava_map(
    found: BoxTable, wanted: BoxTable, classes: Sequence[int], excluded: Collection[str] = (), capacity: int | None = CAPACITY
) -> Score:
    """AVA's frame-mAP at an overlap of 0.5, as the evaluator of the ActivityNet challenge computes it.

    Matching and average precision are those of ``voc``, with detections in frames without ground truth counted as wrong. Rows of classes
    outside the list, of excluded frames, and detections without area are left out.

    Args:
        found: detections; frames are "video,second", labels AVA's action numbers from 1, boxes shares of the frame.
        wanted: ground truth; a person has a row for each of its actions.
        classes: the action numbers that count: 60 in the challenge.
        excluded: frames, "video,second", that do not count.
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
    number = np.full(max(max(classes), found.labels.max(initial=0), wanted.labels.max(initial=0)) + 1, -1)
    number[list(classes)] = np.arange(len(classes))
    names = np.unique(np.concatenate([found.frames, wanted.frames, np.array(list(excluded), dtype=str)]))
    out = np.isin(names, list(excluded))
    ours, theirs = _rows(found, number, names, out), _rows(wanted, number, names, out)
    ours = ours.where(np.flatnonzero((ours.boxes[:, 2:] > ours.boxes[:, :2]).all(axis=1)))
    if capacity is not None:
        order = np.lexsort((-ours.scores, ours.frames))
        frames = ours.frames[order]
        ours = ours.where(np.sort(order[np.arange(len(order)) - np.searchsorted(frames, frames) < capacity]))
    ours, count = ours.ranked(), len(classes)
    right, one = find_hits(ours, theirs, count, 0.5, PROTOCOLS["voc"]), np.zeros_like(ours.frames)
    return Hits(ours.labels, right, one, np.bincount(theirs.labels, minlength=count)[None], 0.5, "ava").score()


def _rows(table: BoxTable, number: np.ndarray, names: np.ndarray, out: np.ndarray) -> BoxTable:
    rows = BoxTable(np.searchsorted(names, table.frames), number[table.labels], table.boxes, table.scores)
    return rows.where(np.flatnonzero((rows.labels >= 0) & ~out[rows.frames]))
