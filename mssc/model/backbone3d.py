"""The 3D path's backbones: clips to one space-time map.

Ours is causal, so that a video can be streamed: the 2D network's convolutions run on each frame (and start from its weights), and
causal depthwise temporal convolutions between its stages look back. Beside them a small network, the flow stream, looks at nothing but
the optical flow of the last frames: appearance is learnt faster, and would leave nothing for it to learn. There is no temporal stride: a
frame in, a map out, and the map of a frame is the same whether the video came whole or frame by frame. Torchvision's video networks plug
in for those who train at scale; they see a window of frames at once and are recomputed for every key frame.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..structures import InputError
from .backbone2d import CSPDarknet
from .flow import FlowStream


class Backbone3d(nn.Module):
    """What the video path needs to know of its network.

    Attributes:
        dims: channels of its map.
        flow_dims: how many of them, the last, know optical flow alone; 0 where appearance has its say in all.
        causal: whether it has a map for every frame and can go on from a state.
        mean: subtracted from RGB values 0..255.
        std: which the result is divided by.
    """

    dims: int
    flow_dims: int
    causal: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def side(self, size: int) -> int:
        """Cells of its map along a side of `size` pixels."""
        raise NotImplementedError

    def initial(self, batch: int, size: int, like: Tensor) -> tuple:
        """The state before the first frame, for a square input of `size` pixels; () where not causal: the window is seen anew."""
        return ()

    def forward(self, clip: Tensor, state: tuple, age: Tensor) -> tuple[Tensor, tuple]:
        """(B, 3, T, H, W) normalised to (B, dims, T', h, w), and the new state; `age` (B,) counts the frames before."""
        raise NotImplementedError


class CausalBackbone(Backbone3d):
    """Ours: it takes 0..255 as they are, as YOLOX does, and its map is of the flow stream's stride."""

    causal = True
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def side(self, size: int) -> int:
        """Cells of its map along a side of `size` pixels."""
        return -(-size // FlowStream.stride)


class DarknetState(NamedTuple):
    """What a `CausalDarknet` remembers.

    Attributes:
        frame: (B, 1, 3, H, W), the last one.
        flow: (B, n, C, H / 2, W / 2), the flows before, for the flow stream; (B, 0) without it.
        temporal: for each temporal convolution the maps before, (B, n, C_l, H_l, W_l).
    """

    frame: Tensor
    flow: Tensor
    temporal: tuple[Tensor, ...]


class TemporalConv(nn.Module):
    """x plus a depthwise convolution over x and earlier frames. Before the first frame the video is taken to stand still, so that its
    start does not look like motion.

    Args:
        width: channels.
        dilation: frames between the three taps.
    """

    taps = 3

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.randn(self.taps, width) * 0.2)  # near zero it barely opens in training

    def forward(self, frames: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """frames (B, T, C, H, W) and the 2 * dilation before them; returns the same shapes."""
        still = frames[:, :1].expand_as(past)
        past = torch.where((age == 0).reshape(-1, 1, 1, 1, 1), still, past)
        everything = torch.cat([past, frames], 1)
        steps, out = frames.shape[1], frames
        for tap in range(self.taps):
            start = tap * self.dilation
            out = out + everything[:, start : start + steps] * self.weight[tap].reshape(-1, 1, 1)
        return out, everything[:, steps:]


class CausalDarknet(CausalBackbone):
    """CSPDarknet over frames, with time: its stem also sees each frame's difference to the one before, and a `TemporalConv` follows
    each stage. Its maps of stride 16 and 32 are joined at stride 8 with those of a `FlowStream`.

    Args:
        flow: have that stream; without it the network sees RGB alone, and its map is of stride 8 all the same.
        rgb_dropout: share of the clips of which, in training, only the flow stream is seen: appearance is learnt faster, and would leave
            flow nothing to explain.
    """

    stages = ("dark2", "dark3", "dark4", "dark5")
    widths = (32, 64, 128, 256)
    dilations = (1, 1, 2, 2)

    def __init__(self, flow: bool = True, rgb_dropout: float = 0.0) -> None:
        super().__init__()
        self.rgb_dropout = rgb_dropout
        self.net = CSPDarknet(in_channels=6)
        self.temporal = nn.ModuleList(TemporalConv(w, d) for w, d in zip(self.widths, self.dilations, strict=True))
        self.flow = FlowStream() if flow else None
        self.flow_dims = FlowStream.dims if flow else 0
        self.dims = self.widths[2] + self.widths[3] + self.flow_dims

    def inflate(self, image_net: CSPDarknet) -> None:
        """Start from a 2D network's weights; the difference channels of the stem start at half of them."""
        state = {k: v.clone() for k, v in image_net.state_dict().items()}
        stem = state["stem.conv.conv.weight"]  # (C, 4 patches x 3, 3, 3)
        patches = stem.unflatten(1, (4, 3))
        state["stem.conv.conv.weight"] = torch.cat([patches, 0.5 * patches], 2).flatten(1, 2)
        self.net.load_state_dict(state)

    def initial(self, batch: int, size: int, like: Tensor) -> DarknetState:
        """Before the first frame."""
        flow = self.flow.initial(batch, size, like) if self.flow else like.new_zeros(batch, 0)
        temporal, side = [], (size + 1) // 2
        for width, dilation in zip(self.widths, self.dilations, strict=True):
            side = (side + 1) // 2
            temporal.append(like.new_zeros(batch, (TemporalConv.taps - 1) * dilation, width, side, side))
        return DarknetState(like.new_zeros(batch, 1, 3, size, size), flow, tuple(temporal))

    def forward(self, clip: Tensor, state: DarknetState, age: Tensor) -> tuple[Tensor, DarknetState]:
        """(B, 3, T, H, W) to (B, dims, T, H / 8, W / 8) and the new state."""
        batch, _, steps, _, _ = clip.shape
        frames = clip.transpose(1, 2)
        before = torch.where((age == 0).reshape(-1, 1, 1, 1, 1), frames[:, :1], state.frame)
        difference = frames - torch.cat([before, frames[:, :-1]], 1)
        flow, past_flow = self.flow(frames, before, state.flow) if self.flow else (None, state.flow)
        x = self.net.stem(torch.cat([frames, difference], 2).flatten(0, 1).contiguous(memory_format=torch.channels_last))
        maps, after = [], []
        for name, conv, past in zip(self.stages, self.temporal, state.temporal, strict=True):
            x = getattr(self.net, name)(x)
            x, past = conv(x.unflatten(0, (batch, steps)), past, age)
            after.append(past)
            x = x.flatten(0, 1)
            maps.append(x)
        side = (maps[1] if flow is None else flow).shape[-2:]
        joined = torch.cat([F.interpolate(x, size=side, mode="nearest") for x in maps[2:]], 1)
        if flow is not None:
            joined = torch.cat([self._hidden(joined, batch), flow], 1)
        return joined.unflatten(0, (batch, steps)).transpose(1, 2), DarknetState(frames[:, -1:], past_flow, tuple(after))

    def _hidden(self, rgb: Tensor, batch: int) -> Tensor:
        """In training, some clips' maps (B T, C, h, w) become their average over all, which says nothing."""
        if not self.training or not self.rgb_dropout:
            return rgb
        hidden = (torch.rand(batch, 1, 1, 1, device=rgb.device) < self.rgb_dropout).repeat_interleave(len(rgb) // batch, 0)
        return torch.where(hidden, rgb.mean((0, 2, 3), keepdim=True), rgb)


class FlowState(NamedTuple):
    """What a `CausalFlow` remembers: the last frame (B, 1, 3, H, W), and the flows before, (B, n, C, H / 2, W / 2)."""

    frame: Tensor
    flow: Tensor


class CausalFlow(CausalBackbone):
    """The flow stream alone: space and time, and nothing of what anything looks like. With so few videos to learn from, a 3D path that
    sees colours too explains the training videos by them, and errs where the image path errs (ours, measured: docs/waking.md).

    Args:
        rgb_dropout: has nothing to hide here.
    """

    dims = flow_dims = FlowStream.dims

    def __init__(self, rgb_dropout: float = 0.0) -> None:
        super().__init__()
        self.flow = FlowStream()

    def initial(self, batch: int, size: int, like: Tensor) -> FlowState:
        """Before the first frame."""
        return FlowState(like.new_zeros(batch, 1, 3, size, size), self.flow.initial(batch, size, like))

    def forward(self, clip: Tensor, state: FlowState, age: Tensor) -> tuple[Tensor, FlowState]:
        """(B, 3, T, H, W) to (B, dims, T, H / 8, W / 8) and the new state."""
        frames = clip.transpose(1, 2)
        before = torch.where((age == 0).reshape(-1, 1, 1, 1, 1), frames[:, :1], state.frame)
        maps, flows = self.flow(frames, before, state.flow)
        return maps.unflatten(0, frames.shape[:2]).transpose(1, 2), FlowState(frames[:, -1:], flows)


def _resnet_maps(net: Any, clip: Tensor) -> Tensor:
    x = net.stem(clip)
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = layer(x)
    return x


def _s3d_maps(net: Any, clip: Tensor) -> Tensor:
    return net.features(clip)


def _swin_maps(net: Any, clip: Tensor) -> Tensor:
    x = net.norm(net.features(net.pos_drop(net.patch_embed(clip))))
    return x.permute(0, 4, 1, 2, 3)


def _mvit_maps(net: Any, clip: Tensor) -> Tensor:
    encoding = net.pos_encoding
    size = (encoding.temporal_size, *encoding.spatial_size)
    patches = net.conv_proj(clip)
    if tuple(patches.shape[2:]) != size:
        raise InputError(
            f"MViT got {clip.shape[2]} frames of {clip.shape[3]}x{clip.shape[4]} pixels, but takes one size only; "
            "set window to 16 and clip_size to 224."
        )
    x = encoding(patches.flatten(2).transpose(1, 2))
    for block in net.blocks:
        x, size = block(x, size)
    return net.norm(x)[:, 1:].transpose(1, 2).unflatten(2, size)


_RESNET = (_resnet_maps, 512, 16, (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
_MVIT = (_mvit_maps, 768, 32, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
_SWIN_NORM = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TORCHVISION_VIDEO = {
    "s3d": (_s3d_maps, 1024, 32, *_RESNET[3:]),
    "r3d_18": _RESNET,
    "mc3_18": _RESNET,
    "r2plus1d_18": _RESNET,
    "mvit_v1_b": _MVIT,
    "mvit_v2_s": _MVIT,
    "swin3d_t": (_swin_maps, 768, 32, *_SWIN_NORM),
    "swin3d_s": (_swin_maps, 768, 32, *_SWIN_NORM),
    "swin3d_b": (_swin_maps, 1024, 32, *_SWIN_NORM),
}
"""How to get maps from a torchvision network, their channels and spatial stride, and its mean and deviation of RGB in [0, 1]."""


class TorchvisionBackbone(Backbone3d):
    """A video network of torchvision by its name there. Not causal: it sees the whole window and is recomputed for each key frame.

    MViT has a fixed input: `clip_size` 224 and `window` 16.

    Args:
        name: a key of `TORCHVISION_VIDEO`.
        pretrained: whether to load (and where needed download) its Kinetics weights.

    Raises:
        InputError: for a name that is not there, or weights that cannot be had.
    """

    causal = False
    flow_dims = 0

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import get_model  # here, because only those who ask for it should wait for it

        if name not in TORCHVISION_VIDEO:
            raise InputError(f"there is no 3D backbone torchvision/{name}; choose one of {', '.join(TORCHVISION_VIDEO)}.")
        self.name = name
        self.maps, self.dims, self.stride, mean, std = TORCHVISION_VIDEO[name]
        self.mean, self.std = tuple(255 * v for v in mean), tuple(255 * v for v in std)
        try:
            self.net = get_model(name, weights="DEFAULT" if pretrained else None)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"the weights of torchvision/{name} cannot be had: {error}; look at the network, or train without."
            ) from error
        for classifier in ("fc", "head", "classifier"):
            if hasattr(self.net, classifier):
                setattr(self.net, classifier, nn.Identity())

    def side(self, size: int) -> int:
        """Cells of its map along a side of `size` pixels; S3D's last pooling drops a cell that has no neighbour."""
        return -(-size // (self.stride // 2)) // 2 if self.name == "s3d" else -(-size // self.stride)

    def forward(self, clip: Tensor, state: tuple, age: Tensor) -> tuple[Tensor, tuple]:
        return self.maps(self.net, clip), ()


BACKBONES3D = {
    "causal_flow": CausalFlow,
    "causal_cspdarknet_nano": CausalDarknet,
    "causal_cspdarknet_nano_rgb": functools.partial(CausalDarknet, flow=False),
}
"""Flow alone, frames and flow, and frames alone."""


def build_backbone3d(name: str, pretrained: bool = False, rgb_dropout: float = 0.0) -> Backbone3d:
    """The 3D path by name: one of `BACKBONES3D`, which takes `rgb_dropout`, or ``torchvision/<name>``.

    Raises:
        InputError: for an unknown name.
    """
    if name.startswith("torchvision/"):
        return TorchvisionBackbone(name.removeprefix("torchvision/"), pretrained)
    if name not in BACKBONES3D:
        raise InputError(f"there is no 3D backbone {name!r}; choose one of {', '.join(BACKBONES3D)}, or torchvision/<name>.")
    return BACKBONES3D[name](rgb_dropout=rgb_dropout)
