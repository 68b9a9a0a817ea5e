"""From the network's predictions to detections in a frame's own pixels."""

from collections.abc import Sequence

import torch

from ..config import ModelConfig
from ..structures import Detections, Predictions

NMS_IOU = 0.5  # actors that overlap more are one (YOLOX uses 0.65 on COCO; videos of actions are less crowded)
LOWEST_SCORE = 0.01  # rows below are dropped: they only cost time and memory (YOWOv2 stops at 0.005)
MOST_ROWS = 50  # of a frame, the best of them (as many as AVA's evaluator takes): a crowded video must not fill the memory


def action_probabilities(logits: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """(..., A) logits to probabilities: they sum to 1 where the classes exclude each other."""
    return logits.softmax(-1) if config.actions == "exclusive" else logits.sigmoid()


def to_detections(
    predictions: Predictions, config: ModelConfig, sizes: Sequence[tuple[int, int]], lowest: float = LOWEST_SCORE
) -> list[Detections]:
    """Turn B frames of predictions into detections: NMS among actors, one row per (actor, action), source pixels.

    Args:
        predictions: of the network. Not modified.
        config: the network's.
        sizes: (height, width) of each source frame in pixels.
        lowest: rows below this score are dropped. A score is objectness times the action's probability.

    Returns:
        B detections of at most `MOST_ROWS` rows, actors by descending objectness.
    """
    from torchvision.ops import batched_nms  # here: it takes seconds, and the page's start need not wait

    boxes, logits = predictions.boxes.float().cpu(), predictions.logits.float().cpu()
    actor = predictions.objectness.float().sigmoid().cpu()
    batch, kept = actor.shape
    limit = torch.tensor([[(width, height, width, height)] for height, width in sizes], dtype=boxes.dtype)
    boxes = torch.minimum((boxes * (limit / config.key_size)).clamp(min=0), limit)
    scores = (actor[..., None] * action_probabilities(logits, config)).clamp(0, 1)
    frame = torch.arange(batch).repeat_interleave(kept)
    likely = (scores >= lowest).any(2).flatten().nonzero()[:, 0]
    chosen = likely[batched_nms(boxes.reshape(-1, 4)[likely], actor.reshape(-1)[likely], frame[likely], NMS_IOU)]
    found = []
    for index in range(batch):
        rows = chosen[frame[chosen] == index] - index * kept
        box, action = (scores[index, rows] >= lowest).nonzero(as_tuple=True)
        score = scores[index, rows[box], action]
        best = score.topk(min(MOST_ROWS, len(score))).indices.sort().values
        box, action, score = box[best], action[best], score[best]  # copies: views would keep what they are cut from
        found.append(Detections(boxes[index, rows[box]].numpy(), action.numpy(), score.numpy()))
    return found
