"""Frames in, detections out. The network speaks tensors, the detector speaks users: nothing else turns the one into the other.

::

    frames --> prepare: resize ----------------> step: the network -------> to_detections: NMS, source pixels --> Detections
           --> now and then: resize, larger ---> people: who is there -------> to_people -------------------------^
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

import numpy as np

from ..config import ModelConfig
from ..model.shipped import DEFAULT_THRESHOLD, WEIGHTS, default_threshold, load_config, model_folder, name_of
from ..structures import Detections, InputError, Predictions
from ..video import frames_per_look
from .postprocess import Classified, to_detections, to_people
from .preprocess import Ready, Size, people_every, prepare, prepare_large, squares
from .resources import choose_device, inference_threads, is_cpu, tune_malloc
from .runtime import GraphState, GraphStep, stream_step
from .stopwatch import Stopwatch

if TYPE_CHECKING:  # a graph runtime needs no torch, whose import takes seconds and half a gigabyte
    import torch
    from torch import Tensor

    from ..data.dataset import Dataset
    from ..model.mssc import MSSC
    from ..model.video import Keys, State

FRAMES_AT_ONCE = 16  # of a stream, per call of the network: fewer calls are faster, more need more memory
WINDOWS_AT_ONCE = 8  # likewise


class Detector:
    """A network, ready for frames::

        detector = Detector.load("jhmdb")
        stream = detector.stream(rate=30)
        for frame in frames:            # (H, W, 3) uint8 RGB
            (detections,) = stream(frame)

    Args:
        model: in eval mode; used as it is, where it is. A model's folder instead is read when the network itself is asked for.
        name: of the model, for people.
        threshold: the score from which its tubes are reported.
        graphs: compute streams instead of the network.

    Raises:
        InputError: for a model in training mode, whose answers depend on the batch.
    """

    def __init__(
        self, model: "MSSC | Path", name: str = "model", threshold: float = DEFAULT_THRESHOLD, graphs: GraphStep | None = None
    ) -> None:
        if not isinstance(model, Path):
            if model.training:
                raise InputError("the model is in training mode, where features depend on the batch; call model.eval() first.")
            self.model = model
        self.folder = model if isinstance(model, Path) else None
        self.config: ModelConfig = load_config(model) if isinstance(model, Path) else model.config
        self.name, self.threshold, self.graphs = name, threshold, graphs

    @cached_property
    def model(self) -> "MSSC":
        """The network, its BatchNorms folded into what is before them if it was read here."""
        from ..model.checkpoint import load_model
        from ..model.layers import fold_batch_norms

        assert self.folder is not None
        return fold_batch_norms(load_model(self.folder)).requires_grad_(False)

    @property
    def runtime(self) -> str:
        """What computes streams: "openvino", "openvino-bf16", "onnx" or "torch"."""
        return "torch" if self.graphs is None else self.graphs.runtime

    @classmethod
    def load(cls, name: str | Path = "default", device: str = "auto", runtime: str = "auto") -> "Detector":
        """A model of its own, made fast: on its device, BatchNorms folded, called once so that the first frame need not wait.

        Args:
            name: of a model that ships, "default", or a model's folder.
            device: "auto" takes the GPU where there is one; else as PyTorch names it.
            runtime: what computes a stream: "torch", "onnx", "openvino", or "openvino-bf16", which rounds to bfloat16; "auto" takes, on a
                CPU and if the model has graphs, OpenVINO, or ONNX Runtime where that is not installed.

        Raises:
            InputError: for a model, a device or a runtime that cannot be used.
        """
        folder = model_folder(name)
        tune_malloc()
        graphs = stream_step(folder, runtime, "cpu" if is_cpu(device) else str(choose_device(device)))
        detector = cls(folder, name_of(folder), default_threshold(folder), graphs)
        if graphs is None:  # those are ready as they are opened
            detector.model.to(choose_device(device))
            detector.stream()(np.zeros((detector.config.key_size,) * 2 + (3,), np.uint8))
        return detector

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the actions."""
        return self.config.classes

    @property
    def device(self) -> "torch.device":
        """Where the network is."""
        return next(self.model.parameters()).device

    def check_classes(self, dataset: "Dataset") -> None:
        """Refuse a data set of other actions.

        Raises:
            InputError: naming some of both.
        """
        if self.classes != tuple(dataset.classes):
            ours, theirs = (", ".join(classes[:3]) + ", …" for classes in (self.classes, dataset.classes))
            raise InputError(
                f"the model {self.name} knows {ours}, but {dataset.name} has {theirs}; use the data that it was trained for."
            )

    def prepare(self, frames: Iterable[np.ndarray]) -> "Tensor":
        """`mssc.detection.preprocess.prepare` for this network."""
        return prepare(frames, self.config.key_size)

    def step(self, clip: "Tensor", state: "State", keys: "Keys") -> "tuple[Predictions, State]":
        """The network's step, see `MSSC.step`: the one place that calls it. Where the tensors are does not matter.

        Args:
            clip: (B, 3, T, S, S), see `prepare`.
            state: of `self.model.initial_state` or an earlier step.
            keys: (B, K) which of the T frames to detect in, or a slice of them.
        """
        import torch

        keys = keys if isinstance(keys, slice) else keys.to(self.device)
        with inference_threads(), torch.no_grad():  # not inference mode: an analysis takes gradients from its tensors
            return self.model.step(clip.to(self.device), state, keys)

    def initial_state(self) -> "State | GraphState":
        """Of one stream, for `go_on`."""
        return self.model.initial_state(1) if self.graphs is None else self.graphs.initial_state()

    def go_on(self, frames: np.ndarray, state: "State | GraphState") -> "tuple[Predictions | Classified, State | GraphState]":
        """The next frames (T, S, S, 3) uint8 of one stream, all of them key frames, by whatever `runtime` computes it."""
        if self.graphs is not None:
            return self.graphs(frames, state)  # type: ignore[arg-type]  # of its own `initial_state`
        import torch

        return self.step(torch.from_numpy(frames).permute(3, 0, 1, 2)[None], state, slice(None))  # type: ignore[arg-type]  # likewise

    def people(self, frame: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Everybody in a frame, whatever they do, by whatever `runtime` computes streams: boxes (M, 4) in its source's pixels and scores
        (M,), the surest first.

        Args:
            frame: (H, W, 3) uint8, see `prepare_large`.
            size: of the source.

        Raises:
            ValueError: if the network has no detector of people.
        """
        if self.config.person == "none":
            raise ValueError("this network has no detector of people.")
        if self.graphs is not None:
            found = self.graphs.people(frame)
        else:
            import torch

            with inference_threads(), torch.no_grad():
                found = self.model.people(torch.from_numpy(frame).permute(2, 0, 1)[None].to(self.device))
        return to_people(*found, frame.shape[:2], [size])[0]

    def detect(self, clip: "Tensor", size: Size, keys: "Tensor | None" = None) -> list[Detections]:
        """Detections in clips from their true start.

        Args:
            clip: (B, 3, T, S, S), see `prepare`.
            size: of the source.
            keys: (B, K) key frames; the last frame if None.

        Returns:
            B * K.
        """
        if keys is None:
            import torch

            keys = torch.full((len(clip), 1), clip.shape[2] - 1)
        predictions, _ = self.step(clip, self.model.initial_state(len(clip)), keys)
        return to_detections(predictions, self.config, [size] * keys.numel())

    def window(
        self, frames: Sequence[np.ndarray], keys: Sequence[int] | None = None, size: Size | None = None
    ) -> list[Detections]:
        """Detections in some frames of a clip, seen from its first frame on.

        Args:
            frames: (H, W, 3) uint8 RGB each, oldest first, at the pace that the network learnt, see `frames_per_look`.
            keys: in which of them to detect; the last one if None.
            size: of the source where frames are stored smaller; that of the first frame if None.

        Raises:
            InputError: see `prepare`; also for a key frame that is none of these frames.
        """
        import torch

        clip = self.prepare(frames).transpose(0, 1)[None]
        wanted = torch.tensor([[len(frames) - 1] if keys is None else list(keys)])
        if not wanted.numel() or wanted.min() < 0 or wanted.max() >= len(frames):
            raise InputError(f"the key frames are {wanted[0].tolist()}; name at least one, from 0 to {len(frames) - 1}.")
        height, width = size or frames[0].shape[:2]
        return self.detect(clip, (height, width), wanted)

    def windows(
        self, frames: Iterable[np.ndarray], rate: float | None = None, keys: Collection[int] | None = None
    ) -> "Iterator[tuple[Tensor, list[int]]]":
        """What the network is shown of key frames if each is judged by its window alone, as most other systems do.

        Args:
            frames: of one video, from its first on.
            rate: frames a second of the video, for `frames_per_look`; None shows the network every frame.
            keys: numbers of the key frames; None for every frame that the network is shown. Of several that it would be shown as one, the
                first counts.

        Yields:
            Clips (B, 3, T, S, S) for `detect`, of the first key frames shorter than `config.window`, and the number of each key frame.
        """
        import torch

        every = 1 if rate is None else frames_per_look(rate)
        shown: dict[int, int] = {}
        for key in sorted(keys or ()):
            shown.setdefault(key // every, key)
        stop = None if keys is None else max(keys, default=-1) + 1
        past = deque[torch.Tensor](maxlen=self.config.window)
        clips: list[torch.Tensor] = []
        numbers: list[int] = []
        for place, frame in enumerate(islice(frames, 0, stop, every)):
            past.append(self.prepare([frame])[0])
            if keys is not None and place not in shown:
                continue
            clip = torch.stack(list(past), 1)
            if clips and (clips[0].shape != clip.shape or len(clips) == WINDOWS_AT_ONCE):
                yield torch.stack(clips), numbers
                clips, numbers = [], []
            clips.append(clip)
            numbers.append(shown.get(place, place * every))
        if clips:
            yield torch.stack(clips), numbers

    def stream(
        self, rate: float | None = None, size: Size | None = None, stopwatch: Stopwatch | None = None
    ) -> "DetectionStream":
        """A new video, to be fed a few frames at a time; arguments as of `DetectionStream`."""
        return DetectionStream(self, rate, size, stopwatch)


class DetectionStream:
    """A video, fed to a detector as it comes. Its memory does not grow, and what it finds is what the whole video as one clip gives.

    Args:
        detector: may have several streams.
        rate: frames a second of the video, for `frames_per_look`; None shows the network every frame.
        size: of the source where frames are stored smaller; each frame's own if None.
        stopwatch: adds up the time by stage.

    Attributes:
        every: the network is shown every n-th frame.
        at_once: frames that go through one call of the network.
        people_every: people are looked for in every n-th frame, see `mssc.detection.preprocess.people_every`; None if the network cannot.

    Raises:
        InputError: for a rate that is no number above 0, and a size that is none.
    """

    def __init__(
        self, detector: Detector, rate: float | None = None, size: Size | None = None, stopwatch: Stopwatch | None = None
    ) -> None:
        if rate is not None and not (isinstance(rate, SupportsFloat) and 0 < float(rate) < float("inf")):
            raise InputError(f"the rate is {rate!r}; give frames a second, above 0, or None to show the network every frame.")
        if size is not None and not (
            len(size) == 2 and all(isinstance(side, SupportsFloat) and float(side) >= 1 for side in size)
        ):
            raise InputError(f"the size is {size!r}; give height and width of the source in pixels, or None.")
        self.detector, self.size, self.stopwatch = detector, size, stopwatch or Stopwatch()
        self.every = 1 if rate is None else frames_per_look(rate)
        self.people_every = self.every * people_every(rate) if detector.config.person != "none" else None
        self.at_once = max(FRAMES_AT_ONCE // self.every, 1) * self.every
        self.state = detector.initial_state()
        self.frames, self.last = 0, Detections.empty()
        self.people = self.last.people, self.last.person  # of the last frame that they were looked for in

    def __call__(self, frames: np.ndarray | Iterable[np.ndarray]) -> list[Detections]:
        """The detections of each of the next frames, see `iterate`.

        Args:
            frames: (H, W, 3) uint8 RGB, or several of them. Not modified.
        """
        if not isinstance(frames, Iterable):
            raise InputError(f"the frames are of type {type(frames).__name__}; give an array (H, W, 3) uint8, RGB, or several.")
        return list(self.iterate([frames] if isinstance(frames, np.ndarray) and frames.ndim == 3 else frames))

    def iterate(self, frames: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Detections of frame after frame. Few frames are held at a time, however many there are. Where the network is shown every n-th
        frame only, those in between are said to show the same.

        Raises:
            InputError: for what is no frame; the stream is then as before the call of the network that it belonged to.
        """
        return self.follow(self.ready(frame, number) for number, frame in enumerate(frames, self.frames))

    def ready(self, frame: np.ndarray, number: int) -> Ready | None:
        """A frame as `follow` takes it, also made in another thread; None for one that the network is not shown. `number` counts the
        stream's frames from 0."""
        if number % self.every:
            return None
        config = self.detector.config
        (small,) = squares([frame], config.key_size)
        searched = self.people_every is not None and number % self.people_every == 0
        large = prepare_large(frame, config.person_size) if searched else None
        return Ready(small, self.size or (frame.shape[0], frame.shape[1]), large)

    def follow(self, frames: Iterable[Ready | None]) -> Iterator[Detections]:
        """As `iterate`, of frames that are `ready`."""
        source = iter(frames)
        while found := self._next(islice(source, self.at_once)):
            yield from found

    def _next(self, frames: Iterable[Ready | None]) -> list[Detections]:
        shown: list[Ready] = []
        shows: list[int] = []  # for each frame, how many were shown by then
        for frame in frames:
            shown += [] if frame is None else [frame]
            shows.append(len(shown))
        found = [self.last]
        if shown:
            with self.stopwatch("network"):
                predictions, self.state = self.detector.go_on(np.stack([frame.frame for frame in shown]), self.state)
            with self.stopwatch("boxes"):
                rows = to_detections(predictions, self.detector.config, [frame.size for frame in shown])
            for frame, here in zip(shown, rows, strict=True):
                if frame.large is not None:
                    with self.stopwatch("people"):
                        self.people = self.detector.people(frame.large, frame.size)
                found.append(replace(here, people=self.people[0], person=self.people[1]))
        self.frames, self.last = self.frames + len(shows), found[-1]
        return [found[place] for place in shows]


@lru_cache(maxsize=2)
def _loaded(folder: Path, changed: float, device: str) -> Detector:
    return Detector.load(folder, device)


def shared_detector(name: str | Path = "default", device: str = "auto") -> Detector:
    """`Detector.load`, but the same object when asked again: for who only detects. Anew when the weights have changed.

    Raises:
        InputError: see `Detector.load`.
    """
    folder = model_folder(name)
    weights = folder / WEIGHTS
    return _loaded(folder, weights.stat().st_mtime if weights.exists() else 0.0, device)
