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
``sfm_attention`` variant has one). Every level's module maps two (B, C, H, W) maps, `spatial` and `motion`, to one; `Fusion` has one per
level. Levels may differ in C: a 1x1 convolution then brings the motion map to it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..structures import InputError
from .features import ImageFeatures, VideoFeatures
from .layers import BN_EPS, BN_MOMENTUM, at_least_float32

START_TEMPERATURE = 4.0
FLAT = 0.1
"""Deviation over the places below which a channel of a "centred" context says little: divided by less, noise would be a pattern."""
MOST_PLACES = 14  # a side: attention stays cheap, and the motion map has no more


def _batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=BN_EPS, momentum=BN_MOMENTUM)


def _linear(inputs: int, outputs: int, bias: bool = True, std: float = 0.02) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.trunc_normal_(layer.weight, std=std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _conv(inputs: int, outputs: int, kernel: int = 1, groups: int = 1, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (kernel * kernel * outputs / groups)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


class ChannelContext(nn.Module):
    """G = softmax over the key channels, each column sums to 1. Not computed in half precision, since it sums over N.

    "none" is CMX's softmax(K^T V / sqrt(d)), whose sharpness grows with N: one-hot at stride 8, flat at 32. "mean" divides by N.
    "correlation", ours, takes the cosine of each key and value channel over the positions, times a learned temperature per head: it cannot
    saturate, whatever N. "centred" takes the mean over the positions from both before: channels that rise and fall together correlate, not
    channels that are large, and hardly those that are `FLAT`.

    Args:
        heads: of the exchange.
        normalise: which of them.
    """

    def __init__(self, heads: int, normalise: str) -> None:
        super().__init__()
        self.normalise = normalise
        start = torch.full((heads, 1, 1), math.log(START_TEMPERATURE))
        self.log_temperature = nn.Parameter(start) if normalise in ("correlation", "centred") else None

    def compared(self, x: Tensor, axis: int) -> Tensor:
        """Of channels over the places, which lie along an axis: what their cosines are of."""
        return x - x.mean(axis, keepdim=True) if self.normalise == "centred" else x

    def lengths(self, x: Tensor, axis: int) -> Tensor:
        """What these are divided by, (..., 1, ...)."""
        if self.normalise == "centred":
            return (x.square().sum(axis, keepdim=True) + x.shape[axis] * FLAT**2).sqrt()
        return x.norm(dim=axis, keepdim=True).clamp(min=1e-12)

    def forward(self, keys: Tensor, values: Tensor) -> Tensor:
        """(B, heads, N, d) twice to (B, heads, d, d)."""
        with torch.autocast(keys.device.type, enabled=False):
            keys, values = at_least_float32(keys), at_least_float32(values)
            if self.log_temperature is not None:
                keys, values = self.compared(keys, -2), self.compared(values, -2)
                cosine = (keys / self.lengths(keys, -2)).transpose(-2, -1) @ (values / self.lengths(values, -2))
                return (self.log_temperature.exp() * cosine).softmax(-2)
            product = keys.transpose(-2, -1) @ values / math.sqrt(keys.shape[-1])
            if self.normalise == "mean":
                product = product / keys.shape[-2]
            return product.softmax(-2)


def context_entropy(context: Tensor) -> Tensor:
    """How evenly a context mixes channels: mean over heads and columns q of H(G[:, q]) / log d.

    Args:
        context: (..., heads, d, d), each column sums to 1 over the key channels p, the dimension before the last.

    Returns:
        (...), in [0, 1]: 0 if every column picks one channel, 1 if all are uniform or there is but one channel.
    """
    depth = context.shape[-2]
    if depth == 1:
        return torch.ones(context.shape[:-3])
    entropy = -torch.special.xlogy(context, context).sum(-2) / math.log(depth)
    return entropy.mean((-2, -1))


class ContextExchange(nn.Module):
    """T_i = Q_i G_other: channels of a path, mixed as the other path's context says (CMX).

    Args:
        heads: of the exchange.
        normalise: of its `ChannelContext`.
    """

    def __init__(self, heads: int, normalise: str) -> None:
        super().__init__()
        self.context = ChannelContext(heads, normalise)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
        """Queries of this path, keys and values of the other one, (B, heads, N, d) each, to the same; `size` is H, W."""
        return queries @ self.context(keys, values).to(queries.dtype)


class AttentionExchange(nn.Module):
    """Cross-attention over positions: each place takes content from the places of the other path, which are pooled to `MOST_PLACES` a
    side at most. CMX has none; the paper's words allow it."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Softmax(-1)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
        """As `ContextExchange.forward`."""
        factor = -(-max(size) // MOST_PLACES)
        if factor > 1:
            keys, values = (_pooled(x, size, factor) for x in (keys, values))
        return self.weights(queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])) @ values


def _pooled(x: Tensor, size: tuple[int, int], factor: int) -> Tensor:
    """(B, heads, H W, d) to the means of squares of `factor` places."""
    maps = x.transpose(2, 3).flatten(0, 1).unflatten(2, size)
    maps = F.avg_pool2d(maps, factor, ceil_mode=True, count_include_pad=False)
    return maps.flatten(2).unflatten(0, x.shape[:2]).transpose(2, 3)


class Exchange(nn.Module):
    """Stage 1: each path is corrected by the other one.

    Args:
        width: C of both paths.
        inner: C_i, channels inside.
        heads: of the exchange.
        take: makes the module that gives T, one per path.
        norm: LayerNorm behind it, CMX's; without it, places where more moves keep a larger norm.
        residual: whether a path's correction has a part R of its own beside T, as CMX's has.
        loud: begin with keys and values that vary about as much as the maps do. CMX's begin at a hundredth of that, where the gradient of
            a cosine is a hundred times larger than any other, and drowns all the others once gradients are clipped by their common norm.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        heads: int,
        take: Callable[[], nn.Module],
        norm: bool,
        residual: bool = True,
        loud: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.parts = heads, 1 + residual
        into, inside = (width**-0.5, inner**-0.5) if loud else (0.02, 0.02)
        self.project = nn.ModuleList(_linear(width, self.parts * inner, std=into) for _ in range(2))
        self.key_value = nn.ModuleList(_linear(inner, 2 * inner, bias=False, std=inside) for _ in range(2))
        self.take = nn.ModuleList(take() for _ in range(2))
        self.leave = nn.ModuleList(_linear(self.parts * inner, width) for _ in range(2))
        self.norm = nn.ModuleList(nn.LayerNorm(width) if norm else nn.Identity() for _ in range(2))

    @property
    def by_position(self) -> bool:
        """Whether it attends over positions instead of channels."""
        return isinstance(self.take[0], AttentionExchange)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, spatial: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Two (B, C, H, W) maps, corrected."""
        height, width = spatial.shape[-2:]
        paths, own, queries, content = (_tokens(spatial), _tokens(motion)), [], [], []
        for x, project, key_value in zip(paths, self.project, self.key_value, strict=True):
            *residual, interactive = F.relu(project(x)).chunk(self.parts, -1)
            own.append(residual)
            queries.append(self._split_heads(interactive))
            content.append([self._split_heads(part) for part in key_value(interactive).chunk(2, -1)])
        out = []
        for path, x in enumerate(paths):
            taken = self.take[path](queries[path], *content[1 - path], (height, width)).transpose(1, 2).flatten(2)
            corrected = self.norm[path](x + self.leave[path](torch.cat([*own[path], taken], -1)))
            out.append(corrected.transpose(1, 2).unflatten(2, (height, width)))  # a view: channels last, as convolutions like it
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
                _conv(2 * width, inner), _conv(inner, inner, 3, groups=inner), nn.ReLU(), _conv(inner, width), _batch_norm(width)
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


def _conv_norm(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, kernel, bias=False), _batch_norm(outputs), nn.SiLU())


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
    inner = max(config.width // config.fusion_reduction, 1)
    heads, rest = divmod(inner, min(config.fusion_head_width, inner))
    if rest:
        raise InputError(
            f"{inner} channels do not split into heads of {config.fusion_head_width}; choose another fusion_head_width."
        )

    def take() -> nn.Module:
        return AttentionExchange() if by_position else ContextExchange(heads, config.fusion_context)

    loud = config.fusion_context == "centred" and not by_position
    return Exchange(config.width, inner, heads, take, config.fusion_norm == "layer", config.fusion_residual == "part", loud)


def _embedding(config: ModelConfig) -> ChannelEmbedding:
    return ChannelEmbedding(config.width, config.fusion_reduction, config.fusion_skip == "dwconv")


FUSION: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "sfm": lambda config: SemanticCorrectionFusion(_exchange(config), _embedding(config)),
    "frm+sfm": lambda config: SemanticCorrectionFusion(_exchange(config), _embedding(config), Rectify(config.width)),
    "sfm_attention": lambda config: SemanticCorrectionFusion(_exchange(config, by_position=True), _embedding(config)),
    "sfm1": lambda config: SemanticCorrectionFusion(_exchange(config), Sum()),
    "sfm2": _embedding,
    "add": lambda config: Add(config.width),
    "concat": lambda config: Concat(config.width),
    "cfam": lambda config: CFAM(config.width),
}
"""How two paths of a level become one, by name, as functions of the config."""
ONE_PATH = {"key": SpatialOnly, "clip": MotionOnly}


def build_level(config: ModelConfig, width: int | None = None) -> nn.Module:
    """One level's fusion, as `config.fusion` names it, or the path that `config.paths` leaves; of this width, or the config's."""
    if config.paths != "both":
        return ONE_PATH[config.paths]()
    return FUSION[config.fusion](config if width is None else replace(config, width=width))


class PathDropout(nn.Module):
    """In training, fusion at times sees one path of a key frame only; the other's maps are their batch's average, which says nothing.

    Together, appearance would soon explain every training video and leave motion nothing to learn (the paper does not say how its paths
    share the work; we drop paths as networks drop units).

    Args:
        image: share of the key frames whose image is not seen.
        motion: share of those whose motion is not.
    """

    def __init__(self, image: float, motion: float) -> None:
        super().__init__()
        self.image, self.motion = image, motion

    def forward(self, images: tuple[Tensor, ...], motion: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, C, H_l, W_l) maps and (B, C, h, w)."""
        if not self.training or not self.image + self.motion:
            return images, motion
        draw = torch.rand(len(motion), 1, 1, 1, device=motion.device)
        no_image, no_motion = draw < self.image, draw > 1 - self.motion
        return tuple(_averaged(x, no_image) for x in images), _averaged(motion, no_motion)


def _averaged(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x.mean((0, 2, 3), keepdim=True), x)


class Fusion(nn.Module):
    """Both paths to one map per level. The motion map is brought to each level's size, nearest.

    Args:
        levels: one module per level; or two, of which the second ones are for the box branch.
        drop: what may hide a path in training.
        widths: C of each level.
        project: per level, brings the motion map to its width.
    """

    def __init__(self, levels: list[nn.Module], drop: PathDropout, widths: Sequence[int], project: Sequence[nn.Module]) -> None:
        super().__init__()
        self.levels, self.drop, self.widths = nn.ModuleList(levels), drop, tuple(widths)
        self.project = nn.ModuleList(project)

    def forward(self, image: ImageFeatures, video: VideoFeatures) -> tuple[Tensor, ...]:
        """As many (B, C, H_l, W_l) maps as there are modules."""
        images, motion = self.drop(image.maps, video.map)
        motions = [
            F.interpolate(project(motion), size=spatial.shape[-2:], mode="nearest")
            for project, spatial in zip(self.project, images, strict=True)
        ]
        count = len(images)
        return tuple(level(images[place % count], motions[place % count]) for place, level in enumerate(self.levels))


def build_fusion(config: ModelConfig, widths: Sequence[int]) -> Fusion:
    """The fusion that `config` asks for, of levels of these widths."""
    own = 2 if config.fusion_branch == "task" and config.paths == "both" else 1
    both = config.paths == "both" and config.classifier != "two-stream"  # which drops paths behind fusion
    drop = PathDropout(both * config.image_dropout, both * config.motion_dropout)
    asked = config.paths == "both"
    project = [nn.Conv2d(config.width, width, 1) if asked and width != config.width else nn.Identity() for width in widths]
    return Fusion([build_level(config, width) for _ in range(own) for width in widths], drop, widths, project)
