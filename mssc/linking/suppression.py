"""Of tubes that show the same, the best remains; and which tubes can be settled before a video has ended."""

from collections.abc import Sequence

import numpy as np

from ..boxes import CONTINUOUS, tube_ious
from ..structures import Tube

_AT_ONCE = 1 << 18  # pairs of tubes that are compared in one go


def tube_nms(tubes: Sequence[Tube], threshold: float = 0.3) -> list[Tube]:
    """Keep, per class and best first, the tubes that overlap no kept one by more than `threshold` (see `mssc.boxes.tube_iou`)."""
    order = sorted(tubes, key=by_score)
    labels = np.array([tube.label for tube in order], np.int64)
    dropped: set[int] = set()
    for label in np.unique(labels):
        rank = np.flatnonzero(labels == label)
        for better, worse in rank[_conflicts([order[i] for i in rank], threshold)].tolist():
            if better not in dropped:
                dropped.add(worse)
    return [tube for i, tube in enumerate(order) if i not in dropped]


def by_score(tube: Tube) -> tuple:
    """What tubes are sorted by: best first, and always in the same order."""
    return -tube.score, tube.label, tube.start, len(tube), tube.boxes.tobytes()


def _conflicts(tubes: Sequence[Tube], threshold: float) -> np.ndarray:
    """The pairs i < j of tubes that overlap by more than `threshold`, (P, 2), sorted."""
    start, stop = np.array([tube.start for tube in tubes]), np.array([tube.stop for tube in tubes])
    boxes = np.concatenate([tube.boxes for tube in tubes])
    first = np.cumsum(stop - start) - (stop - start)
    low, high = np.minimum.reduceat(boxes[:, :2], first), np.maximum.reduceat(boxes[:, 2:], first)  # around whole tubes
    found = [np.zeros((0, 2), np.int64)]
    height = 1 + _AT_ONCE // len(tubes)
    for top in range(0, len(tubes), height):
        i, j = np.nonzero(np.arange(len(tubes)) > np.arange(top, min(top + height, len(tubes)))[:, None])
        i += top
        shared = np.minimum(stop[i], stop[j]) - np.maximum(start[i], start[j])
        either = np.maximum(stop[i], stop[j]) - np.minimum(start[i], start[j])
        near = shared > max(threshold, 0) * either  # no overlap is more than that in time
        near &= ((low[i] < high[j]) & (low[j] < high[i])).all(axis=1)
        pairs = np.stack([i[near], j[near]], axis=1)
        found.append(pairs[tube_ious(tubes, pairs, CONTINUOUS) > threshold])
    return np.concatenate(found)


def settled(tubes: list[Tube], first: dict[int, int]) -> tuple[list[Tube], list[Tube]]:
    """Split tubes into those that no open record can meet, also not through other tubes, and the rest.

    Args:
        tubes: in any order.
        first: by class, the first frame of its open records.
    """
    done: list[Tube] = []
    wait: list[Tube] = []
    for label in {tube.label for tube in tubes}:
        group: list[Tube] = []
        stop = 0
        for tube in sorted((tube for tube in tubes if tube.label == label), key=lambda tube: tube.start):
            if group and tube.start >= stop:
                (done if stop <= first.get(label, stop) else wait).extend(group)
                group = []
            group.append(tube)
            stop = max(stop, tube.stop)
        (done if stop <= first.get(label, stop) else wait).extend(group)
    return done, wait
