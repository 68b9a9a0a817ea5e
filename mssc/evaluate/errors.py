"""What kind of errors there are: a confusion of actions, and why detections are wrong.

The kinds are those of TIDE (Bolya et al., ECCV 2020), with its thresholds: a detection is at the right place from an overlap of
0.5 on and somewhere near from 0.1 on. Video adds one kind that the analyses of ACT and its successors call an error in time: a
detection in a frame without any action. A wrong detection is of the first kind that fits:

    ============  =====================================================================================================
    kind          the detection
    ============  =====================================================================================================
    duplicate     has the right class and place, but a better one took that box
    class         has the right place, another class
    localisation  has the right class and is near
    both          is near a box of another class
    no action     is in a frame where nothing happens
    background    overlaps no box of its frame by 0.1, though something happens there
    ============  =====================================================================================================

A ground-truth box is *missed* if no detection is right for it, whatever came near.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..boxes import CONTINUOUS, BoxTable
from .matching import claim, class_precision, collect, mean_ap, near_pairs
from .protocols import PROTOCOLS, FrameDetections, Truth

PLACE, NEAR = 0.5, 0.1
ERRORS = ("duplicate", "class", "localisation", "both", "no action", "background")


class Errors(NamedTuple):
    """What is wrong, counted and weighed.

    Attributes:
        right: (A,) right detections by class, at the operating threshold.
        wrong: (6, A) wrong ones, by kind in the order of `ERRORS` and by the class they claim, at that threshold.
        missed: (A,) ground-truth boxes without a right detection at that threshold.
        gain: by kind and for "missed", how much frame-mAP would rise if errors of that kind alone, at any score, were gone. A
            detection of the wrong class or place is put right if it is the best claim to a box that nobody found, else removed.
    """

    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray
    gain: dict[str, float]


def error_types(detections: Mapping[str, FrameDetections], truth: Mapping[str, Truth], classes: int, threshold: float) -> Errors:
    """Sort wrong detections into kinds, by the rules of ``voc``, all frames.

    Args:
        detections: see `frame_map`.
        truth: every video to score.
        classes: how many there are.
        threshold: counts are of detections that score at least this much; gains are of all.

    Raises:
        InputError: see `frame_map`.
    """
    found, wanted = collect(detections, truth, classes)
    found = found.ranked()
    kind, target = _kinds(found, wanted)
    positives = np.bincount(wanted.labels, minlength=classes)
    base = _map(found, kind < 0, positives)
    gain = {name: _map(*_without(found, wanted, kind, target, code), positives) - base for code, name in enumerate(ERRORS)}
    reached = np.unique(target[kind < 0])
    gain["missed"] = _map(found, kind < 0, np.bincount(wanted.labels[reached], minlength=classes)) - base
    shown = found.where(found.scores >= threshold)
    kind, target = _kinds(shown, wanted)
    wrong = np.stack([np.bincount(shown.labels[kind == code], minlength=classes) for code in range(len(ERRORS))])
    right = np.bincount(shown.labels[kind < 0], minlength=classes)
    return Errors(right, wrong, positives - right, gain)


def _kinds(found: BoxTable, wanted: BoxTable) -> tuple[np.ndarray, np.ndarray]:
    """Kind (-1: right) and ground-truth row (-1: none) of each detection; they come by class, then best first."""
    count = len(found.frames)
    kind = np.where(np.isin(found.frames, wanted.frames), ERRORS.index("background"), ERRORS.index("no action"))
    target = np.full(count, -1)
    row, column, near = near_pairs(found.unlabelled(), wanted.unlabelled(), 1, NEAR, CONTINUOUS)
    same = found.labels[row] == wanted.labels[column]
    # From the weakest explanation to the strongest, each over the one before.
    for name, fits in (
        ("both", ~same),
        ("localisation", same),
        ("class", ~same & (near >= PLACE)),
        ("duplicate", same & (near >= PLACE)),
    ):
        rows, best = _best(row[fits], column[fits], near[fits])
        kind[rows], target[rows] = ERRORS.index(name), best
    close = same & (near >= PLACE)
    kind[list(claim(row[close], column[close], near[close], retry=False))] = -1
    return kind, target


def _best(row: np.ndarray, column: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row's pairs the one that overlaps most."""
    order = np.lexsort((column, -overlap, row))
    rows, first = np.unique(row[order], return_index=True)
    return rows, column[order][first]


def _without(found: BoxTable, wanted: BoxTable, kind: np.ndarray, target: np.ndarray, code: int) -> tuple[BoxTable, np.ndarray]:
    """Detections and hits with one kind of errors mended or removed."""
    hits, label = kind < 0, found.labels.copy()
    keep = kind != code
    if ERRORS[code] in ("class", "localisation"):
        wrong = np.flatnonzero((kind == code) & ~np.isin(target, target[hits]))
        wrong = wrong[np.argsort(-found.scores[wrong], kind="stable")]
        _, first = np.unique(target[wrong], return_index=True)
        mended = wrong[first]
        label[mended] = wanted.labels[target[mended]]
        hits, keep = hits.copy(), keep.copy()
        hits[mended] = keep[mended] = True
    rows = found._replace(labels=label).where(keep)
    order = np.lexsort((-rows.scores, rows.labels))
    return rows.where(order), hits[keep][order]


def _map(found: BoxTable, hits: np.ndarray, positives: np.ndarray) -> float:
    return mean_ap(class_precision(found.labels, hits, positives, PROTOCOLS["voc"].envelope))


def confusion(
    detections: Mapping[str, FrameDetections], truth: Mapping[str, Truth], classes: int, threshold: float
) -> np.ndarray:
    """Which action is taken for which, all frames.

    Boxes are matched whatever their class: detections of the right class choose first, then the others, better scores first;
    each takes the free ground-truth box that it overlaps most, by at least 0.5.

    Returns:
        (A + 1, A + 1) counts, rows the truth, columns what was predicted. The last row counts detections of nothing, the last column
        what was missed.

    Raises:
        InputError: see `frame_map`.
    """
    found, wanted = collect(detections, truth, classes)
    best_first = np.argsort(-found.scores, kind="stable")
    found = found.where(best_first[found.scores[best_first] >= threshold])
    row, column, near = near_pairs(found.unlabelled(), wanted.unlabelled(), 1, PLACE, CONTINUOUS)
    same = found.labels[row] == wanted.labels[column]
    predicted, matched = np.full(len(wanted.labels), classes), np.full(len(found.labels), classes)
    for which in (same, ~same):
        which = which & (predicted[column] == classes) & (matched[row] == classes)
        for r, c in claim(row[which], column[which], near[which], retry=True).items():
            predicted[c], matched[r] = found.labels[r], wanted.labels[c]
    table = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(table, (wanted.labels, predicted), 1)
    np.add.at(table[classes], found.labels[matched == classes], 1)
    return table
