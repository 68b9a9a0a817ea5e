"""How far action features are from background features: the quantities of the reconstruction's section 6.1.

Every measure takes the cells of one map, x (N, D), and two masks (N,): a, the action cells, and b, the background cells; mu is the mean
over all N cells, also those of neither set. Where a measure has no meaning (a mean of length zero, say) it is NaN.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..structures import InputError

MOST_CELLS = 64  # of a set, for the silhouette: its cost grows with the square
TINY = 1e-12  # relative to the largest value: less is rounding, whatever the features' scale


def _size(x: np.ndarray) -> float:
    return max(float(np.abs(x).max(initial=0)), 1e-100)


def _ratio(above: float, below: float, scale: float) -> float:
    return float(above / below) if below > TINY * scale else float("nan")


def _cosine(x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
    """Cosines of the rows of x with y, NaN where one is zero next to `scale`."""
    first, second = np.linalg.norm(x, axis=-1), np.linalg.norm(y, axis=-1)
    known = (first > TINY * scale) & (second > TINY * scale)
    return np.where(known, (x * y).sum(-1) / np.where(known, first * second, 1), np.nan)


def cosine_distance(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """d_cos = 1 - cos(m_A, m_B), in [0, 2]."""
    return float(1 - _cosine(x[a].mean(0), x[b].mean(0), _size(x)))


def centred_cosine_distance(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """d_cos of what is left when the map's mean is gone: 1 - cos(m_A - mu, m_B - mu)."""
    mu = x.mean(0)
    return float(1 - _cosine(x[a].mean(0) - mu, x[b].mean(0) - mu, _size(x)))


def raw_distance(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """d_raw = |m_A - m_B|. Any gain inflates it: to be read beside d_euc only."""
    return float(np.linalg.norm(x[a].mean(0) - x[b].mean(0)))


def scale_free_distance(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """d_euc = |m_A - m_B| / sqrt(mean_i |x_i - mu|^2): the distance in units of the map's own spread."""
    return _ratio(raw_distance(x, a, b), float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())), _size(x))


def channel_fisher(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Fisher's score of each channel, (D,): (m_A - m_B)^2 / (var_A + var_B), variances as means over the set; NaN without variance."""
    within = x[a].var(0) + x[b].var(0)
    between = (x[a].mean(0) - x[b].mean(0)) ** 2
    known = within > (TINY * _size(x)) ** 2
    return np.where(known, between / np.where(known, within, 1), np.nan)


def fisher(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """J = |m_A - m_B|^2 / (tr S_A + tr S_B), covariances as means over the set."""
    return _ratio(raw_distance(x, a, b) ** 2, float(x[a].var(0).sum() + x[b].var(0).sum()), TINY * _size(x) ** 2)


def silhouette(x: np.ndarray, a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """Mean silhouette of the cells of both sets, cosine distance, at most 64 cells of a set, drawn with a fixed seed; in [-1, 1]."""
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(mask) for mask in (a, b)]
    rows = [rng.permutation(r)[:MOST_CELLS] if len(r) > MOST_CELLS else r for r in rows]
    chosen = np.concatenate(rows)
    return float(silhouette_score(x[chosen], np.repeat([1, 0], [len(r) for r in rows]), metric="cosine"))


def similarity_to_average(x: np.ndarray, of: np.ndarray | None = None) -> float:
    """sim2avg = mean cos(x_i, mu) over the cells of the mask `of`, all if None: TriDet's Fig. 2 shows this quantity."""
    similar = _cosine(x, x.mean(0), _size(x))
    chosen = similar if of is None else similar[of]
    return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else float("nan")


def push_ratio(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """D_A / D_B: mean distance of action cells from mu over that of background cells; above 1, action lies further out."""
    distance = np.linalg.norm(x - x.mean(0), axis=1)
    return _ratio(float(distance[a].mean()), float(distance[b].mean()), _size(x))


def effective_rank(x: np.ndarray) -> float:
    """exp(entropy) of the normalised singular values of the centred (N, D) matrix, from 1 to min(N, D); NaN if all cells are equal."""
    from scipy.stats import entropy  # slow to import

    values = np.linalg.svd(x - x.mean(0), compute_uv=False)
    return float(np.exp(entropy(values))) if values.sum() > TINY * _size(x) else float("nan")


def spread(x: np.ndarray) -> float:
    """|X - 1 mu^T|_F / |X|_F in [0, 1]: 0 where all cells have become equal (loss of rank)."""
    return _ratio(float(np.linalg.norm(x - x.mean(0))), float(np.linalg.norm(x)), _size(x))


class Measure(NamedTuple):
    """One quantity.

    Attributes:
        of: (x, a, b) to a number.
        claim: what happens to it if the paper's claim holds: "up", "down", or "" where it says nothing.
    """

    of: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    claim: str


MEASURES: dict[str, Measure] = {
    "d_cos": Measure(cosine_distance, "up"),
    "d_cos centred": Measure(centred_cosine_distance, "up"),
    "d_euc": Measure(scale_free_distance, "up"),
    "d_raw": Measure(raw_distance, ""),
    "Fisher J": Measure(fisher, "up"),
    "silhouette": Measure(silhouette, "up"),
    "sim2avg": Measure(lambda x, a, b: similarity_to_average(x), "down"),
    "sim2avg action": Measure(lambda x, a, b: similarity_to_average(x, a), "down"),
    "sim2avg background": Measure(lambda x, a, b: similarity_to_average(x, b), ""),
    "D_A/D_B": Measure(push_ratio, "up"),
    "effective rank": Measure(lambda x, a, b: effective_rank(x), "up"),
    "spread": Measure(lambda x, a, b: spread(x), "up"),
}
"""Per map; the probe's AUROC (`mssc.analysis.probes`) is the one quantity that needs many videos at once."""


def separability(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Every one of `MEASURES` of one map.

    Args:
        x: (N, D) features of all cells. Not modified; computed in double precision.
        a: (N,) bool, action cells, at least 2.
        b: (N,) bool, background cells, at least 2.

    Raises:
        InputError: for other shapes, or sets too small for a silhouette or a variance.
    """
    x, a, b = np.asarray(x, float), np.asarray(a, bool), np.asarray(b, bool)
    if x.ndim != 2 or a.shape != (len(x),) or b.shape != (len(x),):
        raise InputError(f"features of shape {x.shape} and masks of {a.shape}, {b.shape}; (N, D), (N,), (N,) are wanted.")
    if a.sum() < 2 or b.sum() < 2 or (a & b).any():
        raise InputError(f"{a.sum()} action and {b.sum()} background cells; two of each, and none of both, are needed.")
    return {name: measure.of(x, a, b) for name, measure in MEASURES.items()}
