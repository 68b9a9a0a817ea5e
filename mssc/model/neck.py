"""PAFPN: passes what the coarse levels know down to the fine ones, and back up (YOLOX's variant of PANet, Liu et al., 2018)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssc.model.layers import ConvBlock, CSPLayer, conv3x3


def _join(x: Tensor, other: Tensor) -> Tensor:
    """Both side by side, `x` brought to the size of `other` (nearest), which need not be a multiple of its own."""
    if x.shape[-2:] != other.shape[-2:]:
        x = F.interpolate(x, size=other.shape[-2:], mode="nearest")
    return torch.cat((x, other), dim=1)


class PAFPN(nn.Module):
    """Three maps of any widths in, three maps of `out_dims` channels and the same sizes out.

    ::

        c5 --lateral_conv0--+-----------------------------bu_conv1 -- C3_n4 --> n4
                            | up                              |
        c4 ---------------- C3_p4 -- reduce_conv1 --+-- C3_n3 +-------------> n3
                                                    | up  | bu_conv2
        c3 ---------------------------------------- C3_p3-+-----------------> p3

    Args:
        dims: channels of the maps at strides 8, 16 and 32.
        width: of YOLOX; 0.25 is nano. Outputs have 256, 512 and 1024 times `width` channels.
        depth: of YOLOX; the number of bottlenecks per layer is 3 times `depth`, rounded.
        depthwise: whether the 3x3 convolutions are depthwise separable.

    Attributes:
        dims: channels of the outputs: (64, 128, 256) for nano.
    """

    def __init__(self, dims: Sequence[int], width: float = 0.25, depth: float = 0.33, depthwise: bool = True) -> None:
        super().__init__()
        c3, c4, c5 = dims
        n3, n4, n5 = (int(channels * width) for channels in (256, 512, 1024))
        blocks = max(round(3 * depth), 1)

        def csp(in_channels: int, out_channels: int) -> CSPLayer:
            return CSPLayer(in_channels, out_channels, blocks, shortcut=False, depthwise=depthwise)

        self.dims = (n3, n4, n5)
        self.lateral_conv0 = ConvBlock(c5, n4)
        self.C3_p4 = csp(n4 + c4, n4)
        self.reduce_conv1 = ConvBlock(n4, n3)
        self.C3_p3 = csp(n3 + c3, n3)
        self.bu_conv2 = conv3x3(n3, n3, stride=2, depthwise=depthwise)
        self.C3_n3 = csp(2 * n3, n4)
        self.bu_conv1 = conv3x3(n4, n4, stride=2, depthwise=depthwise)
        self.C3_n4 = csp(2 * n4, n5)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, dims[l], H_l, W_l) per level, fine to coarse -> (B, out_dims[l], H_l, W_l)."""
        c3, c4, c5 = maps
        lateral5 = self.lateral_conv0(c5)
        lateral4 = self.reduce_conv1(self.C3_p4(_join(lateral5, c4)))
        p3 = self.C3_p3(_join(lateral4, c3))
        n3 = self.C3_n3(_join(self.bu_conv2(p3), lateral4))
        n4 = self.C3_n4(_join(self.bu_conv1(n3), lateral5))
        return p3, n3, n4
