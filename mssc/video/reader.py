"""Video files in: frames with their times.

    probe(path)  -> VideoInfo          what the container says, checked
    read(path)   -> Frame, Frame, …    upright RGB in the order of presentation, few in memory at a time
    times(path)  -> (T,)               when these are shown, without making pictures of them

Nothing is ever sought: only sequential decoding numbers the frames rightly in every container.
"""

import itertools
import logging
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .clock import clocked, resets, start
from .colour import ToRGB, deinterlaced
from .container import decode, demux, is_avi, open_video

log = logging.getLogger(__name__)

FALLBACK_RATE = Fraction(25)
"""Frames per second, where neither the container nor the codec gives a believable number."""

RATE_FRAMES = 30
"""From so many frames the rate is estimated where the container has none."""

LEAST_BYTES = 1000
"""A second of video has more; if a header says otherwise, one bad time stamp may have made it, and its packets are asked."""

PROMISED = ("h264", "hevc", "av1", "mjpeg")
"""Codecs of which a packet in an MP4 or Matroska file is a frame that is shown."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is decoded.

    Attributes:
        path: of the file.
        width: of the frames that `read` yields: as shown, after rotation, in pixels.
        height: likewise.
        rate: average frames per second; where the container says nothing, that of the first frames.
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
        time: seconds as a browser counts them, see `mssc.video.clock`: the first frame may be late; strictly increasing.
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
        frames = decode(path, container, stream)
        first = next(frames)
        turn = _Turn.of(first)
        width, height = turn.shown(first.width, first.height)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        aspect = 1 / aspect if turn.transpose else aspect
        rate = _rate(stream) or _rate_of([first.time, *(frame.time for frame in islice(frames, RATE_FRAMES))])
        seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else (container.duration or 0) / 1e6
        count, doubtful = _listed(stream), resets(container) or seconds > os.path.getsize(path) / LEAST_BYTES
    duration = _length(path) if doubtful else float(seconds) if seconds > 0 else None
    count = count or (max(1, round(duration * rate)) if duration else None)
    return VideoInfo(Path(path), width, height, rate, count, duration, aspect)


def read(path: str | Path) -> Iterator[Frame]:
    """Decode a video from its first frame to its last, in bounded memory.

    Damage in the middle costs the frames that it hit: a warning is logged and decoding goes on. Where a stream changes its size,
    the frames are resized to the first one's. Interlaced frames are made whole, HDR is mapped to BT.709. The file is opened when
    the first frame is asked for and closed with the iterator.

    Raises:
        InputError: if the file is missing, unreadable, no video, too large (`MAX_SIDE`, `MAX_PIXELS`) or gives no frame.
    """
    with open_video(path) as (container, stream):
        pictures = _pictures(deinterlaced(decode(path, container, stream)))
        for index, (time, image) in enumerate(clocked(pictures, path, *_clockwork(container, stream))):
            yield Frame(index, time, image)


def times(path: str | Path) -> np.ndarray:
    """The seconds at which the frames of `read` are shown, (T,) float64: what a container claims and does not show is not in them.

    Where packets are known to be frames they are counted, which is fast; other videos are decoded.

    Raises:
        InputError: as `read`.
    """
    with open_video(path) as (container, stream):
        first = next(decode(path, container, stream))
    with open_video(path) as (container, stream):
        clockwork = _clockwork(container, stream)
        stamps = None if first.interlaced_frame else _promised(container, stream)
    if stamps is None:
        with open_video(path) as (container, stream):
            stamps = [frame.time for frame in decode(path, container, stream)]
    return np.array([time for time, _ in clocked(((stamp, None) for stamp in stamps), path, *clockwork)])


def _promised(container: InputContainer, stream: VideoStream) -> list[float] | None:
    """Time stamps of the frames that packets promise, in the order of presentation; None where they may not keep it."""
    known = {"mov", "matroska"} & set(container.format.name.split(","))
    if not known or stream.codec_context.name not in PROMISED or stream.time_base is None:
        return None
    stamps, shown = [], []
    try:
        for packet in container.demux(stream):
            if packet.size:
                if packet.pts is None or packet.is_corrupt or not (stamps or packet.is_keyframe):
                    return None
                stamps.append(packet.pts)
                shown += [] if packet.is_discard else [packet.pts]
    except (av.FFmpegError, OSError):
        return None
    in_order = sorted(set(shown))
    if len(stamps) != (stream.frames or len(stamps)) or not shown or len(in_order) != len(shown) or min(stamps) < stamps[0]:
        return None  # cut, doubled, or shown before the first whole picture
    steps = np.diff(in_order)
    if shown != in_order and steps.max() > 10 * np.median(steps):
        return None  # perhaps a wrong one, whose place only decoding tells
    return [float(stamp * stream.time_base) for stamp in in_order]


def _length(path: str | Path) -> float | None:
    """Seconds by the packets, where the container's own number counts a clock that may start anew; takes reading the file."""
    with open_video(path) as (container, stream):
        stamps = (packet.dts for packet in demux(path, container, stream) if packet.size)
        seconds = ((None if stamp is None else float(stamp * (stream.time_base or 0)), None) for stamp in stamps)
        zero, period, anew = _clockwork(container, stream)
        last = max((time for time, _ in clocked(seconds, path, zero, period, anew)), default=None)
        return None if last is None else last + period


def _clockwork(container: InputContainer, stream: VideoStream) -> tuple[float | None, float, bool]:
    """What `clocked` wants to know: where time begins, seconds from frame to frame, whether the clock may start anew."""
    return start(container, stream), float(1 / (_rate(stream) or FALLBACK_RATE)), resets(container)


def _listed(stream: VideoStream) -> int:
    """Frames by the container; in MP4 without those that its edit list leaves out."""
    left_out = sum(entry.is_discard for entry in stream.index_entries) if "mov" in stream.container.format.name else 0
    return max(stream.frames - left_out, 0)


def _rate(stream: VideoStream) -> Fraction | None:
    """The average, unless it is missing or absurd (a clock's 1000 or 90000 ticks a second taken for frames)."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    if is_avi(stream.container):  # it counts the halves of H.264's frames
        rates = rates[1:]
    elif 0 < _listed(stream) < stream.frames and stream.duration and stream.time_base and stream.guessed_rate:
        true = Fraction(_listed(stream)) / (stream.duration * stream.time_base)  # the average is that of what is not shown too
        rates = (stream.guessed_rate if abs(stream.guessed_rate / true - 1) < 0.01 else true.limit_denominator(1001), *rates[1:])
    return next((Fraction(rate) for rate in rates if rate and 0.001 <= rate < 1000), None)


def _rate_of(stamps: list[float | None]) -> Fraction:
    """Frames per second, of time stamps."""
    steps = [b - a for a, b in itertools.pairwise(stamps) if a is not None and b is not None and 0.001 < b - a < 1000]
    return Fraction(1 / statistics.median(steps)).limit_denominator(1001) if steps else FALLBACK_RATE


def _pictures(frames: Iterator[VideoFrame]) -> Iterator[tuple[float | None, np.ndarray]]:
    """Time stamps and images, upright and all of the first one's size."""
    to_rgb, size, turn, rotation = ToRGB(), None, _Turn(), None
    for frame in frames:
        if rotation != frame.rotation:
            # Not for every frame: PyAV's side data keeps its frame alive until the garbage collector comes.
            turn, rotation = _Turn.of(frame), frame.rotation
        size = size or turn.shown(frame.width, frame.height)
        yield frame.time, turn(to_rgb(frame, *turn.shown(*size)))


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
