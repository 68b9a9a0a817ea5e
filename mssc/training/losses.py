"""What the network should have said: assignment of anchors, and the losses.

The paper does not give its losses. Boxes follow YOLOX and YOWOv2: SimOTA assignment, binary cross-entropy of the objectness over all
anchors, 5 x (1 - GIoU) over the assigned ones, both divided by their number. Actions are judged on pooled boxes near the ground truth:
cross-entropy where the classes exclude each other, binary cross-entropy where they do not.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..config import ModelConfig, TrainConfig
from ..model.head import STRIDES, area, shared_and_union
from ..structures import Predictions

CENTRE_RADIUS = 2.5  # strides around a box's centre that are candidates (YOLOX)
CANDIDATES = 10  # best overlaps whose sum is the number of anchors per box (YOLOX)
OUTSIDE_COST = 1e5
IOU_COST = 3.0
TINY = 1e-7


def anchor_centres(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) of all cells of a square input of `size` pixels at these strides, and their strides (N,)."""
    centres, strides = [], []
    for stride in STRIDES:
        side = -(-size // stride)
        line = (torch.arange(side, device=device) + 0.5) * stride
        ys, xs = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack([xs, ys], -1).reshape(-1, 2))
        strides.append(torch.full((side * side,), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


@torch.no_grad()
def assign(
    boxes: Tensor, objectness: Tensor, truth: Tensor, real: Tensor, centres: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """SimOTA (YOLOX), without classes: which anchors answer for which box. All shapes are fixed, so a GPU need not be waited for.

    Args:
        boxes: (B, N, 4) predicted, one per anchor.
        objectness: (B, N) logits.
        truth: (B, M, 4), padded.
        real: (B, M), whether a row is a box and not padding.
        centres: (N, 2).
        strides: (N,).

    Returns:
        Whether an anchor answers for a box (B, N), and the row of that box (B, N). An anchor answers for one box at most.
    """
    low, high = truth[:, None, :, :2], truth[:, None, :, 2:]
    away = centres[:, None] - (low + high) / 2  # (B, N, M, 2)
    real = real[:, None]
    inside = ((centres[:, None] > low) & (centres[:, None] < high)).all(3) & real
    near = (away.abs() < CENTRE_RADIUS * strides[:, None, None]).all(3) & real
    candidate = (inside | near).any(2)
    nearest = torch.zeros_like(inside).scatter_(1, away.square().sum(3).argmin(1, keepdim=True), True) & real
    candidate = torch.where(candidate.any(1, keepdim=True), candidate, nearest.any(2))
    possible = candidate[:, :, None] & real
    shared, union = shared_and_union(boxes.float()[:, :, None], truth.float()[:, None])
    overlap = shared / (union + TINY) * possible
    unfound = F.softplus(-objectness.float())  # the cross-entropy of a score that should be 1
    cost = unfound[:, :, None] - IOU_COST * (overlap + 1e-8).log() + OUTSIDE_COST * ~(inside & near)
    cost = torch.where(possible, cost, torch.inf)
    most = min(CANDIDATES, cost.shape[1])
    count = overlap.topk(most, 1).values.sum(1).int().clamp(min=1)
    best = cost.topk(most, 1, largest=False)
    chosen = (torch.arange(most, device=cost.device)[:, None] < count[:, None]) & best.values.isfinite()
    matched = torch.zeros_like(possible).scatter_(1, best.indices, chosen)
    which = torch.where(matched.sum(2) > 1, cost.argmin(2), matched.int().argmax(2))
    return matched.any(2), which


def box_losses(predictions: Predictions, boxes: Tensor, real: Tensor, size: int) -> dict[str, Tensor]:
    """Objectness and box losses.

    Args:
        predictions: of B key frames.
        boxes: (B, M, 4), padded.
        real: (B, M), whether a row is a box and not padding.
        size: of the input in pixels.

    Returns:
        ``objectness`` and ``box`` (1 - GIoU), each summed and divided by the number of assigned anchors.
    """
    if not boxes.shape[1]:
        boxes, real = boxes.new_zeros(len(boxes), 1, 4), real.new_zeros(len(boxes), 1)
    anchors, objectness = predictions.anchor_boxes.float(), predictions.anchor_objectness.float()
    assigned, which = assign(anchors.detach(), objectness.detach(), boxes, real, *anchor_centres(size, boxes.device))
    count = assigned.sum().clamp(min=1)
    wanted = assigned.to(objectness.dtype)
    found = F.binary_cross_entropy_with_logits(objectness, wanted, reduction="sum") / count
    # All others are compared with themselves: no loss, no gradient, and no shape that depends on the data.
    anywhere = (torch.arange(4, device=boxes.device) >= 2).to(boxes.dtype)  # 0, 0, 1, 1
    one = torch.where(assigned[..., None], anchors, anywhere)
    other = torch.where(assigned[..., None], boxes.gather(1, which[..., None].expand(-1, -1, 4)), anywhere)
    return {"objectness": found, "box": ((1 - generalised_iou(one, other)) * assigned).sum() / count}


def generalised_iou(one: Tensor, other: Tensor) -> Tensor:
    """GIoU of boxes (..., 4), pair by pair. As torchvision's, without its masks, for whose sizes a GPU is waited for."""
    shared, union = shared_and_union(one, other)
    around = area(torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2]))
    return shared / (union + TINY) - (around - union) / (around + TINY)


def action_loss(logits: Tensor, actions: Tensor, real: Tensor, config: ModelConfig, smoothing: float) -> Tensor:
    """How wrong the actions of boxes are.

    Args:
        logits: (..., A).
        actions: (..., A), shares in [0, 1] (a mixed clip has fractions).
        real: (...), whether a row is a box and not padding.
        config: `actions` says whether the classes exclude each other.
        smoothing: of the labels.

    Returns:
        The mean over boxes; 0 without any.
    """
    if config.actions == "exclusive":
        wanted = actions / actions.sum(-1, keepdim=True).clamp(min=1e-6)
        wanted = wanted * (1 - smoothing) + smoothing / wanted.shape[-1]
        loss = -(wanted * logits.float().log_softmax(-1)).sum(-1)
    else:
        wanted = actions * (1 - smoothing) + smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(-1)
    return torch.where(real, loss, 0).sum() / real.sum().clamp(min=1)


def total(losses: dict[str, Tensor], train: TrainConfig) -> Tensor:
    """The weighted sum that training descends: `<name>_weight` of the config times each loss, 1 where there is none."""
    return torch.stack([getattr(train, f"{name}_weight", 1.0) * loss for name, loss in losses.items()]).sum()
