"""A video in, action tubes out: the one pipeline behind command line, app and notebooks.

::

    read --> resize --> network, streaming --> NMS --> online linking --> tubes      first pass
    read --> draw the tubes --> write                                               second pass, if a video is wanted

Decoding runs beside the rest, a few frames ahead; neither pass holds more than those. The second pass decodes again rather than keeping
frames: what is drawn is what is reported.
"""

import ctypes
import functools
import json
import platform
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from ..config import ModelConfig
from ..data.resize import resize
from ..linking import LinkConfig, OnlineLinker
from ..model.checkpoint import load_model
from ..model.mssc import MSSC, fold_batch_norms
from ..structures import DetectionLog, Detections, InputError, Predictions, Tube
from ..video import VideoInfo, Writer, drawing, frames_per_look, probe, read
from .result import VideoResult

NMS_IOU = 0.5  # actors that overlap more are one (YOLOX uses 0.65 on COCO; videos of actions are less crowded)
LOWEST_SCORE = 0.01  # rows below are dropped: they only cost time and memory (YOWOv2 stops at 0.005)
MOST_ROWS = 50  # of a frame, the best of them (as many as AVA's evaluator takes): a crowded video must not fill the memory
FRAMES_AT_ONCE = 16  # per call of the network: fewer calls are faster, more need more memory
FRAMES_AHEAD = 8  # decoded before they are needed
DEFAULT_THRESHOLD = 0.3
MODELS = Path(__file__).resolve().parents[2] / "assets" / "models"

Progress = Callable[[int, int | None, str], None]
T = TypeVar("T")


def action_probabilities(logits: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """(..., A) logits to probabilities: they sum to 1 where the classes exclude each other."""
    return logits.softmax(-1) if config.actions == "exclusive" else logits.sigmoid()


def to_detections(
    predictions: Predictions, config: ModelConfig, width: int, height: int, lowest: float = LOWEST_SCORE
) -> list[Detections]:
    """Turn B frames of predictions into detections: NMS among actors, one row per (actor, action), source pixels.

    Args:
        predictions: of the network. Not modified.
        config: the network's.
        width: of the source frame in pixels.
        height: likewise.
        lowest: rows below this score are dropped. A score is objectness times the action's probability.

    Returns:
        B detections of at most `MOST_ROWS` rows, actors by descending objectness.
    """
    from torchvision.ops import batched_nms  # here: it takes seconds, and the page's start need not wait

    boxes, logits = predictions.boxes.float().cpu(), predictions.logits.float().cpu()
    actor = predictions.objectness.float().sigmoid().cpu()
    batch, kept = actor.shape
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    boxes = torch.minimum((boxes * (limit / config.key_size)).clamp(min=0), limit)
    scores = (actor[..., None] * action_probabilities(logits, config)).clamp(0, 1)
    frame = torch.arange(batch).repeat_interleave(kept)
    likely = (scores >= lowest).any(2).flatten().nonzero()[:, 0]
    chosen = likely[batched_nms(boxes.reshape(-1, 4)[likely], actor.reshape(-1)[likely], frame[likely], NMS_IOU)]
    found = []
    for index in range(batch):
        rows = chosen[frame[chosen] == index] - index * kept
        box, action = (scores[index, rows] >= lowest).nonzero(as_tuple=True)
        score = scores[index, rows[box], action]
        best = score.topk(min(MOST_ROWS, len(score))).indices.sort().values
        box, action, score = box[best], action[best], score[best]  # copies: views would keep what they are cut from
        found.append(Detections(boxes[index, rows[box]].numpy(), action.numpy(), score.numpy()))
    return found


# -------------------------------------------------------------------- models


def available_models() -> dict[str, Path]:
    """Names and folders of the models that ship with the package."""
    return {path.parent.name: path.parent for path in sorted(MODELS.glob("*/config.json"))}


def default_model() -> str:
    """The model for a video of which nothing is known.

    Raises:
        InputError: if none ships.
    """
    models = available_models()
    if not models:
        raise InputError(f"{MODELS} holds no model; train one with 'mssc train', or copy one there.")
    return "jhmdb" if "jhmdb" in models else next(iter(models))


def model_folder(name: str | Path) -> Path:
    """Where a model is: "default", a name of `available_models`, or a folder.

    Raises:
        InputError: naming the models there are.
    """
    models = available_models()
    if str(name) == "default":
        return models[default_model()]
    if str(name) in models:
        return models[str(name)]
    folder = Path(name)
    if folder.is_dir():
        return folder
    raise InputError(
        f"there is no model {str(name)!r}; give a folder with config.json, or one of: {', '.join(models) or '(none)'}."
    )


def default_threshold(name: str | Path) -> float:
    """The score from which this model's tubes are shown, chosen on its validation videos."""
    try:
        return float(json.loads((model_folder(name) / "about.json").read_text())["threshold"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_THRESHOLD


def keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of returning them to the system: eager networks on a CPU spend up to half of their
    time in page faults otherwise. Nothing happens on other systems."""
    if platform.system() == "Linux":
        try:
            libc = ctypes.CDLL("libc.so.6")
            trim_threshold, mmap_threshold, keep = -1, -3, 1 << 25
            libc.mallopt(mmap_threshold, keep)
            libc.mallopt(trim_threshold, 8 * keep)
        except (OSError, AttributeError):
            return


@functools.lru_cache(maxsize=2)
def _ready(folder: Path, changed: float) -> MSSC:
    keep_freed_memory()
    return fold_batch_norms(load_model(folder)).requires_grad_(False)


def load_for_detection(name: str | Path = "default") -> MSSC:
    """A model, made fast for inference; the same object when asked again.

    Raises:
        InputError: see `model_folder` and `mssc.model.checkpoint.load_model`.
    """
    folder = model_folder(name)
    weights = folder / "model.safetensors"
    return _ready(folder, weights.stat().st_mtime if weights.exists() else 0.0)


# -------------------------------------------------------------------- the pipeline


class _Clock:
    """Adds up what each stage takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items, with the time that they took to come."""
        source = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item


def _ahead(items: Iterable[T], most: int = FRAMES_AHEAD) -> Iterator[T]:
    """The items, produced by a thread of their own, at most `most` of them waiting. What it raises is raised here."""
    waiting: queue.Queue = queue.Queue(most)
    left = threading.Event()

    def put(entry: object) -> bool:
        while not left.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # also an interrupt: the consumer shall hear of everything
            put((None, error))

    producer = threading.Thread(target=produce, daemon=True, name="decode")
    producer.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        left.set()
        producer.join(timeout=5)


class Step(NamedTuple):
    """How far a detection has come.

    Attributes:
        done: frames of the stage that are done.
        total: frames in all; None if unknown, and an estimate while the video is looked at for the first time.
        stage: what is being done: looking for actions, or drawing.
        result: what was found so far; its tubes come at the end of the first pass.
        complete: whether that is over.
        tubes_so_far: gives the tubes that there would be if the video ended here, of at least the threshold; takes some milliseconds.
        image: while drawing, the (H, W, 3) uint8 RGB frame as it was before; not to be modified.
    """

    done: int
    total: int | None
    stage: str
    result: VideoResult
    complete: bool
    tubes_so_far: Callable[[], list[Tube]]
    image: np.ndarray | None = None


def detect_video(
    path: str | Path,
    model: str | Path | MSSC = "default",
    threshold: float | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    link: LinkConfig | None = None,
) -> VideoResult:
    """Find the action tubes of a video.

    Args:
        path: of the video file.
        model: a name of `available_models`, a model's folder, or a model in eval mode.
        threshold: tubes of at least this score are reported, in [0, 1]; None takes the model's own.
        output: where to write the video with its tubes drawn (MP4, H.264); None writes none.
        progress: is called with frames done, frames in all (None if unknown) and what is being done.
        link: how detections become tubes.

    Raises:
        InputError: for a video, a model, a threshold or an output that cannot be used. No half-written file is left.
    """
    result = None
    for step in detect_steps(path, model, threshold, output, link):
        result = step.result
        if progress is not None:
            progress(step.done, step.total, step.stage)
    assert result is not None  # every video has a frame
    return result


def detect_steps(
    path: str | Path,
    model: str | Path | MSSC = "default",
    threshold: float | None = None,
    output: str | Path | None = None,
    link: LinkConfig | None = None,
) -> Iterator[Step]:
    """`detect_video`, a frame at a time, for those who show what there is so far, or may want to stop: closing the iterator ends the work
    and leaves no file. Same arguments, same errors.

    Yields:
        A step per frame, one with the result after the first pass, and, if a video is wanted, a step per frame drawn.
    """
    name, threshold = _settings(model, threshold)
    network = model if isinstance(model, MSSC) else load_for_detection(model)
    info, clock = probe(path), _Clock()
    if output is not None and Path(output).resolve() == Path(path).resolve():
        raise InputError(f"{output} is the video itself; name another file for the one with its tubes drawn.")
    writer = Writer(output, info.width, info.height, info.rate, info.pixel_aspect, drawn=True) if output is not None else None
    linker = OnlineLinker(link, float(info.rate), threshold)
    video, detections = Path(output) if output is not None else None, DetectionLog()
    result = VideoResult(info, network.config.classes, [], detections, [], clock.seconds, name, threshold, video)
    tubes, times = result.tubes, result.times

    def so_far() -> list[Tube]:
        return _in_order(linker.so_far())

    for found in _first_pass(network, info, times, linker, clock):
        detections.append(found)
        yield Step(len(detections), info.frames, "looking for actions", result, False, so_far)
    with clock("link"):
        tubes += _in_order(linker.finish())
    whole = Step(len(times), len(times), "looking for actions", result, True, lambda: list(tubes))
    yield whole
    if writer is not None:
        with writer:
            for index, image in _second_pass(writer, result, clock):
                yield whole._replace(done=index + 1, stage="drawing", image=image)


def _in_order(tubes: list[Tube]) -> list[Tube]:
    return sorted(tubes, key=lambda tube: (tube.start, -tube.score))


def _settings(model: str | Path | MSSC, threshold: float | None) -> tuple[str, float]:
    if isinstance(model, MSSC):
        name, default = "(given)", DEFAULT_THRESHOLD
    else:
        name, default = model_folder(model).name, default_threshold(model)
    threshold = default if threshold is None else float(threshold)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must lie in [0, 1].")
    return name, threshold


def stream_detections(
    model: MSSC, images: Iterable[np.ndarray], clock: _Clock | None = None, every: int = 1
) -> Iterator[Detections]:
    """Detections of each frame, without linking.

    Args:
        model: in eval mode.
        images: (H, W, 3) uint8 RGB frames of one video, in order.
        clock: adds up the time by stage.
        every: look at every n-th frame only; those in between are said to show the same. See `frames_per_look`.
    """
    clock, stream, source = clock or _Clock(), model.stream(), iter(images)
    at_once = max(FRAMES_AT_ONCE // every, 1) * every
    while True:
        small, count, height, width = [], 0, 0, 0
        for image in islice(source, at_once):  # one large image at a time
            if count % every == 0:
                height, width = image.shape[:2]
                with clock("resize"):
                    small.append(resize(torch.from_numpy(image).permute(2, 0, 1)[None], model.config.key_size))
            count += 1
        if not count:
            return
        with clock("network"):
            predictions = stream(torch.cat(small))
        with clock("boxes"):
            found = to_detections(predictions, model.config, width, height)
        for place in range(count):
            yield found[place // every]


def _first_pass(model: MSSC, info: VideoInfo, times: list[float], linker: OnlineLinker, clock: _Clock) -> Iterator[Detections]:
    def images() -> Iterator[np.ndarray]:
        for frame in clock.each("decode", _ahead(read(info.path))):
            times.append(frame.time)
            yield frame.image

    for found in stream_detections(model, images(), clock, frames_per_look(float(info.rate))):
        with clock("link"):
            linked = linker.step(found)
        yield linked


def _second_pass(writer: Writer, result: VideoResult, clock: _Clock) -> Iterator[tuple[int, np.ndarray]]:
    tubes, actors = result.tubes, drawing.actors(result.tubes)
    for frame in clock.each("decode", _ahead(read(result.info.path))):
        with clock("draw"):
            here = [(tube, actor) for tube, actor in zip(tubes, actors, strict=True) if tube.start <= frame.index < tube.stop]
            rows = Detections(
                np.array([tube.boxes[frame.index - tube.start] for tube, _ in here]).reshape(-1, 4),
                np.array([tube.label for tube, _ in here]),
                np.array([tube.score for tube, _ in here]),
            )
            image = drawing.draw(frame.image, rows, result.classes, [actor for _, actor in here])
        with clock("encode"):
            writer.write(image, frame.time)
        yield frame.index, frame.image
