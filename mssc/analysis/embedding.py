"""Features in two dimensions, to look at. An illustration only: say the separability beside it."""

from typing import Literal

import numpy as np

from ..structures import InputError

PERPLEXITY = 30.0
FIRST = 50  # principal components that t-SNE starts from
SEED = 0  # the same for every model, so that pictures differ by features alone


def embed(features: np.ndarray, method: Literal["tsne", "pca"] = "tsne", seed: int = SEED) -> np.ndarray:
    """Two coordinates per feature.

    t-SNE (van der Maaten and Hinton, 2008) runs on the first 50 principal components, perplexity 30 (fewer points: a third of
    their number), starts from the first two, and is given the same seed for all models.

    Args:
        features: (N, D), at least 4. Not modified.
        method: "tsne" or "pca".
        seed: of t-SNE.

    Returns:
        (N, 2) float64.

    Raises:
        InputError: for fewer points, NaN, or another method.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    features = np.asarray(features, float)
    if method not in ("tsne", "pca"):
        raise InputError(f"there is no embedding {method!r}; use tsne or pca.")
    if features.ndim != 2 or len(features) < 4 or not np.isfinite(features).all():
        raise InputError(f"features of shape {features.shape} cannot be embedded; (N, D) with N >= 4 and no NaN is wanted.")
    if not np.ptp(features, axis=0).any():  # all the same: there is no direction to begin with
        return np.zeros((len(features), 2))
    parts = min(FIRST if method == "tsne" else 2, *features.shape)
    reduced = PCA(parts, svd_solver="full").fit_transform(features)
    if method == "pca":
        return np.pad(reduced, ((0, 0), (0, 2 - parts)))
    if parts < 2:  # one line: nothing to arrange
        return np.pad(reduced, ((0, 0), (0, 1)))
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(reduced)
