"""Is a part of a network alive? Its gains, how even its exchange is, and how far its parameters have moved from where they began."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..detection.detector import Detector
from ..model.fusion import context_entropy
from ..model.motion import MotionSense, NoMotionSense
from ..model.mssc import MSSC
from ..structures import InputError
from .bootstrap import Interval, mean_interval, paired_interval, rounded
from .cells import ACTION, BACKGROUND, cell_kinds, enough
from .distances import MEASURES
from .keyframes import KeyFrame, collect, key_frames
from .msm import channel_gain, has_channel_gain
from .stand_ins import STRIDES, video_path_of
from .study import nanmean

DISTANCES = ("d_euc", "D_A/D_B", "Fisher J")
"""Measures of `mssc.analysis.distances` that no common factor changes, before and after MSM."""
BOTH_SIDES = ("MSM in", "MSM out")
PATHS = ("spatial", "motion")
GROUPS = {
    "flow stream": ("backbone.flow.",),
    "temporal convolutions": ("backbone.temporal.",),
    "MSM gamma": ("motion.gamma1", "motion.gamma2"),
    "MSM perceptual branch": ("motion.perceptual.",),
    "MSM spacetime branch": ("motion.spacetime.",),
    "MSM FFN": ("motion.ffn.",),
    "collapse of time": ("collapse.",),
    "SFM stage 1": (".exchange.",),
    "SFM stage 2": (".merge.",),
    "classifier": ("head.classifier.",),
}
"""Parts that begin at random, by what the names of their parameters hold: the others begin with weights of COCO."""


class Gain(NamedTuple):
    """What MSM multiplies deviations from the average by, over all channels (and cells, where each has its own) of all frames."""

    mean: float
    std: float
    least: float
    most: float


class Moved(NamedTuple):
    """How far a part's parameters are from their start.

    Attributes:
        distance: of the sorted values, the mean distance to those of an untrained network over their mean size: 0 says that training
            cannot be told from the draw.
        chance: the same of a second untrained network.
    """

    distance: float
    chance: float


@dataclass(eq=False)
class Vitals:
    """Of a model.

    Attributes:
        gain: of MSM; None where it has none per channel.
        scales: mean sizes of parameters that say how loud a part is, now and in an untrained network.
        entropy: of SFM's contexts by stride and the path that takes, in [0, 1], with intervals over videos.
        distances: by measure of `DISTANCES`: before MSM, after it, and the change, paired by video.
        moved: by part of `GROUPS`.
    """

    gain: Gain | None = None
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    entropy: dict[str, Interval] = field(default_factory=dict)
    distances: dict[str, tuple[Interval, Interval, Interval]] = field(default_factory=dict)
    moved: dict[str, Moved] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "gain": None if self.gain is None else {name: rounded(x) for name, x in self.gain._asdict().items()},
            "scales": {name: [rounded(x) for x in pair] for name, pair in self.scales.items()},
            "entropy": {name: [rounded(x) for x in one[:3]] for name, one in self.entropy.items()},
            "distances": {name: [[rounded(x) for x in one[:3]] for one in three] for name, three in self.distances.items()},
            "moved": {name: {key: rounded(x) for key, x in one._asdict().items()} for name, one in self.moved.items()},
        }


def moved(model: MSSC) -> dict[str, Moved]:
    """How far each part's parameters are from those of untrained networks of the same config.

    Args:
        model: best with its BatchNorms: where they are folded, what they are folded into is not its parameters.

    Returns:
        By part of `GROUPS`, of those that there are.
    """
    now = _parameters(model)
    fresh = [_untrained(model, seed) for seed in (0, 1)]
    found = {}
    for part, holds in GROUPS.items():
        names = [name for name in now if name in fresh[0] and any(text in name for text in holds)]
        if not names:
            continue
        size = sum(float(fresh[0][name].abs().sum()) for name in names)
        apart = [sum(_between(one[name], fresh[0][name]) for name in names) for one in (now, fresh[1])]
        found[part] = Moved(*(value / size if size else math.nan for value in apart))
    return found


def _parameters(model: MSSC) -> dict[str, Tensor]:
    return {name: p.detach().cpu() for name, p in model.named_parameters()}


def _untrained(model: MSSC, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _parameters(MSSC(model.config))


def _between(first: Tensor, second: Tensor) -> float:
    """Summed distance of the sorted values of two tensors of one shape: Wasserstein's, times their number."""
    return float((first.flatten().sort().values - second.flatten().sort().values).abs().sum())


LOUD = {
    "|gamma1|": "motion.gamma1",
    "|gamma2|": "motion.gamma2",
    "product: |a|": "motion.perceptual.map.weight",
    "product: |g|": "motion.perceptual.gate.weight",
    "distance: |W_d|": "motion.perceptual.by_deviation.weight",
    "distance: |W_mu|": "motion.perceptual.by_average.weight",
    "distance: b": "motion.perceptual.by_deviation.bias",
}


def scales(model: MSSC) -> dict[str, tuple[float, float]]:
    """Mean sizes of MSM's scales and gates, and the exchange's temperatures by stride: now, and in an untrained network."""
    now, fresh, found = _parameters(model), _untrained(model, 0), {}
    for label, ending in LOUD.items():
        name = f"{video_path_of(model)}.{ending}"
        if name in now:
            found[label] = (float(now[name].abs().mean()), float(fresh[name].abs().mean()))
    for place, stride in enumerate(STRIDES):
        names = [name for name in now if name.startswith(f"fusion.levels.{place}.") and name.endswith("log_temperature")]
        if names:
            pair = [float(torch.stack([one[name].exp().mean() for name in names]).mean()) for one in (now, fresh)]
            found[f"SFM temperature, stride {stride}"] = (pair[0], pair[1])
    return found


class _Running:
    """Moments of all numbers that come."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares, self.least, self.most = 0, 0.0, 0.0, math.inf, -math.inf

    def add(self, values: Tensor) -> None:
        values = values.detach().cpu().double()  # not every device has double precision
        self.count += values.numel()
        self.sum, self.squares = self.sum + float(values.sum()), self.squares + float(values.square().sum())
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))

    def gain(self) -> Gain | None:
        if not self.count:
            return None
        mean = self.sum / self.count
        return Gain(mean, math.sqrt(max(self.squares / self.count - mean**2, 0.0)), self.least, self.most)


@contextmanager
def _gains(model: MSSC):
    """Within the block, all gains of MSM are counted."""
    running, slot = _Running(), model.video.motion
    if not isinstance(slot, MotionSense) or not has_channel_gain(slot):
        yield running
        return
    branch = model.get_submodule(f"{video_path_of(model)}.motion.perceptual.gain")
    with branch.register_forward_hook(lambda _module, _inputs, gates: running.add(channel_gain(slot, gates))):
        yield running


def vital_signs(
    detector: Detector,
    dataset: Dataset,
    step: int = 4,
    weights: MSSC | None = None,
    tick: Callable[[str], object] = lambda video: None,
) -> Vitals:
    """Look at a network's vitals while it watches videos.

    Args:
        detector: of the network.
        dataset: of its classes; videos without ground truth are left out.
        step: every n-th frame with ground truth is a key frame.
        weights: the same network with its BatchNorms; the detector's own one if None.
        tick: is called with each video's name when it has been seen.

    Raises:
        InputError: for another data set than the model's, and videos without any ground truth.
    """
    detector.check_classes(dataset)
    videos = [video for video in dataset.videos if key_frames(video, step)]
    if not videos:
        raise InputError(f"none of the {len(dataset)} videos of {dataset.name} has ground truth; there is nothing to look at.")
    model = weights or detector.model
    found = Vitals(moved=moved(model), scales=scales(model))
    entropy, distances = defaultdict(list), defaultdict(list)  # means of videos
    with _gains(detector.model) as running:
        for video in videos:
            even, far = defaultdict(list), defaultdict(list)
            for key in collect(detector, video, step):
                for where, value in _entropies(key):
                    even[where].append(value)
                for where, value in _distances(key) if _sense(detector.model) else ():
                    far[where].append(value)
            for whole, part in ((entropy, even), (distances, far)):
                for where, values in part.items():
                    whole[where].append(float(nanmean(np.array(values)[:, None])[0]))
            tick(video.name)
    found.gain = running.gain()
    found.entropy = {where: mean_interval(values) for where, values in entropy.items()}
    for measure in DISTANCES:
        before, after = (distances[tap, measure] for tap in BOTH_SIDES)
        if before:
            found.distances[measure] = (mean_interval(before), mean_interval(after), paired_interval(before, after))
    return found


def _sense(model: MSSC) -> bool:
    """Whether something stands in MSM's place."""
    return model.video.motion is not None and not isinstance(model.video.motion, NoMotionSense)


def _entropies(key: KeyFrame) -> Iterator[tuple[str, float]]:
    """Of a key frame, by where."""
    for level, stride in zip(key.levels, STRIDES, strict=True):
        columns = level.context if level.attention is None else level.attention.transpose(-2, -1)
        if columns is not None:
            for path, value in zip(PATHS, context_entropy(columns.float()).tolist(), strict=True):
                yield f"stride {stride}, {path} takes", value


def _distances(key: KeyFrame) -> Iterator[tuple[tuple[str, str], float]]:
    """Of a key frame, by side of MSM and measure; none where the actors leave too few cells of either kind."""
    kinds = cell_kinds(key.boxes, key.taps[BOTH_SIDES[0]].shape[:2], (key.size, key.size)).ravel()
    for tap in BOTH_SIDES if enough(kinds) else ():
        x = key.taps[tap].reshape(len(kinds), -1).astype(float)
        for measure in DISTANCES:
            yield (tap, measure), MEASURES[measure].of(x, kinds == ACTION, kinds == BACKGROUND)
