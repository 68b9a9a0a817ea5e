"""Training clips: a stretch of a video with several key frames, their boxes and actions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from ..config import ModelConfig, TrainConfig
from ..video import frames_per_look
from .augment import View, draw_view, move_boxes, render
from .cache import DeviceFrames, FrameCache
from .dataset import Dataset, Video


@dataclass
class Batch:
    """B clips with K key frames each.

    Attributes:
        clip: (B, 3, T, S, S) uint8.
        keys: (B, K), the same for all clips, so that clips can be mixed.
        boxes: (B * K, M, 4) in pixels of the clip, padded with zeros.
        actions: (B * K, M, A), 1 where the box does the action; all zero where it is padding.
    """

    clip: Tensor
    keys: Tensor
    boxes: Tensor
    actions: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch there."""
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in ("clip", "keys", "boxes", "actions")))


@dataclass(frozen=True)
class Sample:
    """A clip that was drawn, before any of its pixels is read.

    Attributes:
        video: its name.
        frames: (T,) indices.
        view: how it is to be seen.
        keys: (K,) places of the key frames among the T.
        targets: per key frame, boxes (M, 4) in pixels of the clip and their actions (M, A).
    """

    video: str
    frames: np.ndarray
    view: View
    keys: np.ndarray
    targets: list[tuple[np.ndarray, np.ndarray]]


class BatchOrder(Sampler[list[tuple[int, int, int]]]):
    """Which samples a batch holds, as (sample, its seed, seed of the batch). A function of seed, epoch and step alone, so that a resumed
    run goes on exactly where it stopped.

    Args:
        samples: how many there are.
        batch: clips per batch; the last, smaller one is left out unless it is the only one.
        seed: of the run.
    """

    def __init__(self, samples: int, batch: int, seed: int) -> None:
        self.samples, self.batch, self.seed = samples, min(batch, samples), seed
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        return self.samples // self.batch - self.skip

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.samples)
        for step in range(self.skip, self.samples // self.batch):
            chosen = order[step * self.batch : (step + 1) * self.batch]
            place = (self.seed * 100_003 + self.epoch) * 100_003 + step
            yield [(int(sample), place * 1009 + slot, place) for slot, sample in enumerate(chosen)]


def reach(model: ModelConfig, train: TrainConfig) -> int:
    """How many looks away from a labelled frame training, or validation with its window, may want to see."""
    return max(math.ceil((train.clip_length - 1) * train.stride_jitter[1]), model.window - 1)


class ClipDataset(TorchDataset):
    """Random clips of videos, augmented: one of each video, or, where only some frames are labelled, one around each of those.

    Args:
        dataset: the videos.
        cache: their frames.
        model: for the input size and the classes.
        train: for the clip's length, its key frames and the augmentation.
    """

    def __init__(self, dataset: Dataset, cache: FrameCache, model: ModelConfig, train: TrainConfig) -> None:
        self.cache, self.train, self.size = cache, train, model.key_size
        self.actions = len(model.classes)
        # Where labelled frames lie apart, a clip has one of them; keys are shared by all clips of a batch.
        self.keys = 1 if any(video.labelled is not None for video in dataset.videos) else train.keys
        place = {name: label for label, name in enumerate(dataset.classes)}
        self.backwards = {place[first]: place[second] for first, second in dataset.backwards}
        self.samples = [(video, frame) for video in dataset.videos for frame in self._centres(video)]

    def __len__(self) -> int:
        return len(self.samples)

    def _centres(self, video: Video) -> list[int | None]:
        """The labelled frames that there are; the last frame if the file ends before them."""
        if video.labelled is None:
            return [None]
        frames = self.cache.length(video.name)
        return [frame for frame in video.labelled if frame < frames] or [frames - 1]

    def _frames(self, video: Video, frames: int, keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Indices (T,) of a stretch at a random rate, around a frame with action or, at times, one without.

        Of a clip around an action some of the `keys` (K,) may well lie before or after it, and so show background too. If no
        background is wanted at all, the clip lies where none does, or as few as can be.
        """
        length = self.train.clip_length
        stride = rng.uniform(*self.train.stride_jitter) * frames_per_look(float(video.rate))
        stride = min(stride, (frames - 1) / max(length - 1, 1))
        span = stride * (length - 1)
        acting = np.zeros(frames, bool)
        for tube in video.tubes:
            acting[tube.start : tube.stop] = True
        wanted = acting
        if acting.any() and not acting.all() and not self.train.background:
            starts = np.arange(int(frames - 1 - span) + 1)
            shown = acting[np.round(starts[:, None] + stride * keys).astype(int)].sum(1)
            return np.round(rng.choice(starts[shown == shown.max()]) + stride * np.arange(length)).astype(int)
        if not acting.any() or (not acting.all() and rng.random() < self.train.background):
            wanted = ~acting
        around = rng.choice(np.flatnonzero(wanted))
        earliest, latest = max(around - span, 0), min(around, frames - 1 - span)
        start = rng.uniform(earliest, max(latest, earliest))
        return np.clip(np.round(start + stride * np.arange(length)), 0, frames - 1).astype(int)

    def _around(self, centre: int, frames: int, key: int, rng: np.random.Generator, pace: int) -> np.ndarray:
        """Indices (T,) of a stretch at a random rate, whose frame number `key` is `centre`; slower where the video ends."""
        after = self.train.clip_length - 1 - key
        limits = [centre / key if key else np.inf, (frames - 1 - centre) / after if after else np.inf]
        stride = min(rng.uniform(*self.train.stride_jitter) * pace, *limits)
        return np.round(centre + stride * (np.arange(self.train.clip_length) - key)).astype(int)

    def __getitem__(self, item: tuple[int, int, int]) -> Sample:
        index, sample_seed, batch_seed = item
        (video, centre), rng = self.samples[index], np.random.default_rng(sample_seed)
        length, count = self.train.clip_length, min(self.keys, self.train.clip_length)
        edges = np.linspace(0, length, count + 1).astype(int)
        keys = np.random.default_rng(batch_seed).integers(edges[:-1], edges[1:])
        turned = False
        if centre is None:
            frames = self._frames(video, self.cache.length(video.name), keys, rng)
            shown = {tube.label for tube in video.tubes}
            turned = bool(self.backwards) and shown <= self.backwards.keys() and rng.random() < 0.5
        else:
            pace = frames_per_look(float(video.rate))
            frames = self._around(centre, self.cache.length(video.name), int(keys[0]), rng, pace)
        frames = frames[::-1] if turned else frames
        found = [video.boxes_at(int(frame)) for frame in frames[keys]]
        if turned:
            found = [(b, np.array([self.backwards[label] for label in labels], np.int64)) for b, labels in found]
        height, width = self.cache.size(video.name)
        boxes = np.concatenate([b for b, _ in found]) * np.array([width / video.width, height / video.height] * 2, np.float32)
        view = draw_view(height, width, boxes, self.train.smallest_crop, rng)
        parts = np.split(move_boxes(boxes, view, self.size), np.cumsum([len(b) for b, _ in found])[:-1])
        targets = [_one_row_per_box(part, labels, self.actions) for part, (_, labels) in zip(parts, found, strict=True)]
        return Sample(video.name, frames, view, keys, targets)


def _one_row_per_box(boxes: np.ndarray, labels: np.ndarray, actions: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) with one label each to (M, 4) different boxes and their actions (M, A)."""
    unique, place = np.unique(boxes, axis=0, return_inverse=True) if len(boxes) > 1 else (boxes, np.arange(len(boxes)))
    marked = np.zeros((len(unique), actions), np.float32)
    marked[place.reshape(-1), labels] = 1
    return unique, marked


def collate(samples: list[Sample], frames: FrameCache | DeviceFrames, size: int) -> Batch:
    """Samples to a `Batch` where the frames are, boxes padded to the largest number in a frame (at least 1).

    Args:
        samples: of one batch.
        frames: their videos'.
        size: of the clip in pixels, as of the data set that drew the samples.
    """
    targets = [target for sample in samples for target in sample.targets]
    most = max(1, max(len(boxes) for boxes, _ in targets))
    boxes = torch.zeros(len(targets), most, 4)
    actions = torch.zeros(len(targets), most, targets[0][1].shape[1])
    for row, (b, a) in enumerate(targets):
        boxes[row, : len(b)], actions[row, : len(a)] = torch.from_numpy(b), torch.from_numpy(a)
    keys = torch.from_numpy(np.stack([sample.keys for sample in samples]))
    clips = [frames.clip(sample.video, sample.frames, sample.view.crop) for sample in samples]
    clip = render(clips, [sample.view for sample in samples], size).transpose(1, 2)
    return Batch(clip, *(x.to(clip.device, non_blocking=True) for x in (keys, boxes, actions)))
