"""From an upload to what the page shows: progress, what was found so far, the result. Sentences are the page's own, see `detect.js`."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..detection.detector import FRAMES_AT_ONCE
from ..detection.pipeline import detect_steps
from ..detection.result import VideoResult
from ..files import shortened, write_whole
from ..structures import InputError, Tube
from .limits import check_length, check_upload
from .offer import names, on_gpu, ready

LOWEST = 0.05  # tubes of at least this score are sent to the page, which shows those that its visitor wants to see
TELL_SECONDS = 0.4  # between two messages of progress, and so the longest wait after a cancel
SHOW_SECONDS = 1.5  # between two sets of first tubes


class Message(NamedTuple):
    """What the page hears while a video is worked on; of plain values, so that it can come from another process.

    Attributes:
        run: how far it is, and what was found, see `work`.
        result: as `VideoResult.to_json`, in the last message.
        seen: what other tabs and downloads want to know, in the last message: the result without detections, of the model by its name on
            the page.
    """

    run: dict[str, Any]
    result: dict[str, Any] | None = None
    seen: VideoResult | None = None


def check_request(path: str | Path | None, model: object) -> None:
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
    target = Path(folder, f"{shortened(Path(path).stem)}-actions.mp4")
    began, told, shown, stop = time.monotonic(), 0.0, 0.0, Path(folder, "stop")
    result, stopped, found = None, False, {}
    for step in detect_steps(path, detector, threshold, target if drawn else None):
        result, now = step.result, time.monotonic()
        check_length(path, result.times[-1], len(result.times))
        stopped = not step.complete and stop.exists()
        if stopped:
            result = step.so_far()
            break
        if now - told < TELL_SECONDS:
            continue
        told = now
        speed = step.done / (now - began) if step.done > FRAMES_AT_ONCE else 0  # the first frames come together
        run = run | {"done": step.done, "total": step.total, "speed": speed, "phase": step.stage.split()[0]}
        if now >= shown and not step.complete:
            found = describe(step.so_far())
            took = time.monotonic() - now  # the more there is, the longer; it shall never take more than a fifth of the time
            shown = now + max(SHOW_SECONDS, 5 * took)
            run["version"] += 1
        yield Message(run | {"found": found})
    assert result is not None
    seen = replace(result, model=model, detections=())
    found, told_all = describe(seen), seen.to_json()
    write_whole(target.with_suffix(".json"), json.dumps(told_all))
    if drawn:
        seen.write_csv(target.with_suffix(".csv"))
    run |= {
        "phase": "stopped" if stopped else "done",
        "done": len(result.times),
        "total": result.info.frames if stopped else len(result.times),
    }
    run |= {"version": run["version"] + 1, "found": found, "json": str(target.with_suffix(".json"))}
    run |= {"speed": result.frames_per_second, "stages": {stage: round(took, 2) for stage, took in result.timings.items()}}
    yield Message(run, told_all, seen)


def describe(result: VideoResult) -> dict[str, Any]:
    """What the page draws: plain values, long rows of numbers as `packed`."""
    (actors, others), info = result.numbers, result.info
    scale = 65535 / np.array([info.width, info.height, info.width, info.height])

    def told(tube: Tube, number: int) -> dict[str, Any]:
        boxes = packed((tube.boxes * scale).round().clip(0, 65535).astype("<u2"))
        return {"actor": number, "first": tube.start, "boxes": boxes, "score": tube.score}

    return {
        "size": [info.width, info.height],
        "times": packed(np.array(result.times, "<f4")),
        "duration": round(result.end, 3),
        "notes": result.notes,
        "tubes": [
            told(tube, number) | {"label": tube.label, "best": tube.start + int(tube.scores.argmax())}
            for tube, number in zip(result.tubes, actors, strict=True)
        ],
        "people": [
            told(person.tube, number) | {"likeliest": [[label, round(score, 2)] for label, score in person.likeliest]}
            for person, number in zip(result.people, others, strict=True)
        ],
    }


def packed(values: np.ndarray) -> str:
    """Numbers as base64 of their bytes: short, and cheap to compare with what was sent before."""
    return base64.b64encode(values.tobytes()).decode()
