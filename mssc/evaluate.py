"""How good detections and tubes are: frame-mAP under three named protocols, video-mAP, false alarms.

The same detections score up to seven points apart under different conventions, so every score carries its protocol:

    =====  ==========  ==================================  ===========  ==============================================
    name   box width   a detection is compared with        AP           frames
    =====  ==========  ==================================  ===========  ==============================================
    voc    x2 - x1     the best box of its frame and class  envelope     annotated (those with any action), or every
    act    x2 - x1 + 1 the best box not yet taken           trapezoids   every
    yowo   x2 - x1 + 1 as voc                               envelope     annotated; the last of each tube is left out
    =====  ==========  ==================================  ===========  ==============================================

A frame without detections keeps its ground truth. Scores are fractions in [0, 1]; classes without ground truth count in no
mean. Detections with equal scores are taken in the order given. Nothing here modifies its inputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np

from .structures import Detections, InputError, Tube


class Annotated(Protocol):
    """What a video must know to be scored: any object with these three will do, `Truth` is the smallest."""

    @property
    def tubes(self) -> tuple[Tube, ...]: ...

    @property
    def frames(self) -> int: ...

    @property
    def rate(self) -> Fraction: ...


class Truth(NamedTuple):
    """The ground truth of one video.

    Attributes:
        tubes: its action tubes.
        frames: how many frames it has.
        rate: frames per second; only false alarms per minute need it.
    """

    tubes: tuple[Tube, ...]
    frames: int
    rate: Fraction = Fraction(30)


class Convention(NamedTuple):
    """One way to count, a row of the table above.

    Attributes:
        pixel: added to every width and height: 0 for continuous boxes, 1 for inclusive pixel indices.
        retry: a detection whose best box is taken may take the next best one.
        envelope: AP is the area under the envelope of precision over recall, else under the trapezoids of the raw curve.
        frames: "annotated" or "every".
        drop_last: the last frame of each ground-truth tube is left out.
    """

    pixel: float
    retry: bool
    envelope: bool
    frames: str
    drop_last: bool = False


PROTOCOLS = {
    "voc": Convention(pixel=0, retry=False, envelope=True, frames="annotated"),
    "act": Convention(pixel=1, retry=True, envelope=False, frames="every"),
    "yowo": Convention(pixel=1, retry=False, envelope=True, frames="annotated", drop_last=True),
}
RANGE = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""The thresholds 0.5:0.05:0.95 over which a video-mAP is averaged."""

FrameDetections = Sequence[Detections] | Mapping[int, Detections]
"""The detections of a video: one entry per frame from 0 on, or only some frames, by number."""


@dataclass(frozen=True, eq=False)
class Score:
    """A mean average precision with what it was computed by.

    Attributes:
        map: mean of `per_class` over the classes with ground truth; NaN if there is none.
        per_class: (A,) average precision, NaN for a class without ground truth.
        positives: (A,) how many ground-truth boxes (or tubes) were to be found.
        iou: the threshold, or several if `map` is their mean.
        protocol: its name.
    """

    map: float
    per_class: np.ndarray
    positives: np.ndarray
    iou: float | tuple[float, ...]
    protocol: str


class Rows(NamedTuple):
    """Boxes of many frames as columns, in any order: what the scoring itself works on.

    Attributes:
        frame: (N,) int64, equal for boxes of the same frame of the same video.
        label: (N,) int64.
        box: (N, 4) float64, x1, y1, x2, y2 in any unit.
        score: (N,) float64; unused for ground truth.
    """

    frame: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray

    def where(self, keep: np.ndarray) -> "Rows":
        """The rows that a mask or an index names."""
        return Rows(*(column[keep] for column in self))


def frame_map(
    detections: Mapping[str, FrameDetections],
    truth: Mapping[str, Annotated],
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
        protocol: "voc", "act" or "yowo".
        frames: "annotated" (frames with any ground truth) or "every"; the protocol's own choice if None.

    Raises:
        InputError: for detections of an unknown video, frame or class, an unknown protocol, or a threshold outside (0, 1].
    """
    convention = _convention(protocol, frames)
    found, wanted = _select(*collect(detections, truth, classes), convention)
    return score_rows(found, wanted, classes, iou, convention, protocol)


def actor_ap(
    detections: Mapping[str, FrameDetections],
    truth: Mapping[str, Annotated],
    iou: float = 0.5,
    protocol: str = "voc",
    frames: str | None = None,
) -> float:
    """Average precision of the boxes alone, whatever the action: tells a misplaced box from a wrong class.

    The rows of one box with several actions count as one detection with their best score, and so do ground-truth boxes that
    are equal. Arguments and errors are those of `frame_map`.
    """
    convention = _convention(protocol, frames)
    found, wanted = (_without_labels(rows) for rows in _select(*collect(detections, truth, None), convention))
    return score_rows(found, wanted, 1, iou, convention, protocol).map


def score_rows(
    found: Rows, wanted: Rows, classes: int, iou: float, convention: Convention = PROTOCOLS["voc"], protocol: str = "voc"
) -> Score:
    """Average precision of boxes given as columns; a million rows take a few seconds. See `frame_map`."""
    order = np.lexsort((-found.score, found.label))
    hits = np.zeros(len(order), bool)
    hits[_claim(*_pairs(found.where(order), wanted, classes, iou, convention.pixel), convention.retry)] = True
    return _score(found.label[order], hits, np.bincount(wanted.label, minlength=classes), iou, convention, protocol)


def video_map(tubes: Mapping[str, Sequence[Tube]], truth: Mapping[str, Annotated], classes: int, iou: float = 0.5) -> Score:
    """Video-mAP: are whole tubes right, in space and from start to end?

    Overlap, matching and AP follow ACT: the overlap of two tubes is temporal IoU x mean spatial IoU over the frames in both,
    with inclusive boxes. No suppression happens here.

    Args:
        tubes: found tubes by video; a video that is missing here has none.
        truth: every video to score.
        classes: how many classes there are.
        iou: a tube is right from this overlap on.

    Raises:
        InputError: for tubes of an unknown video or class, or a threshold outside (0, 1].
    """
    return _video_maps(tubes, truth, classes, (iou,))[0]


def video_map_range(
    tubes: Mapping[str, Sequence[Tube]], truth: Mapping[str, Annotated], classes: int, ious: Sequence[float] = RANGE
) -> Score:
    """Mean of `video_map` over several thresholds, 0.5:0.05:0.95 unless told."""
    scores = _video_maps(tubes, truth, classes, ious)
    per_class = np.mean([score.per_class for score in scores], axis=0)
    return Score(_mean(per_class), per_class, scores[0].positives, tuple(ious), "act")


def video_accuracy(tubes: Mapping[str, Sequence[Tube]], truth: Mapping[str, Annotated]) -> float:
    """Share of the videos with ground truth whose best-scored tube names one of their actions; no tube is a wrong answer.

    NaN if no video has ground truth.
    """
    _known(tubes, truth)
    right = []
    for name, video in truth.items():
        if video.tubes:
            best = max(tubes.get(name, ()), key=lambda tube: tube.score, default=None)
            right.append(best is not None and best.label in {tube.label for tube in video.tubes})
    return float(np.mean(right)) if right else float("nan")


class FalseAlarms(NamedTuple):
    """What was reported where nothing happens.

    Attributes:
        alarms: runs of consecutive frames without action in which one class is reported: what a viewer would call one alarm.
        detections: rows reported in frames without action.
        frames: frames without action in which anything is reported.
        minutes: of video, with and without action.
        idle_minutes: of video without action.
    """

    alarms: int
    detections: int
    frames: int
    minutes: float
    idle_minutes: float

    @property
    def per_minute(self) -> float:
        """Alarms per minute of video; NaN without video."""
        return self.alarms / self.minutes if self.minutes else float("nan")


def false_alarms(detections: Mapping[str, FrameDetections], truth: Mapping[str, Annotated], threshold: float) -> FalseAlarms:
    """Count what scores at least `threshold` in frames without any ground truth.

    A wrong class or a misplaced box in a frame *with* action is an error of frame-mAP, not an alarm. An alarm that flickers
    counts each time it comes back.

    Raises:
        InputError: for detections of an unknown video or frame.
    """
    found, wanted = collect(detections, truth, None)
    found = found.where((found.score >= threshold) & ~np.isin(found.frame, wanted.frame))
    # One more frame than the video has: a run cannot go on from one video into the next (see `collect`).
    runs = np.unique(np.stack([found.label, found.frame]), axis=1)
    starts = (np.diff(runs[0]) != 0) | (np.diff(runs[1]) != 1)
    minutes = idle = 0.0
    for video in truth.values():
        busy = {frame for tube in video.tubes for frame in range(tube.start, tube.stop)}
        minutes += float(video.frames / video.rate) / 60
        idle += float((video.frames - len(busy)) / video.rate) / 60
    alarms = int(starts.sum()) + bool(runs.shape[1])
    return FalseAlarms(alarms, len(found.frame), len(np.unique(found.frame)), minutes, idle)


def collect(detections: Mapping[str, FrameDetections], truth: Mapping[str, Annotated], classes: int | None) -> tuple[Rows, Rows]:
    """Turn detections and ground truth into columns with common frame numbers.

    Each video gets one number more than it has frames, so that neighbouring numbers are neighbouring frames. The score of a
    ground-truth row is 0 for the last box of its tube, else 1.

    Raises:
        InputError: for an unknown video, a frame outside its video, or a class outside `classes` (unless None).
    """
    _known(detections, truth)
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
    first = _rows([(np.full(len(d), frame), d.labels, d.boxes, d.scores) for frame, d in found])
    second = _rows(
        [(np.arange(a, a + len(t)), np.full(len(t), t.label), t.boxes, np.arange(len(t)) < len(t) - 1) for a, t in tubes]
    )
    for what, rows in (("a detection", first), ("the ground truth", second)):
        if classes is not None and rows.label.size and rows.label.max() >= classes:
            raise InputError(f"{what} has label {rows.label.max()}, but there are {classes} classes, counted from 0.")
    return first, second


def _rows(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> Rows:
    nothing = (np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros(0))
    frame, label, box, score = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
    return Rows(frame.astype(np.int64), label.astype(np.int64), box, score)


def _known(results: Mapping[str, object], truth: Mapping[str, Annotated]) -> None:
    unknown = [name for name in results if name not in truth]
    if unknown:
        raise InputError(
            f"there are results for {len(unknown)} unknown videos, e.g. '{unknown[0]}'; names must match the truth's."
        )


def _convention(protocol: str, frames: str | None) -> Convention:
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol '{protocol}'; choose one of {', '.join(PROTOCOLS)}.")
    convention = PROTOCOLS[protocol]
    if frames not in (None, "annotated", "every"):
        raise InputError(f"frames is '{frames}'; it must be 'annotated' or 'every'.")
    if convention.drop_last and frames == "every":
        raise InputError(f"protocol '{protocol}' knows annotated frames only; score every frame by 'voc' or 'act'.")
    return convention._replace(frames=frames or convention.frames)


def _select(found: Rows, wanted: Rows, convention: Convention) -> tuple[Rows, Rows]:
    if convention.drop_last:
        wanted = wanted.where(wanted.score > 0)
    if convention.frames == "annotated":
        found = found.where(np.isin(found.frame, wanted.frame))
    return found, wanted


def _without_labels(rows: Rows) -> Rows:
    """One row of label 0 per frame and box, with the best score."""
    order = np.lexsort((-rows.score, *rows.box.T, rows.frame))
    frame, box = rows.frame[order], rows.box[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(frame) != 0) | (np.diff(box, axis=0) != 0).any(axis=1)
    kept = rows.where(np.sort(order[new]))
    return kept._replace(label=np.zeros_like(kept.label))


def _iou(a: np.ndarray, b: np.ndarray, pixel: float) -> np.ndarray:
    """IoU of boxes pair by pair, (P, 4) and (P, 4) -> (P,); 0 where both are without area."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inter = np.prod(np.maximum(high - low + pixel, 0), axis=1)
    union = np.prod(a[:, 2:] - a[:, :2] + pixel, axis=1) + np.prod(b[:, 2:] - b[:, :2] + pixel, axis=1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _pairs(found: Rows, wanted: Rows, classes: int, iou: float, pixel: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of same frame and label that overlap enough: (P,) row of `found`, row of `wanted`, IoU."""
    _check_iou(iou)
    order = np.argsort(wanted.frame * classes + wanted.label, kind="stable")
    groups = (wanted.frame * classes + wanted.label)[order]
    pairs = []
    for chunk in _chunks(len(found.frame)):
        keys = found.frame[chunk] * classes + found.label[chunk]
        left = np.searchsorted(groups, keys, "left")
        counts = np.searchsorted(groups, keys, "right") - left
        row = np.repeat(np.arange(len(keys)), counts)
        column = order[np.arange(len(row)) + np.repeat(left - (np.cumsum(counts) - counts), counts)]
        overlap = _iou(found.box[chunk][row], wanted.box[column], pixel)
        near = overlap >= iou
        pairs.append((row[near] + chunk.start, column[near], overlap[near]))
    row, column, overlap = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return row, column, overlap


def _chunks(count: int, size: int = 1 << 16) -> Iterator[slice]:
    for start in range(0, max(count, 1), size):
        yield slice(start, start + size)


def _claim(row: np.ndarray, column: np.ndarray, overlap: np.ndarray, retry: bool) -> list[int]:
    """Let rows, the lowest number first, claim columns: the row numbers that got one."""
    order = np.lexsort((column, -overlap, row))
    row, column = row[order], column[order]
    if not retry:
        _, first = np.unique(row, return_index=True)
        row, column = row[first], column[first]
    done, taken = set(), set()
    for r, c in zip(row.tolist(), column.tolist(), strict=True):
        if r not in done and c not in taken:
            done.add(r)
            taken.add(c)
    return sorted(done)


def _score(
    labels: np.ndarray, hits: np.ndarray, positives: np.ndarray, iou: float, convention: Convention, protocol: str
) -> Score:
    """From hits sorted by label, then by descending score."""
    ends = np.searchsorted(labels, np.arange(len(positives) + 1))
    per_class = np.array(
        [average_precision(hits[a:b], n, convention.envelope) for a, b, n in zip(ends[:-1], ends[1:], positives, strict=True)],
        dtype=float,
    )
    return Score(_mean(per_class), per_class, positives, iou, protocol)


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


def _mean(per_class: np.ndarray) -> float:
    known = per_class[~np.isnan(per_class)]
    return float(known.mean()) if known.size else float("nan")


def _check_iou(iou: float) -> None:
    if not 0 < iou <= 1:
        raise InputError(f"the IoU threshold is {iou:g}; it must lie in (0, 1].")


def _video_maps(
    tubes: Mapping[str, Sequence[Tube]], truth: Mapping[str, Annotated], classes: int, ious: Sequence[float]
) -> list[Score]:
    _known(tubes, truth)
    found = [(name, tube) for name, group in tubes.items() for tube in group]
    wanted = [(name, tube) for name, video in truth.items() for tube in video.tubes]
    for _, tube in found + wanted:
        if tube.label >= classes:
            raise InputError(f"a tube has label {tube.label}, but there are {classes} classes, counted from 0.")
    found.sort(key=lambda item: (item[1].label, -item[1].score))
    groups: dict[tuple[str, int], list[int]] = {}
    for column, (name, tube) in enumerate(wanted):
        groups.setdefault((name, tube.label), []).append(column)
    near = [(r, c) for r, (name, tube) in enumerate(found) for c in groups.get((name, tube.label), ())]
    pairs = np.array([(r, c, _tube_iou(found[r][1], wanted[c][1])) for r, c in near]).reshape(-1, 3)
    labels = np.array([tube.label for _, tube in found], np.int64)
    positives = np.bincount(np.array([tube.label for _, tube in wanted], np.int64), minlength=classes)
    scores = []
    for iou in ious:
        _check_iou(iou)
        near = pairs[pairs[:, 2] >= iou]
        hits = np.zeros(len(found), bool)
        hits[_claim(near[:, 0].astype(int), near[:, 1].astype(int), near[:, 2], retry=True)] = True
        scores.append(_score(labels, hits, positives, iou, PROTOCOLS["act"], "act"))
    return scores


def _tube_iou(a: Tube, b: Tube) -> float:
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    if stop <= start:
        return 0.0
    ours, theirs = (tube.boxes[start - tube.start : stop - tube.start].astype(np.float64) for tube in (a, b))
    temporal = (stop - start) / (max(a.stop, b.stop) - min(a.start, b.start))
    return temporal * float(_iou(ours, theirs, PROTOCOLS["act"].pixel).mean())
