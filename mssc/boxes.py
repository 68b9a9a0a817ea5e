"""Tables of boxes, and how much boxes and tubes overlap.

Boxes are ``x1, y1, x2, y2``. How wide one is depends on who counts, so every overlap is told: `CONTINUOUS` corners are points, and a box is
x2 - x1 wide; `INCLUSIVE` corners are pixels that belong to it, and it is x2 - x1 + 1 wide.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from .structures import Detections, Tube

CONTINUOUS, INCLUSIVE = 0.0, 1.0
"""What is added to every width and height."""

_AT_ONCE = 1 << 18  # boxes of tubes that are compared in one go


class BoxTable(NamedTuple):
    """Boxes of many frames as columns, in any order.

    Attributes:
        frames: (N,), equal for boxes of the same frame of the same video.
        labels: (N,) int64.
        boxes: (N, 4) float64, in any unit.
        scores: (N,) float64; unused for ground truth.
    """

    frames: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, detections: Iterable[tuple[int, Detections]]) -> "BoxTable":
        """The rows of frames, each given with its number."""
        parts = [(np.full(len(rows), frame), rows.labels, rows.boxes, rows.scores) for frame, rows in detections]
        return cls.joined(parts)

    @classmethod
    def joined(cls, parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> "BoxTable":
        """Columns one after the other; there may be none."""
        nothing = (np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros(0))
        frames, labels, boxes, scores = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
        return cls(frames.astype(np.int64), labels.astype(np.int64), boxes, scores)

    def where(self, keep: np.ndarray) -> "BoxTable":
        """The rows that a mask or an index names."""
        return BoxTable(*(column[keep] for column in self))

    def ranked(self) -> "BoxTable":
        """By label, then by descending score; equal scores stay in their order."""
        return self.where(np.lexsort((-self.scores, self.labels)))

    def unlabelled(self) -> "BoxTable":
        """The same with label 0 throughout."""
        return self._replace(labels=np.zeros_like(self.labels))


def box_area(boxes: np.ndarray, pixel: float) -> np.ndarray:
    """Areas of boxes (..., 4), (...,)."""
    return (boxes[..., 2] - boxes[..., 0] + pixel) * (boxes[..., 3] - boxes[..., 1] + pixel)


def box_iou(a: np.ndarray, b: np.ndarray, pixel: float) -> np.ndarray:
    """Intersection over union of boxes (..., 4) with (..., 4), which are broadcast: (...,); 0 where both are without area."""
    inter = _common_area(a, b, pixel)
    union = box_area(a, pixel) + box_area(b, pixel) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def box_share(a: np.ndarray, b: np.ndarray, pixel: float) -> np.ndarray:
    """The share of boxes (..., 4) that lies in others (..., 4), which are broadcast: (...,); 0 for one without area."""
    inter, area = np.broadcast_arrays(_common_area(a, b, pixel), box_area(a, pixel))
    return np.divide(inter, area, out=np.zeros_like(inter), where=area > 0)


def _common_area(a: np.ndarray, b: np.ndarray, pixel: float) -> np.ndarray:
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + pixel
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + pixel
    return np.maximum(width, 0) * np.maximum(height, 0)


def tube_iou(a: Tube, b: Tube, pixel: float) -> float:
    """Overlap in space and time: temporal IoU x mean spatial IoU over the frames in both."""
    return float(tube_ious([a, b], np.array([[0, 1]]), pixel)[0])


def tube_ious(tubes: Sequence[Tube], pairs: np.ndarray, pixel: float) -> np.ndarray:
    """`tube_iou` of pairs (P, 2) of indices into tubes, (P,)."""
    start, stop = np.array([tube.start for tube in tubes]), np.array([tube.stop for tube in tubes])
    i, j = pairs.reshape(-1, 2).T
    begin = np.maximum(start[i], start[j])
    shared = np.minimum(stop[i], stop[j]) - begin
    either = np.maximum(stop[i], stop[j]) - np.minimum(start[i], start[j])
    out, together = np.zeros(len(i)), np.flatnonzero(shared > 0)
    frames = np.cumsum(shared[together])
    cuts = np.searchsorted(frames, np.arange(_AT_ONCE, frames[-1] if len(frames) else 0, _AT_ONCE))
    for part in np.split(together, cuts):
        if not len(part):
            continue
        spans = zip(i[part].tolist(), j[part].tolist(), begin[part].tolist(), shared[part].tolist(), strict=True)
        cut = [(tubes[one].boxes[a - start[one] :][:n], tubes[other].boxes[a - start[other] :][:n]) for one, other, a, n in spans]
        first, second = (np.concatenate(side).astype(np.float64) for side in zip(*cut, strict=True))
        sums = np.add.reduceat(box_iou(first, second, pixel), np.cumsum(shared[part]) - shared[part])
        out[part] = shared[part] / either[part] * (sums / shared[part])
    return out
