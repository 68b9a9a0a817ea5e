"""What SFM's first stage exchanges (reconstruction, section 6.2)."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..model.fusion import Exchange
from ..structures import InputError


def exchange_of(fusion: nn.Module) -> Exchange | None:
    """The stage-1 module of a fusion; None where it has none."""
    found = getattr(fusion, "exchange", None)
    return found if isinstance(found, Exchange) else None


def corrected(fusion: nn.Module, spatial: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """Both paths after stage 1, (B, C, H, W) each; with ``frm+sfm`` the rectification comes before.

    Raises:
        InputError: for a fusion that exchanges nothing.
    """
    exchange = exchange_of(fusion)
    if exchange is None:
        raise InputError(
            f"{type(fusion).__name__} has no stage 1; use a model whose fusion is sfm, sfm1, frm+sfm or sfm_attention."
        )
    rectify = getattr(fusion, "rectify", None)
    with torch.no_grad():
        return exchange(*(rectify(spatial, motion) if rectify is not None else (spatial, motion)))


class Strength(NamedTuple):
    """Relative change of a path's corrected features, |X' - X'_changed| / |X'|, when the other path is changed.

    Attributes:
        spatial_other: of the spatial path, when the motion map comes from another clip.
        spatial_zero: of the spatial path, when the motion map is zero.
        motion_other: of the motion path, when the key frame is another clip's.
        motion_zero: of the motion path, when the key frame's map is zero.
    """

    spatial_other: float
    spatial_zero: float
    motion_other: float
    motion_zero: float


def exchange_strength(fusion: nn.Module, own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Strength:
    """How much each path's correction depends on the other path.

    Args:
        fusion: one with a stage 1.
        own: spatial and motion map of a key frame, (1, C, H, W) each.
        other: those of another clip.
    """
    spatial, motion = own
    plain = corrected(fusion, spatial, motion)

    def change(path: int, a: Tensor, m: Tensor) -> float:
        changed = corrected(fusion, a, m)[path]
        return float((plain[path] - changed).norm() / plain[path].norm().clamp(min=1e-30))

    return Strength(
        change(0, spatial, other[1]),
        change(0, spatial, torch.zeros_like(motion)),
        change(1, other[0], motion),
        change(1, torch.zeros_like(spatial), motion),
    )


def moments_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sums over cells from which CKA follows: Z^T Z of Z = [1 | x | y], (1 + 2D, 1 + 2D). Those of several videos add up.

    Args:
        x: (N, D) features of one kind.
        y: (N, D) of the other.
    """
    z = np.concatenate([np.ones((len(x), 1)), x, y], 1, dtype=float)
    return z.T @ z


def cka_of(moments: np.ndarray) -> float:
    """Linear CKA (Kornblith et al., ICML 2019): |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of centred features, in [0, 1]; NaN without
    variance. `moments` are as of `moments_of`."""
    raw, sums, width = moments[1:, 1:], moments[0, 1:], len(moments) // 2
    centred = raw - np.outer(sums, sums) / max(moments[0, 0], 1)
    own = [(np.linalg.norm(centred[of, of]), np.linalg.norm(raw[of, of])) for of in (slice(width), slice(width, None))]
    if any(size <= 1e-12 * before for size, before in own):  # what is left is rounding
        return float("nan")
    return float((centred[:width, width:] ** 2).sum() / (own[0][0] * own[1][0]))
