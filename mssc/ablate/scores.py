"""How a run is scored: each validation video streamed once, every metric, and each over the same resamples of the videos.

Which detections are right does not depend on other videos. So it is found once, and a resample only counts some videos several times.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from ..analysis.hooks import capture
from ..boxes import BoxTable
from ..data.cache import FrameCache
from ..data.dataset import Dataset, Video
from ..detection.detector import Detector
from ..evaluate import PROTOCOLS
from ..evaluate.matching import claim, collect, find_hits, score_hits, select, without_labels
from ..evaluate.videos import tube_pairs
from ..model.features import Features
from ..model.mssc import MSSC
from ..scoring.run import known_of, link_all
from ..structures import Detections, InputError, Tube
from .results import METRICS

ROUNDS = 200  # resamples of the videos
IOU = 0.5

Change = Callable[[Video, Sequence[int]], AbstractContextManager[None]]
"""What is changed in a model while it sees these frames of a video."""


def resamples(videos: int, rounds: int = ROUNDS, seed: int = 0) -> np.ndarray:
    """How often each video is drawn, (rounds, videos); the same for every run."""
    drawn = np.random.default_rng(seed).integers(0, videos, (rounds, videos))
    return np.stack([np.bincount(row, minlength=videos) for row in drawn])


@dataclass(frozen=True, eq=False)
class Hits:
    """Detections or tubes of many videos by label, then by descending score.

    Attributes:
        label: (N,).
        right: (N,) bool.
        video: (N,), which video each is of.
        positives: (V, A), how many each video has to be found.
        protocol: of `mssc.evaluate.PROTOCOLS`.
    """

    label: np.ndarray
    right: np.ndarray
    video: np.ndarray
    positives: np.ndarray
    protocol: str

    def mean_ap(self, times: np.ndarray) -> float:
        """Mean average precision where each video counts so many `times` (V,)."""
        repeat = times[self.video]
        label, right = np.repeat(self.label, repeat), np.repeat(self.right, repeat)
        return score_hits(label, right, times @ self.positives, IOU, PROTOCOLS[self.protocol], self.protocol).map

    def draws(self, times: np.ndarray) -> np.ndarray:
        """The same for each resample, (rounds, V) to (rounds,)."""
        return np.array([self.mean_ap(row) for row in times])


def frame_hits(own: Mapping[str, Sequence[Detections]], dataset: Dataset, actors: bool = False) -> Hits:
    """Boxes of frames, ``voc``; or of actors, whatever their action."""
    truth, convention = known_of(dataset).truth, PROTOCOLS["voc"]
    found, wanted = select(*collect(own, truth, len(dataset.classes)), convention)
    classes = 1 if actors else len(dataset.classes)
    if actors:
        found, wanted = without_labels(found), without_labels(wanted)
    found = found.ranked()
    right = find_hits(found, wanted, classes, IOU, convention)
    starts = np.cumsum([0, *(video.frames + 1 for video in truth.values())])  # as `collect` numbers frames

    def video_of(rows: BoxTable) -> np.ndarray:
        return np.searchsorted(starts, rows.frames, "right") - 1

    return Hits(found.labels, right, video_of(found), _count(video_of(wanted), wanted.labels, len(truth), classes), "voc")


def tube_hits(tubes: Mapping[str, Sequence[Tube]], dataset: Dataset) -> Hits:
    """Tubes, matched as video-mAP does."""
    found = [(v, tube) for v, video in enumerate(dataset.videos) for tube in tubes[video.name]]
    found.sort(key=lambda item: (item[1].label, -item[1].score))
    wanted = [(v, tube) for v, video in enumerate(dataset.videos) for tube in video.tubes]
    pairs = tube_pairs(found, wanted)
    near = pairs[pairs[:, 2] >= IOU]
    right = np.zeros(len(found), bool)
    right[claim(near[:, 0].astype(int), near[:, 1].astype(int), near[:, 2], PROTOCOLS["act"].retry)] = True
    label, video = (np.array(column, int) for column in ([t.label for _, t in found], [v for v, _ in found]))
    there = (np.array([v for v, _ in wanted], int), np.array([t.label for _, t in wanted], int))
    return Hits(label, right, video, _count(*there, len(dataset.videos), len(dataset.classes)), "act")


def _count(video: np.ndarray, label: np.ndarray, videos: int, classes: int) -> np.ndarray:
    return np.bincount(video * classes + label, minlength=videos * classes).reshape(videos, classes)


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
    for start in frames[:: stream.at_once]:
        some = frames[start : start + stream.at_once]
        shown = some[:: stream.every]
        changed = change(video, shown) if change is not None else nullcontext()
        with changed, capture(detector.model, inputs=["head"]) as seen:
            found += stream(cache.frames(video.name, some))
        hits, boxes = _classified(detector.model, seen.inputs["head"][0], video, shown)
        right, count = right + hits, count + boxes
    return found, right, count


def _classified(model: MSSC, features: Features, video: Video, frames: Sequence[int]) -> tuple[int, int]:
    """How many true boxes of these frames the head gives the right class, and how many there are."""
    truth = [video.boxes_at(frame) for frame in frames]
    most = max(len(labels) for _, labels in truth)
    if not most:
        return 0, 0
    boxes = np.zeros((len(frames), most, 4), np.float32)
    for row, (own, _) in enumerate(truth):
        boxes[row, : len(own)] = own
    scale = model.config.key_size / np.array([video.width, video.height] * 2, np.float32)
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model.head(features, torch.from_numpy(boxes * scale).to(device)).logits
    said = logits.argmax(2).cpu().numpy()
    right = sum(int((said[row, : len(labels)] == labels).sum()) for row, (_, labels) in enumerate(truth))
    return right, sum(len(labels) for _, labels in truth)


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
        return {"scores": {name: _none(value, 6) for name, value in self.scores.items()}, "draws": draws}


def plain(draws: np.ndarray) -> list[float | None]:
    """Draws for JSON, rounded to a hundredth of a percent; NaN becomes None."""
    return [_none(value, 4) for value in draws.tolist()]


def _none(value: float, digits: int) -> float | None:
    return round(value, digits) if np.isfinite(value) else None


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
    linked, tubes = link_all(own, known_of(dataset))
    every = (
        frame_hits(linked, dataset),
        frame_hits(own, dataset),
        tube_hits(tubes, dataset),
        None,
        frame_hits(own, dataset, True),
    )
    chosen, whole = resamples(len(dataset), rounds), np.ones((1, len(dataset)), int)

    def values(times: np.ndarray) -> Iterator[np.ndarray]:
        for hits in every:
            if hits is None:
                yield (times @ np.array(right)) / np.maximum(times @ np.array(boxes), 1)
            else:
                yield hits.draws(times)

    scores = {name: float(value[0]) for name, value in zip(METRICS, values(whole), strict=True)}
    return Scored(scores, dict(zip(METRICS, values(chosen), strict=True)), right, boxes)


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
