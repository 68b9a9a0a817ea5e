"""How a run is scored: each validation video streamed once, every metric, and each over the same resamples of the videos."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from ..analysis.bootstrap import resamples, rounded
from ..analysis.interventions import classified, named_right
from ..data.cache import FrameCache
from ..data.dataset import Dataset, Video
from ..detection.detector import Detector
from ..evaluate import frame_hits, tube_hits
from ..scoring.run import known_of, link_all
from ..structures import Detections, InputError
from .results import METRICS

ROUNDS = 200  # resamples of the videos

Change = Callable[[Video, Sequence[int]], AbstractContextManager[None]]
"""What is changed in a model while it sees these frames of a video."""


# -------------------------------------------------------------------- a model on videos


def look(detector: Detector, video: Video, cache: FrameCache, change: Change | None = None) -> tuple[list[Detections], int, int]:
    """Stream one video.

    Args:
        detector: of the video's actions.
        video: to look at, as far as its frames are cached.
        cache: holds them.
        change: what is changed in the model meanwhile.

    Returns:
        Each frame's own detections; how many true boxes of the frames that the network was shown got the right class, and how many there
        are.
    """
    stream = detector.stream(float(video.rate), (video.height, video.width))
    frames = range(min(cache.length(video.name), video.frames))
    found: list[Detections] = []
    right = count = 0
    with classified(detector.model) as seen:
        for start in frames[:: stream.at_once]:
            some = frames[start : start + stream.at_once]
            shown = some[:: stream.every]
            with change(video, shown) if change is not None else nullcontext():
                found += stream(cache.frames(video.name, some))
            hits, boxes = named_right(detector.model, seen, video, shown)
            right, count = right + hits, count + boxes
    return found, right, count


@dataclass(frozen=True, eq=False)
class Scored:
    """Every metric of a model.

    Attributes:
        scores: by metric.
        draws: by metric, over the resamples, (rounds,).
        right: true boxes with the right class, by video.
        boxes: true boxes, by video.
    """

    scores: dict[str, float]
    draws: dict[str, np.ndarray]
    right: list[int]
    boxes: list[int]

    def record(self) -> dict[str, object]:
        """Scores and draws for JSON, draws rounded to a hundredth of a percent."""
        draws = {name: plain(values) for name, values in self.draws.items()}
        return {"scores": {name: rounded(value, 6) for name, value in self.scores.items()}, "draws": draws}


def plain(draws: np.ndarray) -> list[float | None]:
    """Draws for JSON, rounded to a hundredth of a percent; NaN becomes None."""
    return [rounded(value) for value in draws.tolist()]


def score_model(
    detector: Detector, dataset: Dataset, cache: FrameCache, rounds: int = ROUNDS, change: Change | None = None
) -> Scored:
    """Stream every video of a data set and score it.

    Args:
        detector: of the videos' actions.
        dataset: its videos; what happens must be known of every frame.
        cache: their frames.
        rounds: of the bootstrap.
        change: what is changed in the model meanwhile.

    Raises:
        InputError: for a data set without ground truth, or one that is annotated in some frames only.
    """
    check_annotated(dataset)
    own, right, boxes = {}, [], []
    for video in dataset.videos:
        own[video.name], hits, count = look(detector, video, cache, change)
        right.append(hits)
        boxes.append(count)
    known, classes = known_of(dataset), len(dataset.classes)
    linked, tubes = link_all(own, known)
    hits = {
        "frame-mAP@0.5": frame_hits(linked, known.truth, classes),
        "frame-mAP@0.5 unlinked": frame_hits(own, known.truth, classes),
        "video-mAP@0.5": tube_hits(tubes, known.truth, classes)[0],
        "actor AP@0.5": frame_hits(own, known.truth, None),
    }

    def values(times: np.ndarray) -> dict[str, np.ndarray]:
        accuracy = (times @ np.array(right)) / np.maximum(times @ np.array(boxes), 1)
        found = {name: one.draws(times) for name, one in hits.items()} | {"box accuracy": accuracy}
        return {name: found[name] for name in METRICS}

    scores = {name: float(value[0]) for name, value in values(np.ones((1, len(dataset)), int)).items()}
    return Scored(scores, values(resamples(len(dataset), rounds)), right, boxes)


def check_annotated(dataset: Dataset) -> None:
    """Refuse what cannot be scored here.

    Raises:
        InputError: for a data set without ground truth, or one that is annotated in some frames only.
    """
    for video in dataset.videos:
        if video.labelled is not None:
            raise InputError(
                f"{video.name} is annotated in some frames only; ablations need videos of which all frames are known."
            )
    if not any(video.tubes for video in dataset.videos):
        raise InputError(f"none of the {len(dataset)} videos of {dataset.name} has ground truth; there is nothing to score.")
