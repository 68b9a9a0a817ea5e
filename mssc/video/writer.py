"""Video files out: H.264 that a browser plays.

Writer(path) <- write(image)       the file appears when it is complete, or not at all
"""

import contextlib
import math
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from ..files import explained, part_file
from ..structures import InputError
from .container import MAX_SIDE, MAX_THREADS, open_video
from .sound import Sound

DRAWN = "action tubes drawn by MS-SC"
"""The comment in a video that shows our own boxes, which a network must not learn from or look at."""


def is_drawn(path: str | Path) -> bool:
    """Whether a video says that boxes were drawn into it by us; no if it cannot be opened."""
    try:
        with open_video(path) as (container, _):
            return container.metadata.get("comment") == DRAWN
    except InputError:
        return False


class Writer:
    """Write an MP4 that browsers play: H.264, yuv420p, index in front.

    Odd sizes get one more column or row, a copy of the last. Use it in a `with` block: frames go to a hidden file in the same
    folder, which takes the name `path` when the block ends, and is removed when it raises.

    Args:
        path: the file to write, replaced if it exists. Its folder is made if it is missing.
        width: of the images to come, in pixels.
        height: of the images to come, in pixels.
        rate: frames per second, kept exactly if it is a `Fraction`: the spacing of frames that come without a time.
        pixel_aspect: width of a pixel over its height as shown.
        drawn: note in the file that boxes are drawn into it, see `is_drawn`.
        sound: a video whose sound, if it has any, goes with the pictures, on the same clock; None for silence.

    Raises:
        InputError: on entry, if nothing can be written at that place; later, if the disk is full or no frame came.
        ValueError: for a size or rate out of range.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        rate: Fraction | float,
        pixel_aspect: Fraction = Fraction(1),
        drawn: bool = False,
        sound: str | Path | None = None,
    ) -> None:
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ValueError(f"the size {width}x{height} must lie between 1x1 and {MAX_SIDE}x{MAX_SIDE}.")
        if not 0.001 <= rate <= 100_000:
            raise ValueError(f"the rate is {rate} frames per second; it must lie between 0.001 and 100,000.")
        self.path = Path(path)
        self.width, self.height = int(width), int(height)
        self.rate = Fraction(rate).limit_denominator(100_000)
        self.pixel_aspect, self.drawn, self.sound = pixel_aspect, drawn, sound
        # A multiple of the rate's numerator keeps constant rates exact, 1/90000 s or finer keeps variable times.
        self._base = Fraction(1, self.rate.numerator * math.ceil(90_000 / self.rate.numerator))
        self._period = round(1 / (self.rate * self._base))
        self._last = -1  # in units of the base
        self._container: OutputContainer | None = None
        self._sound: Sound | None = None

    def __enter__(self) -> "Writer":
        with self._explained(), contextlib.ExitStack() as stack:
            part = stack.enter_context(part_file(self.path))
            stack.push(self._end)
            self._open(part)
            self._open_file = stack.pop_all()
        return self

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Append a frame.

        Args:
            image: (H, W, 3) uint8 RGB, not modified.
            time: seconds, as `read` gives them; None for one period after the last frame. A time that is not after the last
                frame's is moved behind it.

        Raises:
            ValueError: for an image of another shape or type than announced, a time that is not finite, or no open `with` block.
            InputError: if the disk is full.
        """
        if self._container is None:
            raise ValueError("the writer is closed; write inside its `with` block.")
        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            raise ValueError(f"the image is {image.shape} {image.dtype}; this writer takes {(self.height, self.width, 3)} uint8.")
        if time is not None and not math.isfinite(time):
            raise ValueError(f"the time {time} is not finite.")
        frame = self._to_yuv(image)
        self._last = self._ticks(time)
        frame.pts, frame.time_base = self._last, self._base
        with self._explained():
            self._container.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.write(float(self._last * self._base))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._explained() if kind is None else contextlib.nullcontext():
            self._open_file.__exit__(kind, error, trace)

    def _open(self, part: Path) -> None:
        self._container = container = av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"})
        if self.drawn:
            container.metadata["comment"] = DRAWN
        # libx264's macroblock tree reads memory that it never set; without it, the same frames give the same bytes.
        options = {"preset": "superfast", "crf": "22", "x264-params": "mbtree=0"}
        self._stream = container.add_stream("libx264", rate=self.rate, options=options)
        context = self._stream.codec_context
        context.width, context.height = self.width + self.width % 2, self.height + self.height % 2
        context.pix_fmt = "yuv420p"
        context.time_base = self._base
        context.sample_aspect_ratio = self.pixel_aspect
        context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
        # Untagged colours are guessed from the size, by each player in its own way.
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._reformatter = VideoReformatter()
        self._sound = Sound(self.sound, container) if self.sound is not None else None

    def _ticks(self, time: float | None) -> int:
        if time is None:
            return self._last + self._period if self._last >= 0 else 0
        return max(round(time / self._base), self._last + 1)

    def _to_yuv(self, image: np.ndarray) -> VideoFrame:
        if self.width % 2 or self.height % 2:
            image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        colours = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        return self._reformatter.reformat(frame, format="yuv420p", threads=1, **colours)

    def _end(self, kind: type[BaseException] | None, *_: object) -> None:
        container, self._container = self._container, None
        if container is None:
            return
        try:
            if kind is None:
                if self._last < 0:
                    raise InputError(f"{self.path}: not one frame came, so there is no video to write.")
                container.mux(self._stream.encode(None))
                if self._sound is not None:
                    self._sound.close(float((self._last + self._period) * self._base))
                container.close()
        finally:
            with contextlib.suppress(OSError, av.FFmpegError):
                container.close()
            if self._sound is not None:
                self._sound.close(None)

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(self.path, av.FFmpegError, RuntimeError)
