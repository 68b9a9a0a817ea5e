"""How sure a mean over videos is: percentile bootstrap. Videos are drawn, not frames, for frames of one video are much alike."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..structures import InputError

ROUNDS = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """A number and where it may lie.

    Attributes:
        value: over all videos.
        low: of the confidence interval; NaN where there are fewer than two videos.
        high: likewise.
        videos: how many it rests on.
    """

    value: float
    low: float
    high: float
    videos: int

    def text(self, digits: int = 3) -> str:
        """As ``0.512 [0.480, 0.544]``."""
        if not np.isfinite(self.value):
            return "–"
        text = f"{self.value:.{digits}f}"
        return f"{text} [{self.low:.{digits}f}, {self.high:.{digits}f}]" if np.isfinite(self.low) else text


NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)
"""Of nothing at all."""


def rounded(value: float, digits: int = 4) -> float | None:
    """A number for JSON, which knows no NaN: None stands for that."""
    return round(value, digits) if np.isfinite(value) else None


def unrounded(value: float | None) -> float:
    """What `rounded` was given, or nearly."""
    return float("nan") if value is None else float(value)


def interval(statistic: Callable[[np.ndarray], float], videos: int, rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """The 95 % interval of any statistic of a set of videos.

    Args:
        statistic: of indices of videos (V,), repeats allowed; may be NaN for some draws, which are left out.
        videos: how many there are.
        rounds: of the bootstrap.
        seed: of its draws.
    """
    if not videos:
        return NOTHING
    value = float(statistic(np.arange(videos)))
    if videos < 2:
        return Interval(value, float("nan"), float("nan"), videos)
    rng = np.random.default_rng(seed)
    return of_draws(value, np.array([statistic(rng.integers(0, videos, videos)) for _ in range(rounds)], float), videos)


def of_draws(value: float, draws: np.ndarray, videos: int) -> Interval:
    """The 95 % interval of a statistic from its values over resamples (R,), NaN among them left out; none of fewer than two videos."""
    known = draws[np.isfinite(draws)]
    if not len(known) or videos < 2:
        return Interval(value, float("nan"), float("nan"), videos)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), videos)


def resamples(videos: int, rounds: int = ROUNDS, seed: int = 0) -> np.ndarray:
    """How often each video is drawn, (rounds, videos): for several statistics of the same draws."""
    drawn = np.random.default_rng(seed).integers(0, videos, (rounds, videos))
    return np.stack([np.bincount(row, minlength=videos) for row in drawn])


def mean_interval(values: Sequence[float] | np.ndarray, rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """The mean of one value per video (V,); videos with NaN are left out."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return NOTHING
    drawn = known[np.random.default_rng(seed).integers(0, len(known), (rounds, len(known)))].mean(1)
    return of_draws(float(known.mean()), drawn, len(known))


def paired_interval(
    before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray, rounds: int = ROUNDS, seed: int = 0
) -> Interval:
    """The mean of after - before over the same videos; those with NaN in either are left out.

    Raises:
        InputError: if they differ in number.
    """
    first, second = np.asarray(before, float), np.asarray(after, float)
    if first.shape != second.shape:
        raise InputError(f"{first.shape} values before and {second.shape} after; a pair needs one of each per video.")
    return mean_interval(second - first, rounds, seed)
