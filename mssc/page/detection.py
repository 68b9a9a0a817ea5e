"""From an upload to what the page shows: progress, what was found so far, the result. Sentences are the page's own, see `detect.js`."""

import base64
import json
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..detection.detector import FRAMES_AT_ONCE
from ..detection.people import PeopleLinker, Person
from ..detection.pipeline import detect_steps
from ..detection.result import VideoResult
from ..files import write_whole
from ..linking import identify
from ..structures import InputError, Tube
from ..video import drawing
from .limits import check_length, check_upload
from .offer import names, on_gpu, ready

LOWEST = 0.05  # tubes of at least this score are sent to the page, which shows those that its visitor wants to see
TELL_SECONDS = 0.4  # between two messages of progress, and so the longest wait after a cancel
SHOW_SECONDS = 1.5  # between two sets of first tubes


class Seen(NamedTuple):
    """What was found in a video, without its frames.

    Attributes:
        path: of the video.
        model: that found it, by its name on the page.
        tubes: in order of their start.
        people: everybody, whatever they do.
        classes: of the model.
        size: width and height in pixels.
        rate: frames per second.
        times: seconds of every frame.
        threshold: which all tubes reach.
    """

    path: str
    model: str
    tubes: list[Tube]
    people: list[Person]
    classes: tuple[str, ...]
    size: tuple[int, int]
    rate: Fraction
    times: list[float]
    threshold: float = LOWEST

    def above(self, threshold: float) -> "Seen":
        """The same with those tubes only that score at least `threshold`."""
        return self._replace(tubes=[tube for tube in self.tubes if tube.score >= threshold], threshold=threshold)


class Message(NamedTuple):
    """What the page hears while a video is worked on; of plain values, so that it can come from another process.

    Attributes:
        run: how far it is, and what was found, see `work`.
        result: as `VideoResult.to_json`, in the last message.
        seen: what other tabs and downloads want to know, in the last message.
    """

    run: dict[str, Any]
    result: dict[str, Any] | None = None
    seen: Seen | None = None


def check_request(path: str | None, model: object) -> None:
    """Refuse what cannot be worked on before any work.

    Raises:
        InputError: see `check_upload`; also for a model that is not on offer.
    """
    if model not in names():
        raise InputError(f"there is no model {str(model)[:80]!r} on this page; choose one of: {', '.join(names())}.")
    check_upload(path)


@on_gpu
def work(path: str, model: str, threshold: float, folder: str, drawn: bool = False) -> Iterator[Message]:
    """Find the tubes of a checked video, and say how it goes. Closing the iterator ends the work and leaves no half-written file; a file
    ``stop`` in the folder ends it as if the video ended there.

    Args:
        path: of the upload.
        model: by its name on the page.
        threshold: tubes that score less are left out, in [0, 1].
        folder: for the results: a JSON, a csv and, if it is to be drawn, an MP4.
        drawn: whether a video with boxes is wanted.

    Yields:
        Messages. Their `run` has ``model``, ``phase`` (waking, looking, drawing, stopped, done), frames ``done`` and in ``total``,
        frames a second ``speed``, and ``found``, see `describe`, of which ``version`` counts the changes; the last one ``json``, a path,
        and ``stages``, seconds of each.

    Raises:
        InputError: see `mssc.detection.pipeline.detect_video`; also for a video beyond the limits.
    """
    run: dict[str, Any] = {"model": model, "phase": "waking", "done": 0, "total": None, "speed": 0, "version": 0}
    yield Message(run)
    detector = ready(model, lent=True)
    target = Path(folder, f"{Path(path).stem[:80]}-actions.mp4")
    began, told, shown, stop = time.monotonic(), 0.0, 0.0, Path(folder, "stop")
    result, people, stopped, found = None, None, False, {}
    for step in detect_steps(path, detector, threshold, target if drawn else None):
        result, now = step.result, time.monotonic()
        check_length(path, result.times[-1], len(result.times))
        people = people or PeopleLinker(float(result.info.rate), len(result.classes))
        if not step.complete:
            people.step(result.detections[-1])
        stopped = not step.complete and stop.exists()
        if stopped:
            result.tubes[:] = step.tubes_so_far()
            break
        if now - told < TELL_SECONDS:
            continue
        told = now
        speed = step.done / (now - began) if step.done > FRAMES_AT_ONCE else 0  # the first frames come together
        run = run | {"done": step.done, "total": step.total, "speed": speed, "phase": step.stage.split()[0]}
        if now >= shown and not step.complete:
            found = describe(result, step.tubes_so_far(), people.so_far(result.detections))
            took = time.monotonic() - now  # the more there is, the longer; it shall never take more than a fifth of the time
            shown = now + max(SHOW_SECONDS, 5 * took)
            run["version"] += 1
        yield Message(run | {"found": found})
    assert result is not None and people is not None
    everybody = people.so_far(result.detections)
    found = describe(result, result.tubes, everybody)
    told_all = result.to_json() | {"model": model}
    for told_tube, shown_tube in zip(told_all["tubes"], found["tubes"], strict=True):
        told_tube["actor"] = shown_tube["actor"]
    write_whole(target.with_suffix(".json"), json.dumps(told_all))
    if drawn:
        result.write_csv(target.with_suffix(".csv"))
    info = result.info
    seen = Seen(
        path, model, result.tubes, everybody, result.classes, (info.width, info.height), info.rate, result.times, threshold
    )
    run |= {
        "phase": "stopped" if stopped else "done",
        "done": len(result.times),
        "total": info.frames if stopped else len(result.times),
    }
    run |= {"version": run["version"] + 1, "found": found, "json": str(target.with_suffix(".json"))}
    run |= {"speed": result.frames_per_second, "stages": {stage: round(took, 2) for stage, took in result.timings.items()}}
    yield Message(run, told_all, seen)


def describe(result: VideoResult, tubes: Sequence[Tube], people: Sequence[Person]) -> dict[str, Any]:
    """What the page draws: plain values, long rows of numbers as `packed`.

    Args:
        result: of which the video's description and times are taken.
        tubes: found so far.
        people: likewise.
    """
<<<<<<< HEAD
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
=======
    numbers = identify([*(person.tube for person in people), *tubes])
    known = {number: place for place, number in enumerate(dict.fromkeys(numbers), 1)}  # people first
    info = result.info
    scale = 65535 / np.array([info.width, info.height, info.width, info.height])

    def told(tube: Tube, number: int) -> dict[str, Any]:
        boxes = packed((tube.boxes * scale).round().clip(0, 65535).astype("<u2"))
        return {"actor": known[number], "first": tube.start, "boxes": boxes, "score": round(tube.score, 3)}

>>>>>>> 1b070b2 (One column: your video, its actions, filtered in the browser)
    return {
        "size": [info.width, info.height],
        "times": packed(np.array(result.times, "<f4")),
        "duration": round(result.times[-1] + float(1 / info.rate), 3),
        "tubes": [
            told(tube, number) | {"label": tube.label, "best": tube.start + int(tube.scores.argmax())}
            for tube, number in zip(tubes, numbers[len(people) :], strict=True)
        ],
        "people": [
            told(person.tube, number) | {"likeliest": [[label, round(score, 2)] for label, score in person.likeliest]}
            for person, number in zip(people, numbers, strict=False)
        ],
    }


<<<<<<< HEAD
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
=======
def packed(values: np.ndarray) -> str:
    """Numbers as base64 of their bytes: short, and cheap to compare with what was sent before."""
    return base64.b64encode(values.tobytes()).decode()
>>>>>>> 1b070b2 (One column: your video, its actions, filtered in the browser)
