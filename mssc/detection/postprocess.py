"""From the network's predictions to detections in a frame's own pixels. Without torch, see `mssc.detection.preprocess`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..boxes import CONTINUOUS, box_area, box_iou, box_share
from ..config import ModelConfig
from ..structures import Detections, Predictions

if TYPE_CHECKING:
    from torch import Tensor

NMS_IOU = 0.5  # actors that overlap more are one (YOLOX uses 0.65 on COCO; videos of actions are less crowded)
LOWEST_SCORE = 0.01  # rows below are dropped: they only cost time and memory (YOWOv2 stops at 0.005)
LOWEST_PERSON = 0.1  # of people; fainter ones are never shown
PART = (
    0.85  # share of a box in a larger one of somebody surer from which on it is a part of them, not another person: feet, a torso
)
MOST_ROWS = 50  # of a frame, the best of them (as many as AVA's evaluator takes): a crowded video must not fill the memory


class Classified(NamedTuple):
    """What a graph of the network says about B frames, see `Predictions`: boxes (B, K, 4), objectness (B, K), logits (B, K, A)."""

    boxes: np.ndarray
    objectness: np.ndarray
    logits: np.ndarray


def action_probabilities(logits: "np.ndarray | Tensor", config: ModelConfig) -> np.ndarray:
    """(..., A) logits to probabilities: they sum to 1 where the classes exclude each other."""
    logits = _array(logits)
    if config.actions != "exclusive":
        return _sigmoid(logits)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def to_detections(
    predictions: Predictions | Classified, config: ModelConfig, sizes: Sequence[tuple[int, int]]
) -> list[Detections]:
    """Turn B frames of predictions into detections: NMS among actors, one row per (actor, action), source pixels.

    Args:
        predictions: of the network, or of a graph of it. Not modified.
        config: the network's.
        sizes: (height, width) of each source frame in pixels.

    Returns:
        B detections of at most `MOST_ROWS` rows that score at least `LOWEST_SCORE`, actors by descending objectness. A score is objectness
        times the action's probability.
    """
    boxes = _in_source(_array(predictions.boxes), (config.key_size, config.key_size), sizes)
    actor = _sigmoid(_array(predictions.objectness))
    scores = (actor[..., None] * action_probabilities(predictions.logits, config)).clip(0, 1)
    found = []
    for places, sure, score in zip(boxes, actor, scores, strict=True):
        likely = np.flatnonzero((score >= LOWEST_SCORE).any(1))
        rows = likely[_strongest(places[likely], sure[likely])]
        box, action = (score[rows] >= LOWEST_SCORE).nonzero()
        value = score[rows[box], action]
        best = np.sort(np.argsort(-value, kind="stable")[:MOST_ROWS])
        found.append(Detections(places[rows[box[best]]], action[best], value[best]))
    return found


def to_people(
    boxes: "np.ndarray | Tensor", logits: "np.ndarray | Tensor", shape: tuple[int, int], sizes: Sequence[tuple[int, int]]
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
    found = []
    for places, sure in zip(_in_source(_array(boxes), shape, sizes), _sigmoid(_array(logits)), strict=True):
        likely = np.flatnonzero(sure >= LOWEST_PERSON)
        kept = likely[_strongest(places[likely], sure[likely])]
        found.append(_whole(places[kept], sure[kept]))
    return found


def _array(values: "np.ndarray | Tensor") -> np.ndarray:
    """In single precision, where numpy can read it."""
    return values if isinstance(values, np.ndarray) else values.detach().float().cpu().numpy()


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # of exp; the result is 0
        return 1 / (1 + np.exp(-logits))


def _in_source(boxes: np.ndarray, shape: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Boxes (B, N, 4) of frames that were brought to one shape in pixels of their source frames, and inside these."""
    limit = np.array([[(width, height, width, height)] for height, width in sizes], boxes.dtype)
    return np.minimum((boxes * (limit / np.array(shape[::-1] * 2, boxes.dtype))).clip(0), limit)


def _strongest(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which of a frame's boxes (N, 4) no stronger one overlaps, the strongest first."""
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[box_iou(boxes[best], boxes[left], CONTINUOUS) <= NMS_IOU]
    return np.array(kept, np.int64)


def _whole(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of people, the surest first, those that are no part of another."""
    part = box_share(boxes[:, None], boxes[None], CONTINUOUS) >= PART
    area = box_area(boxes, CONTINUOUS)
    kept = ~(np.tril(part, -1) & (area[:, None] < area)).any(1)
    return boxes[kept], scores[kept]
