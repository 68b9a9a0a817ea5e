"""Everybody who is seen, whatever they do: a head of its own on the image path.

The paper finds actors; who does nothing that counts is background to it. The image path starts from COCO's detector, which knew people, and
this head keeps that knowledge (ours). It reads what the image path sees of a larger frame, now and then, and nothing reads it: a network
gives the same actions with and without it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import LOOK_EVERY, ModelConfig
from .features import ImageFeatures
from .head import BoxHead
from .image import ImagePath, NoImage
from .layers import ConvBlock, conv3x3

PERSON_STRIDES = (4, 8, 16, 32)
"""Of the levels: one finer than the fused maps', for people in a crowd are a few pixels wide."""

SLOW_RATE = 20.0


def people_every(rate: float | None) -> int:
    """In every how many frames of a stream people are looked for. Below `SLOW_RATE` frames a second they move far from one to the next,
    and are looked for in each."""
    return LOOK_EVERY if rate is None or rate >= SLOW_RATE else 1


class PersonHead(nn.Module):
    """Boxes and person logits per cell.

    ::

        map at stride 4 --------+
                                +-- concat -- 1x1 --+
        map at stride 8 -- up --+                   +--> per level two 3x3 blocks --> a box and a logit per cell
        maps at strides 8, 16, 32 ------------------+

    Args:
        fine: channels of the map at stride 4.
        dims: of the others; where they are not `width`, a 1x1 brings them to it.
        width: of everything inside.
    """

    def __init__(self, fine: int, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.stems = nn.ModuleList(ConvBlock(dim, width) if dim != width else nn.Identity() for dim in dims)
        self.up = ConvBlock(width, fine)
        self.join = ConvBlock(2 * fine, width)
        self.towers = nn.ModuleList(nn.Sequential(conv3x3(width, width), conv3x3(width, width)) for _ in PERSON_STRIDES)
        self.boxes = BoxHead(width, PERSON_STRIDES)

    def forward(self, image: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) in pixels of the input and logits (B, P) of every cell of all levels, from the maps of B key frames."""
        assert image.fine is not None
        maps = [stem(x) for stem, x in zip(self.stems, image.maps, strict=True)]
        up = F.interpolate(self.up(maps[0]), size=image.fine.shape[-2:], mode="nearest")
        levels = [self.join(torch.cat([image.fine, up], 1)), *maps]
        boxes, logits = self.boxes([tower(x) for tower, x in zip(self.towers, levels, strict=True)])
        return boxes, torch.cat([level.flatten(1) for level in logits], 1)


def build_person_head(config: ModelConfig, image: ImagePath | NoImage) -> PersonHead | None:
    """The person head that `config` asks for, which sees to it that the image path has a map at stride 4."""
    if config.person == "none":
        return None
    assert isinstance(image, ImagePath)
    return PersonHead(image.backbone.dims[0] // 2, image.widths, config.width)
