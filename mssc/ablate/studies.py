"""What a trained run is asked beside its scores (reconstruction, section 4.5).

Paths: is one and one more than two? What one path says is replaced by zeros, or by what it says of another video, of other actions where
there is one: then both paths are as they were trained to be, and only no longer about the same thing.

Noise: one input is spoilt, the other left as it is, see `mssc.analysis.corruption`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..analysis.bootstrap import resamples
from ..analysis.corruption import robustness
from ..data.cache import FrameCache
from ..data.dataset import Dataset, Video
from ..detection.detector import Detector
from ..model.image import ImagePath
from ..model.mssc import MSSC
from ..model.video import VideoPath
from ..structures import InputError
from .scores import ROUNDS, Change, Scored, plain, score_model

CONDITIONS = ("2D zero", "2D of another video", "3D zero", "3D of another video", "flow zero")
"""What is replaced: the levels of the image path, the map of the 3D network, or of the latter only those channels that know flow alone."""


def conditions_of(model: MSSC) -> tuple[str, ...]:
    """Those that say something of this model; () where it has one path only."""
    if not isinstance(model.image, ImagePath) or not isinstance(model.video, VideoPath):
        return ()
    return CONDITIONS if model.video.flow_dims else CONDITIONS[:-1]


@contextmanager
def replaced(model: MSSC, condition: str, other: Tensor) -> Iterator[None]:
    """Within the block, a path says something else.

    Args:
        model: causal, of two paths.
        condition: see `CONDITIONS`.
        other: (T, 3, S, S), as many frames of another video as the model will see.

    Raises:
        InputError: for an unknown condition, or one that does not apply to the model.
    """
    if condition not in conditions_of(model):
        raise InputError(f"{condition!r} cannot be replaced in this model; choose among {conditions_of(model)}.")
    image, path = model.image, model.video
    assert isinstance(image, ImagePath) and isinstance(path, VideoPath)  # else there is no condition

    def elsewhere(_: nn.Module, inputs: tuple) -> tuple:
        images = other.to(path.mean.device)
        return (images if condition.startswith("2D") else path.prepare(images.transpose(0, 1)[None]), *inputs[1:])

    def silenced(module: nn.Module, _: tuple, found: tuple) -> tuple:
        if module is not path.backbone:
            return tuple(torch.zeros_like(level) for level in found)
        maps, state = found
        kept = maps.shape[1] - path.flow_dims if condition == "flow zero" else 0
        return torch.cat([maps[:, :kept], torch.zeros_like(maps[:, kept:])], 1), state

    if condition.endswith("another video"):
        hook = (image if condition.startswith("2D") else path.backbone).register_forward_pre_hook(elsewhere)
    else:
        hook = (image.neck if condition.startswith("2D") else path.backbone).register_forward_hook(silenced)
    with hook:
        yield


def partners(dataset: Dataset) -> dict[str, Video]:
    """For each video another one: the next that shares no action with it, or simply the next.

    Raises:
        InputError: for a single video.
    """
    videos = dataset.videos
    if len(videos) < 2:
        raise InputError(f"{dataset.name} holds one video; another one is needed to take features from.")
    found = {}
    for place, video in enumerate(videos):
        later = [videos[(place + step) % len(videos)] for step in range(1, len(videos))]
        labels = {tube.label for tube in video.tubes}
        found[video.name] = next((one for one in later if not labels & {tube.label for tube in one.tubes}), later[0])
    return found


def score_paths(detector: Detector, dataset: Dataset, cache: FrameCache, rounds: int = ROUNDS) -> dict[str, Scored]:
    """Score a model under every condition that applies to it; arguments as of `score_model`."""
    conditions = conditions_of(detector.model)
    other = partners(dataset) if conditions else {}

    def change_to(condition: str) -> Change:
        def change(video: Video, frames: Sequence[int]):
            shown = detector.prepare(cache.frames(other[video.name].name, frames))  # its last frame again where it is shorter
            return replaced(detector.model, condition, shown)

        return change

    return {condition: score_model(detector, dataset, cache, rounds, change_to(condition)) for condition in conditions}


def score_noise(detector: Detector, dataset: Dataset, step: int, rounds: int = ROUNDS) -> dict[str, dict[str, dict[str, object]]]:
    """Frame-mAP (unlinked) where an input is spoilt.

    Args:
        detector: of the videos' actions.
        dataset: its videos.
        step: every n-th frame with ground truth is scored.
        rounds: of the bootstrap.

    Returns:
        By corruption and amount, as text: ``score`` and ``draws``; "none" and "0" among them.
    """
    found = robustness(detector, dataset, step=step)
    times = resamples(len(found.hits["none", 0.0].positives), rounds)
    out: dict[str, dict[str, dict[str, object]]] = {}
    for (kind, amount), hits in found.hits.items():
        out.setdefault(kind, {})[f"{amount:g}"] = {"score": hits.score().map, "draws": plain(hits.draws(times))}
    return out
