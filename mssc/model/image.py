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

        (B, 3, S, S) --> backbone --> PAFPN [--> stems (1x1)] --> (B, C_1, S / 8), (B, C_2, S / 16), (B, C_3, S / 32)

    Args:
        backbone: maps at strides 8, 16 and 32.
        width: C, that the stems bring every level to; None leaves the levels as they are, the stems are then the head's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone2d, width: int | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = PAFPN(backbone.dims)
        self.stems = nn.ModuleList(ConvBlock(dim, width) if width else nn.Identity() for dim in self.neck.dims)
        self.dims: tuple[int, ...] = tuple(self.neck.dims)
        self.widths = (width,) * len(self.dims) if width else self.dims
        self.register_buffer("mean", torch.tensor(backbone.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> ImageFeatures:
        """(B, 3, S, S) RGB in 0..255."""
        images = ((images.to(self.mean.dtype) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        levels = self.neck(self.backbone(images))
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
        self.widths = (width,) * len(STRIDES)
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> ImageFeatures:
        """(B, 3, S, S), of which the size alone counts."""
        size = images.shape[-1]
        sides = zip(self.widths, STRIDES, strict=True)
        maps = (self.zero.new_zeros(len(images), width, size // stride, size // stride) for width, stride in sides)
        return ImageFeatures((), tuple(maps))


def build_image_path(config: ModelConfig, pretrained: bool = False) -> ImagePath | NoImage:
    """The image path that `config` asks for."""
    if config.paths == "clip":
        return NoImage(config.width)
    width = config.width if config.fusion_position == "stems" else None
    return ImagePath(build_backbone2d(config.backbone2d, pretrained), width)
