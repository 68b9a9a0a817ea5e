"""What a linear classifier can read from features, tested on videos that it has not seen."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .bootstrap import Interval, interval, mean_interval

FOLDS = 5


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """AUROC: how often a positive scores above a negative, ties counting half. NaN without one of both kinds."""
    return _area(_wins(scores, positive, np.zeros(len(scores), int)), np.ones(1))


class _Wins(NamedTuple):
    """How often positives of one video score above negatives of another one, ties counting half, (V, V); how many of both, (V,) each."""

    pairs: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def _wins(scores: np.ndarray, positive: np.ndarray, videos: np.ndarray) -> _Wins:
    """Of what is not NaN; `videos` (N,) are numbers from 0."""
    known, count = np.isfinite(scores), int(videos.max(initial=-1)) + 1
    scores, positive, videos = np.asarray(scores)[known], np.asarray(positive, bool)[known], videos[known]
    upper, owner, pairs = scores[positive], videos[positive], np.zeros((count, count))
    for video in range(count):
        lower = np.sort(scores[~positive & (videos == video)])
        below = (np.searchsorted(lower, upper) + np.searchsorted(lower, upper, "right")) / 2
        pairs[:, video] = np.bincount(owner, below, count)
    return _Wins(pairs, np.bincount(owner, minlength=count), np.bincount(videos[~positive], minlength=count))


def _area(wins: _Wins, drawn: np.ndarray) -> float:
    """AUROC of videos of which each is there so many times, (V,)."""
    pairs = (drawn @ wins.positives) * (drawn @ wins.negatives)
    return float(drawn @ wins.pairs @ drawn / pairs) if pairs else float("nan")


def _across_videos(features: np.ndarray, labels: np.ndarray, videos: np.ndarray, read: Callable) -> np.ndarray:
    """`read(classifier, features)` (N,) of each row by a classifier that was fitted on other videos; NaN where there is none."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    out = np.full(len(features), np.nan)
    folds = min(FOLDS, len(np.unique(videos)))
    if folds < 2:
        return out
    for fitted, tested in GroupKFold(folds).split(features, labels, videos):
        if len(np.unique(labels[fitted])) < 2:
            continue
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        out[tested] = read(classifier.fit(features[fitted], labels[fitted]), features[tested])
    return out


def probe_scores(features: np.ndarray, action: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """How much a logistic regression takes each cell for action, fitted on other videos (5 folds over videos).

    Args:
        features: (N, D).
        action: (N,) bool.
        videos: (N,), which video each is of.

    Returns:
        (N,) log-odds, NaN where there were no other videos with cells of both kinds.
    """
    return _across_videos(features, np.asarray(action, int), videos, lambda fitted, x: fitted.decision_function(x))


def _rows_by_video(videos: np.ndarray) -> list[np.ndarray]:
    _, place = np.unique(videos, return_inverse=True)
    order = np.argsort(place, kind="stable")
    return np.split(order, np.cumsum(np.bincount(place))[:-1]) if len(order) else []


def probe_auroc(features: np.ndarray, action: np.ndarray, videos: np.ndarray, rounds: int = 500) -> Interval:
    """AUROC of `probe_scores` over all cells, with the interval over videos. Same arguments."""
    return probe_change(None, features, action, videos, rounds)


def probe_change(
    before: np.ndarray | None, after: np.ndarray, action: np.ndarray, videos: np.ndarray, rounds: int = 500
) -> Interval:
    """How much the AUROC of `probe_scores` changes from some features of the same cells to others, paired: each draw of videos is used
    for both.

    Args:
        before: (N, D); None compares with nothing.
        after: (N, D').
        action: (N,) bool.
        videos: (N,), which video each is of.
        rounds: of the bootstrap.
    """
    _, place = np.unique(videos, return_inverse=True)
    count = int(place.max(initial=-1)) + 1
    first, second = (None if x is None else _wins(probe_scores(x, action, videos), action, place) for x in (before, after))
    assert second is not None

    def statistic(chosen: np.ndarray) -> float:
        drawn = np.bincount(chosen, minlength=count).astype(float)
        area = _area(second, drawn)
        return area if first is None else area - _area(first, drawn)

    return interval(statistic, count, rounds)


def class_probe(features: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> Interval:
    """Accuracy with which a linear classifier, fitted on other videos, names the action of a box from one feature of it.

    Args:
        features: (N, D), one per box.
        labels: (N,) classes.
        videos: (N,), which video each is of.

    Returns:
        The mean over videos of their accuracies; NaN where no classifier could be fitted.
    """
    predicted = _across_videos(features, labels, videos, lambda fitted, x: fitted.predict(x))
    right = np.where(np.isfinite(predicted), predicted == labels, np.nan)
    means = [right[rows].mean() for rows in _rows_by_video(videos)]
    return mean_interval(means)
