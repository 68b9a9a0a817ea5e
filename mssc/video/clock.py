"""When each frame is shown: the one clock of canvas, JSON, csv and annotations.

Zero is where a browser begins to count, so the first picture may be late: in MP4 and Matroska at the file's own zero; where the
clock begins anywhere, as in MPEG-TS, at the container's start.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from av.container import InputContainer
from av.format import Flags
from av.video.stream import VideoStream

from .container import is_avi

log = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_PICTURE = 3600.0
"""Seconds; a longer pause is a damaged time stamp, or a join."""

LONGEST_WITH_RESETS = 10.0
"""Likewise, in formats whose clock may start anew in mid-file, such as MPEG-TS (as ffmpeg takes it)."""

STANDING = 4
"""So many equal time stamps in a row say nothing of time; fewer are rounding."""

SET_BACK = 0.3
"""Seconds by which time stamps that go on from there must be too early to be a join: less is disorder."""


def start(container: InputContainer, stream: VideoStream) -> float | None:
    """The time stamp at which a player begins to count, in seconds; None for that of the first frame."""
    if is_avi(container) or container.format.flags & Flags.no_timestamps.value:
        return None
    first = (container.start_time or 0) / 1e6
    if first < 0 or {"mov", "matroska"} & set(container.format.name.split(",")):
        # Sound may begin earlier, to warm up its decoder; browsers do not count it.
        first = min(0.0, float((stream.start_time or 0) * (stream.time_base or 0)))
    return first


def resets(container: InputContainer) -> bool:
    """Whether the format's clock may start anew in mid-file."""
    return bool(container.format.flags & Flags.ts_discont.value)


def clocked(
    items: Iterable[tuple[float | None, T]], path: str | Path, zero: float | None, period: float, resets: bool
) -> Iterator[tuple[float, T]]:
    """Turn time stamps into seconds as a player counts them, from 0 on and strictly increasing.

    One bad time stamp is interpolated. Where the clock jumps, recordings were joined: time goes on there.

    Args:
        items: stamps in the order of presentation, in seconds, None where there is none; each with what it belongs to.
        path: of the file, for messages.
        zero: see `start`.
        period: seconds from frame to frame where stamps do not say.
        resets: see `resets`.
    """
    clock, waiting = _Clock(path, zero, period, LONGEST_WITH_RESETS if resets else LONGEST_PICTURE), None
    for item in items:
        if waiting is not None:
            yield clock(waiting[0], item[0]), waiting[1]
        waiting = item
    if waiting is not None:
        yield clock(waiting[0], None), waiting[1]


class _Clock:
    def __init__(self, path: str | Path, zero: float | None, period: float, longest: float) -> None:
        self._path, self._zero, self._period = path, zero, period
        self._longest = max(longest, 100 * period)
        self._last = -period
        self._stamp: float | None = None
        self._same, self._told = 0, False

    def __call__(self, stamp: float | None, following: float | None) -> float:
        if self._zero is None:
            self._zero = stamp or 0.0
        self._same = self._same + 1 if stamp is not None and stamp == self._stamp else 0
        self._stamp = stamp
        here = None if stamp is None else stamp - self._zero
        after = None if following is None else following - self._zero
        self._last = max(self._second(here, after), 0.0)
        return self._last

    def _goes_on(self, second: float | None) -> bool:
        return second is not None and self._last < second <= self._last + self._longest

    def _second(self, here: float | None, after: float | None) -> float:
        last, period = self._last, self._period
        if here is not None and self._goes_on(here):
            if after is None or not last < after < here:
                return here
            # Out of order: one of the two is wrong, the one that is farther from where the frame rate has it.
            return (last + after) / 2 if abs(after - last - 2 * period) < abs(here - last - period) else here
        if after is not None and self._goes_on(after):
            return (last + after) / 2
        if here is None:
            return last + period
        if self._same >= STANDING - (2 if after == here else 1):
            if not self._told:
                self._told = True
                log.warning(
                    "%s: its clock stands still at %.2f s; time goes on at %.4g frames a second, right or wrong.",
                    self._path,
                    last,
                    1 / period,
                )
            self._zero = (self._zero or 0.0) + here - (last + period)
            return last + period
        if here > last or (here < last - SET_BACK and (after is None or after > here)):
            log.warning("%s: its clock jumps at %.2f s, as where recordings were joined; time goes on.", self._path, last)
            self._zero = (self._zero or 0.0) + here - (last + period)
            return last + period
        return last + period / 10  # doubled or out of order: step on a little, until the time stamps have caught up
