"""The 2D path's backbones: images to maps at strides 8, 16 and 32. They declare what they return; nobody has to probe them."""

import difflib
from typing import Any

from torch import Tensor, nn

from ..structures import InputError
from .layers import CSPLayer, DepthwiseConvBlock, Focus, SpatialPyramidPooling

STRIDES = (8, 16, 32)


class Backbone2d(nn.Module):
    """What the 2D path asks of a backbone: maps at `STRIDES`, whose sides are the image's divided by the stride, rounded up or down.

    Attributes:
        dims: channels of each map, fine to coarse.
        mean: per channel (R, G, B), in grey levels 0..255; images are normalised as (image - mean) / std before they come in.
        std: likewise.
    """

    dims: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) normalised RGB -> a (B, dims[l], H_l, W_l) map per stride."""
        raise NotImplementedError


class CSPDarknet(Backbone2d):
    """YOLOX-nano's CSPDarknet. It takes grey levels 0..255 as they are.

    Stages, each halving H and W (rounded up): stem, dark2, dark3 (stride 8), dark4 (16), dark5 (32).

    Args:
        in_channels: of the images; 3 for RGB.
    """

    dims = (64, 128, 256)

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()

        def down(channels: int) -> nn.Module:
            return DepthwiseConvBlock(channels, 2 * channels, stride=2)

        self.stem = Focus(in_channels, 16)
        self.dark2 = nn.Sequential(down(16), CSPLayer(32, 32))
        self.dark3 = nn.Sequential(down(32), CSPLayer(64, 64, 3))
        self.dark4 = nn.Sequential(down(64), CSPLayer(128, 128, 3))
        self.dark5 = nn.Sequential(down(128), SpatialPyramidPooling(256, 256), CSPLayer(256, 256, shortcut=False))
        self.mean = (0.0,) * in_channels
        self.std = (1.0,) * in_channels

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        c3 = self.dark3(self.dark2(self.stem(images)))
        c4 = self.dark4(c3)
        return c3, c4, self.dark5(c4)


class TimmBackbone(Backbone2d):
    """Any 2D network of timm that has maps at strides 8, 16 and 32, normalised as its weights expect.

    Some, Swin for one, take images of one size only: their own assertion says so.

    Args:
        name: of timm, for example "resnet18" or "mobilenetv3_small_050.lamb_in1k".
        pretrained: whether to load timm's weights (a download, unless cached).

    Raises:
        InputError: if timm does not know the name, the network lacks a stride, or its weights cannot be had.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        import timm  # takes seconds: only when a timm network is asked for

        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=3)
            hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them."
            raise InputError(f"timm has no network named {name!r}; {hint}")
        levels = self._levels(name)
        try:
            body: Any = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=levels)
        except (OSError, RuntimeError) as error:
            raise InputError(f"timm could not build {name!r} with pretrained={pretrained}: {error}") from error
        self.body: nn.Module = body
        self.dims = tuple(body.feature_info.channels())
        self.mean = tuple(255.0 * value for value in body.pretrained_cfg["mean"])
        self.std = tuple(255.0 * value for value in body.pretrained_cfg["std"])
        # Swin and its kin return (B, H, W, C).
        self.channels_last = str(getattr(body, "output_fmt", "NCHW")).endswith("NHWC")

    @staticmethod
    def _levels(name: str) -> list[int]:
        """The last level of each stride: the rest of the network is then not built at all."""
        import timm

        try:
            body: Any = timm.create_model(name, pretrained=False, features_only=True)
            reductions = body.feature_info.reduction()
        except (AttributeError, RuntimeError) as error:
            raise InputError(f"timm cannot build {name!r} as a source of feature maps: {error}") from error
        last = {int(reduction): level for level, reduction in enumerate(reductions)}
        missing = [stride for stride in STRIDES if stride not in last]
        if missing:
            raise InputError(f"timm's {name!r} has maps at strides {reductions}, not at {missing}; it must have {list(STRIDES)}.")
        return [last[stride] for stride in STRIDES]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.body(images)
        return tuple(x.permute(0, 3, 1, 2) for x in maps) if self.channels_last else tuple(maps)


BACKBONES2D = {"cspdarknet_nano": CSPDarknet}


def build_backbone2d(name: str, pretrained: bool = False) -> Backbone2d:
    """The backbone called `name`: a key of `BACKBONES2D`, or "timm/" and a name of timm.

    Args:
        name: for example "cspdarknet_nano" or "timm/resnet18".
        pretrained: whether a timm network loads its weights. CSPDarknet's come from `mssc.model.convert`.

    Raises:
        InputError: for an unknown name, or a network without maps at strides 8, 16 and 32.
    """
    if name.startswith("timm/"):
        return TimmBackbone(name.removeprefix("timm/"), pretrained)
    if name not in BACKBONES2D:
        raise InputError(f"there is no 2D backbone {name!r}; take one of {', '.join(BACKBONES2D)} or 'timm/<name>'.")
    return BACKBONES2D[name]()
