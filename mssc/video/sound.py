"""The sound of a video, for the pictures that are made of it."""

import logging
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer

from .clock import clocked, resets, start
from .container import demux, open_video

log = logging.getLogger(__name__)

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
USUAL_RATE = 48000
GAP = 0.1  # seconds without a sound that are kept as such


def heard(path: str | Path) -> Generator[tuple[float, AudioFrame]]:
    """Pieces of the sound with the seconds at which they are heard, on the clock of `read`; none where a video has no sound.

    Raises:
        InputError: as `read`.
    """
    with open_video(path) as (container, film):
        stream = container.streams.best("audio", related=film)
        if not isinstance(stream, AudioStream) or stream.codec_context is None:
            return
        frames = (frame for packet in demux(path, container, stream) for frame in _decoded(packet))
        pieces = ((frame.time, frame) for frame in frames if isinstance(frame, AudioFrame) and frame.samples)
        period = 1024 / (stream.codec_context.sample_rate or USUAL_RATE)
        yield from clocked(pieces, path, start(container, film), period, resets(container))


def _decoded(packet: av.Packet) -> list:
    try:
        return packet.decode()
    except (av.FFmpegError, OSError):
        return []  # a piece of sound is lost


class Sound:
    """Encodes the sound of a video as AAC into a file that is being written, as far as its pictures have come.

    Args:
        source: the video that has the sound, if it has any.
        target: the file.

    Raises:
        InputError: as `read`.
    """

    def __init__(self, source: str | Path, target: OutputContainer) -> None:
        self._source, self._target, self._pieces, self._stream = source, target, heard(source), None
        self._waiting, self._end = next(self._pieces, None), 0  # in samples
        if self._waiting is not None:
            frame = self._waiting[1]
            rate = frame.sample_rate if frame.sample_rate in AAC_RATES else USUAL_RATE
            self._stream = target.add_stream("aac", rate=rate, layout="mono" if frame.layout.nb_channels == 1 else "stereo")

    def write(self, until: float) -> None:
        """Write what is heard before this second."""
        while self._waiting is not None and self._waiting[0] < until:
            time, frame = self._waiting
            begin = round(time * frame.sample_rate)
            if begin < self._end or begin - self._end < GAP * frame.sample_rate:  # rounded stamps; an encoder wants no holes
                begin = self._end
            self._end = begin + frame.samples
            frame.pts, frame.time_base = begin, Fraction(1, frame.sample_rate)
            self._encode(frame, time)
            self._waiting = next(self._pieces, None) if self._stream is not None else None

    def close(self, until: float | None) -> None:
        """End at this second; None gives up."""
        if until is not None:
            self.write(until)
            self._encode(None, until)
        self._pieces.close()

    def _encode(self, frame: AudioFrame | None, time: float) -> None:
        if self._stream is None:
            return
        try:
            packets = self._stream.encode(frame)
        except (av.FFmpegError, ValueError) as error:  # such as a number of channels that changes
            log.warning("%s: its sound ends at %.1f s (%s).", self._source, time, error)
            self._stream = None
            return
        self._target.mux(packets)
