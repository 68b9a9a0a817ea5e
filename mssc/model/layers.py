"""The convolution blocks of the 2D path: those of YOLOX-nano (Ge et al., 2021), written anew.

Every block runs its convolutions in YOLOX's order, so that published weights can be matched to ours one after the other
(`mssc.model.convert`).
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# YOLOX's BatchNorm: a slow average (0.03), because a detector's batches are small.
BN_EPS, BN_MOMENTUM = 1e-3, 0.03
Network = TypeVar("Network", bound=nn.Module)


def at_least_float32(x: Tensor) -> Tensor:
    """x itself, unless it is of half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class ConvBlock(nn.Module):
    """Convolution without bias, BatchNorm, SiLU: (B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        kernel: odd side of the square kernel; padding keeps the size.
        stride: of the convolution.
        groups: `in_channels` makes it depthwise.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class DepthwiseConvBlock(nn.Module):
    """A 3x3 `ConvBlock` per channel (it holds the stride), then a 1x1 one that mixes the channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvBlock(in_channels, in_channels, 3, stride, groups=in_channels)
        self.pointwise = ConvBlock(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Bottleneck(nn.Module):
    """1x1, then depthwise separable 3x3, of the same width; `shortcut` adds the input to the result."""

    def __init__(self, channels: int, shortcut: bool = True) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels)
        self.conv2 = DepthwiseConvBlock(channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Cross-stage partial layer: half of the width goes through the bottlenecks, the other half around them.

    ::

        x --+-- conv1 -- blocks --+
            |                     +-- concat -- conv3 --> (B, out, H, W)
            +-- conv2 ------------+

    Args:
        in_channels: C of the input.
        out_channels: C of the output, even.
        blocks: number of bottlenecks.
        shortcut: whether each bottleneck adds its input.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = ConvBlock(in_channels, hidden)
        self.conv2 = ConvBlock(in_channels, hidden)
        self.blocks = nn.Sequential(*[Bottleneck(hidden, shortcut) for _ in range(blocks)])
        self.conv3 = ConvBlock(2 * hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        through, around = self.conv1(x), self.conv2(x)
        return self.conv3(torch.cat((self.blocks(through), around), dim=1))


class SpatialPyramidPooling(nn.Module):
    """The map beside its maxima over 5x5, 9x9 and 13x13 windows: a wide view for little work. Keeps H and W.

    A 9x9 maximum is two 5x5 maxima in a row, a 13x13 one three: the same numbers from 75 values a cell instead of 275.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.conv1 = ConvBlock(in_channels, hidden)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.conv2 = ConvBlock(4 * hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x5 = self.pool(x1 := self.conv1(x))
        x9 = self.pool(x5)
        return self.conv2(torch.cat((x1, x5, x9, self.pool(x9)), dim=1))


class Focus(nn.Module):
    """Space to depth, then a 3x3 block: (B, in, H, W) -> (B, out, ceil(H / 2), ceil(W / 2)).

    Each 2x2 patch becomes 4 * in channels: top left, bottom left, top right, bottom right, each with all input channels. An
    odd last row or column is repeated once.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBlock(4 * in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        top, bottom = x[..., ::2, :], x[..., 1::2, :]
        return self.conv(torch.cat((top[..., ::2], bottom[..., ::2], top[..., 1::2], bottom[..., 1::2]), dim=1))


def tower(width: int) -> nn.Sequential:
    """Two depthwise separable blocks, (B, width, H, W) -> the same shape."""
    return nn.Sequential(*[DepthwiseConvBlock(width, width) for _ in range(2)])


class DecoupledTower(nn.Module):
    """The body of YOLOX's head: one stem per level, then separate convolutions for class and for box.

    What becomes of the stems' maps before the towers (SFM, for one) is the caller's choice; hence the three lists.

    Args:
        in_dims: channels of each level, fine to coarse.
        width: channels of everything inside and of the outputs.

    Attributes:
        stems: per level, (B, in_dims[l], H_l, W_l) -> (B, width, H_l, W_l).
        cls_convs: per level, a `tower` towards the class.
        reg_convs: per level, a `tower` towards box and objectness.
    """

    def __init__(self, in_dims: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.stems = nn.ModuleList(ConvBlock(dim, width) for dim in in_dims)
        self.cls_convs = nn.ModuleList(tower(width) for _ in in_dims)
        self.reg_convs = nn.ModuleList(tower(width) for _ in in_dims)
        self.width = width

    def forward(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, Tensor], ...]:
        """Per level the maps for (class, box), both (B, width, H_l, W_l), without anything between stems and towers."""
        stemmed = [stem(x) for stem, x in zip(self.stems, maps, strict=True)]
        levels = zip(stemmed, self.cls_convs, self.reg_convs, strict=True)
        return tuple((cls_conv(x), reg_conv(x)) for x, cls_conv, reg_conv in levels)


def fold_batch_norms(model: Network) -> Network:
    """Put every BatchNorm of a `ConvBlock` into its convolution, in place: the same function in eval mode, faster."""
    for block in model.modules():
        if isinstance(block, ConvBlock) and isinstance(block.bn, nn.BatchNorm2d):
            block.conv = torch.nn.utils.fuse_conv_bn_eval(block.conv, block.bn)
            block.bn = nn.Identity()
    return model
