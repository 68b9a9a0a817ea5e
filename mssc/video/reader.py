"""Video files in: frames with their times.

    probe(path)  -> VideoInfo          what the container says, checked
    read(path)   -> Frame, Frame, …    upright RGB in the order of presentation, one in memory at a time

Nothing is ever sought: only sequential decoding numbers the frames rightly in every container.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from .container import decode, open_video

log = logging.getLogger(__name__)

FALLBACK_RATE = Fraction(25)
"""Frames per second, where neither the container nor the codec gives a believable number."""

USUAL_RATE = 30
"""Frames per second that the networks learn from, give or take a third."""

FASTEST_RATE = 240
"""Of a camera; files that claim more count in milliseconds."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is decoded.

    Attributes:
        path: of the file.
        width: of the frames that `read` yields: as shown, after rotation, in pixels.
        height: likewise.
        rate: average frames per second.
        frames: the container's count or duration times rate: an estimate, sometimes wrong; None if unknown (webcam recordings).
        duration: seconds, or None where unknown.
        pixel_aspect: width of a pixel over its height as shown; not 1 for some camcorders. `read` leaves the pixels as they are.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    frames: int | None
    duration: float | None
    pixel_aspect: Fraction = Fraction(1)


class Frame(NamedTuple):
    """One decoded frame.

    Attributes:
        index: from 0, in the order of presentation.
        time: seconds since the first frame, strictly increasing.
        image: (H, W, 3) uint8 RGB, contiguous, upright, the reader's to change.
    """

    index: int
    time: float
    image: np.ndarray


def probe(path: str | Path) -> VideoInfo:
    """Look at a video: check it and decode its first frame.

    Raises:
        InputError: if `read` would not give a single frame.
    """
    with open_video(path) as (container, stream):
        first = next(decode(path, container, stream))
        turn = _Turn.of(first)
        width, height = turn.shown(first.width, first.height)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        rate = _rate(stream)
        seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else (container.duration or 0) / 1e6
        duration = float(seconds) if seconds > 0 else None
        frames = stream.frames or (max(1, round(duration * rate)) if duration else None)
        return VideoInfo(Path(path), width, height, rate, frames, duration, 1 / aspect if turn.transpose else aspect)


def read(path: str | Path) -> Iterator[Frame]:
    """Decode a video from its first frame to its last, in bounded memory.

    Damage in the middle costs the frames that it hit: a warning is logged and decoding goes on. Where a stream changes its size,
    the frames are resized to the first one's. The file is opened when the first frame is asked for and closed with the iterator.

    Raises:
        InputError: if the file is missing, unreadable, no video, too large (`MAX_SIDE`, `MAX_PIXELS`) or gives no frame.
    """
    with open_video(path) as (container, stream):
        clock, reformatter = _Clock(_rate(stream)), VideoReformatter()
        size, turn, rotation = None, _Turn(), None
        for index, frame in enumerate(decode(path, container, stream)):
            if rotation != frame.rotation:
                # Not for every frame: PyAV's side data keeps its frame alive until the garbage collector comes.
                turn, rotation = _Turn.of(frame), frame.rotation
            size = size or turn.shown(frame.width, frame.height)
            yield Frame(index, clock(frame.time), turn(_to_rgb(reformatter, frame, *turn.shown(*size))))


def _rate(stream: VideoStream) -> Fraction:
    """The average, unless it is missing or absurd (a clock's 1000 or 90000 ticks a second taken for frames)."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return next((Fraction(rate) for rate in rates if rate and 0 < rate < 1000), FALLBACK_RATE)


def _to_rgb(reformatter: VideoReformatter, frame: VideoFrame, width: int, height: int) -> np.ndarray:
    # Players take BT.709 for high definition without a tag; swscale would take BT.601.
    untagged = frame.colorspace in (0, 2) and frame.height >= 720
    matrix = Colorspace.ITU709 if untagged else None
    way = Interpolation.BILINEAR
    # One thread: handing a small frame to several costs more than it saves.
    converted = reformatter.reformat(frame, width, height, "rgb24", src_colorspace=matrix, interpolation=way, threads=1)
    image = converted.to_ndarray()
    # A frame that was RGB already belongs to the decoder, which may draw the next one on top.
    return image.copy() if converted is frame else np.ascontiguousarray(image)


class _Turn(NamedTuple):
    """How a decoded image becomes the shown one: cameras write into the file how they were held, and whether they mirror."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> "_Turn":
        """Read the display matrix [[a, b], [c, d]]: pixel (x, y) is shown at (ax + cy, bx + dy). Odd angles go to the nearest."""
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
        return cls(True, b < 0, c < 0) if abs(b) > abs(a) else cls(False, d < 0, a < 0)

    def shown(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the decoded image as shown, or the other way round."""
        return (height, width) if self.transpose else (width, height)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if self.transpose:
            image = image.swapaxes(0, 1)
        return np.ascontiguousarray(image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])


class _Clock:
    """Makes seconds since the first frame, strictly increasing, of whatever timestamps a container has."""

    def __init__(self, rate: Fraction) -> None:
        self._period = float(1 / rate)
        self._shift = 0.0
        self._last: float | None = None
        self._back: tuple[float, float] | None = None

    def __call__(self, time: float | None) -> float:
        if self._last is None:
            self._shift, self._last = -(time or 0.0), 0.0
            return 0.0
        now = self._last + self._period if time is None else self._shifted(time, self._last)
        # Doubled or out of order: step on a little, until the timestamps have caught up.
        self._last = now if now > self._last else self._last + self._period / 10
        return self._last

    def _shifted(self, time: float, last: float) -> float:
        """Where recordings were joined the count is set back: go on from there. Once may be damage, twice in a row is true."""
        if time + self._shift >= last - 1:
            self._back = None
        elif self._back is None:
            self._back = (time, last + self._period)
        else:
            self._shift, self._back = self._back[1] - self._back[0], None
        return time + self._shift


def frames_per_look(rate: float) -> int:
    """Of how many frames one is looked at, in a video of `rate` frames a second: at 60, motion would look half as fast as it was learnt."""
    return max(1, round(rate / USUAL_RATE)) if rate <= FASTEST_RATE else 1
