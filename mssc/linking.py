"""Frame detections -> action tubes: online, per class, trimmed in time.

    frame's rows --> match with live links --> links --> close --> trim by scores --> suppress --> tubes
                            |                                                                      (finish, finished)
                            +--> each row's score, averaged along its link (step)

A *link* is one actor doing (or not doing) one action: rows of one class whose boxes follow each other. It lives as long as
rows arrive, with whatever score. What a tube may be cut from is recorded only while the action is plausible, so memory is
bounded by the links that are live, however long the video. One class never looks at another: an actor who changes from one
action to the next gives two tubes.
"""

import copy
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .structures import Detections, InputError, Tube

REFERENCE_RATE = 25.0
"""Frames per second that the frame counts in `LinkConfig` are meant for; `LinkConfig.at` converts them."""


@dataclass(frozen=True)
class LinkConfig:
    """How detections become tubes. Values without another source were chosen on generated noisy videos (see the tests).

    Args:
        min_score: rows below it are not linked; they keep their score.
        iou: a row may continue a link if it overlaps the box expected there by this much. ROAD (Singh et al., ICCV 2017) and
            the YOWO family ask for 0.1 or nothing, which lets links jump between actors.
        momentum: weight of the newest displacement in a link's velocity (pixels per frame); 0 expects boxes to stand still.
        foresight: after a gap, boxes are expected to have gone on for so many frames, and then to stand still: with farther
            guesses occluded actors are lost more often.
        score_weight: what a row's score adds to its overlap when several rows want one link, and
        seniority: what a link's length adds when several links want one row, so that a second box around an actor does not
            take the link over. ROAD likewise lets better links choose first.
        mature: frames until a link has its full seniority.
        max_gap: frames that a link survives without a row; a link of n rows survives at most n. Gaps are filled by linear
            interpolation.
        horizon: time constant in frames of the exponential mean that `OnlineLinker.step` returns; 0 returns scores as they are.
            More suits videos that are one action throughout (J-HMDB: frame-mAP 57.8 at 0, 58.5 at 4, 58.7 at 8), less those in
            which actions start and end (the toy set, every frame: 81.7, 75.7, 69.8).
        floor: the action is plausible from this score on, and
        idle: for so many frames after the last such score: as long, a link is recorded, and a tube may be cut from it.
        ratio: a frame speaks for the action if its score is above this share of the record's level, the mean of the better
            half of its scores. A share, because weakly recognised actions want to be trimmed as well.
        evidence: the most that one frame says for or against the action, in units of log odds.
        switch: what a change between action and no action costs, in the same units: the smoothing cost of the two-state
            labelling by which Saha et al. (BMVC 2016) and ROAD trim. They label absolute scores.
        contrast: a tube is trimmed once more, against its `peak` best frames instead of its better half, if what remains
            scores so many times what is left out: short strong actions of an actor who stays in view.
        peak: see `contrast`.
        min_length: frames of the shortest tube; a video that is shorter may give a tube of its length.
        presence: share of a tube's frames that have a row of their own, not interpolated.
        nms: of two tubes of one class that overlap by more than this in space and time, the better remains (0.3: ACT, ROAD).
    """

    min_score: float = 0.01
    iou: float = 0.3
    momentum: float = 0.2
    foresight: int = 5
    score_weight: float = 0.5
    seniority: float = 0.5
    mature: int = 10
    max_gap: int = 25
    horizon: float = 4.0
    floor: float = 0.02
    idle: int = 25
    ratio: float = 0.25
    evidence: float = 2.0
    switch: float = 8.0
    contrast: float = 8.0
    peak: int = 25
    min_length: int = 10
    presence: float = 0.5
    nms: float = 0.3

    def __post_init__(self) -> None:
        for name in ("min_score", "iou", "momentum", "floor", "ratio", "presence", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie in [0, 1].")
        for name in ("score_weight", "seniority", "foresight", "max_gap", "horizon", "idle", "evidence", "switch", "contrast"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must not be negative.")
        for name in ("mature", "peak", "min_length"):
            if not getattr(self, name) >= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def at(self, rate: float) -> "LinkConfig":
        """The same durations for a video of `rate` frames per second."""
        if not 0 < rate < float("inf"):
            raise InputError(f"the frame rate is {rate}; it must be a positive number.")
        scale = float(rate) / REFERENCE_RATE
        counts = {name: max(1, round(getattr(self, name) * scale)) for name in _COUNTS}
        scaled = {name: getattr(self, name) * scale for name in ("horizon", "switch")}
        return replace(self, **counts, **scaled, max_gap=round(self.max_gap * scale))


_AT_ONCE = 1 << 18  # pairs of tubes, or their boxes, that are compared in one go
_COUNTS = ("mature", "foresight", "idle", "peak", "min_length")
_LIVE = np.dtype(
    [
        ("label", np.int64),
        ("box", np.float64, 4),
        ("velocity", np.float64, 2),  # of the centre
        ("last", np.int64),  # frame of the newest row
        ("rows", np.int64),
        ("sum", np.float64),  # of scores, and
        ("weight", np.float64),  # of ones, both decaying: the linked score is their ratio
        ("hot", np.int64),  # newest frame with a plausible score
        ("record", np.int64),  # the record that is being written, -1: none
        ("opened", np.int64),  # its first frame
    ]
)
_ROW = np.dtype([("record", np.int64), ("label", np.int32), ("frame", np.int32), ("box", np.float32, 4), ("score", np.float32)])


class OnlineLinker:
    """Link one video's detections, a frame at a time.

    Args:
        config: see `LinkConfig`.
        rate: the video's frames per second; durations in `config` are scaled to it. None takes them as they are.
    """

    def __init__(self, config: LinkConfig | None = None, rate: float | None = None) -> None:
        config = config or LinkConfig()
        self.config = config if rate is None else config.at(rate)
        self._restart()

    def _restart(self) -> None:
        self._frame = 0
        self._live = np.zeros(0, _LIVE)
        self._log: list[np.ndarray] = []  # rows of open and of just closed records
        self._logged = self._open = 0  # rows in the log; of these, in open records when last sorted
        self._closed = False  # has any record been closed since?
        self._records = 0
        self._pending: list[Tube] = []  # may still meet tubes to come
        self._done: list[Tube] = []

    def step(self, detections: Detections) -> Detections:
        """Take the next frame, also when nothing was found in it.

        Args:
            detections: its rows, in any order; not modified.

        Returns:
            The same rows in the same order, each scored by the running mean of its link up to this frame. The mean forgets
            at the rate of `LinkConfig.horizon`; frames without a row age the past and add nothing.
        """
        config, live = self.config, self._live
        rows = _ordered(detections, np.flatnonzero(detections.scores >= config.min_score))
        boxes, scores = detections.boxes[rows].astype(np.float64), detections.scores[rows].astype(np.float64)
        owner = self._match(boxes, detections.labels[rows], scores)
        self._continue(owner, boxes, scores)
        new = np.flatnonzero(owner < 0)
        if len(new):
            born = np.zeros(len(new), _LIVE)
            born["label"], born["box"], born["last"], born["rows"] = detections.labels[rows[new]], boxes[new], self._frame, 1
            born["sum"], born["weight"], born["hot"], born["record"] = scores[new], 1, -config.idle - 1, -1
            owner[new] = len(live) + np.arange(len(new))
            self._live = np.concatenate([live, born])
        self._record(owner, detections, rows)
        linked = detections.scores.copy()
        linked[rows] = np.clip(self._live["sum"][owner] / self._live["weight"][owner], 0, 1)
        self._retire()
        self._frame += 1
        return Detections(detections.boxes, detections.labels, linked)

    def _match(self, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Which live link each row continues, -1: none. Rows come sorted by label and left side."""
        config, live = self.config, self._live
        if not len(labels) or not len(live):
            return np.full(len(labels), -1)
        age = self._frame - live["last"]
        expected = live["box"] + np.tile(live["velocity"] * np.minimum(age, config.foresight)[:, None], 2)
        link, row, overlap = _near(expected, live["label"], boxes, labels, config.iou)
        senior = np.minimum(live["rows"] / config.mature, 1) * np.exp((1 - age) / config.mature)
        claim = overlap + config.score_weight * scores[row] + config.seniority * senior[link]
        order = np.argsort(-claim, kind="stable")
        owner, taken = [-1] * len(labels), set()
        for i, j in zip(link[order].tolist(), row[order].tolist(), strict=True):
            if owner[j] < 0 and i not in taken:
                owner[j] = i
                taken.add(i)
        return np.array(owner, np.int64)

    def _continue(self, owner: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> None:
        config, live, hit = self.config, self._live, owner >= 0
        link, boxes, scores = owner[hit], boxes[hit], scores[hit]
        age = self._frame - live["last"][link]
        moved = (boxes - live["box"][link]).reshape(-1, 2, 2).mean(axis=1) / age[:, None]
        live["velocity"][link] += config.momentum * (moved - live["velocity"][link])
        kept = np.exp(-age / config.horizon) if config.horizon else np.zeros(len(age))
        live["sum"][link] = kept * live["sum"][link] + scores
        live["weight"][link] = kept * live["weight"][link] + 1
        live["box"][link], live["last"][link] = boxes, self._frame
        live["rows"][link] += 1

    def _record(self, owner: np.ndarray, detections: Detections, rows: np.ndarray) -> None:
        live = self._live
        hot = owner[detections.scores[rows] >= self.config.floor]
        live["hot"][hot] = self._frame
        opens = hot[live["record"][hot] < 0]
        live["record"][opens] = self._records + np.arange(len(opens))
        live["opened"][opens] = self._frame
        self._records += len(opens)
        written = live["record"][owner] >= 0
        if not written.any():
            return
        entry = np.zeros(int(written.sum()), _ROW)
        entry["record"], entry["frame"] = live["record"][owner[written]], self._frame
        entry["label"], entry["box"] = detections.labels[rows[written]], detections.boxes[rows[written]]
        entry["score"] = detections.scores[rows[written]]
        self._log.append(entry)
        self._logged += len(entry)

    def _retire(self) -> None:
        config, live = self.config, self._live
        written = live["record"] >= 0
        live["record"][self._frame - live["hot"] > config.idle] = -1
        alive = self._frame - live["last"] <= np.minimum(config.max_gap, live["rows"])
        self._closed |= bool((written & ~(alive & (live["record"] >= 0))).any())
        self._live = live[alive]
        if self._closed and self._logged > max(4096, 2 * self._open):
            self._sort_log()

    def _sort_log(self) -> None:
        """Turn closed records into tubes, settle those that nothing to come can change, and keep the open records."""
        log = np.concatenate([np.zeros(0, _ROW), *self._log])
        is_open = np.isin(log["record"], self._live["record"])
        self._log, self._logged = [log[is_open]], int(is_open.sum())
        self._open, self._closed = self._logged, False
        closed = log[~is_open]
        closed = closed[np.argsort(closed["record"], kind="stable")]
        edges = np.flatnonzero(np.diff(closed["record"], prepend=-1, append=-1))
        rows = np.diff(edges)
        spans = closed["frame"][edges[1:] - 1] - closed["frame"][edges[:-1]] + 1
        shortest = min(self.config.min_length, self._frame)
        long = np.flatnonzero((spans >= shortest) & (rows >= self.config.presence * shortest))
        self._pending += _cut([closed[edges[i] : edges[i + 1]] for i in long], shortest, self.config)
        writing = self._live[self._live["record"] >= 0]
        labels, which = np.unique(writing["label"], return_inverse=True)
        opened = np.full(len(labels), self._frame)
        np.minimum.at(opened, which, writing["opened"])
        first = dict(zip(labels.tolist(), opened.tolist(), strict=True))
        settled, self._pending = _settled(self._pending, first)
        self._done += tube_nms(settled, self.config.nms)

    def finished(self) -> list[Tube]:
        """The tubes that nothing to come can change, best first; each is given once."""
        self._sort_log()
        done, self._done = self._done, []
        return sorted(done, key=_rank)

    def so_far(self) -> list[Tube]:
        """The tubes not yet given if the video ended here, best first. It may go on: nothing is changed."""
        twin = copy.copy(self)
        twin._pending, twin._done = list(self._pending), list(self._done)  # the log is replaced, never written to
        return twin.finish()

    def finish(self) -> list[Tube]:
        """End the video: the tubes not yet given, best first. The next `step` starts another video."""
        self._live = self._live[:0]
        tubes = self.finished()
        self._restart()
        return tubes


def link(frames: Iterable[Detections], config: LinkConfig | None = None, rate: float | None = None) -> list[Tube]:
    """The tubes of a whole video, best first; see `OnlineLinker`."""
    linker = OnlineLinker(config, rate)
    for detections in frames:
        linker.step(detections)
    return linker.finish()


def tube_nms(tubes: Sequence[Tube], threshold: float = 0.3) -> list[Tube]:
    """Keep, per class and best first, the tubes that overlap no kept one by more than `threshold` (see `tube_iou`)."""
    order = sorted(tubes, key=_rank)
    labels = np.array([tube.label for tube in order], np.int64)
    dropped: set[int] = set()
    for label in np.unique(labels):
        rank = np.flatnonzero(labels == label)
        for better, worse in rank[_conflicts([order[i] for i in rank], threshold)].tolist():
            if better not in dropped:
                dropped.add(worse)
    return [tube for i, tube in enumerate(order) if i not in dropped]


def _rank(tube: Tube) -> tuple:
    return -tube.score, tube.label, tube.start, len(tube), tube.boxes.tobytes()


def tube_iou(a: Tube, b: Tube) -> float:
    """Overlap in space and time: temporal IoU x mean spatial IoU over the frames in both."""
    return float(_overlaps([a, b], np.array([[0, 1]]))[0]) if min(a.stop, b.stop) > max(a.start, b.start) else 0.0


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
        pairs, frames = np.stack([i[near], j[near]], axis=1), np.cumsum(shared[near])
        cuts = np.searchsorted(frames, np.arange(_AT_ONCE, frames[-1] if len(frames) else 0, _AT_ONCE))
        found += [part[_overlaps(tubes, part) > threshold] for part in np.split(pairs, cuts)]
    return np.concatenate(found)


def _overlaps(tubes: Sequence[Tube], pairs: np.ndarray) -> np.ndarray:
    """`tube_iou` of pairs (P, 2) of tubes that share frames, (P,)."""
    if not len(pairs):
        return np.zeros(0)
    both = [(tubes[i], tubes[j]) for i, j in pairs.tolist()]
    spans = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in both]
    first = np.concatenate([a.boxes[x - a.start : y - a.start] for (a, _), (x, y) in zip(both, spans, strict=True)])
    second = np.concatenate([b.boxes[x - b.start : y - b.start] for (_, b), (x, y) in zip(both, spans, strict=True)])
    shared = np.array([y - x for x, y in spans])
    either = np.array([max(a.stop, b.stop) - min(a.start, b.start) for a, b in both])
    ious = _iou(first.astype(np.float64).T, second.astype(np.float64).T)
    return np.add.reduceat(ious, np.cumsum(shared) - shared) / either  # the mean over shared frames x shared / either


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of continuous boxes pair by pair, (4, P) and (4, P) -> (P,); 0 where both are without area."""
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _ordered(detections: Detections, rows: np.ndarray) -> np.ndarray:
    """Sort by label, then from left to right, so that the order in which rows come does not matter."""
    labels, scores, boxes = detections.labels[rows], detections.scores[rows], detections.boxes[rows]
    order = np.lexsort((boxes[:, 0], labels))
    if ((np.diff(labels[order]) == 0) & (np.diff(boxes[order, 0]) == 0)).any():
        order = np.lexsort((scores, *boxes.T[::-1], labels))
    return rows[order]


def _near(
    a: np.ndarray, a_labels: np.ndarray, b: np.ndarray, b_labels: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs (i, j) of boxes of one label whose IoU is at least `least`, and the IoU. `b` is sorted by label and left side."""
    a, b = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
    # An IoU of t takes a box as wide as t to 1/t times the other, and t times the wider one to be shared: so the left side
    # of b lies between (1 - 1/t) and (1 - t) widths from that of a.
    origin, width, t = b[0].min() - 1, b[0].max() - b[0].min() + 2, max(least, 1e-6)
    keys = b_labels * width + (b[0] - origin)
    low = a[0] - origin + (a[2] - a[0]) * (1 - 1 / t) * 1.001 - 1e-3
    high = a[0] - origin + (a[2] - a[0]) * (1 - t) * 1.001 + 1e-3
    left = np.searchsorted(keys, a_labels * width + np.clip(low, 0, width))
    counts = np.searchsorted(keys, a_labels * width + np.clip(high, 0, width)) - left
    i = np.repeat(np.arange(len(counts)), counts)
    j = np.arange(len(i)) + np.repeat(left - (np.cumsum(counts) - counts), counts)
    meet = np.flatnonzero((a[1][i] < b[3][j]) & (b[1][j] < a[3][i]))
    i, j = i[meet], j[meet]
    overlap = _iou(a[:, i], b[:, j])
    near = overlap >= t
    return i[near], j[near], overlap[near]


def _cut(records: list[np.ndarray], shortest: int, config: LinkConfig) -> list[Tube]:
    """The tubes in records, each a link's rows in the order of frames."""
    filled = []
    for record in records:
        scores, boxes = record["score"].astype(np.float64), record["box"]
        frames = np.arange(int(record["frame"][0]), int(record["frame"][-1]) + 1)
        if len(frames) > len(record):
            scores = np.interp(frames, record["frame"], scores)
            boxes = np.stack([np.interp(frames, record["frame"], side) for side in boxes.T], axis=1)
        filled.append((scores, boxes))
    tubes = []
    trimmed = _trim_all([scores for scores, _ in filled], config)
    for record, (scores, boxes), intervals in zip(records, filled, trimmed, strict=True):
        start = int(record["frame"][0])
        for a, b in intervals:
            rows = b - a if len(scores) == len(record) else np.diff(np.searchsorted(record["frame"], [start + a, start + b]))[0]
            if b - a >= shortest and rows >= config.presence * (b - a):
                # The mean, not the mean of the best frames: it ranks as well on noisy videos, and a user can read it.
                tubes.append(Tube(int(record["label"][0]), float(scores[a:b].mean()), start + a, boxes[a:b].copy(), scores[a:b]))
    return tubes


def trim(scores: np.ndarray, config: LinkConfig) -> list[tuple[int, int]]:
    """Where the action is: intervals (first frame, frame after the last) of one link's scores.

    Each frame gives evidence, its log odds against a threshold relative to the link's own level; of all labellings of the
    frames as action or not, the best is the one with most evidence less the cost of its changes.

    Args:
        scores: (T,), one per frame.
        config: `floor`, `ratio`, `evidence`, `switch`, `contrast` and `peak` are used.
    """
    return _trim_all([scores], config)[0]


def _trim_all(links: list[np.ndarray], config: LinkConfig) -> list[list[tuple[int, int]]]:
    """`trim` of many links at once: a video of many boxes and classes has thousands."""
    odds = []
    for scores in links:
        p = np.clip(scores, 1e-6, 1 - 1e-6)
        odds.append(np.log(p / (1 - p)))
    levels = [_level(scores, -(-len(scores) // 2), config) for scores in links]
    coarse = _label_all([o - level for o, level in zip(odds, levels, strict=True)], config)
    parts = [(i, a, b) for i, intervals in enumerate(coarse) for a, b in intervals]
    finer = _label_all([odds[i][a:b] - _level(links[i][a:b], config.peak, config) for i, a, b in parts], config)
    kept: list[list[tuple[int, int]]] = [[] for _ in links]
    for (i, a, b), intervals in zip(parts, finer, strict=True):
        scores, inside = links[i][a:b], np.zeros(b - a, bool)
        for c, d in intervals:
            inside[c:d] = True
        sharp = inside.any() and not inside.all()
        if sharp and scores[inside].mean() >= config.contrast * scores[~inside].mean():
            kept[i] += [(a + c, a + d) for c, d in intervals]
        else:
            kept[i].append((a, b))
    return kept


def _level(scores: np.ndarray, count: int, config: LinkConfig) -> float:
    """The log odds from which on a frame speaks for the action."""
    count = min(count, len(scores))
    level = max(config.ratio * float(np.partition(scores, -count)[-count:].sum()) / count, config.floor)
    return math.log(max(level, 1e-6)) - math.log(max(1 - level, 1e-6))


def _label_all(evidence: list[np.ndarray], config: LinkConfig) -> list[list[tuple[int, int]]]:
    """The intervals of action of many links, from the log odds of each of their frames: those of one sign need no search."""
    found: list[list[tuple[int, int]]] = [[(0, len(values))] if values.min() > 0 else [] for values in evidence]
    mixed = [i for i, values in enumerate(evidence) if values.min() <= 0 < values.max()]
    mixed.sort(key=lambda i: len(evidence[i]))  # links that are walked side by side are of similar length
    while mixed:
        many = max(1, _AT_ONCE // len(evidence[mixed[-1]]))
        chosen, mixed = mixed[-many:], mixed[:-many]
        for i, intervals in zip(chosen, _viterbi([evidence[i] for i in chosen], config), strict=True):
            found[i] = intervals
    return found


def _viterbi(evidence: list[np.ndarray], config: LinkConfig) -> list[list[tuple[int, int]]]:
    """Viterbi's algorithm for two states, where all that matters is by how much action leads; links side by side."""
    lengths = np.array([len(values) for values in evidence])
    table = np.zeros((lengths.max(), len(evidence)))
    for column, values in enumerate(evidence):
        table[: len(values), column] = np.clip(values, -config.evidence, config.evidence)
    leads, lead = np.empty_like(table), np.zeros(len(evidence))
    for frame, values in enumerate(table):
        leads[frame] = lead
        lead = np.clip(lead, -config.switch, config.switch) + values
    intervals = []
    for column, length in enumerate(lengths.tolist()):
        # Where the best way to no action comes from action, and the reverse.
        before = leads[:length, column]
        stops, starts = np.flatnonzero(before > config.switch).tolist(), np.flatnonzero(before < -config.switch).tolist()
        ahead = lead[column] if length == len(table) else leads[length, column]
        spans, end = [], length if ahead > 0 else _last(stops, length)
        while end:
            start = _last(starts, end)
            spans.append((start, end))
            end = _last(stops, start)
        intervals.append(spans[::-1])
    return intervals


def _last(events: list[int], before: int) -> int:
    """The last event before a frame, else 0; events are in order."""
    index = bisect_left(events, before)
    return events[index - 1] if index else 0


def _settled(tubes: list[Tube], first: dict[int, int]) -> tuple[list[Tube], list[Tube]]:
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
