"""A camera, live: the browser sends what it can, the server answers with boxes, and nothing is kept.

The browser sends the frames since its last answer and drops what is more, so nothing queues, here or there. Memory is flat however long the
camera runs: two linkers take turns, each forgets after `REMEMBER_SECONDS`.
"""

import base64
import binascii
import io
import threading
import time
from collections import deque
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..detection.detector import Detector
from ..detection.people import everybody
from ..linking import OnlineLinker
from ..structures import Detections, InputError
from .detection import LOWEST
from .offer import names, ready

MAX_FRAMES = 4  # of one request
MAX_BYTES = 200_000  # of one frame as JPEG
MAX_FRAME_SIDE = 640  # pixels
MAX_CAMERAS = 4  # at a time
IDLE_SECONDS = 15  # after which a silent camera makes room
REMEMBER_SECONDS = 30  # of the past, that the page shows
USUAL_RATE = 15.0  # frames a second, until it is measured


class _Memory:
    """A linker, when it began, and how many frames it has seen."""

    def __init__(self, since: float, rate: float) -> None:
        self.linker, self.since, self.frames = OnlineLinker(None, rate), since, 0

    def step(self, detections: Detections) -> Detections:
        self.frames += 1
        return self.linker.step(detections)


class Camera:
    """One visitor's stream.

    Args:
        detector: shared with others.
    """

    def __init__(self, detector: Detector) -> None:
        self.stream = detector.stream(USUAL_RATE)  # slow: people may be looked for in every frame
        self.recent: deque[float] = deque(maxlen=32)
        self.linkers: list[_Memory] = []
        self.seen = time.monotonic()

    def step(self, images: list[np.ndarray], times: list[float]) -> dict[str, Any]:
        """Boxes of the last of some new frames.

        Args:
            images: (H, W, 3) uint8 RGB, the oldest first.
            times: seconds of each, on the camera's clock.

        Returns:
            Plain values; boxes as shares of the frame's sides, scores as their links have them by now.
        """
        found = Detections.empty()
        height, width = images[-1].shape[:2]
        ready = [self.stream.ready(image, number) for number, image in enumerate(images, self.stream.frames)]
        ready[:-1] = [one and one._replace(large=None) for one in ready[:-1]]  # people are shown in the last frame alone
        for detections, now in zip(self.stream.follow(ready), times, strict=True):
            found = self._link(detections, now)
        self.seen = time.monotonic()
        return {"boxes": self._boxes(found, width, height, self.stream.people_every is not None)}

    def _link(self, detections: Detections, now: float) -> Detections:
        self.recent.append(now)
        if not self.linkers:
            self.linkers.append(_Memory(now, self.rate))
        linked = [memory.step(detections) for memory in self.linkers][0]
        oldest = self.linkers[0]
        age = now - oldest.since
        if age >= REMEMBER_SECONDS or oldest.frames > 60 * REMEMBER_SECONDS:
            self.linkers.pop(0)
        if len(self.linkers) < 2 and age >= REMEMBER_SECONDS / 2:
            self.linkers.append(_Memory(now, self.rate))
        return linked

    @property
    def rate(self) -> float:
        """Frames a second of late."""
        passed = self.recent[-1] - self.recent[0] if len(self.recent) > 1 else 0
        return float(np.clip((len(self.recent) - 1) / passed, 1, 60)) if passed > 0 else USUAL_RATE

    def _boxes(self, found: Detections, width: int, height: int, looked: bool = False) -> list[dict[str, Any]]:
        """Everybody, with the best action of each."""
        boxes, which, sure = everybody(found, looked)
        size, told = np.array([width, height, width, height]), []
        for index in np.argsort(-sure, kind="stable").tolist():
            rows = found[which == index]
            label, score = max(
                ((int(label), float(score)) for _, label, score in rows), key=lambda row: row[1], default=(None, 0.0)
            )
            place = {"box": np.round(boxes[index] / size, 4).tolist(), "person": round(float(sure[index]), 2)}
            told.append(place | {"label": label, "score": round(score, 2)})
        return [one for one in told if max(one["person"], one["score"]) >= LOWEST]


_cameras: dict[str, tuple[tuple[str, object], Camera]] = {}  # by name, and of which model and run
_door, _model = threading.Lock(), threading.Lock()


def live_step(request: dict[str, Any]) -> dict[str, Any]:
    """What the page's script asks, again and again.

    Args:
        request: ``camera``, a random name; ``run``, which counts how often it was switched on; ``model``; ``frames``, JPEGs in base64;
            ``times``, seconds of each.

    Returns:
        See `Camera.step`, with the milliseconds that it took; or ``error``, a sentence.
    """
    try:
        began = time.monotonic()
        name, model = request.get("camera"), request.get("model")
        if not isinstance(name, str) or not 8 <= len(name) <= 64 or model not in names():
            raise InputError("This camera is not known; reload the page.")
        images, times = _frames(request)
        camera = _camera(name, str(model), request.get("run"))
        with _model:
            found = camera.step(images, times)
        return found | {"took": round(1000 * (time.monotonic() - began))}
    except InputError as error:
        return {"error": str(error)}


def _frames(request: dict[str, Any]) -> tuple[list[np.ndarray], list[float]]:
    """The frames of a request and their times, checked.

    Raises:
        InputError: for too many or too large ones, something else than JPEGs, or times that do not go on.
    """
    given, times = request.get("frames"), request.get("times")
    if not isinstance(given, list) or not isinstance(times, list) or not 1 <= len(given) == len(times) <= MAX_FRAMES:
        raise InputError(f"Send 1 to {MAX_FRAMES} frames at a time, and the time of each.")
    if not all(isinstance(t, int | float) and np.isfinite(t) for t in times) or sorted(times) != times:
        raise InputError("The times of the frames do not go on.")
    images = []
    for text in given:
        if not isinstance(text, str) or len(text) > MAX_BYTES * 4 / 3:
            raise InputError(f"A frame may have {MAX_BYTES // 1000} kB at most.")
        try:
            with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["JPEG"]) as picture:
                if max(picture.size) > MAX_FRAME_SIDE or min(picture.size) < 16:
                    raise InputError(
                        f"A frame may have 16 to {MAX_FRAME_SIDE} pixels a side, not {picture.width}x{picture.height}."
                    )
                images.append(np.array(picture.convert("RGB")))
        except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
            raise InputError("A frame cannot be read; it must be a JPEG.") from None
    return images, [float(t) for t in times]


def _camera(name: str, model: str, run: object) -> Camera:
    """The camera of this name, model and run, or a new one in the place of its former run, or if there is room.

    Raises:
        InputError: if there is none.
    """
    with _door:
        now = time.monotonic()
        for other in [key for key, (_, camera) in _cameras.items() if now - camera.seen > IDLE_SECONDS]:
            del _cameras[other]
        known, camera = _cameras.get(name, (None, None))
        if camera is None and len(_cameras) >= MAX_CAMERAS:
            raise InputError(f"{MAX_CAMERAS} cameras are on already; please try again in a minute.")
        if camera is None or known != (model, run):
            camera = Camera(ready(model))
            _cameras[name] = (model, run), camera
        camera.seen = now
        return camera
