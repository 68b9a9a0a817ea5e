"""Equal forms of parts of the network that graph runtimes compute with less work; torch, and whoever looks inside, has the plain ones."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .features import ImageFeatures, VideoFeatures
from .fusion import ChannelContext, ChannelEmbedding, ContextExchange, Exchange, Fusion, SemanticCorrectionFusion
from .layers import Focus, Network
from .mssc import MSSC


def _cut(maps: Tensor, layer: nn.Module, parts: int = 2) -> list[Tensor]:
    """Equal parts of what a linear layer makes of each place of (B, C, H, W), as 1x1 convolutions: nothing is cut apart, or copied."""
    assert isinstance(layer, nn.Linear)
    biases = [None] * parts if layer.bias is None else layer.bias.chunk(parts)
    return [F.conv2d(maps, w[:, :, None, None], b) for w, b in zip(layer.weight.chunk(parts), biases, strict=True)]


def _joined(parts: Sequence[Tensor], layer: nn.Module) -> Tensor:
    """What a linear layer, or a 1x1 convolution, makes of maps (B, C_i, H, W) side by side, without putting them there; the others are
    brought to the size of the first."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    first, *others = layer.weight.flatten(1).split([x.shape[1] for x in parts], 1)
    joined = F.conv2d(parts[0], first[:, :, None, None], layer.bias)
    for maps, weight in zip(parts[1:], others, strict=True):
        joined = joined + _enlarged(F.conv2d(maps, weight[:, :, None, None]), joined)
    return joined


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    return maps if maps.shape[-2:] == like.shape[-2:] else F.interpolate(maps, size=like.shape[-2:], mode="nearest")


def _context(plain: nn.Module, keys: Tensor, values: Tensor) -> Tensor:
    """(B, heads, d, N) twice to (B, heads, d, d), as `ChannelContext` gives it. Of cosines, only d x d values are divided by lengths."""
    assert isinstance(plain, ChannelContext)
    if plain.log_temperature is None:
        return plain(keys.transpose(2, 3), values.transpose(2, 3))
    keys, values = plain.compared(keys, 3), plain.compared(values, 3)
    cosine = keys @ values.transpose(2, 3) / (plain.lengths(keys, 3) * plain.lengths(values, 3).transpose(2, 3))
    return (plain.log_temperature.exp() * cosine).softmax(2)


class CoarseFusion(nn.Module):
    """SFM whose motion map keeps its own places until both maps are merged: a map that is enlarged by whole factors says the same in all
    copies of a place, and the exchange takes means over places only.

    Args:
        exchange: stage 1 of the plain one, which it takes over.
        merge: stage 2.
    """

    def __init__(self, exchange: Exchange, merge: ChannelEmbedding) -> None:
        super().__init__()
        self.exchange, self.merge = exchange, merge

    @classmethod
    def of(cls, level: nn.Module) -> nn.Module:
        """A level in this form; itself where that would not be equal."""
        if not isinstance(level, SemanticCorrectionFusion) or level.rectify is not None:
            return level
        exchange, merge = level.exchange, level.merge
        if not isinstance(exchange, Exchange) or not isinstance(merge, ChannelEmbedding):
            return level
        means = all(isinstance(take, ContextExchange) and take.context.normalise != "none" for take in exchange.take)
        return cls(exchange, merge) if means else level

    def forward(self, spatial: Tensor, motion: Tensor) -> Tensor:
        """(B, C, H, W) and (B, C, h, w) to (B, C, H, W); H / h and W / w are whole."""
        exchange, merge, own, queries, content, out = self.exchange, self.merge, [], [], [], []
        for x, project, key_value in zip((spatial, motion), exchange.project, exchange.key_value, strict=True):
            *residual, interactive = (F.relu(part) for part in _cut(x, project, exchange.parts))
            own.append(residual)
            queries.append(self._heads(interactive))
            content.append([self._heads(half) for half in _cut(interactive, key_value)])
        for path, x in enumerate((spatial, motion)):
            context = _context(exchange.take[path].get_submodule("context"), *content[1 - path]).to(x.dtype)
            taken = (context.transpose(2, 3) @ queries[path]).flatten(1, 2).unflatten(2, x.shape[-2:])
            corrected = x + _joined((*own[path], taken), exchange.leave[path])
            out.append(exchange.norm[path](corrected.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        merged = _joined(out, merge.embed)
        if merge.skip is not None:
            merged = merged + merge.skip[1:](_joined(out, merge.skip[0]))
        return merge.norm(merged)

    def _heads(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).unflatten(1, (self.exchange.heads, -1))


class GraphFusion(Fusion):
    """The fusion with `CoarseFusion` wherever it suits.

    Args:
        plain: the fusion, whose parts it takes over.
    """

    def __init__(self, plain: Fusion) -> None:
        super().__init__([CoarseFusion.of(level) for level in plain.levels], plain.drop, plain.widths, list(plain.project))

    def forward(self, image: ImageFeatures, video: VideoFeatures) -> tuple[Tensor, ...]:
        """As `Fusion.forward`."""
        found, motions = [], [project(video.map) for project in self.project]
        for place, level in enumerate(self.levels):
            spatial, motion = image.maps[place % len(motions)], motions[place % len(motions)]
            whole = not any(side % own for side, own in zip(spatial.shape[-2:], motion.shape[-2:], strict=True))
            found.append(level(spatial, motion if whole and isinstance(level, CoarseFusion) else _enlarged(motion, spatial)))
        return tuple(found)


class GraphFocus(Focus):
    """The stem as what it is, one 6x6 convolution of stride 2, without taking the image apart.

    Args:
        plain: the stem, whose block it takes over.
    """

    def __init__(self, plain: Focus) -> None:
        nn.Module.__init__(self)
        self.conv = plain.conv

    def forward(self, x: Tensor) -> Tensor:
        """As `Focus.forward`, of maps with even sides."""
        kernel = self.conv.conv.weight.unflatten(1, (2, 2, -1))  # (out, right or left, bottom or top, in, 3, 3)
        kernel = kernel.permute(0, 3, 4, 2, 5, 1).flatten(4, 5).flatten(2, 3)  # (out, in, 6, 6)
        return self.conv.act(self.conv.bn(F.conv2d(x, kernel, self.conv.conv.bias, stride=2, padding=2)))


def for_graphs(model: MSSC) -> MSSC:
    """The same network in these forms, its parameters by the same names. The model itself stays as it is."""
    fusion = GraphFusion(model.fusion)
    model = _with(model, "fusion", fusion)
    for part in ("image", "person"):
        stem = getattr(getattr(getattr(model, part), "backbone", None), "stem", None)
        model = _with(model, f"{part}.backbone.stem", GraphFocus(stem)) if isinstance(stem, Focus) else model
    return model


def parts_of(model: MSSC, *names: str) -> MSSC:
    """The same network with these parts alone: of what is not asked for, nothing need be traced. The model itself stays as it is."""
    twin = copy.copy(model)
    twin._modules = {name: part if name in names else None for name, part in model._modules.items()}
    return twin


def _with(module: Network, place: str, part: nn.Module) -> Network:
    """A copy of a module with another part in a place; all else is shared."""
    name, _, rest = place.partition(".")
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    twin._modules[name] = _with(module.get_submodule(name), rest, part) if rest else part
    return twin
