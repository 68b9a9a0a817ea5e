"""From an upload to what the page shows: progress, first tubes before the end, the result, its files."""

import html
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..detection.detector import FRAMES_AT_ONCE
from ..detection.pipeline import detect_steps
from ..detection.result import VideoResult
from ..linking import identify
from ..structures import InputError, Tube
from ..video import drawing
from .limits import check_length, check_upload, clock
from .offer import names, on_gpu, ready
from .pictures import jpeg_address

TELL_SECONDS = 0.4  # between two messages of progress, and so the longest wait after a cancel
SHOW_SECONDS = 1.5  # between two sets of first tubes
THUMBNAILS = 24  # of the best tubes
THUMBNAIL_SIDE = 112  # pixels


class Message(NamedTuple):
    """What the page hears while a video is worked on; of plain values, so that it can come from another process.

    Attributes:
        status: HTML.
        player: for the player, see `describe`; None where nothing changed.
        result: as `VideoResult.to_json`, in the last message.
        seen: what looking inside wants to know, in the last message.
    """

    status: str
    player: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    seen: "Seen | None" = None


class Seen(NamedTuple):
    """What was found in a video, without its frames.

    Attributes:
        path: of the video.
        model: that found it, by its name on the page.
        threshold: of the tubes.
        tubes: of at least that score.
        classes: of the model.
        size: width and height in pixels.
        rate: frames per second.
        times: seconds of every frame.
    """

    path: str
    model: str
    threshold: float
    tubes: list[Tube]
    classes: tuple[str, ...]
    size: tuple[int, int]
    rate: Fraction
    times: list[float]


def check_request(path: str | None, model: str) -> None:
    """Refuse what cannot be worked on before any work.

    Raises:
        InputError: see `check_upload`; also for a model that is not on offer.
    """
    if model not in names():
        raise InputError(f"there is no model {str(model)[:80]!r} on this page; choose one of: {', '.join(names())}.")
    check_upload(path)


@on_gpu
def work(path: str, model: str, threshold: float, folder: str, name: str | None = None) -> Iterator[Message]:
    """Find the tubes of a checked video, and say how it goes. Closing the iterator ends the work and leaves no half-written file.

    Args:
        path: of the upload.
        model: by its name on the page.
        threshold: tubes that score less are left out, in [0, 1].
        folder: for the results: an MP4, a JSON and a csv.
        name: of the video; the file's if None.

    Raises:
        InputError: see `mssc.detection.pipeline.detect_video`; also for a video beyond the limits.
    """
    yield Message(progress_bar("Waking the model", 0, None, 0))
    detector = ready(model, lent=True)
    target = Path(folder, f"{Path(name or path).stem[:80]}-actions.mp4")
    began, told, shown = time.monotonic(), 0.0, 0.0
    pictures: dict[int, str] = {}
    best: dict[int, list[int]] | None = None
    step = None
    for step in detect_steps(path, detector, threshold, target):
        result, now = step.result, time.monotonic()
        check_length(path, result.times[-1], len(result.times))
        if step.complete and best is None:  # the tubes are there, the video to download is not
            best, began, told = best_frames(result.tubes), now, now
            yield Message(summary(result, progress_bar("Drawing", 0, step.total, 0)), describe(path, result, result.tubes))
        if best and step.image is not None:
            for index in best.get(step.done - 1, ()):
                pictures[index] = thumbnail(step.image, result.tubes[index], step.done - 1)
        if now - told < TELL_SECONDS:
            continue
        told, bar = now, progress_bar(step.stage.capitalize(), step.done, step.total, now - began)
        if step.complete:
            yield Message(summary(result, bar))
        elif now < shown:
            yield Message(bar)
        else:
            player = describe(path, result, step.tubes_so_far(), final=False)
            took = time.monotonic() - now  # the more there is, the longer; it shall never take more than a fifth of the time
            shown = now + max(SHOW_SECONDS, 5 * took)
            yield Message(bar, player)
    assert step is not None
    result = step.result
    result.write_json(target.with_suffix(".json"))
    result.write_csv(target.with_suffix(".csv"))
    info = result.info
    seen = Seen(path, model, threshold, result.tubes, result.classes, (info.width, info.height), info.rate, result.times)
    player = describe(path, result, result.tubes, target, pictures)
    yield Message(summary(result), player, result.to_json() | {"model": model}, seen)


# -------------------------------------------------------------------- for the player


def describe(
    path: str,
    result: VideoResult,
    tubes: Sequence[Tube],
    target: Path | None = None,
    pictures: dict[int, str] | None = None,
    final: bool = True,
) -> dict[str, Any]:
    """What the player draws: plain values, the files as Gradio names them.

    Args:
        path: of the video as uploaded.
        result: of which the video's description and times are taken.
        tubes: found so far.
        target: the MP4, beside which lie a JSON and a csv; None as long as they are not there.
        pictures: addresses of thumbnails by number of the tube.
        final: whether these are all tubes.
    """
    kinds = () if target is None else (".mp4", ".json", ".csv")
    colours = drawing.class_colours(result.classes)
    described = []
    for index, (tube, actor) in enumerate(zip(tubes, identify(tubes), strict=True)):
        start, end = result.seconds(tube)
        described.append(
            {
                "actor": actor,
                "action": result.classes[tube.label],
                "score": round(tube.score, 2),
                "start": round(start, 3),
                "end": round(end, 3),
                "first": tube.start,
                "colour": drawing.hex_colour(colours[tube.label]),
                "ink": drawing.hex_colour(drawing.ink(colours[tube.label])),
                "boxes": np.round(tube.boxes, 1).ravel().tolist(),
                "best": round(result.times[tube.start + int(tube.scores.argmax())], 3),
                "picture": (pictures or {}).get(index),
            }
        )
    return {
        "video": served(path),
        "files": {kind[1:]: served(target.with_suffix(kind)) for kind in kinds if target is not None},
        "final": final,
        "size": [result.info.width, result.info.height],
        "times": [round(1000 * seconds) for seconds in result.times],
        "duration": round(result.times[-1] + float(1 / result.info.rate), 3),
        "tubes": described,
    }


def served(path: str | Path) -> dict[str, Any]:
    """A file in the way in which Gradio turns it into an address."""
    return {"path": str(path), "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}


def best_frames(tubes: Sequence[Tube]) -> dict[int, list[int]]:
    """By frame the numbers of the tubes that look best there; of the best tubes only."""
    order = sorted(range(len(tubes)), key=lambda index: -tubes[index].score)[:THUMBNAILS]
    frames: dict[int, list[int]] = {}
    for index in order:
        frames.setdefault(tubes[index].start + int(tubes[index].scores.argmax()), []).append(index)
    return frames


def thumbnail(image: np.ndarray, tube: Tube, frame: int) -> str:
    """The tube's box in a frame with some room around it, square, as the address of a JPEG that holds it.

    Args:
        image: (H, W, 3) uint8 RGB; not modified.
        tube: which covers the frame.
        frame: its number.
    """
    x1, y1, x2, y2 = tube.boxes[frame - tube.start].tolist()
    side = max(1.2 * (x2 - x1), 1.2 * (y2 - y1), 16)
    left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
    box = (max(left, 0), max(top, 0), min(left + side, image.shape[1]), min(top + side, image.shape[0]))
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        box = (0, 0, image.shape[1], image.shape[0])
    small = Image.fromarray(image).crop(tuple(round(value) for value in box))  # type: ignore[arg-type]
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return jpeg_address(small, quality=80)


# -------------------------------------------------------------------- for the reader


def progress_bar(stage: str, done: int, total: int | None, seconds: float) -> str:
    """How far a stage is, how fast it goes, and how long it will take, as HTML."""
    if done <= FRAMES_AT_ONCE or seconds <= 0:  # the first frames come together, and say nothing about speed
        return f"<p>{html.escape(stage)} …</p><progress></progress>"
    speed = done / seconds
    if total is None or total < done:  # a file's own count may be missing, or wrong
        return f"<p>{html.escape(stage)}: {done} frames, {speed:.0f} a second</p><progress></progress>"
    left = f", about {clock(max((total - done) / speed, 1))} left" if done < total else ""
    text = f"{html.escape(stage)}: {done} of {total} frames, {speed:.0f} a second{left}"
    return f'<p>{text}</p><progress value="{done}" max="{total}" aria-label="{html.escape(stage)}"></progress>'


def summary(result: VideoResult, more: str | None = None) -> str:
    """What was found, by which model, and how fast, as HTML; `more` while something is still going on."""
    found, people = len(result.tubes), len(set(result.actors))
    if found:
        said = f"<h3>Found {found} action{'s' * (found != 1)} by {people} actor{'s' * (people != 1)}</h3>"
    else:
        said = (
            f"<h3>No action found</h3><p>Nothing scored {result.threshold:.2f} or more. Lower the threshold, or try a clip of an "
            "action that this model knows.</p>"
        )
    if more is not None:
        return said + more
    stages = ", ".join(f"{html.escape(stage)} {seconds:.2f} s" for stage, seconds in result.timings.items())
    return (
        f'<div role="status">{said}</div><p>Model <b>{html.escape(result.model)}</b>, threshold {result.threshold:.2f}; '
        f"{len(result.times)} frames at <b>{result.frames_per_second:.0f} frames a second</b>.</p>"
        f"<details><summary>Time per stage</summary><p>{stages}</p></details>"
    )


def failed(sentence: str) -> str:
    """Why there is no result, as HTML."""
    return f'<div role="alert" class="failed"><h3>That did not work</h3><p>{html.escape(sentence, quote=False)}</p></div>'
