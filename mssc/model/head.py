"""From fused maps to boxes and their actions.

Boxes come from a decoupled, anchor-free head (YOLOX: one box per cell, a class-agnostic objectness). Actions come, per box, from pooled
features: RoIAlign on the fused maps, so that two people in a frame get their own, beside the context of the whole frame and clip. The
paper does not say how its heads look; class logits per anchor, as in YOWOv2, are the variant ``anchor``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..structures import Predictions
from .backbone2d import STRIDES
from .features import Features
from .layers import ConvBlock, at_least_float32, tower
from .operators import roi_align
from .video import take

ROI_SIDE = 4


class BoxHead(nn.Module):
    """Boxes and objectness, one per cell of each level; decoding as in YOLOX: centre (cell + t) * stride, size exp(t) * stride."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reg_preds = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in STRIDES)
        self.obj_preds = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in STRIDES)
        for conv in self.obj_preds:
            nn.init.constant_(conv.get_parameter("bias"), -math.log(99))  # a prior of 0.01

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Per-level (B, C, H_l, W_l) to boxes (B, N, 4) in input pixels and objectness logits, per level (B, 1, H_l, W_l)."""
        boxes, objectness = [], []
        for x, reg, obj, stride in zip(maps, self.reg_preds, self.obj_preds, STRIDES, strict=True):
            height, width = x.shape[-2:]
            raw = at_least_float32(reg(x)).permute(0, 2, 3, 1)  # half precision would round boxes to whole pixels
            ys = torch.arange(height, device=x.device, dtype=raw.dtype)[:, None].expand(height, width)
            xs = torch.arange(width, device=x.device, dtype=raw.dtype).expand(height, width)
            centre = (raw[..., :2] + torch.stack([xs, ys], -1)) * stride
            half = raw[..., 2:].clamp(max=8).exp() * (stride / 2)
            boxes.append(torch.cat([centre - half, centre + half], -1).flatten(1, 2))
            objectness.append(obj(x))
        return torch.cat(boxes, 1), objectness


def rois_of(boxes: Tensor, size: int) -> Tensor:
    """boxes (B, K, 4), cut at the edges of a square input of `size` pixels, as torchvision takes them: (B * K, 5), frame first."""
    batch, kept = boxes.shape[:2]
    index = torch.arange(batch, device=boxes.device, dtype=boxes.dtype).repeat_interleave(kept)
    return torch.cat([index[:, None], boxes.reshape(-1, 4).clamp(0, size)], 1)


class Regions(NamedTuple):
    """The boxes whose actions are classified.

    Attributes:
        boxes: (B, K, 4) in pixels of the input.
        anchors: (B, K), the anchor that each is, or that fits it best.
        objectness: per level (B, 1, H_l, W_l), logits.
    """

    boxes: Tensor
    anchors: Tensor
    objectness: list[Tensor]


class PooledBranch(nn.Module):
    """Action logits of boxes from what one kind of features says in them and around them.

    Args:
        roi_dims: channels of each map that boxes are pooled from.
        context_dims: widths of the context vectors.
        classes: A.
        hidden: width of the hidden layer.
        dropout: before the logits; half of it before the hidden layer.
        rows: pool each box's four rows of cells one by one (what its upper half does is not what its lower half does), or all as one.
    """

    def __init__(
        self, roi_dims: Sequence[int], context_dims: Sequence[int], classes: int, hidden: int, dropout: float, rows: bool = False
    ) -> None:
        super().__init__()
        self.rows = rows
        parts = (ROI_SIDE if rows else 1) + 1
        self.roi_norm = nn.ModuleList(nn.LayerNorm(parts * width) for width in roi_dims)
        self.context_norm = nn.ModuleList(nn.LayerNorm(width) for width in context_dims)
        self.roi_drop = nn.Dropout(dropout / 2)
        self.context_drop = nn.Dropout(dropout / 2)
        self.roi_hidden = nn.Linear(parts * sum(roi_dims), hidden)
        self.context_hidden = nn.Linear(sum(context_dims), hidden)
        self.drop = nn.Dropout(dropout)
        self.logits = nn.Linear(hidden, classes)

    def forward(self, maps: Sequence[Tensor], context: Sequence[Tensor], rois: Tensor, size: int) -> Tensor:
        """Maps (B, C, H, W), context (B, C), rois (B * K, 5) of torchvision in pixels of a square input of `size`: (B, K, A)."""
        pooled = []
        for x, norm in zip(maps, self.roi_norm, strict=True):
            x, places = at_least_float32(x), rois.to(at_least_float32(x).dtype)
            cells = roi_align(x, places, ROI_SIDE, x.shape[-1] / size)
            means = F.avg_pool2d(cells, (1 if self.rows else ROI_SIDE, ROI_SIDE)).flatten(1)
            both = torch.cat([means, F.max_pool2d(cells, ROI_SIDE).flatten(1)], 1)
            pooled.append(norm(both.to(norm.get_parameter("weight").dtype)))
        own = self.roi_hidden(self.roi_drop(torch.cat(pooled, 1))).unflatten(0, (len(maps[0]), -1))
        shared = [norm(vector) for vector, norm in zip(context, self.context_norm, strict=True)]
        whole = self.context_hidden(self.context_drop(torch.cat(shared, 1)))
        return self.logits(self.drop(F.silu(own + whole[:, None])))


def attended_mean(maps: Sequence[Tensor], objectness: Sequence[Tensor]) -> list[Tensor]:
    """(B, C) means of (B, C, H, W) maps, weighted by objectness logits (B, 1, H, W): sigmoid over its sum, taken in logarithms, for
    where all cells are sure of nothing, 0 / 0 would be NaN."""
    weights = (F.logsigmoid(level.detach()).flatten(2).softmax(2).reshape(level.shape) for level in objectness)
    return [(x * weight).sum((2, 3)) for x, weight in zip(maps, weights, strict=False)]


class FusedClassifier(nn.Module):
    """Action logits of boxes from the fused maps alone: what is in a box, and the whole frame as its context. There is no way past fusion.

    Args:
        branch: pools the class maps.
        size: S of the input.
    """

    def __init__(self, branch: PooledBranch, size: int) -> None:
        super().__init__()
        self.branch, self.size = branch, size

    def forward(self, maps: list[Tensor], features: Features, regions: Regions) -> Tensor:
        """Class maps (B, C, H_l, W_l), all features, and boxes: logits (B, K, A)."""
        context = [x.mean((2, 3)) for x in maps] + attended_mean(maps, regions.objectness)
        return self.branch(maps, context, rois_of(regions.boxes, self.size), self.size)


class LooseClassifier(FusedClassifier):
    """The same, but it also reads both paths directly: boxes are pooled from the motion map too, and the context is the paths' own."""

    def forward(self, maps: list[Tensor], features: Features, regions: Regions) -> Tensor:
        """As `FusedClassifier.forward`."""
        image, motion = features.image, features.video.map
        context = [x.mean((2, 3)) for x in image.levels] + attended_mean(image.levels, regions.objectness)
        context += [motion.mean((2, 3))]
        return self.branch([*maps, motion], context, rois_of(regions.boxes, self.size), self.size)


class TwoStreamClassifier(nn.Module):
    """Action logits of boxes: what the fused features and the two paths say, plus what optical flow alone says, past MSM and fusion (the
    two-stream networks' late fusion, Simonyan and Zisserman, 2014).

    In training a box is at times judged by one of the two only. Together, appearance would soon explain every training video and
    leave motion nothing to learn (the paper does not say how its paths share the work; we drop paths as networks drop units).

    Args:
        fused: of the fused features, the motion map and the context of both paths.
        flow: of the flow stream's maps; None where there is none.
        motion: whether there is a motion map.
        size: S of the input.
        path_dropout: share of boxes that are judged by the fused features alone in training; as many by flow alone.
    """

    def __init__(self, fused: PooledBranch, flow: PooledBranch | None, motion: bool, size: int, path_dropout: float) -> None:
        super().__init__()
        self.fused, self.flow, self.motion = fused, flow, motion
        self.size, self.path_dropout = size, path_dropout

    def forward(self, maps: list[Tensor], features: Features, regions: Regions) -> Tensor:
        """Class maps (B, C, H_l, W_l), all features, and boxes: logits (B, K, A)."""
        image, video, _ = features
        rois = rois_of(regions.boxes, self.size)
        context = [x.mean((2, 3)) for x in image.levels] + attended_mean(image.levels, regions.objectness)
        statistics, flow = video.bypass[:1], video.bypass[1:]
        own = [video.map] if self.motion else []
        logits = self.fused([*maps, *own], [*context, *statistics], rois, self.size)
        if self.flow is None:
            return logits
        moved = self.flow(flow, [x.mean((2, 3)) for x in flow], rois, self.size)
        if self.training and self.path_dropout:
            draw = torch.rand(*regions.boxes.shape[:2], 1, device=rois.device)
            logits = logits * (draw >= self.path_dropout)
            moved = moved * (draw < 1 - self.path_dropout)
        return logits + moved


class AnchorClassifier(nn.Module):
    """Class logits per anchor, as YOWOv2 has them. A box that is not an anchor's own takes those of the anchor that fits it best.

    Args:
        widths: C_l of the class maps.
        classes: A.
    """

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.cls_preds = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)

    def forward(self, maps: list[Tensor], features: Features, regions: Regions) -> Tensor:
        """As `FusedClassifier.forward`."""
        logits = [conv(x).flatten(2).transpose(1, 2) for conv, x in zip(self.cls_preds, maps, strict=True)]
        return take(torch.cat(logits, 1), regions.anchors)


def strongest_anchors(objectness: list[Tensor], kept: int) -> Tensor:
    """Indices (B, K) of the anchors whose actions are worth classifying: the best of those that are the maximum of their 3x3 cells.

    Neighbouring cells find the same actor; without this the K of a crowded frame would all be copies of its clearest person. A fixed
    K keeps every shape fixed. They come in the order of the cells, so that two nearly equal scores do not swap places by rounding.
    """
    ranked = []
    for level in objectness:
        peak = level == F.max_pool2d(level, 3, 1, 1)
        ranked.append(torch.where(peak, level, level - 1e4).flatten(1))
    scores = torch.cat(ranked, 1)
    return scores.topk(min(kept, scores.shape[1]), 1).indices.sort(1).values


def fitting_anchors(boxes: Tensor, anchor_boxes: Tensor) -> Tensor:
    """Indices (B, K) of the anchors (B, N, 4) that overlap the boxes (B, K, 4) most."""
    shared, union = shared_and_union(boxes[:, :, None], anchor_boxes.detach()[:, None])
    return (shared / union).argmax(2)


def shared_and_union(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of the intersection and of the union of boxes (..., 4) that broadcast."""
    shared = area((torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(min=0))
    return shared, area(one[..., 2:] - one[..., :2]) + area(other[..., 2:] - other[..., :2]) - shared


def area(sides: Tensor) -> Tensor:
    """(..., 2), widths and heights, to (...)."""
    return sides[..., 0] * sides[..., 1]  # not prod, whose gradient waits for a GPU


class Head(nn.Module):
    """Fused maps to `Predictions`: YOLOX's decoupled towers, boxes per cell, actions per box.

    Args:
        widths: C_l of the fused maps.
        width: C of the towers.
        classifier: gives boxes their action logits.
        kept: K, how many boxes are classified.
        stems: bring the fused maps to the towers' width, as YOLOX's do; without them they have it, and have a tower for classes too.
    """

    def __init__(self, widths: Sequence[int], width: int, classifier: nn.Module, kept: int, stems: bool) -> None:
        super().__init__()
        self.kept = kept
        self.stems = nn.ModuleList(ConvBlock(dim, width) if stems else nn.Identity() for dim in widths)
        self.cls_convs = nn.ModuleList(nn.Identity() if stems else tower(width) for _ in STRIDES)
        self.reg_convs = nn.ModuleList(tower(width) for _ in STRIDES)
        self.boxes = BoxHead(width)
        self.classifier = classifier

    def forward(self, features: Features, boxes: Tensor | None = None) -> Predictions:
        """Predict.

        Args:
            features: of B key frames.
            boxes: (B, K, 4) to classify instead of the head's own strongest ones, in pixels of the input.
        """
        levels = len(STRIDES)
        for_class, for_box = features.fused[:levels], features.fused[-levels:]
        class_maps = [conv(x) for conv, x in zip(self.cls_convs, for_class, strict=True)]
        stemmed = [stem(x) for stem, x in zip(self.stems, for_box, strict=True)]
        anchor_boxes, objectness = self.boxes([conv(x) for conv, x in zip(self.reg_convs, stemmed, strict=True)])
        anchor_objectness = torch.cat([level.flatten(1) for level in objectness], 1)
        if boxes is None:
            anchors = strongest_anchors(objectness, self.kept)
            boxes = take(anchor_boxes, anchors).detach()
        else:
            anchors = fitting_anchors(boxes, anchor_boxes)
        logits = self.classifier(class_maps, features, Regions(boxes, anchors, objectness))
        return Predictions(anchor_boxes, anchor_objectness, boxes, take(anchor_objectness, anchors), logits)


def build_head(config: ModelConfig, widths: tuple[int, ...], image_dims: tuple[int, ...], flow_dims: int) -> Head:
    """The head that `config` asks for.

    Args:
        config: the model's.
        widths: channels of the fused maps.
        image_dims: channels of the image path's levels; () without one.
        flow_dims: channels that know optical flow alone; 0 where there are none.
    """
    width, classes, video = config.width, len(config.classes), config.paths != "key"

    def branch(roi_dims: list[int], context_dims: list[int], rows: bool = True) -> PooledBranch:
        return PooledBranch(roi_dims, context_dims, classes, config.hidden, config.dropout, rows)

    def two_stream() -> nn.Module:
        fused = branch([*widths, *[width] * video], [*image_dims, *image_dims, *[3 * width] * video], rows=False)
        flow = branch([flow_dims] * 2, [flow_dims] * 2) if flow_dims else None
        return TwoStreamClassifier(fused, flow, video, config.key_size, config.image_dropout)

    classifiers = {
        "fused": lambda: FusedClassifier(branch([*widths], [*widths, *widths]), config.key_size),
        "loose": lambda: LooseClassifier(branch([*widths, width], [*image_dims, *image_dims, width]), config.key_size),
        "two-stream": two_stream,
        "anchor": lambda: AnchorClassifier(widths, classes),
    }
    return Head(widths, width, classifiers[config.classifier](), config.kept, config.fusion_position == "levels")
