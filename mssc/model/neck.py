"""PAFPN: passes what the coarse levels know down to the fine ones, and back up (YOLOX's variant of PANet, Liu et al., 2018)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvBlock, CSPLayer, DepthwiseConvBlock


def _join(x: Tensor, other: Tensor) -> Tensor:
    """Both side by side, `x` brought to the size of `other` (nearest), which need not be a multiple of its own."""
    if x.shape[-2:] != other.shape[-2:]:
        x = F.interpolate(x, size=other.shape[-2:], mode="nearest")
    return torch.cat((x, other), dim=1)


class PAFPN(nn.Module):
    """Three maps of any widths in, three maps of nano's widths and the same sizes out.

    ::

        c5 --lateral_conv0--+-----------------------------bu_conv1 -- C3_n4 --> n4
                            | up                              |
        c4 ---------------- C3_p4 -- reduce_conv1 --+-- C3_n3 +-------------> n3
                                                    | up  | bu_conv2
        c3 ---------------------------------------- C3_p3-+-----------------> p3

    Args:
        dims: channels of the maps at strides 8, 16 and 32.

    Attributes:
        dims: channels of the outputs.
    """

    dims = (64, 128, 256)

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        c3, c4, c5 = dims
        n3, n4, n5 = self.dims
        self.lateral_conv0 = ConvBlock(c5, n4)
        self.C3_p4 = CSPLayer(n4 + c4, n4, shortcut=False)
        self.reduce_conv1 = ConvBlock(n4, n3)
        self.C3_p3 = CSPLayer(n3 + c3, n3, shortcut=False)
        self.bu_conv2 = DepthwiseConvBlock(n3, n3, stride=2)
        self.C3_n3 = CSPLayer(2 * n3, n4, shortcut=False)
        self.bu_conv1 = DepthwiseConvBlock(n4, n4, stride=2)
        self.C3_n4 = CSPLayer(2 * n4, n5, shortcut=False)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, dims[l], H_l, W_l) per level, fine to coarse -> (B, self.dims[l], H_l, W_l)."""
        c3, c4, c5 = maps
        lateral5 = self.lateral_conv0(c5)
        lateral4 = self.reduce_conv1(self.C3_p4(_join(lateral5, c4)))
        p3 = self.C3_p3(_join(lateral4, c3))
        n3 = self.C3_n3(_join(self.bu_conv2(p3), lateral4))
        n4 = self.C3_n4(_join(self.bu_conv1(n3), lateral5))
        return p3, n3, n4
