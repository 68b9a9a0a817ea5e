"""From the network's predictions to detections in a frame's own pixels."""

from collections.abc import Sequence

import numpy as np
import torch

from ..config import ModelConfig
from ..structures import Detections, Predictions

NMS_IOU = 0.5  # actors that overlap more are one (YOLOX uses 0.65 on COCO; videos of actions are less crowded)
LOWEST_SCORE = 0.01  # rows below are dropped: they only cost time and memory (YOWOv2 stops at 0.005)
LOWEST_PERSON = 0.1  # of people; fainter ones are never shown
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
        B detections of at most `MOST_ROWS` rows, actors by descending objectness; with the people of each frame, the surest first, if the
        network has a person head.
    """
    from torchvision.ops import batched_nms  # here: it takes seconds, and the page's start need not wait

    boxes, logits = predictions.boxes.float().cpu(), predictions.logits.float().cpu()
    actor = predictions.objectness.float().sigmoid().cpu()
    batch, kept = actor.shape
    limit = torch.tensor([[(width, height, width, height)] for height, width in sizes], dtype=boxes.dtype)
    scale = limit / config.key_size
    boxes = torch.minimum((boxes * scale).clamp(min=0), limit)
    scores = (actor[..., None] * action_probabilities(logits, config)).clamp(0, 1)
    frame = torch.arange(batch).repeat_interleave(kept)
    likely = (scores >= lowest).any(2).flatten().nonzero()[:, 0]
    chosen = likely[batched_nms(boxes.reshape(-1, 4)[likely], actor.reshape(-1)[likely], frame[likely], NMS_IOU)]
    found = []
    everybody = _people(predictions, scale, limit)
    for index in range(batch):
        rows = chosen[frame[chosen] == index] - index * kept
        box, action = (scores[index, rows] >= lowest).nonzero(as_tuple=True)
        score = scores[index, rows[box], action]
        best = score.topk(min(MOST_ROWS, len(score))).indices.sort().values
        box, action, score = box[best], action[best], score[best]  # copies: views would keep what they are cut from
        found.append(Detections(boxes[index, rows[box]].numpy(), action.numpy(), score.numpy(), *everybody[index]))
    return found


def _people(predictions: Predictions, scale: torch.Tensor, limit: torch.Tensor) -> list[tuple[np.ndarray, ...]]:
    """Of each frame boxes (M, 4) and scores (M,) of its people; nothing at all from a network without a person head."""
    from torchvision.ops import batched_nms

    if not predictions.people.shape[1]:
        return [()] * len(scale)
    boxes, scores = predictions.people.float().cpu(), predictions.person.float().sigmoid().cpu()
    boxes = torch.minimum((boxes * scale).clamp(min=0), limit)
    frame, cell = (scores >= LOWEST_PERSON).nonzero(as_tuple=True)
    boxes, scores = boxes[frame, cell], scores[frame, cell]
    kept = batched_nms(boxes, scores, frame, NMS_IOU)
    frame, boxes, scores = frame[kept], boxes[kept].numpy(), scores[kept].numpy()
    return [(boxes[mine], scores[mine]) for mine in (frame.numpy() == index for index in range(len(scale)))]
