"""Learning to see everybody: what a COCO detector finds in single frames is the truth for the person head.

The teacher looks at frames at a size at which it sees people in a crowd; the network has to find the same people in its own small input.
True actors count as people too, whatever the teacher says. Data sets of actions show one or two people from near by, so frames are laid
side by side, shrunk, as tiles of one image: that makes crowds of them.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision.ops import nms

from ..boxes import CONTINUOUS, box_iou
from ..config import ModelConfig, TrainConfig
from ..data.augment import draw_view, move_boxes, render
from ..data.cache import FrameCache
from ..data.clips import Batch
from ..data.dataset import Dataset, Video
from ..data.decoding import resize
from ..data.media import Videos, first_few
from ..files import undamaged, whole_file
from ..model.backbone2d import STRIDES
from ..model.convert import CocoDetector
from ..model.layers import fold_batch_norms
from ..structures import InputError

log = logging.getLogger(__name__)

FRAMES_PER_VIDEO = 4  # that are learnt from
TEACHER_SIDE = (
    512  # of a frame's longer side as the teacher looks at it, in pixels: more would show it smaller people, and miss near ones
)
TEACHER_SCORE = 0.3  # from which on it is believed
SAME = 0.6  # overlap from which on two of its boxes are one person
MOST_TILES = 8  # along a side
SINGLE = 0.35  # share of images that are one frame
VISIBLE = 0.35  # share of a box that must be left of it in a crop; who is less to be seen is nobody
SMALLEST = 3.0  # pixels of the input that somebody must be high and wide


def frames_to_learn(dataset: Dataset, more: Sequence[Path] = ()) -> Dataset:
    """A few frames of every video of a data set and of all videos below other folders, as a data set with these frames labelled.

    Args:
        dataset: its tubes show people.
        more: folders of videos without annotations; those that cannot be read are left out with a word.

    Raises:
        InputError: for a folder without a video that can be read.
    """
    found = [_thinned(video) for video in dataset.videos]
    for number, folder in enumerate(more):
        videos = Videos(folder) if folder.is_dir() else None
        looks = {name: videos.look(name) for name in videos.paths} if videos is not None else {}
        readable = {name: seen for name, seen in looks.items() if seen is not None}
        if videos is None or not readable:
            raise InputError(f"{folder} holds no video that can be read; name a folder with videos, or leave it out.")
        if videos.unreadable:
            log.warning(
                "left out: %d videos that cannot be read, such as %s", len(videos.unreadable), first_few(videos.unreadable, 1)
            )
        for name, seen in readable.items():
            called, place = f"more{number}/{name}", videos.paths[name]
            found.append(_thinned(Video(called, place, seen.frames, seen.width, seen.height, seen.rate, ())))
    return dataclasses.replace(dataset, videos=tuple(found))


def _thinned(video: Video) -> Video:
    """The video with a few of its labelled frames, evenly, none at its very ends, where files are often damaged or black."""
    known = np.arange(video.frames) if video.labelled is None else np.array(video.labelled)
    places = np.linspace(0, len(known) - 1, FRAMES_PER_VIDEO + 2)[1:-1].round().astype(int)
    return dataclasses.replace(video, labelled=tuple(known[places].tolist()))


@torch.no_grad()
def teach(teacher: CocoDetector, images: np.ndarray, device: torch.device | None = None) -> list[np.ndarray]:
    """People that a COCO detector sees.

    Args:
        teacher: in eval mode.
        images: (B, H, W, 3) uint8 RGB.
        device: where it is; the CPU if None.

    Returns:
        Of each image boxes (N, 4) in its pixels, the surest first.
    """
    height, width = images.shape[1:3]
    coarsest, scale = STRIDES[-1], TEACHER_SIDE / max(height, width)
    h, w = (max(round(length * scale / coarsest), 1) * coarsest for length in (height, width))
    pixels = torch.from_numpy(np.stack([resize(image, h, w) for image in images])).to(device).permute(0, 3, 1, 2).float()
    rows = teacher(pixels.contiguous(memory_format=torch.channels_last)).cpu()
    corners, strides = [], []
    for stride in STRIDES:
        ys, xs = torch.meshgrid(torch.arange(h // stride), torch.arange(w // stride), indexing="ij")
        corners.append(torch.stack([xs, ys], -1).reshape(-1, 2))
        strides.append(torch.full((len(corners[-1]), 1), float(stride)))
    stride = torch.cat(strides)
    centre, half = (rows[..., :2] + torch.cat(corners)) * stride, rows[..., 2:4].exp() * stride / 2
    boxes = torch.cat([centre - half, centre + half], -1) * torch.tensor([width / w, height / h] * 2)
    scores = rows[..., 4] * rows[..., 5]  # of an object, and of COCO's first class, person
    found = []
    for box, score in zip(boxes, scores, strict=True):
        box, score = box[score >= TEACHER_SCORE], score[score >= TEACHER_SCORE]
        box = box[nms(box, score, SAME)].numpy()
        found.append(np.clip(box, 0, [width, height] * 2).astype(np.float32))
    return found


class People(TorchDataset):
    """Images of people and the boxes of all of them: a frame, or many as tiles, seen at random as `mssc.data.augment` does.

    Frames in which nobody is found are left out: that nobody is there is not known.

    Args:
        dataset: videos with the frames to learn from labelled, see `frames_to_learn`.
        cache: these frames.
        teacher: tells who is in them.
        model: for the input size and the classes.
        train: for the smallest crop.
        kept: file for what the teacher said of these frames, which is not asked again; None for none.
        device: where the teacher looks.

    Raises:
        InputError: if there is nobody in any frame, or the file cannot be written.
    """

    def __init__(
        self,
        dataset: Dataset,
        cache: FrameCache,
        teacher: CocoDetector,
        model: ModelConfig,
        train: TrainConfig,
        kept: Path | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.cache, self.train, self.size, self.actions = cache, train, model.person_size, len(model.classes)
        there = [(video, frame) for video in dataset.videos for frame in video.labelled or () if frame < cache.length(video.name)]
        self.samples = []
        for (video, frame), seen in zip(there, self._taught(there, teacher, kept, device), strict=True):
            height, width = cache.size(video.name)
            scale = np.array([width / video.width, height / video.height] * 2, np.float32)
            actors = np.unique(video.boxes_at(frame)[0] * scale, axis=0)
            other = box_iou(seen[:, None], actors[None], CONTINUOUS).max(1, initial=0) < 0.5
            boxes = np.concatenate([actors, seen[other]])
            if len(boxes):
                self.samples.append((video.name, frame, boxes))
        if not self.samples:
            raise InputError(f"nobody was found in any frame of {dataset.name}, and no actor is annotated; give other videos.")
        log.info("%d people in %d frames to learn from", sum(len(boxes) for *_, boxes in self.samples), len(self.samples))

    def _taught(
        self, there: list[tuple[Video, int]], teacher: CocoDetector, kept: Path | None, device: torch.device | None
    ) -> list[np.ndarray]:
        """Whom the teacher sees in each of these frames, in pixels of the cached frame."""
        names, numbers = np.array([video.name for video, _ in there]), np.array([frame for _, frame in there])
        if kept is not None and kept.exists():
            with undamaged(kept, "delete it, and the teacher looks again"), np.load(kept) as said:
                if np.array_equal(said["names"], names) and np.array_equal(said["frames"], numbers):
                    return np.split(said["boxes"], np.cumsum(said["counts"])[:-1])
        teacher = fold_batch_norms(teacher).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types memory formats for 4-d tensors alone
        found: list[np.ndarray] = []
        starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
        for first, last in zip(starts, [*starts[1:], len(there)], strict=True):  # frames of one video are of one size
            found += teach(teacher, self.cache.frames(names[first], numbers[first:last]), device)
        if kept is not None:
            with whole_file(kept) as part, part.open("wb") as file:
                counts = [len(boxes) for boxes in found]
                np.savez(file, names=names, frames=numbers, counts=counts, boxes=np.concatenate(found))
        return found

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: tuple[int, int, int]) -> tuple[Tensor, np.ndarray]:
        """An image (3, S, S) uint8 with the sample of that number in it, and the boxes (N, 4) of all people in it."""
        first, seed, _ = item
        rng = np.random.default_rng(seed)
        rows, columns = (1, 1) if rng.random() < SINGLE else rng.integers(1, MOST_TILES, 2, endpoint=True)
        tiles = [self.samples[number] for number in (first, *rng.integers(len(self), size=rows * columns - 1))]
        if len(tiles) > 1:
            image, boxes = self._tiled(tiles, int(rows), int(columns))
        else:
            image, boxes = self._frame(tiles[0]), tiles[0][2]
        height, width = image.shape[:2]
        view = draw_view(height, width, np.zeros((0, 4)), self.train.smallest_crop, rng)
        top, left, height, width = view.crop
        seen = move_boxes(boxes, view, self.size)
        whole = (boxes[:, 2:] - boxes[:, :2]).prod(1) * (self.size**2 / (height * width))
        sides = seen[:, 2:] - seen[:, :2]
        kept = (sides.prod(1) >= VISIBLE * whole) & (sides.min(1, initial=np.inf) >= SMALLEST)
        crop = torch.from_numpy(np.ascontiguousarray(image[top : top + height, left : left + width]))
        return render([crop[None]], [view], self.size)[0, 0], seen[kept]

    def _frame(self, sample: tuple[str, int, np.ndarray]) -> np.ndarray:
        return self.cache.frames(sample[0], [sample[1]])[0]

    def _tiled(self, tiles: list[tuple[str, int, np.ndarray]], rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames side by side in an image half as large again as the input, for a crop to be cut from, and everybody in it."""
        height, width = (-(-self.size * 3 // (2 * count)) for count in (rows, columns))
        image, boxes = np.empty((rows * height, columns * width, 3), np.uint8), []
        for place, tile in enumerate(tiles):
            frame, (top, left) = self._frame(tile), np.array(divmod(place, columns)) * (height, width)
            image[top : top + height, left : left + width] = resize(frame, height, width)
            scale = np.array([width / frame.shape[1], height / frame.shape[0]] * 2)
            boxes.append(tile[2] * scale + [left, top, left, top])
        return image, np.concatenate(boxes).astype(np.float32)


def collate_people(samples: list[tuple[Tensor, np.ndarray]], actions: int) -> Batch:
    """Images as clips of one key frame; people as boxes that do every action, for whoever asks which rows are boxes."""
    most = max(1, max(len(boxes) for _, boxes in samples))
    boxes, real = torch.zeros(len(samples), most, 4), torch.zeros(len(samples), most, actions)
    for row, (_, here) in enumerate(samples):
        boxes[row, : len(here)], real[row, : len(here)] = torch.from_numpy(here), 1
    clip = torch.stack([image for image, _ in samples])[:, :, None]
    return Batch(clip, torch.zeros(len(samples), 1, dtype=torch.long), boxes, real)
