"""A model, or saved detections, on a data set: run video by video, linked, then scored by `mssc.evaluate`."""

import logging
import math
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from .. import evaluate
from ..boxes import BoxTable
from ..data.dataset import Dataset, Video
from ..data.decoding import decode
from ..detection.detector import Detector
from ..detection.workers import Tick, each
from ..evaluate import FalseAlarms, FrameDetections, Score, Truth
from ..linking import LinkConfig, OnlineLinker, score_by_tubes, tube_nms
from ..model.shipped import learnt, model_folder, model_hash
from ..structures import Detections, Tube
from ..video import frames_per_look
from .saved import Folder, Known

log = logging.getLogger(__name__)

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""At which false alarms are counted for the picture."""


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
    }


# -------------------------------------------------------------------- a model on videos


def detect_frames(detector: Detector, video: Video, mode: str = "stream") -> list[Detections]:
    """A video's own detections, one entry per frame, not linked.

    Args:
        detector: of the video's actions.
        video: to decode.
        mode: "stream", or "clip", where each frame is judged by its window alone, see `Detector.windows`.
    """
    rate, frames = float(video.rate), decode(video.path)
    if mode == "stream":
        return list(islice(detector.stream(rate).iterate(frames), video.frames))
    found: list[Detections] = []
    for clip, _ in detector.windows(frames, rate):
        for rows in detector.detect(clip, (video.height, video.width)):
            found += [rows] * frames_per_look(rate)
    return found[: video.frames]


def run_model(
    load: Callable[[], Detector],
    videos: Sequence[Video],
    folder: Folder,
    mode: str = "stream",
    jobs: int = 1,
    moved: Callable[[str, float], object] = lambda name, share: None,
) -> list[str]:
    """Run a model over every video that the folder does not have yet, or that has changed since.

    Args:
        load: the model, once in each process.
        videos: of the model's actions.
        folder: keeps each video's detections as soon as they are there.
        mode: see `detect_frames`.
        jobs: videos at a time, each in a process of its own; one for this process. The detections are the same.
        moved: is called with each video's name and 1 when its detections are there.

    Returns:
        What failed, a sentence for each video.

    Raises:
        InputError: for a model that cannot be loaded.
    """
    todo = {video.name: video for video in videos if not folder.holds(video)}
    ended = each(partial(_keep, folder=folder, mode=mode), todo, load, jobs, moved)
    return [reason for _, _, reason in ended if reason is not None]


def _keep(detector: Detector, video: Video, tick: Tick, folder: Folder, mode: str) -> None:
    if not folder.holds(video):  # nor has another process brought it meanwhile
        folder.write(video.name, detect_frames(detector, video, mode), video.path)


def known_of(dataset: Dataset) -> Known:
    """A data set's ground truth."""
    return Known({video.name: Truth(video.tubes, video.frames, video.rate) for video in dataset.videos}, dataset.classes)


def seen_before(model: str | Path, dataset: Dataset) -> int:
    """How many of these videos a model learnt from, as far as it knows; a warning tells it."""
    count = len(learnt(model_folder(model)) & dataset.marks)
    if count:
        log.warning("%s learnt from %d of these %d videos; scores on them tell nothing of others.", model, count, len(dataset))
    return count


def identity(name: str, dataset: Dataset, part: str, split: int, mode: str) -> dict[str, object]:
    """What makes two runs the same: see `Folder`."""
    folder = model_folder(name)
    facts: dict[str, object] = {"dataset": dataset.name, "part": part, "split": split, "videos": len(dataset)}
    return facts | {"model": folder.name, "weights": model_hash(folder), "mode": mode}


def link_all(
    found: Mapping[str, FrameDetections], known: Known, config: LinkConfig | None = None
) -> tuple[dict[str, list[Detections]], dict[str, list[Tube]]]:
    """Link every video's detections.

    Returns:
        By video: the detections of each frame with the scores that their links have so far, and the tubes.
    """
    linked: dict[str, list[Detections]] = {}
    tubes: dict[str, list[Tube]] = {}
    nothing = Detections.empty()
    for name, frames in found.items():
        linker = OnlineLinker(config, float(known.truth[name].rate))
        every = frames if not isinstance(frames, Mapping) else [frames.get(i, nothing) for i in range(known.truth[name].frames)]
        linked[name] = [linker.step(rows) for rows in every]
        tubes[name] = linker.finish()
    return linked, tubes


# -------------------------------------------------------------------- scores


@dataclass(frozen=True)
class Evaluation:
    """All scores of a set of detections.

    Attributes:
        classes: their names.
        scores: by name, fractions in [0, 1].
        voc: frame-mAP@0.5 under ``voc``, all classes; AVA's for AVA.
        threshold: that counts are at.
        tubes: video-mAP@0.5, all classes; None where tubes have no meaning.
        errors: by kind.
        confusion: (A + 1, A + 1), see `mssc.evaluate.confusion`.
        alarms: threshold and false alarms.
    """

    classes: tuple[str, ...]
    scores: dict[str, float]
    voc: Score
    threshold: float
    tubes: Score | None = None
    errors: evaluate.Errors | None = None
    confusion: np.ndarray | None = None
    alarms: list[tuple[float, FalseAlarms]] = field(default_factory=list)

    def error_counts(self) -> dict[str, int]:
        """Right detections, wrong ones by kind, missed boxes, at the threshold."""
        assert self.errors is not None
        wrong = dict(zip(evaluate.ERRORS, self.errors.wrong.sum(axis=1).tolist(), strict=True))
        return {"right": int(self.errors.right.sum()), **wrong, "missed": int(self.errors.missed.sum())}

    def record(self) -> dict[str, object]:
        """Plain values for JSON; NaN becomes None."""
        out: dict[str, object] = {name: _plain(value) for name, value in self.scores.items()}
        out["threshold"] = self.threshold
        here = next((alarms for threshold, alarms in self.alarms if threshold == self.threshold), None)
        if here is not None:
            minutes = {"minutes": here.minutes, "minutes without action": here.idle_minutes}
            out["false alarms"] = {"alarms": here.alarms, "per minute": _plain(here.per_minute), **minutes}
        if self.errors is not None:
            out["errors"] = self.error_counts()
            out["mAP to gain"] = {name: _plain(value) for name, value in self.errors.gain.items()}
        out["per class"] = {name: self._class(i) for i, name in enumerate(self.classes)}
        return out

    def _class(self, index: int) -> dict[str, object]:
        row: dict[str, object] = {"boxes": int(self.voc.positives[index]), "frame-AP@0.5": _plain(self.voc.per_class[index])}
        if self.tubes is not None:
            row |= {"tubes": int(self.tubes.positives[index]), "video-AP@0.5": _plain(self.tubes.per_class[index])}
        if self.errors is not None:
            wrong = dict(zip(evaluate.ERRORS, self.errors.wrong[:, index].tolist(), strict=True))
            row |= {"right": int(self.errors.right[index]), **wrong, "missed": int(self.errors.missed[index])}
        return row


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def score(
    own: Mapping[str, FrameDetections],
    known: Known,
    threshold: float,
    rescore: bool = True,
    yowo: str = "yowo",
    labelled: Mapping[str, Sequence[int]] | None = None,
    tubes: Mapping[str, Sequence[Tube]] | None = None,
) -> Evaluation:
    """Every score of a set of detections.

    Args:
        own: each frame's own detections, by video.
        known: ground truth and classes.
        threshold: for counts of errors and false alarms.
        rescore: score detections by their tubes, as this project's models are meant to be read; else by their own scores.
        yowo: which of YOWO's annotations its protocol takes, a name in `mssc.evaluate.PROTOCOLS`.
        labelled: by video, the frames of which is known what happens, where that is not so of all.
        tubes: score these, after the suppression that ACT's evaluator does (overlaps over 0.3), instead of linking detections.
    """
    truth, count = known.truth, len(known.classes)
    found: Mapping[str, FrameDetections] = own
    others: dict[str, Mapping[str, FrameDetections]] = {}
    if tubes is None:
        linked, tubes = link_all(own, known)
        if rescore:
            found = {name: score_by_tubes(rows, tubes[name]) for name, rows in linked.items()}
            others = {"online": linked, "unlinked": own}
    else:
        tubes = {name: tube_nms(group, 0.3) for name, group in tubes.items()}
    if labelled:
        own, found = _only(own, labelled), _only(found, labelled)
        others = {how: _only(rows, labelled) for how, rows in others.items()}
    scores, voc = _frame_scores(found, others, truth, count, yowo)
    video = None
    if not labelled:
        by_iou = {hits.iou: hits.score() for hits in evaluate.tube_hits(tubes, truth, count, (0.2, 0.5, 0.75))}
        scores |= {f"video-mAP@{iou}": score.map for iou, score in by_iou.items()}
        video = by_iou[0.5]
        scores["video-mAP@0.5 (yowo)"] = evaluate.video_map(tubes, truth, count, 0.5, "yowo").map
        scores["video-mAP@0.5:0.95"] = evaluate.video_map_range(tubes, truth, count).map
        scores["video accuracy"] = evaluate.video_accuracy(tubes, truth)
    scores["actor AP@0.5"] = evaluate.actor_ap(own, truth)
    at = sorted({*THRESHOLDS, threshold})
    alarms = [] if labelled else list(zip(at, evaluate.alarm_curve(found, truth, at), strict=True))
    errors = evaluate.error_types(found, truth, count, threshold)
    table = evaluate.confusion(found, truth, count, threshold)
    return Evaluation(tuple(known.classes), scores, voc, threshold, video, errors, table, alarms)


def _frame_scores(
    found: Mapping[str, FrameDetections],
    others: Mapping[str, Mapping[str, FrameDetections]],
    truth: Mapping[str, Truth],
    count: int,
    yowo: str,
) -> tuple[dict[str, float], Score]:
    """Frame-mAP under every protocol; `others` are the same rows, scored in other ways."""
    voc = evaluate.frame_map(found, truth, count)
    scores = {
        "frame-mAP@0.5 (voc)": voc.map,
        "frame-mAP@0.5 (act)": evaluate.frame_map(found, truth, count, protocol="act").map,
        "frame-mAP@0.75 (act)": evaluate.frame_map(found, truth, count, 0.75, "act").map,
        "frame-mAP@0.5 (yowo)": evaluate.frame_map(found, truth, count, protocol=yowo).map,
        "frame-mAP@0.5 (voc, every frame)": evaluate.frame_map(found, truth, count, frames="every").map,
    }
    for how, rows in others.items():
        scores[f"frame-mAP@0.5 (voc, {how})"] = evaluate.frame_map(rows, truth, count).map
    return scores, voc


def _only(found: Mapping[str, FrameDetections], labelled: Mapping[str, Sequence[int]]) -> dict[str, dict[int, Detections]]:
    chosen: dict[str, dict[int, Detections]] = {}
    for name, frames in found.items():
        items = frames if isinstance(frames, Mapping) else dict(enumerate(frames))
        keep = labelled.get(name, items)
        chosen[name] = {frame: items[frame] for frame in keep if frame in items}
    return chosen


def score_ava(
    found: BoxTable, wanted: BoxTable, classes: Mapping[int, str], excluded: Iterable[str], threshold: float
) -> Evaluation:
    """AVA's frame-mAP, as its official evaluator gives it, and without its limit of 50 rows a frame."""
    numbers, left_out = list(classes), set(excluded)
    ava = evaluate.ava_map(found, wanted, numbers, left_out)
    every = evaluate.ava_map(found, wanted, numbers, left_out, capacity=None)
    scores = {"mAP@0.5 (ava)": ava.map, "mAP@0.5 (ava, all rows)": every.map}
    return Evaluation(tuple(classes.values()), scores, ava, threshold)
