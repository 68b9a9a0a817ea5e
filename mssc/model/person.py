"""Everybody who is seen, whatever they do: a detector of people beside the network of the figure.

The paper finds actors; who does nothing that counts is background to it. COCO's detector, whose weights the image path starts from, knew
people, and this part keeps that knowledge (ours). It looks at larger frames than the network, in their own shape, now and then; nothing
else reads what it sees, so a network gives the same actions with and without it.
"""

import torch
from torch import Tensor, nn

from ..config import LOOK_EVERY, ModelConfig
from .backbone2d import STRIDES, CSPDarknet
from .head import BoxHead
from .layers import DecoupledTower
from .neck import PAFPN

SLOW_RATE = 20.0
SMALLEST_SIDE = 416
"""A smaller frame is enlarged, until its longer side has so many pixels: COCO's detector learnt from such images."""


def people_every(rate: float | None) -> int:
    """In every how many frames of a stream people are looked for. Below `SLOW_RATE` frames a second they move far from one to the next,
    and are looked for in each."""
    return LOOK_EVERY if rate is None or rate >= SLOW_RATE else 1


def shape_looked_at(height: int, width: int, most: int) -> tuple[int, int]:
    """How large a frame is made for people to be looked for in it: about its own shape, both sides multiples of 32.

    Args:
        height: of the frame in pixels.
        width: likewise.
        most: pixels of the longer side.
    """
    coarsest, longer = STRIDES[-1], max(height, width)
    side = min(most, max(longer, SMALLEST_SIDE))
    rows, columns = (max(round(length * side / longer / coarsest), 1) * coarsest for length in (height, width))
    return rows, columns


class PersonDetector(nn.Module):
    """YOLOX-nano with one class.

    ::

        (B, 3, H, W) --> CSPDarknet --> PAFPN --> towers --> per cell a box, is something there, is it a person
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = CSPDarknet()
        self.neck = PAFPN(self.backbone.dims)
        self.tower = DecoupledTower(self.neck.dims)
        self.boxes = BoxHead(self.tower.width)
        self.kinds = nn.ModuleList(nn.Conv2d(self.tower.width, 1, 1) for _ in STRIDES)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames in 0..255 to boxes (B, P, 4) in their pixels and logits (B, P), one per cell, levels fine to coarse, rows before columns.

        A cell's probability is that of an object times that of a person; this is its logit.
        """
        pixels = frames.to(self.boxes.reg_preds[0].get_parameter("weight").dtype).contiguous(memory_format=torch.channels_last)
        kinds, boxes = zip(*self.tower(self.neck(self.backbone(pixels))), strict=True)
        places, objects = self.boxes(list(boxes))
        kind = torch.cat([conv(x).flatten(1) for conv, x in zip(self.kinds, kinds, strict=True)], 1)
        thing = torch.cat([level.flatten(1) for level in objects], 1)
        return places, -torch.logsumexp(torch.stack([-thing, -kind, -thing - kind]), 0)


def build_person_detector(config: ModelConfig) -> PersonDetector | None:
    """The detector of people that `config` asks for."""
    return None if config.person == "none" else PersonDetector()
