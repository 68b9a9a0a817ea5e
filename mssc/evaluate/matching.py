"""How detections and ground truth become columns, who is compared with whom, and average precision."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..boxes import BoxTable, box_iou
from ..structures import Detections, InputError, Tube
from .protocols import PROTOCOLS, Convention, FrameDetections, Score, Truth

_AT_ONCE = 1 << 16  # detections that are compared in one go


@dataclass(frozen=True, eq=False)
class Hits:
    """Which detections, or tubes, of many videos are right. That does not depend on other videos, so it is found once, and a resample of
    the videos only counts some of them several times.

    Attributes:
        labels: (N,), ascending; those of one label by descending score.
        right: (N,) bool.
        videos: (N,), which video each is of.
        positives: (V, A), how many each video has to be found.
        iou: the threshold.
        protocol: a name in `PROTOCOLS`, or "ava".
    """

    labels: np.ndarray
    right: np.ndarray
    videos: np.ndarray
    positives: np.ndarray
    iou: float
    protocol: str

    def score(self, times: np.ndarray | None = None) -> Score:
        """Average precisions where each video counts so many `times` (V,), once if None."""
        labels, right, positives = self.labels, self.right, self.positives.sum(0)
        if times is not None:
            repeat = times[self.videos]
            labels, right, positives = np.repeat(labels, repeat), np.repeat(right, repeat), times @ self.positives
        per_class = class_precision(labels, right, positives, PROTOCOLS.get(self.protocol, PROTOCOLS["voc"]).envelope)
        return Score(mean_ap(per_class), per_class, positives, self.iou, self.protocol)

    def draws(self, times: np.ndarray) -> np.ndarray:
        """The mean average precision of each resample, (R, V) to (R,)."""
        return np.array([self.score(row).map for row in times])


def collect(
    detections: Mapping[str, FrameDetections], truth: Mapping[str, Truth], classes: int | None
) -> tuple[BoxTable, BoxTable]:
    """Turn detections and ground truth into columns with common frame numbers.

    Each video gets one number more than it has frames, so that neighbouring numbers are neighbouring frames. The score of a
    ground-truth row is 0 for the last box of its tube, else 1.

    Raises:
        InputError: for an unknown video, a frame outside its video, or a class outside `classes` (unless None).
    """
    check_names(detections, truth)
    found: list[tuple[int, Detections]] = []
    tubes: list[tuple[int, Tube]] = []
    offset = 0
    for name, video in truth.items():
        frames = detections.get(name, ())
        items = frames.items() if isinstance(frames, Mapping) else enumerate(frames)
        for frame, rows in items:
            if not 0 <= frame < video.frames:
                raise InputError(f"'{name}' has {video.frames} frames, but detections in frame {frame}; frames count from 0.")
            if len(rows):
                found.append((offset + frame, rows))
        for tube in video.tubes:
            if tube.stop > video.frames:
                raise InputError(f"'{name}' has {video.frames} frames, but a ground-truth tube that ends at {tube.stop}.")
            tubes.append((offset + tube.start, tube))
        offset += video.frames + 1
    first = BoxTable.of(found)
    second = BoxTable.joined(
        (np.arange(a, a + len(t)), np.full(len(t), t.label), t.boxes, np.arange(len(t)) < len(t) - 1) for a, t in tubes
    )
    for what, rows in (("a detection", first), ("the ground truth", second)):
        if classes is not None and rows.labels.size and rows.labels.max() >= classes:
            raise InputError(f"{what} has label {rows.labels.max()}, but there are {classes} classes, counted from 0.")
    return first, second


def check_names(results: Mapping[str, object], truth: Mapping[str, Truth]) -> None:
    """Refuse, with an InputError, results for videos that have no ground truth."""
    unknown = [name for name in results if name not in truth]
    if unknown:
        raise InputError(
            f"there are results for {len(unknown)} unknown videos, e.g. '{unknown[0]}'; names must match the truth's."
        )


def select(found: BoxTable, wanted: BoxTable, convention: Convention) -> tuple[BoxTable, BoxTable]:
    """The detections and the ground truth that count under a convention, with the ground-truth boxes it compares with."""
    if convention.drop_last:
        wanted = wanted.where(wanted.scores > 0)
    if any(convention.offset):
        box = wanted.boxes + convention.offset
        wanted = wanted._replace(boxes=box if convention.limit is None else np.minimum(box, 2 * convention.limit))
    if convention.frames == "annotated":
        found = found.where(np.isin(found.frames, wanted.frames))
    return found, wanted


def without_labels(rows: BoxTable) -> BoxTable:
    """One row of label 0 per frame and box, with the best score."""
    order = np.lexsort((-rows.scores, *rows.boxes.T, rows.frames))
    frame, box = rows.frames[order], rows.boxes[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(frame) != 0) | (np.diff(box, axis=0) != 0).any(axis=1)
    return rows.where(np.sort(order[new])).unlabelled()


def near_pairs(
    found: BoxTable, wanted: BoxTable, classes: int, iou: float, pixel: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of same frame and label that overlap enough: (P,) row of `found`, row of `wanted`, IoU."""
    check_iou(iou)
    order = np.argsort(wanted.frames * classes + wanted.labels, kind="stable")
    groups = (wanted.frames * classes + wanted.labels)[order]
    pairs = []
    for start in range(0, max(len(found.frames), 1), _AT_ONCE):
        chunk = slice(start, start + _AT_ONCE)
        keys = found.frames[chunk] * classes + found.labels[chunk]
        left = np.searchsorted(groups, keys, "left")
        counts = np.searchsorted(groups, keys, "right") - left
        row = np.repeat(np.arange(len(keys)), counts)
        column = order[np.arange(len(row)) + np.repeat(left - (np.cumsum(counts) - counts), counts)]
        overlap = box_iou(found.boxes[chunk][row], wanted.boxes[column], pixel)
        near = overlap >= iou
        pairs.append((row[near] + start, column[near], overlap[near]))
    row, column, overlap = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return row, column, overlap


def find_hits(found: BoxTable, wanted: BoxTable, classes: int, iou: float, convention: Convention) -> np.ndarray:
    """Which detections are right, (N,) bool; they come by label, best first (`BoxTable.ranked`)."""
    hits = np.zeros(len(found.labels), bool)
    hits[list(claim(*near_pairs(found, wanted, classes, iou, convention.pixel), convention.retry))] = True
    return hits


def claim(row: np.ndarray, column: np.ndarray, overlap: np.ndarray, retry: bool) -> dict[int, int]:
    """Let rows, the lowest number first, claim the columns that they overlap most: those that got one, by row."""
    order = np.lexsort((column, -overlap, row))
    row, column = row[order], column[order]
    if not retry:
        _, first = np.unique(row, return_index=True)
        row, column = row[first], column[first]
    claimed: dict[int, int] = {}
    taken: set[int] = set()
    for r, c in zip(row.tolist(), column.tolist(), strict=True):
        if r not in claimed and c not in taken:
            claimed[r] = c
            taken.add(c)
    return claimed


def class_precision(labels: np.ndarray, right: np.ndarray, positives: np.ndarray, envelope: bool) -> np.ndarray:
    """Average precision of each class, (A,); detections come as in `Hits`."""
    ends = np.searchsorted(labels, np.arange(len(positives) + 1))
    parts = zip(ends[:-1], ends[1:], positives, strict=True)
    return np.array([average_precision(right[a:b], count, envelope) for a, b, count in parts], float)


def average_precision(hits: np.ndarray, positives: int, envelope: bool = True) -> float:
    """Area under precision over recall.

    Args:
        hits: (N,) bool, detections by descending score: right or not.
        positives: how many there were to find.
        envelope: give each recall the best precision at that recall or beyond, else join the raw points by straight lines
            from (recall 0, precision 1) on.

    Returns:
        A fraction; NaN without positives.
    """
    if not positives:
        return float("nan")
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / positives
    if envelope:
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    else:
        precision = (precision + np.concatenate([[1.0], precision[:-1]])[: len(precision)]) / 2
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def count_by_video(videos: np.ndarray, labels: np.ndarray, count: int, classes: int) -> np.ndarray:
    """How many rows there are of each video and class, (V, A)."""
    return np.bincount(videos * classes + labels, minlength=count * classes).reshape(count, classes)


def mean_ap(per_class: np.ndarray) -> float:
    """Mean over the classes with ground truth, NaN if there is none."""
    known = per_class[~np.isnan(per_class)]
    return float(known.mean()) if known.size else float("nan")


def check_iou(iou: float) -> None:
    """Refuse, with an InputError, a threshold outside (0, 1]."""
    if not 0 < iou <= 1:
        raise InputError(f"the IoU threshold is {iou:g}; it must lie in (0, 1].")
