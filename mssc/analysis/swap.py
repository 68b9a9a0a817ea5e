"""What becomes of a key frame when its clip is another video's: the question that SFM's exchange must answer."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..detection.postprocess import action_probabilities
from ..model.mssc import MSSC
from .exchange import corrected, exchange_of
from .keyframes import KeyFrame


class Swap(NamedTuple):
    """A key frame with its own clip, and with another one's.

    Attributes:
        changes: by level, (2, H, W): how much stage 1's result changes at each cell of the spatial and of the motion path,
            |X' - X'_swapped| / |X'|; () without a stage 1.
        own: (N, A) probabilities of the actions of the N true boxes.
        fused: the same when SFM is given the other clip, and everything behind it the own one.
        all: the same when everything is given the other clip.
    """

    changes: tuple[np.ndarray, ...]
    own: np.ndarray
    fused: np.ndarray
    all: np.ndarray


@torch.no_grad()
def swap_clip(model: MSSC, key: KeyFrame, other: KeyFrame) -> Swap:
    """Give a key frame the clip of another one.

    Args:
        model: that both were collected with.
        key: whose image stays.
        other: whose clip comes.
    """
    mixed = key.features._replace(fused=model.fusion(key.features.image, other.features.video))
    changes = []
    for fusion, mine, theirs in zip(model.fusion.levels, key.levels, other.levels, strict=False):
        if exchange_of(fusion) is None:
            break
        before, after = corrected(fusion, mine.spatial, mine.motion), corrected(fusion, mine.spatial, theirs.motion)
        changes.append(np.stack([_change(x, y) for x, y in zip(before, after, strict=True)]))
    boxes = torch.as_tensor(key.boxes, dtype=mixed.fused[0].dtype, device=mixed.fused[0].device)[None]
    ways = (key.features, mixed, mixed._replace(video=other.features.video))
    own, fused, whole = (action_probabilities(model.head(way, boxes).logits[0], model.config) for way in ways)
    return Swap(tuple(changes), own, fused, whole)


def _change(before: Tensor, after: Tensor) -> np.ndarray:
    """Of (1, C, H, W) maps, per cell."""
    return ((before - after).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12))[0].float().cpu().numpy()


def turned(before: Tensor, after: Tensor) -> np.ndarray:
    """1 - cos of (C, H, W) features before and after, per cell, (H, W) in [0, 2]: how far a stage turns them, whatever their scale."""
    cosine = torch.nn.functional.cosine_similarity(before.float(), after.float(), dim=0)
    return (1 - cosine).clamp(0, 2).cpu().numpy()
