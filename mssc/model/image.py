"""The image path: key frames to maps, and the null module of a network without it."""

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .backbone2d import STRIDES, Backbone2d, build_backbone2d
from .features import ImageFeatures
from .layers import ConvBlock
from .neck import PAFPN


class ImagePath(nn.Module):
    """The 2D network over key frames.

    ::

        (B, 3, S, S) --> backbone --> PAFPN --> stems (1x1) --> (B, C, S / 8), (B, C, S / 16), (B, C, S / 32)

    Args:
        backbone: maps at strides 8, 16 and 32.
        width: C.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone2d, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = PAFPN(backbone.dims)
        self.stems = nn.ModuleList(ConvBlock(dim, width) for dim in self.neck.dims)
        self.dims: tuple[int, ...] = tuple(self.neck.dims)
        self.register_buffer("mean", torch.tensor(backbone.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> ImageFeatures:
        """(B, 3, S, S) RGB in 0..255."""
        images = (images.to(self.mean.dtype) - self.mean) / self.std
        levels = self.neck(self.backbone(images.contiguous(memory_format=torch.channels_last)))
        return ImageFeatures(levels, tuple(stem(x) for stem, x in zip(self.stems, levels, strict=True)))


class NoImage(nn.Module):
    """The image path left out (table T-A): its maps are zeros.

    Args:
        width: C.
    """

    dims: tuple[int, ...] = ()
    zero: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> ImageFeatures:
        """(B, 3, S, S), of which the size alone counts."""
        size = images.shape[-1]
        maps = (self.zero.new_zeros(len(images), self.width, size // s, size // s) for s in STRIDES)
        return ImageFeatures((), tuple(maps))


def build_image_path(config: ModelConfig, pretrained: bool = False) -> ImagePath | NoImage:
    """The image path that `config` asks for."""
    if config.paths == "clip":
        return NoImage(config.width)
    return ImagePath(build_backbone2d(config.backbone2d, pretrained), config.width)
