"""Frame-mAP: are the boxes and actions of single frames right?"""

from collections.abc import Mapping

import numpy as np

from .matching import claim, collect, near_pairs, score_hits, select, without_labels
from .protocols import PROTOCOLS, Annotated, Convention, FrameDetections, Rows, Score, convention_of


def frame_map(
    detections: Mapping[str, FrameDetections],
    truth: Mapping[str, Annotated],
    classes: int,
    iou: float = 0.5,
    protocol: str = "voc",
    frames: str | None = None,
) -> Score:
    """Frame-mAP: are the boxes and actions of single frames right?

    Args:
        detections: by video; a video that is missing here has no detections, and its ground truth is missed.
        truth: every video to score.
        classes: how many classes there are.
        iou: a detection is right from this overlap on.
        protocol: a name in `PROTOCOLS`.
        frames: "annotated" (frames with any ground truth) or "every"; the protocol's own choice if None.

    Raises:
        InputError: for detections of an unknown video, frame or class, an unknown protocol, or a threshold outside (0, 1].
    """
    convention = convention_of(protocol, frames)
    found, wanted = select(*collect(detections, truth, classes), convention)
    return score_rows(found, wanted, classes, iou, convention, protocol)


def actor_ap(
    detections: Mapping[str, FrameDetections],
    truth: Mapping[str, Annotated],
    iou: float = 0.5,
    protocol: str = "voc",
    frames: str | None = None,
) -> float:
    """Average precision of the boxes alone, whatever the action: tells a misplaced box from a wrong class.

    The rows of one box with several actions count as one detection with their best score, and so do ground-truth boxes that
    are equal. Arguments and errors are those of `frame_map`.
    """
    convention = convention_of(protocol, frames)
    found, wanted = (without_labels(rows) for rows in select(*collect(detections, truth, None), convention))
    return score_rows(found, wanted, 1, iou, convention, protocol).map


def score_rows(
    found: Rows, wanted: Rows, classes: int, iou: float, convention: Convention = PROTOCOLS["voc"], protocol: str = "voc"
) -> Score:
    """Average precision of boxes given as columns; a million rows take a few seconds. See `frame_map`."""
    order = np.lexsort((-found.score, found.label))
    hits = np.zeros(len(order), bool)
    hits[claim(*near_pairs(found.where(order), wanted, classes, iou, convention.pixel), convention.retry)] = True
    return score_hits(found.label[order], hits, np.bincount(wanted.label, minlength=classes), iou, convention, protocol)
