"""A stand-in for YOWOv2-Nano's network (Yang and Dai, 2023), written for `benchmarks/speed.py` from what the paper and its README say:

a 3D ShuffleNetV2 1.0x over 16 frames of 224x224; over the key frame a 2D ShuffleNetV2 1.0x with a PAFPN and a decoupled head of 64
channels, depthwise; at each of three levels, for classes and for boxes, the channel encoder over both; two depthwise 3x3 blocks and a
prediction. The published network has 3.5 million parameters and 1.3 billion multiply-adds a key frame; `facts` counts this one's, which
are fewer. Its weights are random: it says how long such a network takes, and nothing else.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import shufflenet_v2_x1_0

from mssc.model.fusion import ChannelAttention
from mssc.model.layers import DecoupledTower, tower
from mssc.model.neck import PAFPN

WINDOW, SIDE, CLASSES, WIDTH = 16, 224, 21, 64
STAGES = ((116, 4), (232, 8), (464, 4))
"""Channels and blocks of ShuffleNetV2 1.0x."""


def _block(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    conv = nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True) if act else nn.Identity())


class _Shuffle3d(nn.Module):
    """ShuffleNetV2's unit with kernels of 3x3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        own = inputs if stride > 1 else half
        self.around = nn.Sequential(_block(own, own, 3, stride, own, act=False), _block(own, half)) if stride > 1 else None
        self.through = nn.Sequential(_block(own, half), _block(half, half, 3, stride, half, act=False), _block(half, half))

    def forward(self, x: Tensor) -> Tensor:
        kept, own = (self.around(x), x) if self.around is not None else x.chunk(2, 1)
        both = torch.stack([kept, self.through(own)], 2)  # side by side, channel by channel: shuffled
        return both.flatten(1, 2)


class YowoV2Nano(nn.Module):
    """16 frames to a box, an objectness and class logits for each cell of three levels of the last one."""

    def __init__(self) -> None:
        super().__init__()
        units, inputs = [_block(3, 24, 3, (1, 2, 2)), nn.MaxPool3d(3, 2, 1)], 24
        for outputs, blocks in STAGES:
            units += [_Shuffle3d(inputs, outputs, 2)] + [_Shuffle3d(outputs, outputs, 1) for _ in range(blocks - 1)]
            inputs = outputs
        self.clip = nn.Sequential(*units)
        net = shufflenet_v2_x1_0()
        self.stem, self.stages = nn.Sequential(net.conv1, net.maxpool), nn.ModuleList([net.stage2, net.stage3, net.stage4])
        self.neck = PAFPN([width for width, _ in STAGES])
        self.towers = DecoupledTower(self.neck.dims, WIDTH)
        self.encoders = nn.ModuleList(nn.ModuleList(self._encoder(WIDTH + inputs) for _ in range(2)) for _ in range(3))
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Sequential(*tower(WIDTH), nn.Conv2d(WIDTH, out, 1)) for out in (CLASSES, 5)) for _ in range(3)
        )

    @staticmethod
    def _encoder(inputs: int) -> nn.Sequential:
        def block(inputs: int, kernel: int) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, WIDTH, kernel, padding=kernel // 2, bias=False)
            return [conv, nn.BatchNorm2d(WIDTH), nn.SiLU(inplace=True)]

        return nn.Sequential(
            *block(inputs, 1), *block(WIDTH, 3), ChannelAttention(), *block(WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 1)
        )

    def forward(self, clip: Tensor) -> list[Tensor]:
        """(1, 3, 16, 224, 224) to two maps a level."""
        moving, x, maps = self.clip(clip).mean(2), self.stem(clip[:, :, -1]), []
        for stage in self.stages:
            maps.append(x := stage(x))
        found = []
        for parts, encoders, heads in zip(self.towers(self.neck(maps)), self.encoders, self.heads, strict=True):
            beside = F.interpolate(moving, size=parts[0].shape[-2:], mode="nearest")
            for part, encoder, head in zip(parts, encoders, heads, strict=True):
                found.append(head(encoder(torch.cat([part, beside], 1))))
        return found


def facts(model: nn.Module, clip: Tensor) -> tuple[float, float]:
    """Millions of parameters, and billions of multiply-adds of its convolutions."""
    total, handles = [0], []

    def count(module: nn.Module, _inputs: tuple, out: Tensor) -> None:
        total[0] += out.numel() * module.get_parameter("weight")[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            handles.append(module.register_forward_hook(count))
    with torch.inference_mode():
        model(clip)
    for handle in handles:
        handle.remove()
    return sum(p.numel() for p in model.parameters()) / 1e6, total[0] / 1e9
