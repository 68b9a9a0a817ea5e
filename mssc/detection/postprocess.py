"""From the network's predictions to detections in a frame's own pixels."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ..boxes import CONTINUOUS, box_area, box_share
from ..config import ModelConfig
from ..structures import Detections, Predictions

NMS_IOU = 0.5  # actors that overlap more are one (YOLOX uses 0.65 on COCO; videos of actions are less crowded)
LOWEST_SCORE = 0.01  # rows below are dropped: they only cost time and memory (YOWOv2 stops at 0.005)
LOWEST_PERSON = 0.1  # of people; fainter ones are never shown
PART = (
    0.85  # share of a box in a larger one of somebody surer from which on it is a part of them, not another person: feet, a torso
)
MOST_ROWS = 50  # of a frame, the best of them (as many as AVA's evaluator takes): a crowded video must not fill the memory


def action_probabilities(logits: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """(..., A) logits to probabilities: they sum to 1 where the classes exclude each other."""
    return logits.softmax(-1) if config.actions == "exclusive" else logits.sigmoid()


def to_detections(
    predictions: Predictions,
    config: ModelConfig,
    sizes: Sequence[tuple[int, int]],
    lowest: float = LOWEST_SCORE,
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
    boxes, logits = predictions.boxes.float().cpu(), predictions.logits.float().cpu()
    actor = predictions.objectness.float().sigmoid().cpu()
    batch, kept = actor.shape
    boxes = _in_source(boxes, (config.key_size, config.key_size), sizes)
    scores = (actor[..., None] * action_probabilities(logits, config)).clamp(0, 1)
    frame = torch.arange(batch).repeat_interleave(kept)
    likely = (scores >= lowest).any(2).flatten().nonzero()[:, 0]
    chosen = likely[_strongest(boxes.reshape(-1, 4)[likely], actor.reshape(-1)[likely], frame[likely])]
    found = []
    for index in range(batch):
        rows = chosen[frame[chosen] == index] - index * kept
        box, action = (scores[index, rows] >= lowest).nonzero(as_tuple=True)
        score = scores[index, rows[box], action]
        best = score.topk(min(MOST_ROWS, len(score))).indices.sort().values
        box, action, score = box[best], action[best], score[best]  # copies: views would keep what they are cut from
        found.append(Detections(boxes[index, rows[box]].numpy(), action.numpy(), score.numpy()))
    return found


def to_people(
    boxes: torch.Tensor, logits: torch.Tensor, shape: tuple[int, int], sizes: Sequence[tuple[int, int]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Turn what `MSSC.people` found in B frames into people: NMS, none that is a part of another, source pixels.

    Args:
        boxes: (B, N, 4) in pixels of frames that were brought to one shape.
        logits: (B, N).
        shape: height and width of those frames.
        sizes: (height, width) of each source frame in pixels.

    Returns:
        B times boxes (M, 4) and scores (M,), the surest first.
    """
    boxes, scores = _in_source(boxes.float().cpu(), shape, sizes), logits.float().sigmoid().cpu()
    frame, cell = (scores >= LOWEST_PERSON).nonzero(as_tuple=True)
    boxes, scores = boxes[frame, cell], scores[frame, cell]
    kept = _strongest(boxes, scores, frame)
    frame, places, sure = frame[kept], boxes[kept].numpy(), scores[kept].numpy()
    return [_whole(places[mine], sure[mine]) for mine in (frame.numpy() == index for index in range(len(sizes)))]


def _in_source(boxes: torch.Tensor, shape: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Boxes (B, N, 4) of frames that were brought to one shape in pixels of their source frames, and inside these."""
    limit = torch.tensor([[(width, height, width, height)] for height, width in sizes], dtype=boxes.dtype)
    return torch.minimum((boxes * (limit / torch.tensor(shape[::-1] * 2))).clamp(min=0), limit)


@cache
def _nms() -> Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]:
    """torchvision's operator by itself: to import the package takes two seconds, for compilers that nobody needs here."""
    spec = find_spec("torchvision")
    for library in Path(spec.origin).parent.glob("_C*") if spec is not None and spec.origin else ():
        torch.ops.load_library(library)
    if not hasattr(torch.ops.torchvision, "nms"):
        import torchvision  # noqa: F401  # it knows better where its operators are
    return torch.ops.torchvision.nms


def _strongest(boxes: torch.Tensor, scores: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
    """Which of the boxes (N, 4) of several frames (N,) no stronger one of their frame overlaps, the strongest of each frame first."""
    groups = [(frame == one).nonzero()[:, 0] for one in frame.unique()]
    return torch.cat([frame[:0], *(rows[_nms()(boxes[rows], scores[rows], NMS_IOU)] for rows in groups)])


def _whole(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of people, the surest first, those that are no part of another."""
    part = box_share(boxes[:, None], boxes[None], CONTINUOUS) >= PART
    area = box_area(boxes, CONTINUOUS)
    kept = ~(np.tril(part, -1) & (area[:, None] < area)).any(1)
    return boxes[kept], scores[kept]
