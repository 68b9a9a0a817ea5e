"""What the network should have said: assignment of anchors, and the losses.

The paper does not give its losses. Boxes follow YOLOX and YOWOv2: SimOTA assignment, binary cross-entropy of the objectness over all
anchors, 5 x (1 - GIoU) over the assigned ones, both divided by their number. Actions are judged on pooled boxes near the ground truth:
cross-entropy where the classes exclude each other, binary cross-entropy where they do not.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss

from ..config import ModelConfig, TrainConfig
from ..model.head import STRIDES
from ..structures import Predictions

CENTRE_RADIUS = 2.5  # strides around a box's centre that are candidates (YOLOX)
CANDIDATES = 10  # best overlaps whose sum is the number of anchors per box (YOLOX)
OUTSIDE_COST = 1e5
IOU_COST = 3.0


def anchor_centres(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) of all cells of a square input of `size` pixels, and their strides (N,)."""
    centres, strides = [], []
    for stride in STRIDES:
        side = -(-size // stride)
        line = (torch.arange(side, device=device) + 0.5) * stride
        ys, xs = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack([xs, ys], -1).reshape(-1, 2))
        strides.append(torch.full((side * side,), float(stride), device=device))
    return torch.cat(centres), torch.cat(strides)


@torch.no_grad()
def assign(boxes: Tensor, objectness: Tensor, truth: Tensor, centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """SimOTA (YOLOX), without classes: which anchors answer for which box.

    Args:
        boxes: (N, 4) predicted, one per anchor.
        objectness: (N,) logits.
        truth: (M, 4), M may be 0.
        centres: (N, 2).
        strides: (N,).

    Returns:
        Indices of the assigned anchors (P,) and of the box of each (P,). An anchor answers for one box at most.
    """
    if not len(truth):
        empty = torch.zeros(0, dtype=torch.int64, device=boxes.device)
        return empty, empty
    inside = ((centres[:, None] > truth[None, :, :2]) & (centres[:, None] < truth[None, :, 2:])).all(2)
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    near = ((centres[:, None] - middle).abs() < CENTRE_RADIUS * strides[:, None, None]).all(2)
    candidate = (inside | near).any(1).nonzero()[:, 0]
    if not len(candidate):
        candidate = (centres[:, None] - middle).square().sum(2).argmin(0).unique()
    overlap = box_iou(boxes[candidate].float(), truth.float())
    found = F.binary_cross_entropy_with_logits(
        objectness[candidate].float(), torch.ones(len(candidate), device=boxes.device), reduction="none"
    )
    cost = found[:, None] + IOU_COST * -(overlap + 1e-8).log() + OUTSIDE_COST * ~(inside & near)[candidate]
    count = overlap.topk(min(CANDIDATES, len(candidate)), 0).values.sum(0).int().clamp(min=1)
    matched = torch.zeros_like(cost, dtype=torch.bool)
    for column in range(len(truth)):
        best = cost[:, column].topk(min(int(count[column]), len(candidate)), largest=False).indices
        matched[best, column] = True
    several = matched.sum(1) > 1
    if several.any():
        cheapest = cost[several].argmin(1)
        matched[several] = F.one_hot(cheapest, len(truth)).bool()
    rows, columns = matched.nonzero(as_tuple=True)
    return candidate[rows], columns


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
    centres, strides = anchor_centres(size, boxes.device)
    wanted = torch.zeros_like(predictions.anchor_objectness)
    found, truth = [], []
    for row, (anchors, objectness) in enumerate(zip(predictions.anchor_boxes, predictions.anchor_objectness, strict=True)):
        here = boxes[row][real[row]]
        index, which = assign(anchors.detach(), objectness.detach(), here, centres, strides)
        wanted[row, index] = 1
        found.append(anchors[index])
        truth.append(here[which])
    count = wanted.sum().clamp(min=1)
    objectness = F.binary_cross_entropy_with_logits(predictions.anchor_objectness, wanted, reduction="sum") / count
    box = generalized_box_iou_loss(torch.cat(found), torch.cat(truth), reduction="sum") / count
    return {"objectness": objectness, "box": box}


def action_loss(logits: Tensor, actions: Tensor, config: ModelConfig, smoothing: float) -> Tensor:
    """How wrong the actions of boxes are.

    Args:
        logits: (P, A).
        actions: (P, A), shares in [0, 1] (a mixed clip has fractions).
        config: `actions` says whether the classes exclude each other.
        smoothing: of the labels.

    Returns:
        The mean over boxes; 0 without any.
    """
    if not len(logits):
        return logits.sum() * 0
    if config.actions == "exclusive":
        wanted = actions / actions.sum(1, keepdim=True).clamp(min=1e-6)
        return F.cross_entropy(logits, wanted, label_smoothing=smoothing)
    wanted = actions * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()


def total(losses: dict[str, Tensor], train: TrainConfig) -> Tensor:
    """The weighted sum that training descends."""
    weights = {"objectness": 1.0, "box": train.box_weight, "action": train.action_weight}
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
