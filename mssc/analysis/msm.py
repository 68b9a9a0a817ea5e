"""What MSM's perceptual branch does, read from the module itself (reconstruction, section 2).

It multiplies each channel's deviation from the video-level average by exactly 1 + a * phi, where phi is the gate that the average opens.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.motion import ChannelGain, DistanceBranch, MotionSense, ProductBranch
from ..model.mssc import MSSC


def has_channel_gain(motion: object) -> bool:
    """Whether a module in MSM's slot has a perceptual branch whose gain can be read channel by channel."""
    branch = motion.perceptual if isinstance(motion, MotionSense) else None
    return isinstance(branch, DistanceBranch) or isinstance(getattr(branch, "map", None), ChannelGain)


def channel_gain(motion: MotionSense, gain: Tensor) -> Tensor:
    """What a channel's deviation from the average is multiplied by, once Z is added: 1 + a * phi of the product, 1 + gain of ours.

    Args:
        motion: an MSM with such a gain, see `has_channel_gain`.
        gain: (..., D), what its submodule ``perceptual.gain`` put out.

    Returns:
        (..., D), never NaN; above 1 where the channel is pushed away from the average.
    """
    scale = motion.perceptual.map.get_parameter("weight") if isinstance(motion.perceptual, ProductBranch) else 1.0
    with torch.no_grad():
        return 1 + scale * gain


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's: Pearson's correlation of ranks, for Fisher scores span orders of magnitude. NaN where one does not vary.

    Args:
        x: (N,); pairs with NaN are left out.
        y: (N,).
    """
    from scipy.stats import spearmanr

    known = np.isfinite(x) & np.isfinite(y)
    first, second = np.asarray(x)[known], np.asarray(y)[known]
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    correlation: Any = spearmanr(first, second)  # scipy does not say what it returns
    return float(correlation.statistic)


def without_motion_sense(model: MSSC) -> MSSC:
    """The same network with MSM's slot empty: all other weights are copies.

    The rest of the network has learnt to expect MSM; to judge what MSM is worth, train what this returns a while, and the original
    as long.
    """
    plain = MSSC(replace(model.config, motion="none"))
    plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if ".motion." not in name})
    return plain.train(model.training)
