"""Video files in and out: frames with their times, H.264 that a browser plays, boxes drawn on pictures."""

from .container import MAX_PIXELS, MAX_SIDE, VIDEO_SUFFIXES
from .reader import Frame, VideoInfo, frames_per_look, probe, read, times
from .writer import Writer, is_drawn

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "VIDEO_SUFFIXES",
    "Frame",
    "VideoInfo",
    "Writer",
    "frames_per_look",
    "is_drawn",
    "probe",
    "read",
    "times",
]
