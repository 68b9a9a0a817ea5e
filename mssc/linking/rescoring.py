"""Frames judged by the whole video: what a tube says of each of its rows, once it is known from end to end."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..structures import Detections, Tube


def score_by_tubes(frames: Sequence[Detections], tubes: Sequence[Tube]) -> list[Detections]:
    """Give each row the score of the tube that it belongs to: a frame alone, or with its past alone, tells less than the whole action.

    The paper does not say how frames are scored; YOWO's long-term feature bank likewise looks before and after a frame. On a live
    stream there is no after: there, `OnlineLinker.step` scores.

    Args:
        frames: rows of every frame of one video, in order; not modified.
        tubes: that `OnlineLinker` made of these boxes.

    Returns:
        The same rows in the same order. A row of several tubes has the best score, a row of none keeps its own.
    """
    rows = _keys(
        np.repeat(np.arange(len(frames)), [len(found) for found in frames]),
        np.concatenate([found.labels for found in frames] or [[]]),
        np.concatenate([found.boxes for found in frames] or [np.zeros((0, 4))]),
    )
    told = _keys(
        np.concatenate([np.arange(tube.start, tube.stop) for tube in tubes] or [[]]),
        np.repeat([tube.label for tube in tubes], [len(tube) for tube in tubes]),
        np.concatenate([tube.boxes for tube in tubes] or [np.zeros((0, 4))]),
    )
    _, which = np.unique(np.concatenate([rows, told]), axis=0, return_inverse=True)
    which = which.ravel()
    best = np.full(len(which), -1.0)
    np.maximum.at(best, which[len(rows) :], np.repeat([tube.score for tube in tubes], [len(tube) for tube in tubes]))
    if not frames:
        return []
    of_rows = np.split(best[which[: len(rows)]], np.cumsum([len(found) for found in frames])[:-1])
    return [replace(found, scores=_taken(found.scores, new)) for found, new in zip(frames, of_rows, strict=True)]


def _keys(frame: np.ndarray, label: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N, 6) whole numbers that are equal where frame, label and box are."""
    bits = np.ascontiguousarray(boxes, np.float32).view(np.int32)
    return np.concatenate([np.asarray(frame, np.int64)[:, None], np.asarray(label, np.int64)[:, None], bits], 1)


def _taken(own: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.where(new >= 0, new, own).astype(own.dtype)
