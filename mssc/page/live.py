"""A camera, live: the browser sends what it can, the server answers with boxes and running tubes, and nothing is kept.

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
from ..linking import OnlineLinker
from ..structures import Detections, InputError
from ..video.drawing import class_colours, hex_colour, ink
from .offer import names, ready

MAX_FRAMES = 4  # of one request
MAX_BYTES = 200_000  # of one frame as JPEG
MAX_FRAME_SIDE = 640  # pixels
MAX_CAMERAS = 4  # at a time
IDLE_SECONDS = 15  # after which a silent camera makes room
REMEMBER_SECONDS = 30  # how far running tubes go back, at most; at least half of it
USUAL_RATE = 15.0  # frames a second, until it is measured


class _Memory:
    """A linker and the times of its frames."""

    def __init__(self, rate: float) -> None:
        self.linker = OnlineLinker(None, rate)
        self.times: list[float] = []


class Camera:
    """One visitor's stream.

    Args:
        detector: shared with others.
        threshold: boxes and tubes that score less are not shown, in [0, 1].
    """

    def __init__(self, detector: Detector, threshold: float) -> None:
        self.classes, self.threshold = detector.classes, threshold
        self.stream = detector.stream()
        self.recent: deque[float] = deque(maxlen=32)
        self.memories = [_Memory(USUAL_RATE)]
        self.seen = time.monotonic()

    def step(self, images: list[np.ndarray], times: list[float]) -> dict[str, Any]:
        """Boxes of the last of some new frames, and the running tubes.

        Args:
            images: (H, W, 3) uint8 RGB, the oldest first.
            times: seconds of each, on the camera's clock.

        Returns:
            Plain values; boxes as shares of the frame's sides, times in seconds before the last frame.
        """
        found = Detections.empty()
        height, width = images[-1].shape[:2]
        for detections, now in zip(self.stream(images), times, strict=True):
            found = self._link(detections, now)
        self.seen = time.monotonic()
        return {"boxes": self._boxes(found, width, height), "tubes": self._tubes()}

    def _link(self, detections: Detections, now: float) -> Detections:
        self.recent.append(now)
        for memory in self.memories:
            memory.times.append(now)
        linked = [memory.linker.step(detections) for memory in self.memories][0]
        oldest = self.memories[0]
        age = now - oldest.times[0]
        if age >= REMEMBER_SECONDS or len(oldest.times) > 60 * REMEMBER_SECONDS:
            self.memories.pop(0)
        if len(self.memories) < 2 and age >= REMEMBER_SECONDS / 2:
            self.memories.append(_Memory(self.rate))
        return linked

    @property
    def rate(self) -> float:
        """Frames a second of late."""
        passed = self.recent[-1] - self.recent[0] if len(self.recent) > 1 else 0
        return float(np.clip((len(self.recent) - 1) / passed, 1, 60)) if passed > 0 else USUAL_RATE

    def _boxes(self, found: Detections, width: int, height: int) -> list[dict[str, Any]]:
        """The best action of each box that scores enough."""
        shown: dict[bytes, int] = {}
        for row in np.argsort(-found.scores, kind="stable").tolist():
            if found.scores[row] >= self.threshold:
                shown.setdefault(found.boxes[row].tobytes(), row)
        size = np.array([width, height, width, height])
        return [
            self._named(int(found.labels[row]), float(found.scores[row])) | {"box": np.round(found.boxes[row] / size, 4).tolist()}
            for row in shown.values()
        ]

    def _tubes(self) -> list[dict[str, Any]]:
        memory = self.memories[0]
        now = memory.times[-1]
        tubes = sorted((t for t in memory.linker.so_far() if t.score >= self.threshold), key=lambda t: t.start)[-20:]
        return [
            self._named(tube.label, tube.score)
            | {"start": round(now - memory.times[tube.start], 2), "end": round(now - memory.times[tube.stop - 1], 2)}
            for tube in tubes
        ]

    def _named(self, label: int, score: float) -> dict[str, Any]:
        colour = class_colours(self.classes)[label]
        return {
            "action": self.classes[label],
            "score": round(score, 2),
            "colour": hex_colour(colour),
            "ink": hex_colour(ink(colour)),
        }


_cameras: dict[str, Camera] = {}
_door, _model = threading.Lock(), threading.Lock()


def live_step(request: dict[str, Any]) -> dict[str, Any]:
    """What the page's script asks, again and again.

    Args:
        request: ``camera``, a random name; ``model``, ``threshold``; ``frames``, JPEGs in base64; ``times``, seconds of each.

    Returns:
        See `Camera.step`, with the milliseconds that it took; or ``error``, a sentence.
    """
    try:
        began = time.monotonic()
        name, model, threshold = (request.get(key) for key in ("camera", "model", "threshold"))
        if not isinstance(name, str) or not 8 <= len(name) <= 64 or model not in names():
            raise InputError("This camera is not known; reload the page.")
        images, times = _frames(request)
        limit = float(np.clip(threshold, 0, 1)) if isinstance(threshold, int | float) else 0.3
        camera = _camera(f"{name} {model}", str(model), limit)
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


def _camera(name: str, model: str, threshold: float) -> Camera:
    """The camera of this name, or a new one if there is room.

    Raises:
        InputError: if there is none.
    """
    with _door:
        now = time.monotonic()
        for other in [key for key, camera in _cameras.items() if now - camera.seen > IDLE_SECONDS]:
            del _cameras[other]
        if name not in _cameras:
            if len(_cameras) >= MAX_CAMERAS:
                raise InputError(f"{MAX_CAMERAS} cameras are on already; please try again in a minute.")
            _cameras[name] = Camera(ready(model), threshold)
        camera = _cameras[name]
        camera.threshold, camera.seen = threshold, now
        return camera
