"""Video files in: frames with their times.

    probe(path)  -> VideoInfo          what the container says, checked
    read(path)   -> Frame, Frame, …    upright RGB in the order of presentation, few in memory at a time
    times(path)  -> (T,)               when these are shown, without making pictures of them

Nothing is ever sought: only sequential decoding numbers the frames rightly in every container.
"""

import contextlib
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
from av.format import Flags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..structures import counted
from .clock import clocked, resets, start
from .colour import ToRGB, deinterlaced
from .container import decode, demux, find_films, ignored_films, is_avi, open_video

log = logging.getLogger(__name__)

FALLBACK_RATE = Fraction(25)
"""Frames per second, where neither the container nor the codec gives a believable number."""

FASTEST = 100_000
"""Frames per second that are believed where they are counted; elsewhere 1000 or 90000 is a clock's ticks."""

NOMINAL = {"matroska", "flv", "nut"}
"""Formats whose headers say a rate that nobody counted."""

NOMINAL_FRAMES = 250
"""So many of their frames tell the true one, if there are more than `RATE_FRAMES`."""

RATE_FRAMES = 30
"""From so many frames the rate is estimated where the container has none."""

LEAST_BYTES = 1000
"""A second of video has more; if a header says otherwise, one bad time stamp may have made it, and its packets are asked."""

DOLBY = ("dvh1", "dvhe", "dvav", "dva1")
"""What tracks are called whose pictures are meant for Dolby's decoder alone; those that others show are called as usual."""

UNUSUAL = {8: "YCgCo", 14: "ICtCp"}
"""Matrices of ITU-T H.273 that are not known to the converter."""

CONVERT = "convert it to a usual MP4 first."

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
        own = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        seconds = (container.duration or 0) / 1e6 if own is None else own  # of all that is in it
        listed, doubtful = _listed(stream), resets(container) or seconds > _bytes(path) / LEAST_BYTES
        doubtful |= own is None and bool(container.streams.audio)  # which may be the longer
    rate = _kept_rate(path, rate)
    duration = _length(path) if doubtful else float(seconds) if seconds > 0 else None
    count = listed or (max(1, round(duration * rate)) if duration else None)
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
        if (films := len(find_films(path, container))) > 1:
            size = f"{stream.codec_context.width}x{stream.codec_context.height}"
            log.warning("%s: holds %d video streams, as of two cameras; the one of %s is looked at.", path, films, size)
        if more := ignored_films(path, container):
            what = counted(more, "more video")
            log.warning("%s: %s behind the first, which no player shows; join them with a tool for videos.", path, what)
        if stream.codec_context.codec_tag in DOLBY:
            log.warning(
                "%s: is Dolby Vision that only its own players show rightly: greens and purples are wrong here; %s", path, CONVERT
            )
        pictures = _pictures(path, deinterlaced(decode(path, container, stream)))
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
        packets = [(packet.pts, packet.dts) for packet in demux(path, container, stream) if packet.size]
        # In the order of decoding; with B-frames that begins earlier than what is shown.
        ahead = next((pts - dts for pts, dts in packets if pts is not None and dts is not None), 0)
        seconds = ((None if dts is None else float((dts + ahead) * (stream.time_base or 0)), None) for _, dts in packets)
        zero, period, anew = _clockwork(container, stream)
        last = max((time for time, _ in clocked(seconds, path, zero, period, anew)), default=None)
        return None if last is None else last + period


def _clockwork(container: InputContainer, stream: VideoStream) -> tuple[float | None, float, bool]:
    """What `clocked` wants to know: where time begins, seconds from frame to frame, whether the clock may start anew."""
    return start(container, stream), float(1 / (_rate(stream) or FALLBACK_RATE)), resets(container)


def _bytes(path: str | Path) -> int:
    """How large a file is; 0 if it is gone meanwhile, as who opens it next will say."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _listed(stream: VideoStream) -> int:
    """Frames by the container; in MP4 without those that its edit list leaves out."""
    return len(_edited(stream)) or stream.frames


def _edited(stream: VideoStream) -> list[int]:
    """Time stamps of the frames of an MP4 whose edit list leaves out others, or shows some twice; none for other files."""
    entries = list(stream.index_entries) if "mov" in stream.container.format.name else []
    return [entry.timestamp for entry in entries if not entry.is_discard] if any(entry.is_discard for entry in entries) else []


def _rate(stream: VideoStream) -> Fraction | None:
    """The average, unless it is missing or absurd (a clock's 1000 or 90000 ticks a second taken for frames)."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    known = "mov" in stream.container.format.name and stream.frames > 1  # counted, so that even high speed cameras are believed
    if known and len({entry.timestamp for entry in stream.index_entries}) == 1:
        return None  # all frames at one time: their number over its length is no rate
    if stream.container.format.flags & Flags.no_timestamps.value:
        rates = (stream.codec_context.framerate, *rates)  # a bare stream; the demuxer's rate is always the same
    if is_avi(stream.container):  # it counts the halves of H.264's frames
        rates = rates[1:]
    elif known and stream.average_rate and 1000 <= stream.average_rate <= FASTEST:
        return Fraction(stream.average_rate)
    elif len(stamps := _edited(stream)) > 1 and stream.time_base and stream.guessed_rate and max(stamps) > min(stamps):
        # The average is that of what is not shown too. Stamps are of decoding: where the list begins, a few may be farther apart.
        true = (len(stamps) - 1) / ((max(stamps) - min(stamps)) * stream.time_base)
        rates = (stream.guessed_rate if abs(stream.guessed_rate / true - 1) < 0.02 else true.limit_denominator(1001), *rates[1:])
    return next((Fraction(rate) for rate in rates if rate and 0.001 <= rate < 1000), None)


def _rate_of(stamps: list[float | None]) -> Fraction:
    """Frames per second, of time stamps: that of the usual step, of which rounded ones are averaged."""
    steps = [b - a for a, b in itertools.pairwise(stamps) if a is not None and b is not None and 0.001 < b - a < 1000]
    usual = statistics.median(steps) if steps else 0.0
    alike = [step for step in steps if 0.75 * usual <= step <= 1.25 * usual]
    return Fraction(len(alike) / sum(alike)).limit_denominator(1001) if alike else FALLBACK_RATE


def _kept_rate(path: str | Path, rate: Fraction) -> Fraction:
    """The rate of a header, or that of the first frames where it is only what was meant once: screen recorders write 60 and record less."""
    with open_video(path) as (container, stream):
        if not NOMINAL & set(container.format.name.split(",")) or not stream.time_base:
            return rate
        stamps = []
        with contextlib.suppress(av.FFmpegError, OSError, IndexError):  # damage is told where frames are decoded
            for packet in islice(container.demux(stream), NOMINAL_FRAMES):
                stamps += [packet.pts * stream.time_base] if packet.pts is not None else []
    if len(stamps) <= RATE_FRAMES:
        return rate
    seen = _rate_of([float(stamp) for stamp in sorted(stamps)])
    return seen if abs(seen / rate - 1) > 0.25 else rate


def _pictures(path: str | Path, frames: Iterator[VideoFrame]) -> Iterator[tuple[float | None, np.ndarray]]:
    """Time stamps and images, upright and all of the first one's size."""
    to_rgb, size, turn, rotation, told = ToRGB(), None, _Turn(), None, False
    for number, frame in enumerate(frames):
        if rotation != frame.rotation:
            # Not for every frame: PyAV's side data keeps its frame alive until the garbage collector comes.
            turn, rotation = _Turn.of(frame), frame.rotation
        own = turn.shown(frame.width, frame.height)
        size = size or own
        if number == 0 and frame.colorspace in UNUSUAL:
            log.warning(
                "%s: its colours are coded as %s, which is taken for another: they are wrong; %s",
                path,
                UNUSUAL[frame.colorspace],
                CONVERT,
            )
        if own != size and not told:
            told = True
            log.warning(
                "%s: from frame %d on its pictures are %dx%d, not %dx%d; they are scaled to that, boxes too.",
                path,
                number,
                *own,
                *size,
            )
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
