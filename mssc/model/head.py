"""From fused maps to boxes and their actions.

Boxes come from a decoupled, anchor-free head (YOLOX: one box per cell, a class-agnostic objectness). Actions come, per box, from pooled
features: RoIAlign on the fused maps, so that two people in a frame get their own, beside the context of the whole frame and clip. The
paper does not say how its heads look; class logits per anchor, as in YOWOv2, are the variant ``anchor``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..structures import Predictions
from .layers import DecoupledTower
from .motion import Memory, causal_window_mean

ROI_SIDE = 4
STRIDES = (8, 16, 32)


class TemporalStatistics(nn.Module):
    """What a window of maps says: the current one, their mean, and the mean of how much each differs from the one before.

    Args:
        width: channels.
        window: frames.
        pooled: whether places are averaged out, (..., 1, 1, C) instead of (..., H, W, C); differences are taken before that, of
            means of 2x2 cells.
    """

    def __init__(self, width: int, window: int, pooled: bool) -> None:
        super().__init__()
        self.width, self.window, self.pooled = width, window, pooled

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> Memory:
        """The last map, the past maps and the past differences."""
        if self.pooled:
            height, width = (height + 1) // 2, (width + 1) // 2
        place = (1, 1) if self.pooled else (height, width)
        past = like.new_zeros(batch, self.window - 1, *place, self.width)
        return like.new_zeros(batch, 1, height, width, self.width), past, past.clone()

    def forward(self, x: Tensor, memory: Memory, age: Tensor) -> tuple[Tensor, Memory]:
        """(B, T, H, W, C) to (B, T, H, W, 3C), or (B, T, 1, 1, 3C) when pooled."""
        last, past, past_change = memory
        if self.pooled:
            maps = x.flatten(0, 1).permute(0, 3, 1, 2)
            maps = F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)
            x = maps.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        last = torch.where((age == 0).reshape(-1, 1, 1, 1, 1), x[:, :1], last)
        change = (x - torch.cat([last, x[:, :-1]], 1)).abs()
        last = x[:, -1:]
        if self.pooled:
            x, change = x.mean((2, 3), keepdim=True), change.mean((2, 3), keepdim=True)
        mean, past = causal_window_mean(x, past, age)
        mean_change, past_change = causal_window_mean(change, past_change, age)
        return torch.cat([x, mean, mean_change], -1), (last, past, past_change)


class BoxHead(nn.Module):
    """Boxes and objectness, one per cell of each level; decoding as in YOLOX: centre (cell + t) * stride, size exp(t) * stride."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.reg_preds = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in range(levels))
        self.obj_preds = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(levels))
        for conv in self.obj_preds:
            nn.init.constant_(conv.bias, -math.log(99))  # type: ignore[arg-type]  # a prior of 0.01

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Per-level (B, C, H_l, W_l) to boxes (B, N, 4) in input pixels and objectness logits, per level (B, 1, H_l, W_l)."""
        boxes, objectness = [], []
        for x, reg, obj, stride in zip(maps, self.reg_preds, self.obj_preds, STRIDES, strict=True):
            height, width = x.shape[-2:]
            raw = reg(x).permute(0, 2, 3, 1)
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


class PooledBranch(nn.Module):
    """Action logits of boxes from what one kind of features says in them and around them.

    Args:
        roi_dims: channels of each map that boxes are pooled from.
        context_dims: widths of the context vectors.
        config: `hidden`, `dropout`, `classes`.
        rows: pool each box's four rows of cells one by one (what its upper half does is not what its lower half does), or all as one.
    """

    def __init__(self, roi_dims: list[int], context_dims: list[int], config: ModelConfig, rows: bool = False) -> None:
        super().__init__()
        self.rows = rows
        parts = (ROI_SIDE if rows else 1) + 1
        self.roi_norm = nn.ModuleList(nn.LayerNorm(parts * width) for width in roi_dims)
        self.context_norm = nn.ModuleList(nn.LayerNorm(width) for width in context_dims)
        self.roi_drop = nn.Dropout(config.dropout / 2)
        self.context_drop = nn.Dropout(config.dropout / 2)
        self.roi_hidden = nn.Linear(parts * sum(roi_dims), config.hidden)
        self.context_hidden = nn.Linear(sum(context_dims), config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.logits = nn.Linear(config.hidden, len(config.classes))

    def forward(self, maps: list[Tensor], context: list[Tensor], rois: Tensor, size: int) -> Tensor:
        """Maps (B, C, H, W), context (B, C), rois (B * K, 5) of torchvision in pixels of a square input of `size`: (B, K, A)."""
        from torchvision.ops import roi_align  # here: see `mssc.detection.postprocess.to_detections`

        pooled = []
        for x, norm in zip(maps, self.roi_norm, strict=True):
            cells = roi_align(x, rois.to(x.dtype), ROI_SIDE, x.shape[-1] / size, sampling_ratio=1, aligned=True)
            means = cells.mean(3).flatten(1) if self.rows else cells.mean((2, 3))
            pooled.append(norm(torch.cat([means, cells.amax((2, 3))], 1)))
        own = self.roi_hidden(self.roi_drop(torch.cat(pooled, 1))).unflatten(0, (len(maps[0]), -1))
        shared = [norm(vector) for vector, norm in zip(context, self.context_norm, strict=True)]
        whole = self.context_hidden(self.context_drop(torch.cat(shared, 1)))
        return self.logits(self.drop(F.silu(own + whole[:, None])))


class PooledClassifier(nn.Module):
    """Action logits of boxes: what the fused features say, plus what motion alone says.

    In training a box is at times judged by one of the two only. Together, appearance would soon explain every training video and
    leave motion nothing to learn (the paper does not say how its paths share the work; we drop paths as networks drop units).

    Args:
        fused: of the fused features.
        movement: of the 3D path's motion channels; None where it has none.
        path_dropout: share of boxes that are judged by the fused features alone in training; as many by motion alone.
    """

    def __init__(self, fused: PooledBranch, movement: PooledBranch | None, path_dropout: float) -> None:
        super().__init__()
        self.fused, self.movement, self.path_dropout = fused, movement, path_dropout

    def forward(self, maps: list[Tensor], context: list[Tensor], moving: list[Tensor], boxes: Tensor, size: int) -> Tensor:
        """Logits (B, K, A).

        Args:
            maps: (B, C, H, W) each, for the fused branch.
            context: (B, C) each, the same.
            moving: (B, C, H, W) each, for motion.
            boxes: (B, K, 4) in pixels of a square input of `size`.
            size: of the input.
        """
        rois = rois_of(boxes, size)
        logits = self.fused(maps, context, rois, size)
        if self.movement is None:
            return logits
        moved = self.movement(moving, [x.mean((2, 3)) for x in moving], rois, size)
        if self.training and self.path_dropout:
            draw = torch.rand(*boxes.shape[:2], 1, device=boxes.device)
            logits = logits * (draw >= self.path_dropout)
            moved = moved * (draw < 1 - self.path_dropout)
        return logits + moved


class AnchorClassifier(nn.Module):
    """Class logits per anchor, as YOWOv2 has them. A box that is not an anchor's own takes those of the anchor that fits it best."""

    def __init__(self, width: int, levels: int, config: ModelConfig) -> None:
        super().__init__()
        self.cls_preds = nn.ModuleList(nn.Conv2d(width, len(config.classes), 1) for _ in range(levels))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Per-level (B, C, H_l, W_l) to (B, N, A)."""
        return torch.cat([conv(x).flatten(2).transpose(1, 2) for conv, x in zip(self.cls_preds, maps, strict=True)], 1)


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


def take(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N, ...) at index (B, K): (B, K, ...)."""
    return values.gather(1, index.reshape(index.shape + (1,) * (values.ndim - 2)).expand(*index.shape, *values.shape[2:]))


class Head(nn.Module):
    """Fused maps to `Predictions`.

    Args:
        tower: the two convolution towers of each level, for class and for box.
        key_dims: channels of the 2D levels; empty without a 2D path.
        clip_dims: widths of the clip's context vectors.
        motion_dim: channels of the collapsed motion map; 0 without a 3D path.
        moving_dim: channels that know motion alone; 0 where there are none.
        config: the model's.
    """

    def __init__(
        self,
        tower: DecoupledTower,
        key_dims: tuple[int, ...],
        clip_dims: tuple[int, ...],
        motion_dim: int,
        moving_dim: int,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        levels = len(STRIDES)
        self.size, self.kept = config.key_size, config.kept
        self.cls_convs, self.reg_convs = tower.cls_convs, tower.reg_convs
        self.boxes = BoxHead(config.width, levels)
        self.pooled = self.anchor = None
        if config.classifier == "anchor":
            self.anchor = AnchorClassifier(config.width, levels, config)
        else:
            roi_dims = [config.width] * levels + ([motion_dim] if motion_dim else [])
            fused = PooledBranch(roi_dims, [*key_dims, *key_dims, *clip_dims], config)
            moving = PooledBranch([moving_dim] * 2, [moving_dim] * 2, config, rows=True) if moving_dim else None
            self.pooled = PooledClassifier(fused, moving, config.path_dropout)

    def forward(
        self,
        fused: tuple[Tensor, ...],
        key: tuple[Tensor, ...],
        motion: Tensor | None,
        clip_context: list[Tensor],
        moving: list[Tensor],
        boxes: Tensor | None,
    ) -> Predictions:
        """Predict.

        Args:
            fused: maps for the class tower, per level; and, after them, maps for the box tower where they have their own.
            key: 2D levels, (B, C_l, H_l, W_l), for the frame's context.
            motion: (B, D, h, w), the collapsed motion map, or None.
            clip_context: vectors (B, C).
            moving: (B, C, h, w), maps of motion alone, now and on average; empty where there are none.
            boxes: (B, K, 4) to classify instead of the head's own strongest ones, in pixels of the input.
        """
        levels = len(STRIDES)
        for_class, for_box = list(fused[:levels]), list(fused[-levels:])
        class_maps = [conv(x) for conv, x in zip(self.cls_convs, for_class, strict=True)]
        anchor_boxes, objectness_maps = self.boxes([conv(x) for conv, x in zip(self.reg_convs, for_box, strict=True)])
        anchor_objectness = torch.cat([level.flatten(1) for level in objectness_maps], 1)
        if boxes is None:
            index = strongest_anchors(objectness_maps, self.kept)
            boxes = take(anchor_boxes, index).detach()
        else:
            from torchvision.ops import box_iou  # see above

            overlap = torch.stack([box_iou(b, a) for b, a in zip(boxes, anchor_boxes.detach(), strict=True)])
            index = overlap.argmax(2)
        if self.anchor is not None:
            logits = take(self.anchor(class_maps), index)
        else:
            assert self.pooled is not None
            context = [x.mean((2, 3)) for x in key]
            for x, level in zip(key, objectness_maps, strict=True) if key else ():
                # sigmoid / its sum, taken in logarithms: where all cells are sure of nothing, 0 / 0 would be NaN
                weight = F.logsigmoid(level.detach()).flatten(2).softmax(2).reshape(level.shape)
                context.append((x * weight).sum((2, 3)))
            maps = [*class_maps, *([motion] if motion is not None else [])]
            logits = self.pooled(maps, context + clip_context, moving, boxes, self.size)
        return Predictions(anchor_boxes, anchor_objectness, boxes, take(anchor_objectness, index), logits)
