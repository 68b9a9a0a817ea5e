"""When an action starts and ends: tubes are cut from what was recorded of a link, by its scores."""

import math
from bisect import bisect_left

import numpy as np

from ..structures import Tube
from .settings import LinkConfig

_AT_ONCE = 1 << 18  # frames of links that are walked side by side


def cut(records: list[np.ndarray], shortest: int, config: LinkConfig) -> list[Tube]:
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
    trimmed = trim([scores for scores, _ in filled], config)
    for record, (scores, boxes), intervals in zip(records, filled, trimmed, strict=True):
        start = int(record["frame"][0])
        for a, b in intervals:
            rows = b - a if len(scores) == len(record) else np.diff(np.searchsorted(record["frame"], [start + a, start + b]))[0]
            if b - a >= shortest and rows >= config.presence * (b - a):
                # The mean, not the mean of the best frames: it ranks as well on noisy videos, and a user can read it.
                score = np.average(scores[a:b], weights=config.trust(np.arange(start + a, start + b)))
                tubes.append(Tube(int(record["label"][0]), float(score), start + a, boxes[a:b].copy(), scores[a:b]))
    return tubes


def trim(links: list[np.ndarray], config: LinkConfig) -> list[list[tuple[int, int]]]:
    """Where the action is: intervals (first frame, frame after the last) of each link. A video of many boxes and classes has thousands.

    Each frame gives evidence, its log odds against a threshold relative to the link's own level; of all labellings of the
    frames as action or not, the best is the one with most evidence less the cost of its changes.

    Args:
        links: scores (T,) of each, one per frame.
        config: `floor`, `ratio`, `evidence`, `switch`, `contrast` and `peak` are used.
    """
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
