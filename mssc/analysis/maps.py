"""Where a module responds: maps over the frame, and how well they point at the actors (reconstruction, section 6.2)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..model.features import Features
from ..model.head import Head
from ..structures import InputError
from .cells import INSIDE, centre_cells, coverage

LEVELS = 3  # fused maps for the class; of more, the rest are for boxes


def normalised(response: np.ndarray) -> np.ndarray:
    """A response (H, W), not negative, made to sum to 1. All zero becomes uniform: it prefers no place.

    Raises:
        InputError: for negative values or NaN.
    """
    response = np.asarray(response, float)
    if not np.isfinite(response).all() or (response < 0).any():
        raise InputError("a response map holds negative values or NaN; take norms or rectified values.")
    total = response.sum()
    return response / total if total > 0 else np.full(response.shape, 1 / response.size)


def norm_map(features: Tensor) -> np.ndarray:
    """R = |features| per cell, normalised: (C, H, W) to (H, W)."""
    return normalised(features.float().norm(dim=0).cpu().numpy())


def attention_rows(weights: Tensor, cells: np.ndarray) -> np.ndarray:
    """Where single cells look, for the ``sfm_attention`` variant, which alone has such maps.

    Args:
        weights: (heads, N, M), rows sum to 1: what submodule ``exchange.take.0.weights`` put out for one frame, N = H * W, of M places
            in a square.
        cells: (H, W) bool, the cells that look, n of them.

    Returns:
        (n, h, h), h * h = M, each summing to 1, averaged over heads.
    """
    chosen = torch.from_numpy(np.flatnonzero(cells))
    rows = weights.float().mean(0).cpu()[chosen]
    side = math.isqrt(rows.shape[1])
    return rows.reshape(-1, side, side).double().numpy()


def class_activation(head: Head, features: Features, boxes: np.ndarray, labels: np.ndarray) -> list[list[np.ndarray]]:
    """Grad-CAM (Selvaraju et al., ICCV 2017) of the action logits of given boxes, with respect to the fused maps.

    R = ReLU(sum_c w_c F_c), w_c the mean over places of the logit's gradient with respect to channel c.

    Args:
        head: in eval mode.
        features: of one frame, out of any graph.
        boxes: (N, 4) in pixels of the input.
        labels: (N,) the action of each.

    Returns:
        Per box and level an (H, W) map that sums to 1.
    """
    with torch.enable_grad():
        fused = [x.detach().clone().requires_grad_() for x in features.fused]
        rois = torch.as_tensor(boxes, dtype=fused[0].dtype, device=fused[0].device)[None]
        logits = head(features._replace(fused=tuple(fused)), rois).logits[0]
        found = []
        for row, label in enumerate(labels.tolist()):
            last = row == len(labels) - 1
            slopes = torch.autograd.grad(logits[row, label], fused[:LEVELS], retain_graph=not last, allow_unused=True)
            found.append([_cam(x.detach()[0], g) for x, g in zip(fused, slopes, strict=False)])
    return found


def _cam(features: Tensor, slope: Tensor | None) -> np.ndarray:
    if slope is None:  # the level has no say
        return normalised(np.zeros(features.shape[1:]))
    weights = slope[0].mean((1, 2), keepdim=True)
    return normalised((weights * features).sum(0).clamp(min=0).float().cpu().numpy())


def map_entropy(response: np.ndarray) -> float:
    """H(R) / log N in [0, 1]: 1 for a uniform map, 0 for a single cell; of one cell alone, 1."""
    from scipy.stats import entropy  # slow to import

    return float(entropy(normalised(response).ravel(), base=response.size)) if response.size > 1 else 1.0


def map_measures(response: np.ndarray, boxes: np.ndarray, frame: Sequence[float]) -> dict[str, float]:
    """How well a map points at boxes.

    Args:
        response: (H, W), not negative.
        boxes: (N, 4), at least one.
        frame: height and width of the frame, in the boxes' unit.

    Returns:
        ``entropy``, see `map_entropy`. ``EIB``: the energy in the boxes, cells that lie partly in one counted in part. ``lift``: EIB over
        the boxes' share of the area, 1 for a uniform map, NaN where no box touches the frame. ``pointing``: 1 if the strongest cell's
        centre lies in a box, else 0. ``area IoU``: with the boxes' mask (cells at least half inside, or else those of the boxes'
        centres), of as many strongest cells as it has; no threshold to choose.

    Raises:
        InputError: without a box.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    if not len(boxes):
        raise InputError("there is no box to point at; leave out frames without ground truth.")
    share = normalised(response)
    inside = coverage(boxes, share.shape, frame).max(0)
    energy, area = float((share * inside).sum()), float(inside.mean())
    mask = inside >= INSIDE - 1e-9
    if not mask.any():
        mask[centre_cells(boxes, share.shape, frame)] = True
    strongest = np.argsort(-share, axis=None, kind="stable")
    row, column = np.unravel_index(strongest[0], share.shape)
    x, y = (column + 0.5) * frame[1] / share.shape[1], (row + 0.5) * frame[0] / share.shape[0]
    hit = ((boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])).any()
    top = np.zeros(share.size, bool)
    top[strongest[: int(mask.sum())]] = True
    common = int((top & mask.ravel()).sum())
    return {
        "entropy": map_entropy(share),
        "EIB": energy,
        "lift": energy / area if area > 0 else float("nan"),
        "pointing": float(hit),
        "area IoU": common / (2 * int(mask.sum()) - common),
    }


MAP_MEASURES = ("entropy", "EIB", "lift", "pointing", "area IoU")


def mean_measures(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """`mean_known` of each measure over several maps."""
    return {name: mean_known([row[name] for row in rows]) for name in MAP_MEASURES}


def mean_known(values: Sequence[float]) -> float:
    """The mean without NaN, which is what is left of nothing but NaN."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
