"""Video files in and out: frames with their times, H.264 that a browser plays, boxes drawn on pictures."""

from typing import TYPE_CHECKING

from .. import lazy
from .notes import noted
from .rate import frames_per_look

if TYPE_CHECKING:
    from .container import MAX_PIXELS, MAX_SIDE, VIDEO_SUFFIXES, open_video
    from .reader import Frame, VideoInfo, probe, read, times
    from .writer import Writer, is_drawn

# PyAV is imported when a file is read or written: training from decoded frames needs none.
__getattr__, __dir__ = lazy(
    __name__,
    {
        ".container": "MAX_PIXELS MAX_SIDE VIDEO_SUFFIXES open_video",
        ".reader": "Frame VideoInfo probe read times",
        ".writer": "Writer is_drawn",
    },
)
