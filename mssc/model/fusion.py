"""SFM, the Semantic Correction Fusion Module, and the fusions that it is compared with.

The paper says: stage 1 exchanges information by cross-attention, so that the spatial and the spatio-temporal path correct each other;
stage 2 merges them by a simple channel embedding, a 1x1 convolution. It gives no equations; the two sentences match the Feature Fusion
Module of CMX (Zhang et al., eqs. 7-8)::

    [R_i, U_i] = split(ReLU(X_i W_in))                        residual and interactive part of path i
    K_i, V_i   = split(U_i W_kv)          Q_i = U_i
    G_i        = softmax over key channels (K_i^T V_i / sqrt(d))           (heads, d, d), the context
    T_i        = Q_i G_other
    X_i'       = LayerNorm(X_i + [R_i ; T_i] W_out)
    E          = [X_a' ; X_m'] as maps
    OUT        = BN(Conv1x1(E) + BN(Conv1x1(ReLU(DWConv3x3(Conv1x1(E))))))

G is a sum over all positions: stage 1 corrects channels globally and carries no place, there is no N x N attention map to draw (the
``sfm_softmax`` variant has one). Every level's module maps two (B, C, H, W) maps, `spatial` and `motion`, to one; `Fusion` has one per
level.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..structures import InputError
from .backbone2d import STRIDES
from .features import ImageFeatures, VideoFeatures
from .layers import BN_EPS, BN_MOMENTUM


def _batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=BN_EPS, momentum=BN_MOMENTUM)


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _conv(inputs: int, outputs: int, kernel: int = 1, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (kernel * kernel * outputs / groups)))
    if bias:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


class ChannelContext(nn.Module):
    """G = softmax(K^T V / sqrt(d)) over the key channels: each column sums to 1. Computed in float32, since it sums over N."""

    def __init__(self, normalise: str) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, keys: Tensor, values: Tensor) -> Tensor:
        """(B, heads, N, d) twice to (B, heads, d, d)."""
        with torch.autocast(keys.device.type, enabled=False):
            product = keys.float().transpose(-2, -1) @ values.float() / math.sqrt(keys.shape[-1])
            if self.normalise == "mean":
                product = product / keys.shape[-2]
            return product.softmax(-2)


class Exchange(nn.Module):
    """Stage 1: each path is corrected by the other one's context.

    Args:
        width: C of both paths.
        reduction: rho, C over the channels inside.
        head_width: d, channels of a head.
        normalise: "mean" divides the context by N, "none" does not.
        by_position: attend over positions instead of channels.

    Raises:
        InputError: if the channels do not split into such heads.
    """

    def __init__(self, width: int, reduction: int, head_width: int, normalise: str, by_position: bool = False) -> None:
        super().__init__()
        inner = max(width // reduction, 1)
        head = min(head_width, inner)
        self.heads = inner // head
        if inner % head:
            raise InputError(f"{inner} channels do not split into heads of {head}; choose another fusion_head_width.")
        self.by_position = by_position
        self.project = nn.ModuleList(_linear(width, 2 * inner) for _ in range(2))
        self.key_value = nn.ModuleList(_linear(inner, 2 * inner, bias=False) for _ in range(2))
        self.context = nn.ModuleList(ChannelContext(normalise) for _ in range(2))
        self.attend = nn.ModuleList(nn.Softmax(-1) for _ in range(2))
        self.leave = nn.ModuleList(_linear(2 * inner, width) for _ in range(2))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, spatial: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Two (B, C, H, W) maps, corrected."""
        paths = [_tokens(spatial), _tokens(motion)]
        residual, queries, keys, values = [], [], [], []
        for i, x in enumerate(paths):
            r, u = F.relu(self.project[i](x)).chunk(2, -1)
            k, v = self.key_value[i](u).chunk(2, -1)
            residual.append(r)
            queries.append(self._split_heads(u))
            keys.append(self._split_heads(k))
            values.append(self._split_heads(v))
        out = []
        for i, x in enumerate(paths):
            other = 1 - i
            if self.by_position:
                scores = queries[i] @ keys[other].transpose(-2, -1) / math.sqrt(queries[i].shape[-1])
                taken = self.attend[i](scores) @ values[other]
            else:
                taken = queries[i] @ self.context[i](keys[other], values[other]).to(x.dtype)
            taken = taken.transpose(1, 2).flatten(2)
            corrected = self.norm[i](x + self.leave[i](torch.cat([residual[i], taken], -1)))
            out.append(
                corrected.transpose(1, 2).unflatten(2, spatial.shape[-2:])
            )  # a view: channels last, as convolutions like it
        return out[0], out[1]


class ChannelEmbedding(nn.Module):
    """Stage 2: merge both paths by 1x1 convolutions; the depthwise 3x3 skip is CMX's.

    Args:
        width: C of both paths and of the result.
        reduction: rho, C over the channels inside the skip.
        skip: have that skip.
    """

    def __init__(self, width: int, reduction: int = 1, skip: bool = True) -> None:
        super().__init__()
        inner = max(width // reduction, 1)
        self.embed = _conv(2 * width, width, bias=False)
        self.skip = None
        if skip:
            self.skip = nn.Sequential(
                _conv(2 * width, inner),
                _conv(inner, inner, 3, groups=inner),
                nn.ReLU(),
                _conv(inner, width),
                _batch_norm(width),
            )
        self.norm = _batch_norm(width)

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """Two (B, C, H, W) maps to one."""
        both = torch.cat([spatial, motion], 1)
        merged = self.embed(both)
        if self.skip is not None:
            merged = merged + self.skip(both)
        return self.norm(merged)


class Rectify(nn.Module):
    """CMX's CM-FRM: each path takes from the other, weighted per channel and per place. Off by default; perhaps part of the paper's
    "calibration", but the poster lists two stages only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(_linear(4 * width, 4 * width), nn.ReLU(), _linear(4 * width, 2 * width), nn.Sigmoid())
        self.place = nn.Sequential(_conv(2 * width, width), nn.ReLU(), _conv(width, 2), nn.Sigmoid())

    def forward(self, spatial: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Two (B, C, H, W) maps, each with half of the other's weighted content added."""
        both = torch.cat([spatial, motion], 1)
        pooled = torch.cat([both.mean((2, 3)), both.amax((2, 3))], 1)
        channel_a, channel_m = self.channel(pooled)[:, :, None, None].chunk(2, 1)
        place_a, place_m = self.place(both).chunk(2, 1)
        return spatial + 0.5 * (channel_m + place_m) * motion, motion + 0.5 * (channel_a + place_a) * spatial


class SemanticCorrectionFusion(nn.Module):
    """SFM: the paths exchange (stage 1), then merge (stage 2).

    Args:
        exchange: stage 1.
        merge: stage 2.
        rectify: what comes before, `Rectify` or nothing.
    """

    def __init__(self, exchange: nn.Module, merge: nn.Module, rectify: nn.Module | None = None) -> None:
        super().__init__()
        self.rectify, self.exchange, self.merge = rectify, exchange, merge

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """Two (B, C, H, W) maps to one."""
        if self.rectify is not None:
            spatial, motion = self.rectify(spatial, motion)
        return self.merge(*self.exchange(spatial, motion))


class Sum(nn.Module):
    """Both maps added: stage 2 without parameters."""

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """Two (B, C, H, W) maps to one."""
        return spatial + motion


def _conv_norm(inputs: int, outputs: int, kernel: int = 1, act: Callable[[], nn.Module] = nn.SiLU) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, kernel, bias=False), _batch_norm(outputs), act())


class Add(nn.Module):
    """The sum, then a 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = _conv_norm(width, width)

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """Two (B, C, H, W) maps to one."""
        return self.embed(spatial + motion)


class Concat(nn.Module):
    """Both maps side by side, then a 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = _conv_norm(2 * width, width)

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """Two (B, C, H, W) maps to one."""
        return self.embed(torch.cat([spatial, motion], 1))


class ChannelAttention(nn.Module):
    """CFAM's channel self-attention: softmax of the row maximum minus the Gram matrix, its share learned from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        flat = x.flatten(2)
        energy = flat @ flat.transpose(1, 2)
        weights = (energy.amax(-1, keepdim=True) - energy).softmax(-1)
        return self.gamma * (weights @ flat).reshape(x.shape) + x


class CFAM(nn.Module):
    """The YOWO family's fusion: YOWOv2's ChannelEncoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            _conv_norm(2 * width, width),
            _conv_norm(width, width, 3),
            ChannelAttention(),
            _conv_norm(width, width, 3),
            nn.Dropout(0.1),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """Two (B, C, H, W) maps to one."""
        return self.encode(torch.cat([spatial, motion], 1))


class SpatialOnly(nn.Module):
    """The control without a video path."""

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """The spatial map as it is."""
        return spatial


class MotionOnly(nn.Module):
    """The control without an image path."""

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """The motion map as it is."""
        return motion


def _exchange(config: ModelConfig, by_position: bool = False) -> Exchange:
    return Exchange(config.width, config.fusion_reduction, config.fusion_head_width, config.fusion_context, by_position)


def _embedding(config: ModelConfig) -> ChannelEmbedding:
    return ChannelEmbedding(config.width, config.fusion_reduction, config.fusion_skip == "dwconv")


FUSION: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "sfm": lambda config: SemanticCorrectionFusion(_exchange(config), _embedding(config)),
    "frm+sfm": lambda config: SemanticCorrectionFusion(_exchange(config), _embedding(config), Rectify(config.width)),
    "sfm_softmax": lambda config: SemanticCorrectionFusion(_exchange(config, by_position=True), _embedding(config)),
    "sfm1": lambda config: SemanticCorrectionFusion(_exchange(config), Sum()),
    "sfm2": _embedding,
    "add": lambda config: Add(config.width),
    "concat": lambda config: Concat(config.width),
    "cfam": lambda config: CFAM(config.width),
}
"""How two paths of a level become one, by name, as functions of the config."""
ONE_PATH = {"key": SpatialOnly, "clip": MotionOnly}


def build_level(config: ModelConfig) -> nn.Module:
    """One level's fusion, as `config.fusion` names it, or the path that `config.paths` leaves."""
    return ONE_PATH[config.paths]() if config.paths != "both" else FUSION[config.fusion](config)


class Fusion(nn.Module):
    """Both paths to one map per level. The motion map is brought to each level's size, nearest.

    Args:
        levels: one module per level; or two, of which the second ones are for the box branch.
    """

    def __init__(self, levels: list[nn.Module]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)

    def forward(self, image: ImageFeatures, video: VideoFeatures) -> tuple[Tensor, ...]:
        """As many (B, C, H_l, W_l) maps as there are modules."""
        fused = []
        for place, level in enumerate(self.levels):
            spatial = image.maps[place % len(image.maps)]
            fused.append(level(spatial, F.interpolate(video.map, size=spatial.shape[-2:], mode="nearest")))
        return tuple(fused)


def build_fusion(config: ModelConfig) -> Fusion:
    """The fusion that `config` asks for."""
    own = 2 if config.fusion_branch == "task" and config.paths == "both" else 1
    return Fusion([build_level(config) for _ in range(own * len(STRIDES))])
