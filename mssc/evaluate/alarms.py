"""False alarms: what is reported where nothing happens."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..boxes import BoxTable
from .matching import collect, find_hits, select
from .protocols import PROTOCOLS, FrameDetections, Truth


class FalseAlarms(NamedTuple):
    """What was reported where nothing happens.

    Attributes:
        alarms: runs of consecutive frames without action in which one class is reported: what a viewer would call one alarm.
        frames: frames without action in which anything is reported.
        minutes: of video, with and without action.
        idle_minutes: of video without action.
    """

    alarms: int
    frames: int
    minutes: float
    idle_minutes: float

    @property
    def per_minute(self) -> float:
        """Alarms per minute of video; NaN without video."""
        return self.alarms / self.minutes if self.minutes else float("nan")


def alarm_curve(
    detections: Mapping[str, FrameDetections], truth: Mapping[str, Truth], thresholds: Sequence[float]
) -> list[FalseAlarms]:
    """Count what scores at least each threshold in frames without any ground truth.

    A wrong class or a misplaced box in a frame *with* action is an error of frame-mAP, not an alarm. An alarm that flickers
    counts each time it comes back.

    Raises:
        InputError: for detections of an unknown video or frame.
    """
    found, wanted = collect(detections, truth, None)
    found = found.where(~np.isin(found.frames, wanted.frames))
    minutes = idle = 0.0
    for video in truth.values():
        busy = {frame for tube in video.tubes for frame in range(tube.start, tube.stop)}
        minutes += float(video.frames / video.rate) / 60
        idle += float((video.frames - len(busy)) / video.rate) / 60
    return [_count(found.where(found.scores >= threshold), minutes, idle) for threshold in thresholds]


def alarms_at_recall(
    detections: Mapping[str, FrameDetections], truth: Mapping[str, Truth], classes: int, recalls: Sequence[float]
) -> list[tuple[float, FalseAlarms | None]]:
    """False alarms of systems that find equally much: thresholds of different systems do not mean the same.

    Args:
        detections: by video.
        truth: every video to score.
        classes: how many classes there are.
        recalls: shares of the true boxes, in (0, 1]. A box is found as in ``voc``, from an overlap of 0.5 on.

    Returns:
        For each recall the highest threshold that reaches it, and the false alarms there; NaN and None where none does.

    Raises:
        InputError: for detections of an unknown video, frame or class.
    """
    found, wanted = select(*collect(detections, truth, classes), PROTOCOLS["voc"])
    found = found.ranked()
    scores = np.sort(found.scores[find_hits(found, wanted, classes, 0.5, PROTOCOLS["voc"])])[::-1]
    needed = [max(math.ceil(recall * len(wanted.frames) - 1e-9), 1) for recall in recalls]
    reached = [float(scores[count - 1]) if count <= len(scores) else math.nan for count in needed]
    curve = iter(alarm_curve(detections, truth, [threshold for threshold in reached if not math.isnan(threshold)]))
    return [(threshold, None if math.isnan(threshold) else next(curve)) for threshold in reached]


def _count(found: BoxTable, minutes: float, idle: float) -> FalseAlarms:
    # One more frame than the video has: a run cannot go on from one video into the next (see `collect`).
    runs = np.unique(np.stack([found.labels, found.frames]), axis=1)
    starts = (np.diff(runs[0]) != 0) | (np.diff(runs[1]) != 1)
    alarms = int(starts.sum()) + bool(runs.shape[1])
    return FalseAlarms(alarms, len(np.unique(found.frames)), minutes, idle)
