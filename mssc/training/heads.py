"""Training heads: what each part of the network is asked beside its task, in training alone. They are in no shipped weights.

The paper does not say how its modules are supervised. Without these, gradients reach them only through everything behind: the image path
explains the training videos before the video path has learnt anything, and nothing asks MSM for what it is for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..model.features import Features, VideoFeatures
from ..model.head import PooledBranch, rois_of
from ..model.video import take
from .losses import action_loss


def cells_inside(boxes: Tensor, real: Tensor, height: int, width: int, size: int) -> Tensor:
    """Which cells of a map have their centre in a box: (B, h, w) bool.

    Args:
        boxes: (B, M, 4) in pixels of a square input of `size`, padded.
        real: (B, M), whether a row is a box.
        height: h.
        width: w.
        size: S.
    """
    ys = (torch.arange(height, device=boxes.device) + 0.5) * size / height
    xs = (torch.arange(width, device=boxes.device) + 0.5) * size / width
    x1, y1, x2, y2 = (edge[:, :, None, None] for edge in boxes.unbind(2))
    inside = (xs > x1) & (xs < x2) & (ys[:, None] > y1) & (ys[:, None] < y2)
    return (inside & real[:, :, None, None]).any(1)


class Asked(NamedTuple):
    """What the training heads are asked of B key frames.

    Attributes:
        rois: (B, R, 4), boxes to classify, in pixels of the input.
        actions: (B, R, A), what they show.
        judged: (B, R), whether they are boxes and not padding.
        boxes: (B, M, 4), the true boxes, padded.
        real: (B, M), whether a row is a box.
        smoothing: of the labels.
    """

    rois: Tensor
    actions: Tensor
    judged: Tensor
    boxes: Tensor
    real: Tensor
    smoothing: float


class DistanceHead(nn.Module):
    """Is a cell inside an acting person's box? Read from its distance to the frame's average at MSM's output, and from nothing else:
    what MSM shall enlarge where somebody acts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.tensor(-1.0))

    def forward(self, motion: Tensor, inside: Tensor) -> Tensor:
        """MSM's output (B, D, h, w) and the cells that should be far (B, h, w): binary cross-entropy, both kinds of cells alike."""
        x = motion.float()
        distance = (x - x.mean((2, 3), keepdim=True)).norm(dim=1)
        logits = F.softplus(self.scale) * (distance / distance.mean((1, 2), keepdim=True).clamp(min=1e-6) - 1) + self.bias
        loss = F.binary_cross_entropy_with_logits(logits, inside.float(), reduction="none")
        share = inside.float().mean().clamp(0.02, 0.98)
        return (loss * torch.where(inside, 0.5 / share, 0.5 / (1 - share))).mean()


class TrainingHeads(nn.Module):
    """All of them; those of a path or a module that is left out have nothing to ask. Of a network that is not causal, MSM's output is
    that of windows, and its distance is not asked.

    ::

        image maps --> image head: actions of boxes
        motion map --> motion head: actions of boxes
        MSM's output --> distance head: is this cell inside a box?

    Args:
        config: the network's.
        names: which of "image", "motion" and "distance".
        widths: channels of the image maps.
    """

    def __init__(self, config: ModelConfig, names: tuple[str, ...], widths: Sequence[int]) -> None:
        super().__init__()
        self.config = config

        def branch(dims: Sequence[int]) -> PooledBranch:
            return PooledBranch(dims, dims, len(config.classes), config.hidden, config.dropout, rows=True)

        self.image = branch(widths) if "image" in names and config.paths != "clip" else None
        self.motion = branch([config.width]) if "motion" in names and config.paths != "key" else None
        every_frame = config.paths != "key" and config.motion != "none" and not config.backbone3d.startswith("torchvision/")
        self.distance = DistanceHead() if "distance" in names and every_frame else None

    def motion_logits(self, video: VideoFeatures, rois: Tensor) -> Tensor:
        """What the motion head says of boxes (B * K, R, 4) in pixels of the input: (B * K, R, A)."""
        assert self.motion is not None
        size = self.config.key_size
        return self.motion((video.map,), [video.map.mean((2, 3))], rois_of(rois, size), size)

    def forward(self, features: Features, keys: Tensor, asked: Asked) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            features: of B clips with K key frames each; heads of an image path that did not look are not asked.
            keys: (B, K).
            asked: about the B * K key frames.
        """
        size, losses = self.config.key_size, {}
        for name, head, maps in (("image", self.image, features.image.maps), ("motion", self.motion, (features.video.map,))):
            if head is not None and maps:
                logits = head(maps, [x.mean((2, 3)) for x in maps], rois_of(asked.rois, size), size)
                losses[f"{name}_head"] = action_loss(logits, asked.actions, asked.judged, self.config, asked.smoothing)
        if self.distance is not None:
            motion = take(features.video.motion.transpose(1, 2), keys).flatten(0, 1)
            height, width = motion.shape[-2:]
            inside = cells_inside(asked.boxes, asked.real, height, width, size)
            losses["distance_head"] = self.distance(motion, inside)
        return losses
