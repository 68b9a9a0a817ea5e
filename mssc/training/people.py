"""Learning to see everybody: a detector of people that begins as COCO's and is taught by it, without annotations.

The teacher looks at clean images, at their mirror images, and at twice their size; the detector has to say the same of what is blurred,
dark or coarse. Data sets of actions show one or two people from near by, so frames are laid side by side, shrunk: that makes crowds.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset as TorchDataset

from ..config import ModelConfig, TrainConfig
from ..data.augment import draw_view
from ..data.cache import FrameCache
from ..data.clips import Batch
from ..data.dataset import Dataset, Video
from ..data.decoding import resize
from ..data.media import Videos, first_few
from ..model.backbone2d import STRIDES
from ..model.mssc import MSSC
from ..model.person import PersonDetector
from ..structures import InputError
from .losses import generalised_iou

log = logging.getLogger(__name__)

FRAMES_PER_VIDEO = 4  # that are learnt from
SHAPES = ((1, 1), (3, 4), (4, 3), (9, 16), (9, 16), (16, 9))  # of images, height to width
SMALLEST = 320  # pixels of an image's longer side
MOST_TILES = 5  # along a side
SINGLE = 0.5  # share of images that are one frame
SURE = 0.1  # probability from which on the teacher's box counts
BOX_WEIGHT = 3.0


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


class People(TorchDataset):
    """Images of people, as the teacher sees them: a frame, or many as tiles, cut and mirrored at random.

    Args:
        dataset: videos with the frames to learn from labelled, see `frames_to_learn`.
        cache: these frames.
        model: for the largest image.
        train: for the smallest crop.
    """

    def __init__(self, dataset: Dataset, cache: FrameCache, model: ModelConfig, train: TrainConfig) -> None:
        self.cache, self.most, self.smallest_crop = cache, model.person_size, train.smallest_crop
        self.samples = [
            (video.name, frame) for video in dataset.videos for frame in video.labelled or () if frame < cache.length(video.name)
        ]
        if not self.samples:
            raise InputError(f"{dataset.name} has no frame to learn from; give other videos.")

    def __len__(self) -> int:
        return len(self.samples)

    def shape(self, batch: int) -> tuple[int, int]:
        """Height and width of the images of the batch with this seed, multiples of 32."""
        rng, coarsest = np.random.default_rng(batch), STRIDES[-1]
        longer = rng.integers(min(SMALLEST, self.most) // coarsest, self.most // coarsest, endpoint=True)
        shape = np.array(SHAPES[rng.integers(len(SHAPES))])
        height, width = np.maximum(np.round(shape * longer / shape.max()), 1).astype(int) * coarsest
        return int(height), int(width)

    def __getitem__(self, item: tuple[int, int, int]) -> Tensor:
        """An image (3, 2 H, 2 W) uint8 with the sample of that number in it, twice as large as the detector sees it."""
        first, seed, batch = item
        rng = np.random.default_rng(seed)
        height, width = (2 * side for side in self.shape(batch))
        rows, columns = (1, 1) if rng.random() < SINGLE else rng.integers(1, MOST_TILES, 2, endpoint=True)
        others = rng.integers(len(self), size=rows * columns - 1)
        tiles = [self._frame(self.samples[number]) for number in (first, *others)]
        image = tiles[0] if len(tiles) == 1 else _tiled(tiles, int(rows), int(columns), 3 * height // 2, 3 * width // 2)
        view = draw_view(image.shape[0], image.shape[1], np.zeros((0, 4)), self.smallest_crop, rng)
        top, left, h, w = view.crop
        seen = resize(np.ascontiguousarray(image[top : top + h, left : left + w]), height, width)
        pixels = torch.from_numpy(seen).permute(2, 0, 1)
        return pixels.flip(2) if view.flip else pixels

    def _frame(self, sample: tuple[str, int]) -> np.ndarray:
        return self.cache.frames(sample[0], [sample[1]])[0]


def _tiled(tiles: Sequence[np.ndarray], rows: int, columns: int, height: int, width: int) -> np.ndarray:
    """Frames side by side in one image of about that size."""
    h, w = height // rows, width // columns
    lines = (tiles[row * columns : (row + 1) * columns] for row in range(rows))
    return np.concatenate([np.concatenate([resize(tile, h, w) for tile in line], 1) for line in lines])


def collate_people(samples: list[Tensor], actions: int) -> Batch:
    """Images as clips of one key frame without boxes."""
    none = torch.zeros(len(samples), 0, 4), torch.zeros(len(samples), 0, actions)
    return Batch(torch.stack(samples)[:, :, None], torch.zeros(len(samples), 1, dtype=torch.long), *none)


class PersonLearner(nn.Module):
    """A network whose detector of people learns, and its teacher.

    Args:
        network: of which nothing else learns.
        teacher: a detector of people as COCO left it.
    """

    def __init__(self, network: MSSC, teacher: PersonDetector) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Losses of images (B, 3, 2 H, 2 W) in 0..255: how surely a person is in each cell, and where."""
        assert self.network.person is not None
        large = images.float()
        small = F.avg_pool2d(large, 2)
        places, sure = lesson(self.teacher, small, large)
        boxes, logits = self.network.person(spoilt(small))
        weight = torch.where(sure >= SURE, sure, 0)
        people = weight.sum().clamp(min=1)
        far = 1 - generalised_iou(boxes, places)
        known = -torch.special.entr(sure) - torch.special.entr(1 - sure)  # of agreement the loss is 0
        person = (F.binary_cross_entropy_with_logits(logits, sure, reduction="none") + known).sum() / people
        return {"person": person, "place": BOX_WEIGHT * (weight * far).sum() / people}


@torch.no_grad()
def lesson(teacher: PersonDetector, small: Tensor, large: Tensor) -> tuple[Tensor, Tensor]:
    """What the teacher says of images.

    Args:
        teacher: in eval mode.
        small: (B, 3, H, W) in 0..255, sides multiples of 32.
        large: (B, 3, 2 H, 2 W), the same, finer.

    Returns:
        Per cell of `small` a box (B, P, 4) in its pixels and the probability of a person (B, P): the mean of the image and of its mirror
        image, or, in the finest level, what is seen at twice the size, if that is surer. That finds people of a few pixels.
    """
    (boxes, logits), (mirrored, others) = teacher(small), teacher(small.flip(3))
    height, width = small.shape[2:]
    sides = [(height // stride, width // stride) for stride in STRIDES]
    order = torch.cat([part.flip(1).flatten() for part in _cells(sides)]).to(boxes.device)
    mirrored = torch.stack([width - mirrored[..., 2], mirrored[..., 1], width - mirrored[..., 0], mirrored[..., 3]], -1)[:, order]
    one, other = logits.sigmoid(), others.sigmoid()[:, order]
    share = (one / (one + other).clamp(min=1e-9))[..., None]
    boxes, sure = share * boxes + (1 - share) * mirrored, (one + other) / 2
    finest = sides[0][0] * sides[0][1]
    fine, near = teacher(large)
    fine, near = fine[:, : 4 * finest] / 2, near[:, : 4 * finest].sigmoid()
    best, place = F.max_pool2d(near.unflatten(1, (2 * sides[0][0], -1)), 2, return_indices=True)
    best, place = best.flatten(1), place.flatten(1)
    surer = best > sure[:, :finest]
    boxes[:, :finest] = torch.where(surer[..., None], fine.gather(1, place[..., None].expand(-1, -1, 4)), boxes[:, :finest])
    sure[:, :finest] = torch.where(surer, best, sure[:, :finest])
    return boxes, sure


def _cells(sides: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Numbers of the cells of each level, as they lie."""
    found, start = [], 0
    for height, width in sides:
        found.append(torch.arange(start, start + height * width).reshape(height, width))
        start += height * width
    return found


def spoilt(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in 0..255, each darker or brighter, flatter or with more contrast, at times coarser, or blurred along a side."""
    gain, shift = (
        torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(*span) for span in ((0.5, 1.3), (-20.0, 20.0))
    )
    images, chance = images * gain + shift, torch.rand(3).tolist()
    if chance[0] < 0.4:
        sides = [max(int(side / (1 + 1.5 * chance[1])), 1) for side in images.shape[2:]]
        coarse = F.interpolate(images, sides, mode="bilinear", antialias=True)
        images = F.interpolate(coarse, images.shape[2:], mode="bilinear")
    elif chance[0] < 0.7:
        length = 3 + 2 * int(4 * chance[1])
        kernel = (1, length) if chance[2] < 0.7 else (length, 1)
        images = F.avg_pool2d(images, kernel, 1, (kernel[0] // 2, kernel[1] // 2), count_include_pad=False)
    return (images + 4 * torch.randn_like(images)).clamp(0, 255)
