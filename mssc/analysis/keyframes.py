"""Runs a model over annotated videos and hands out what its parts compute at key frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Video
from ..data.decoding import decode
from ..detection.detector import FRAMES_AT_ONCE, Detector
from ..model.features import Features
from ..model.motion import MotionSense
from ..model.mssc import MSSC
from ..model.video import WindowedVideoPath
from ..structures import InputError
from ..video import frames_per_look
from .exchange import exchange_of
from .hooks import Captured, capture
from .msm import channel_gain, has_channel_gain

LEVELS = 3
TAPS = ("MSM in", "MSM out", "SFM in", "SFM out 8", "SFM out 16", "SFM out 32")
"""Where features are taken: MSM's input X and output, the map without time that enters SFM, and SFM's output by stride. Models
without a motion path have the last three only."""

Mode = Literal["stream", "clip"]


class Level(NamedTuple):
    """What SFM sees and does at one level of one key frame.

    Attributes:
        spatial: (1, C, H, W), A, the 2D path's map.
        motion: (1, C, H, W), M, the 3D path's; the spatial one again where there is no such path.
        fused: (C, H, W), OUT.
        corrected: both paths after stage 1, (C, H, W) each; () without a stage 1.
        exchanged: T, what each path takes from the exchange, (C', H, W) each; () likewise.
        context: (2, heads, d, d), the contexts G that the spatial and the motion path are given; None without channel contexts.
        attention: (2, heads, N, N) of the spatial and of the motion path's cells; None but for ``sfm_attention``.
    """

    spatial: Tensor
    motion: Tensor
    fused: Tensor
    corrected: tuple[Tensor, ...] = ()
    exchanged: tuple[Tensor, ...] = ()
    context: Tensor | None = None
    attention: Tensor | None = None


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """One frame with ground truth and all that was seen of it.

    Attributes:
        video: its name.
        frame: its number.
        size: side of the network's square input, to which boxes and image are stretched.
        image: (size, size, 3) uint8 RGB.
        boxes: (N, 4) ground truth in pixels of the input, N >= 1.
        labels: (N,) their classes.
        taps: by name of `TAPS`, (h, w, C) float32.
        levels: SFM, fine to coarse.
        normed: (h, w, D) Z, MSM's normalised input, which the gain works on; None without MSM.
        gain: (D,) 1 + a * phi; None where there is no gain per channel.
        features: all features of this frame.
        aspect: of the video's frames, width over height.
    """

    video: str
    frame: int
    size: int
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    taps: dict[str, np.ndarray]
    levels: tuple[Level, ...]
    normed: np.ndarray | None
    gain: np.ndarray | None
    features: Features
    aspect: float = 1.0


def key_frames(video: Video, step: int) -> list[int]:
    """Every `step`-th of the frames that have ground truth (of which it is known, where only some are labelled).

    Raises:
        InputError: for a step below 1.
    """
    if step < 1:
        raise InputError(f"the step is {step}; use 1 for every frame, or more.")
    acting = np.zeros(video.frames, bool)
    for tube in video.tubes:
        acting[tube.start : tube.stop] = True
    if video.labelled is not None:
        known = np.zeros(video.frames, bool)
        known[list(video.labelled)] = True
        acting &= known
    return np.flatnonzero(acting)[::step].tolist()


def collect(detector: Detector, video: Video, step: int = 4, mode: Mode = "stream", start: int = 0) -> Iterator[KeyFrame]:
    """Run a model over a video and look at its key frames.

    Args:
        detector: of the model, which is not changed.
        video: to decode.
        step: every n-th frame with ground truth is a key frame. Of those that a network is shown as one, the first counts.
        mode: "stream" sees the video from frame `start` on, as users do; "clip" sees of each key frame its window alone.
        start: of a stream.

    Raises:
        InputError: for an unknown mode, and a video that cannot be read.
    """
    if mode not in ("stream", "clip"):
        raise InputError(f"the mode is {mode!r}; use stream or clip.")
    model, state = detector.model, detector.model.initial_state(1)
    wanted = key_frames(video, step)
    for clip, places, frames in (
        streamed(detector, video, wanted, start) if mode == "stream" else windowed(detector, video, wanted)
    ):
        keys = torch.tensor([places or [clip.shape[2] - 1]])  # the state must go on in any case
        with _taps(model) as seen:
            _, after = detector.step(clip, state, keys)
        state = after if mode == "stream" else state
        for row, (place, frame) in enumerate(zip(places, frames, strict=True)):
            yield _key_frame(model, video, frame, clip[0, :, place], seen, row, place)


Shown = Iterator[tuple[Tensor, list[int], list[int]]]
"""Clips (1, 3, T, S, S), which of their frames are key frames, and the numbers of these in the video."""


def streamed(detector: Detector, video: Video, keys: list[int], start: int = 0, at_once: int = FRAMES_AT_ONCE) -> Shown:
    """The video from frame `start` to its last key frame, `at_once` frames after the other."""
    every = frames_per_look(float(video.rate))
    shown = {(key - start) // every: key for key in reversed(keys)}
    frames = islice(decode(video.path), start, keys[-1] + 1 if keys else start, every)
    first = 0
    while some := list(islice(frames, at_once)):
        clip = detector.prepare(some).transpose(0, 1)[None]
        places = [place for place in range(len(some)) if first + place in shown]
        yield clip, places, [shown[first + place] for place in places]
        first += len(some)


def windowed(detector: Detector, video: Video, keys: list[int]) -> Shown:
    """The window of each key frame, as short as what there is."""
    for clips, numbers in detector.windows(decode(video.path), float(video.rate), keys):
        for clip, number in zip(clips, numbers, strict=True):
            yield clip[None], [clip.shape[1] - 1], [number]


def _taps(model: MSSC):
    """Everything that a `KeyFrame` needs, recorded."""
    names = {module: name for name, module in model.named_modules()}
    outputs, inputs = [], ["head", *(f"fusion.levels.{i}" for i in range(LEVELS))]
    motion = names.get(model.video.motion, "")
    if motion:
        outputs += [motion]
        inputs += [motion]
    if isinstance(model.video.motion, MotionSense):
        outputs += [f"{motion}.norm"] + ([f"{motion}.perceptual.gain"] if has_channel_gain(model.video.motion) else [])
    for i in range(LEVELS):
        level = f"fusion.levels.{i}"
        outputs.append(level)
        exchange = exchange_of(model.fusion.levels[i])
        if exchange is not None:
            way = "weights" if exchange.by_position else "context"
            takes = [f"{level}.exchange.take.{path}" for path in range(2)]
            outputs += [f"{level}.exchange", *takes, *(f"{take}.{way}" for take in takes)]
    return capture(model, *outputs, inputs=inputs)


def _key_frame(model: MSSC, video: Video, frame: int, image: Tensor, seen: Captured, row: int, key: int) -> KeyFrame:
    size = model.config.key_size
    boxes, labels = video.boxes_at(frame)
    levels = tuple(_level(model, seen, i, row) for i in range(LEVELS))
    features: Features = seen.inputs["head"][0]
    sense = model.video.motion
    motion = next((name for name, module in model.named_modules() if module is sense), "")

    def at(x: Tensor) -> np.ndarray:
        """A map (B, T', h, w, D) of the key frame: its own one of a stream, the last one of its window where each key frame has one."""
        return (x[row, -1] if isinstance(model.video, WindowedVideoPath) else x[0, key]).float().cpu().numpy()

    taps: dict[str, np.ndarray] = {}
    normed = gain = None
    if motion:
        taps = {"MSM in": at(seen.inputs[motion][0]), "MSM out": at(seen[motion][0])}
        taps["SFM in"] = features.video.map[row].permute(1, 2, 0).float().cpu().numpy()
        if isinstance(sense, MotionSense):
            normed = at(seen[f"{motion}.norm"])
            if f"{motion}.perceptual.gain" in seen:
                gates = channel_gain(sense, seen[f"{motion}.perceptual.gain"])
                shape = seen[f"{motion}.norm"].shape[:2]  # a learned average has one gate for all frames
                gain = at(gates.expand(*shape, *gates.shape[2:])).mean((0, 1))
    for level, stride in zip(levels, (8, 16, 32), strict=True):
        taps[f"SFM out {stride}"] = level.fused.permute(1, 2, 0).float().cpu().numpy()
    scale = np.array([size / video.width, size / video.height] * 2, np.float32)
    picture = image.permute(1, 2, 0).cpu().numpy()
    one = features.key_frame(row)
    aspect = video.width / video.height
    return KeyFrame(video.name, frame, size, picture, boxes * scale, labels, taps, levels, normed, gain, one, aspect)


def _level(model: MSSC, seen: Captured, level: int, row: int) -> Level:
    spatial, motion = (x[row : row + 1] for x in seen.inputs[f"fusion.levels.{level}"])
    fused = seen[f"fusion.levels.{level}"][row]
    exchange = exchange_of(model.fusion.levels[level])
    if exchange is None:
        return Level(spatial, motion, fused)
    name = f"fusion.levels.{level}.exchange"
    corrected = tuple(x[row] for x in seen[name])
    taken = [seen[f"{name}.take.{path}"][row] for path in range(2)]  # (heads, N, d)
    exchanged = tuple(x.transpose(1, 2).flatten(0, 1).unflatten(1, fused.shape[1:]) for x in taken)
    if exchange.by_position:
        return Level(spatial, motion, fused, corrected, exchanged, None, _both(seen, f"{name}.take", "weights", row))
    return Level(spatial, motion, fused, corrected, exchanged, _both(seen, f"{name}.take", "context", row), None)


def _both(seen: Captured, name: str, what: str, row: int) -> Tensor:
    return torch.stack([seen[f"{name}.{path}.{what}"][row] for path in range(2)])
