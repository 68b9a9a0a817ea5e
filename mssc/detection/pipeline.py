"""A video in, action tubes out: the one pipeline behind command line, app and notebooks.

::

    read, resize --> network, streaming --> NMS --> online linking --> tubes      first pass
    read --> draw the tubes --> write                                            second pass, if a video is wanted

Reading runs beside the rest, some small frames or a few large ones ahead; neither pass holds more than those. The second pass decodes
again rather than keeping frames: what is drawn is what is reported.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..linking import LinkConfig, OnlineLinker
from ..structures import DetectionLog, Detections, InputError, Tube
from ..video import Frame, VideoInfo, Writer, drawing, noted, probe, read
from ..video.writer import is_drawn
from .detector import FRAMES_AT_ONCE, DetectionStream, Detector, Ready, shared_detector
from .people import PeopleLinker
from .prefetch import prefetch
from .result import VideoResult
from .stopwatch import Stopwatch

WHOLE = 0.9  # share of the frames and seconds that a file speaks of from which on the rest is a matter of counting
Progress = Callable[[int, int | None, str], None]


class Step(NamedTuple):
    """How far a detection has come.

    Attributes:
        done: frames of the stage that are done.
        total: frames in all; None if unknown, and an estimate while the video is looked at for the first time.
        stage: what is being done: looking for actions, or drawing.
        result: what was found so far; its tubes and people come at the end of the first pass.
        complete: whether that is over.
        so_far: gives the result that there would be if the video ended here; takes some milliseconds.
        image: while drawing, the (H, W, 3) uint8 RGB frame as it was before; not to be modified.
    """

    done: int
    total: int | None
    stage: str
    result: VideoResult
    complete: bool
    so_far: Callable[[], VideoResult]
    image: np.ndarray | None = None


def detect_video(
    path: str | Path,
    model: str | Path | Detector = "default",
    threshold: float | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    link: LinkConfig | None = None,
) -> VideoResult:
    """Find the action tubes of a video.

    Args:
        path: of the video file.
        model: a name of `available_models`, a model's folder, or a detector, for another device than "auto".
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
    model: str | Path | Detector = "default",
    threshold: float | None = None,
    output: str | Path | None = None,
    link: LinkConfig | None = None,
) -> Iterator[Step]:
    """`detect_video`, a frame at a time, for those who show what there is so far, or may want to stop: closing the iterator ends the work
    and leaves no file. Same arguments, same errors.

    Yields:
        A step per frame, one with the result after the first pass, and, if a video is wanted, a step per frame drawn.
    """
    detector = model if isinstance(model, Detector) else shared_detector(model)
    threshold = detector.threshold if threshold is None else float(threshold)
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; it must lie in [0, 1].")
    info, stopwatch = probe(path), Stopwatch()
    if output is not None and Path(output).resolve() == Path(path).resolve():
        raise InputError(f"{output} is the video itself; name another file for the one with its tubes drawn.")
    if output is not None and Path(output).suffix.lower() != ".mp4":
        raise InputError(f"{output} is to be an MP4; let its name end in .mp4.")
    if output is not None and Path(output).exists() and not is_drawn(output):
        raise InputError(f"{output} exists, and is no video that was drawn here; name another file, or delete it.")
    writer = Writer(output, info.width, info.height, info.rate, info.pixel_aspect, True, path) if output is not None else None
    linker, stream = OnlineLinker(link, float(info.rate), threshold), detector.stream(float(info.rate), stopwatch=stopwatch)
    video, detections = Path(output) if output is not None else None, DetectionLog()

    everybody = PeopleLinker(float(info.rate), len(detector.classes), stream.people_every)

    def so_far() -> VideoResult:
        return replace(result, tubes=_in_order(linker.so_far()), people=everybody.so_far(detections))

    with noted(path) as notes:
        result = VideoResult(
            info, detector.classes, [], detections, [], stopwatch.seconds, detector.name, threshold, video, notes
        )
        times = result.times
        for found in _first_pass(stream, info, times, linker, stopwatch):
            detections.append(found)
            everybody.step(found)
            yield Step(len(detections), info.frames, "looking for actions", result, False, so_far)
        # The count may be a guess, from an even rate that a camera does not keep.
        short = bool(info.frames) and len(times) < WHOLE * info.frames
        if short and (info.duration is None or times[-1] < WHOLE * info.duration):
            notes.append(f"{len(times)} of its {info.frames} frames can be decoded; it may have been cut off.")
    with stopwatch("link"):
        result.tubes[:] = _in_order(linker.finish())
    result.people[:] = everybody.so_far(detections)
    whole = Step(len(times), len(times), "looking for actions", result, True, lambda: result)
    yield whole
    if writer is not None:
        with writer:
            for index, image in _second_pass(writer, result, stopwatch):
                yield whole._replace(done=index + 1, stage="drawing", image=image)


def _in_order(tubes: list[Tube]) -> list[Tube]:
    return sorted(tubes, key=lambda tube: (tube.start, -tube.score))


def _first_pass(
    stream: DetectionStream, info: VideoInfo, times: list[float], linker: OnlineLinker, stopwatch: Stopwatch
) -> Iterator[Detections]:
    ahead = deque[float]()  # times of frames that are being looked at

    def shrunk() -> Iterator[tuple[float, Ready | None]]:
        for frame in read(info.path):
            yield frame.time, stream.ready(frame.image, frame.index)

    def shown() -> Iterator[Ready | None]:
        for time, frame in stopwatch.each("decode", prefetch(shrunk(), 2 * FRAMES_AT_ONCE)):
            ahead.append(time)
            yield frame

    for found in prefetch(stream.follow(shown()), FRAMES_AT_ONCE):  # the network goes on meanwhile
        with stopwatch("link"):
            linked = linker.step(found)
        times.append(ahead.popleft())
        yield linked


def _second_pass(writer: Writer, result: VideoResult, stopwatch: Stopwatch) -> Iterator[tuple[int, np.ndarray]]:
    def drawn() -> Iterator[tuple[Frame, np.ndarray]]:
        for frame in read(result.info.path):
            rows, actors = result.shown_at(frame.index)
            yield frame, drawing.draw(frame.image, rows, result.classes, actors, *result.others_at(frame.index))

    for frame, image in stopwatch.each("draw", prefetch(drawn())):
        with stopwatch("encode"):
            writer.write(image, frame.time)
        yield frame.index, frame.image
