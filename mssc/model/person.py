"""Everybody who is seen, whatever they do: a detector of people beside the network of the figure.

The paper finds actors; who does nothing that counts is background to it. COCO's detector, whose weights the image path starts from, knew
people, and this part keeps that knowledge (ours). It looks at larger frames than the network, in their own shape, now and then; nothing
else reads what it sees, so a network gives the same actions with and without it.
"""

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from .backbone2d import STRIDES, CSPDarknet
from .head import BoxHead
from .layers import DecoupledTower
from .neck import PAFPN


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
