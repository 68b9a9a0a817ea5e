"""A model on a data set: every video streamed from its first frame to its last, then scored by `mssc.evaluate`."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision

from .data.dataset import Dataset
from .data.decoding import decode
from .detect import load_for_detection, model_folder, stream_detections
from .evaluate import PROTOCOLS, Truth, actor_ap, frame_map, video_accuracy, video_map, video_map_range
from .linking import LinkConfig, OnlineLinker
from .model.mssc import MSSC
from .structures import Detections, Tube


def model_hash(folder: Path) -> str:
    """The first 12 hex digits of the weights' SHA-256."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]


def detect_dataset(
    model: MSSC, dataset: Dataset, link: LinkConfig | None = None, tick: Callable[[], object] = lambda: None
) -> tuple[dict[str, list[Detections]], dict[str, list[Detections]], dict[str, list[Tube]]]:
    """Stream every video.

    Args:
        model: in eval mode.
        dataset: its videos.
        link: how detections become tubes.
        tick: is called after each video.

    Returns:
        By video: each frame's own detections, the same with the scores of their links, and the tubes.
    """
    own: dict[str, list[Detections]] = {}
    linked: dict[str, list[Detections]] = {}
    tubes: dict[str, list[Tube]] = {}
    for video in dataset.videos:
        linker = OnlineLinker(link, float(video.rate))
        own[video.name] = list(stream_detections(model, decode(video.path)))[: video.frames]
        linked[video.name] = [linker.step(found) for found in own[video.name]]
        tubes[video.name] = linker.finish()
        tick()
    return own, linked, tubes


def score_dataset(name: str, dataset: Dataset, tick: Callable[[], object] = lambda: None) -> dict[str, object]:
    """Every score of a model on a data set, with what is needed to get it again.

    Args:
        name: of the model, or its folder.
        dataset: what to score it on.
        tick: is called after each video.

    Returns:
        ``frame-mAP@0.5 (voc)`` and its like under each protocol, from linked scores, and from each frame's own (``unlinked``);
        ``video-mAP`` at 0.2, 0.5, 0.75 and 0.5:0.95; all in [0, 1]; and provenance.
    """
    folder = model_folder(name)
    own, linked, tubes = detect_dataset(load_for_detection(name), dataset, None, tick)
    truth = {v.name: Truth(v.tubes, v.frames, v.rate) for v in dataset.videos}
    classes = len(dataset.classes)
    voc = frame_map(linked, truth, classes, frames="every")
    scores: dict[str, object] = {}
    for protocol in PROTOCOLS:
        scores[f"frame-mAP@0.5 ({protocol})"] = frame_map(linked, truth, classes, protocol=protocol).map
    scores["frame-mAP@0.5 (voc, every frame)"] = voc.map
    scores["frame-mAP@0.5 (voc, unlinked)"] = frame_map(own, truth, classes).map
    for iou in (0.2, 0.5, 0.75):
        scores[f"video-mAP@{iou}"] = video_map(tubes, truth, classes, iou).map
    scores["video-mAP@0.5:0.95"] = video_map_range(tubes, truth, classes).map
    scores["video accuracy"] = video_accuracy(tubes, truth)
    scores["actor AP@0.5"] = actor_ap(own, truth)
    per_class = {name: None if ap != ap else round(float(ap), 4) for name, ap in zip(dataset.classes, voc.per_class, strict=True)}
    return scores | {
        "per class": per_class,
        "videos": len(dataset),
        "frames": sum(v.frames for v in dataset.videos),
        "model": folder.name,
        "weights": model_hash(folder),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }
