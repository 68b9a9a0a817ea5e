"""Links, a frame at a time: each row continues the link whose next box it overlaps best.

What a tube may be cut from is recorded only while the action is plausible, so memory is bounded by the links that are live, however long
the video, and by the tubes that are not yet taken.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..boxes import CONTINUOUS, box_iou
from ..structures import Detections, Tube
from .settings import LinkConfig
from .suppression import by_score, settled, tube_nms
from .trimming import cut

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
_ROW = np.dtype([("record", np.int32), ("label", np.int32), ("frame", np.int32), ("box", np.float32, 4), ("score", np.float32)])


class _Log:
    """Rows in one array that doubles when it is full. Many small arrays, made between a network's large ones and kept for longer, would
    break up the memory that those leave."""

    def __init__(self, rows: np.ndarray | None = None) -> None:
        self._rows = np.zeros(1024, _ROW) if rows is None else rows
        self._count = 0 if rows is None else len(rows)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> np.ndarray:
        """(N,), a view."""
        return self._rows[: self._count]

    def more(self, count: int) -> np.ndarray:
        """A view of that many new rows, to be filled."""
        if self._count + count > len(self._rows):
            larger = np.zeros(2 * (self._count + count), _ROW)
            larger[: self._count] = self.rows
            self._rows = larger
        self._count += count
        return self._rows[self._count - count : self._count]


class OnlineLinker:
    """Link one video's detections, a frame at a time.

    Args:
        config: see `LinkConfig`.
        rate: the video's frames per second; durations in `config` are scaled to it. None takes them as they are.
        threshold: tubes that score less are forgotten at once. They suppress none that scores more.
    """

    def __init__(self, config: LinkConfig | None = None, rate: float | None = None, threshold: float = 0.0) -> None:
        config = config or LinkConfig()
        self.config = config if rate is None else config.at(rate)
        self.threshold = threshold
        self._restart()

    def _restart(self) -> None:
        self._frame = 0
        self._live = np.zeros(0, _LIVE)
        self._log = _Log()  # rows of open and of just closed records
        self._open = 0  # of these, in open records when last sorted
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
            trust = config.trust(self._frame)
            born["sum"], born["weight"], born["hot"], born["record"] = trust * scores[new], trust, -config.idle - 1, -1
            owner[new] = len(live) + np.arange(len(new))
            self._live = np.concatenate([live, born])
        self._record(owner, detections, rows)
        linked = detections.scores.copy()
        linked[rows] = np.clip(self._live["sum"][owner] / self._live["weight"][owner], 0, 1)
        self._retire()
        self._frame += 1
        return replace(detections, scores=linked)

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
        owner, claimed = [-1] * len(labels), set()
        for i, j in zip(link[order].tolist(), row[order].tolist(), strict=True):
            if owner[j] < 0 and i not in claimed:
                owner[j] = i
                claimed.add(i)
        return np.array(owner, np.int64)

    def _continue(self, owner: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> None:
        config, live, hit = self.config, self._live, owner >= 0
        link, boxes, scores = owner[hit], boxes[hit], scores[hit]
        age = self._frame - live["last"][link]
        displacement = (boxes - live["box"][link]).reshape(-1, 2, 2).mean(axis=1) / age[:, None]
        live["velocity"][link] += config.momentum * (displacement - live["velocity"][link])
        kept = np.exp(-age / config.horizon) if config.horizon else np.zeros(len(age))
        trust = config.trust(self._frame)
        live["sum"][link] = kept * live["sum"][link] + trust * scores
        live["weight"][link] = kept * live["weight"][link] + trust
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
        entry = self._log.more(int(written.sum()))
        entry["record"], entry["frame"] = live["record"][owner[written]], self._frame
        entry["label"], entry["box"] = detections.labels[rows[written]], detections.boxes[rows[written]]
        entry["score"] = detections.scores[rows[written]]

    def _retire(self) -> None:
        config, live = self.config, self._live
        written = live["record"] >= 0
        live["record"][self._frame - live["hot"] > config.idle] = -1
        alive = self._frame - live["last"] <= np.minimum(config.max_gap, live["rows"])
        self._closed |= bool((written & ~(alive & (live["record"] >= 0))).any())
        self._live = live[alive]
        if self._closed and len(self._log) > max(4096, 2 * self._open):
            self._sort_log()

    def _sort_log(self) -> None:
        """Turn closed records into tubes, settle those that nothing to come can change, and keep the open records."""
        log = self._log.rows
        is_open = np.isin(log["record"], self._live["record"])
        self._log = _Log(log[is_open])
        self._open, self._closed = len(self._log), False
        closed = log[~is_open]
        closed = closed[np.argsort(closed["record"], kind="stable")]
        edges = np.flatnonzero(np.diff(closed["record"], prepend=-1, append=-1))
        rows = np.diff(edges)
        spans = closed["frame"][edges[1:] - 1] - closed["frame"][edges[:-1]] + 1
        shortest = min(self.config.min_length, self._frame)
        long = np.flatnonzero((spans >= shortest) & (rows >= self.config.presence * shortest))
        found = cut([closed[edges[i] : edges[i + 1]] for i in long], shortest, self.config)
        self._pending += [tube for tube in found if tube.score >= self.threshold]
        writing = self._live[self._live["record"] >= 0]
        labels, which = np.unique(writing["label"], return_inverse=True)
        opened = np.full(len(labels), self._frame)
        np.minimum.at(opened, which, writing["opened"])
        first = dict(zip(labels.tolist(), opened.tolist(), strict=True))
        done, self._pending = settled(self._pending, first)
        self._done += tube_nms(done, self.config.nms)

    def finished(self) -> list[Tube]:
        """The tubes that nothing to come can change, best first; each is given once."""
        self._sort_log()
        done, self._done = self._done, []
        return sorted(done, key=by_score)

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
    # An IoU of t takes a box as wide as t to 1/t times the other, and t times the wider one to be shared: so the left side
    # of b lies between (1 - 1/t) and (1 - t) widths from that of a.
    origin, width, t = b[:, 0].min() - 1, np.ptp(b[:, 0]) + 2, max(least, 1e-6)
    keys = b_labels * width + (b[:, 0] - origin)
    side, wide = a[:, 0] - origin, a[:, 2] - a[:, 0]
    low, high = side + wide * (1 - 1 / t) * 1.001 - 1e-3, side + wide * (1 - t) * 1.001 + 1e-3
    left = np.searchsorted(keys, a_labels * width + np.clip(low, 0, width))
    counts = np.searchsorted(keys, a_labels * width + np.clip(high, 0, width)) - left
    i = np.repeat(np.arange(len(counts)), counts)
    j = np.arange(len(i)) + np.repeat(left - (np.cumsum(counts) - counts), counts)
    meet = np.flatnonzero((a[i, 1] < b[j, 3]) & (b[j, 1] < a[i, 3]))
    i, j = i[meet], j[meet]
    overlap = box_iou(a[i], b[j], CONTINUOUS)
    near = overlap >= t
    return i[near], j[near], overlap[near]
