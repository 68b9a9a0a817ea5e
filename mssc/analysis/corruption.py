"""Does fusion filter noise? One input is spoilt, the other left as it is (reconstruction, sections 4.5 and 6.2).

Each key frame is judged from its window alone, so that it is known which frames are spoilt. What is spoilt is put in where a path begins;
the network itself stays as it is, and both paths still come from one video.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Dataset, Video
from ..data.decoding import decode
from ..detection.detector import Detector
from ..evaluate import Hits, Truth, frame_hits
from ..model.image import NoImage
from ..model.mssc import MSSC
from ..structures import Detections, InputError
from .bootstrap import Interval, interval
from .keyframes import key_frames

ROUNDS = 200  # of the bootstrap: each scores all videos anew
GREY = 114.0  # of what covers a frame

Change = Callable[[Tensor, float, torch.Generator], Tensor]


def blur(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Gaussian blur of (K, 3, S, S) images; `amount` is its deviation as a share of the side."""
    from torchvision.transforms.v2 import functional as F

    deviation = amount * images.shape[-1]
    side = 2 * max(1, min(round(3 * deviation), (images.shape[-1] - 1) // 2)) + 1
    return F.gaussian_blur(images, [side, side], [deviation, deviation])


def noise(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise on RGB 0..255, deviation `amount` * 255, clipped."""
    drawn = torch.randn(images.shape, generator=generator).to(images)
    return (images + 255 * amount * drawn).clamp(0, 255)


def occlude(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """A grey square over a share `amount` of each image's area, somewhere."""
    out, size = images.clone(), images.shape[-1]
    side = min(size, round(size * amount**0.5))
    for image in out:
        top, left = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
        image[:, top : top + side, left : left + side] = GREY
    return out


def shuffle(clips: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """A share `amount` of the frames of (B, 3, T, h, w) clips, the last one not among them, change places."""
    out, steps = clips.clone(), clips.shape[2] - 1
    for clip in out:
        places = torch.randperm(steps, generator=generator)[: round(amount * steps)].sort().values
        clip[:, places] = clip[:, places[torch.randperm(len(places), generator=generator)]]
    return out


def freeze(clips: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """The first share `amount` of the frames stands still, as the frame after them; with 1, all are the last one."""
    held = min(round(amount * clips.shape[2]), clips.shape[2] - 1)
    index = torch.arange(clips.shape[2]).clamp(min=held)
    return clips[:, :, index]


def drop(clips: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Each frame but the first and the last is lost with probability `amount`, and the one before it stays on."""
    out = clips.clone()
    for clip in out:
        lost = torch.rand(clip.shape[1], generator=generator) < amount
        for step in range(1, clip.shape[1] - 1):
            if lost[step]:
                clip[:, step] = clip[:, step - 1]
    return out


@dataclass(frozen=True)
class Corruption:
    """One way to spoil one input.

    Attributes:
        path: "key" or "clip".
        change: does it.
        amounts: how strongly, ascending.
        unit: what the amounts are.
    """

    path: str
    change: Change
    amounts: tuple[float, ...]
    unit: str


CORRUPTIONS = {
    "blur": Corruption("key", blur, (0.01, 0.02, 0.04), "deviation, share of the side"),
    "noise": Corruption("key", noise, (0.1, 0.2, 0.4), "deviation, share of the range"),
    "occlusion": Corruption("key", occlude, (0.15, 0.3, 0.5), "share of the area"),
    "shuffled": Corruption("clip", shuffle, (0.5, 1.0), "share of the frames"),
    "frozen": Corruption("clip", freeze, (0.5, 1.0), "share of the frames"),
    "dropped": Corruption("clip", drop, (0.25, 0.5, 0.75), "share of the frames"),
}


@contextmanager
def corrupted(model: MSSC, name: str, amount: float, generator: torch.Generator) -> Iterator[None]:
    """Within the block, the model's key frames or clips are spoilt. A model without that path stays as it is.

    Raises:
        InputError: for an unknown corruption.
    """
    if name not in CORRUPTIONS:
        raise InputError(f"there is no corruption {name!r}; use one of {', '.join(CORRUPTIONS)}.")
    corruption = CORRUPTIONS[name]
    module = model.image if corruption.path == "key" else model.video.backbone
    if isinstance(module, NoImage) or module is None or not amount:
        yield
        return

    def spoil(_module: object, arguments: tuple) -> tuple:
        return (corruption.change(arguments[0].float(), amount, generator).to(arguments[0].dtype), *arguments[1:])

    with module.register_forward_pre_hook(spoil):
        yield


# -------------------------------------------------------------------- scores


@dataclass(eq=False)
class Robustness:
    """How a model's detections hold out.

    Attributes:
        model: its name.
        hits: which detections are right (voc, unlinked), by (corruption, amount), ("none", 0) among them.
    """

    model: str
    hits: dict[tuple[str, float], Hits]

    def _interval(self, *keys: tuple[str, float]) -> Interval:
        """Of frame-mAP, or, of two, of the first one's less the other's."""
        videos = len(self.hits["none", 0.0].positives)

        def statistic(chosen: np.ndarray) -> float:
            scores = [self.hits[key].score(np.bincount(chosen, minlength=videos)).map for key in keys]
            return scores[0] - sum(scores[1:])

        return interval(statistic, videos, ROUNDS)

    def frame_map(self, name: str = "none", amount: float = 0.0) -> Interval:
        """Frame-mAP@0.5 over the key frames, with the interval over videos."""
        return self._interval((name, amount))

    def loss(self, name: str, amount: float) -> Interval:
        """How much frame-mAP a corruption costs, paired by video."""
        return self._interval(("none", 0.0), (name, amount))


def robustness(
    detector: Detector, dataset: Dataset, name: str = "model", step: int = 8, tick: Callable[[str], object] = lambda video: None
) -> Robustness:
    """Detect in spoilt videos. What is random is the same for every model.

    Args:
        detector: of the model.
        dataset: of the model's classes; videos without ground truth are left out.
        name: of the model, for tables and pictures.
        step: every n-th frame with ground truth is judged.
        tick: is called after each video.

    Raises:
        InputError: for another data set than the model's, and no ground truth at all.
    """
    detector.check_classes(dataset)
    plan = [("none", 0.0), *((kind, amount) for kind, one in CORRUPTIONS.items() for amount in one.amounts)]
    found: dict[tuple[str, float], dict[str, list[Detections]]] = {key: {} for key in plan}
    truth: dict[str, Truth] = {}
    for video in dataset.videos:
        windows = list(detector.windows(decode(video.path), float(video.rate), key_frames(video, step)))
        keys = np.array([number for _, numbers in windows for number in numbers])
        if windows:
            tubes = [part for tube in video.tubes if (part := tube.among(keys)) is not None]
            truth[video.name] = Truth(tuple(tubes), len(keys), video.rate)
            for key in plan:
                found[key][video.name] = _detect(detector, video, [clip for clip, _ in windows], *key)
        tick(video.name)
    if not truth:
        raise InputError(f"none of the {len(dataset)} videos of {dataset.name} has ground truth; there is nothing to score.")
    return Robustness(name, {key: frame_hits(rows, truth, len(dataset.classes)) for key, rows in found.items()})


def _detect(detector: Detector, video: Video, windows: list[Tensor], kind: str, amount: float) -> list[Detections]:
    """Detections of a video's key frames."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{video.name} {kind} {amount}".encode()))
    detections = []
    for clip in windows:
        with corrupted(detector.model, kind, amount, generator) if kind != "none" else nullcontext():
            detections += detector.detect(clip, (video.height, video.width))
    return detections
