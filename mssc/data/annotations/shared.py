"""What the importers share: turned boxes, several actions in one text, boxes between key frames, and where frames count from."""

import logging
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...structures import InputError, counted
from ..media import Videos
from .table import MOST_FRAMES, Box

log = logging.getLogger(__name__)

NOTHING = {"", "none", "no", "false", "0", "n/a", "background", "__undefined__"}
ACTION = re.compile(r"actions?", re.IGNORECASE)
"""What an attribute is called that names actions."""
TRACK = re.compile(r"(track|instance|person|actor)([ _-]?id)?|id", re.IGNORECASE)
"""What an attribute is called that tells actors apart."""


def upright(box: Box, degrees: float, pivot: str = "centre") -> Box:
    """The upright box around one that is turned about its centre, or about its first corner."""
    if not degrees or not math.isfinite(degrees):
        return box
    x1, y1, x2, y2 = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = ((x1 + x2) / 2, (y1 + y2) / 2) if pivot == "centre" else (x1, y1)
    corners = [(px - x, py - y) for px in (x1, x2) for py in (y1, y2)]
    xs, ys = [x + px * cos - py * sin for px, py in corners], [y + px * sin + py * cos for px, py in corners]
    return min(xs), min(ys), max(xs), max(ys)


def split_actions(text: str, options: Collection[str] = ()) -> list[str]:
    """The actions that a text names, see `pieces`; perhaps none."""
    return list(dict.fromkeys(piece for piece in pieces(text, options) if piece.lower() not in NOTHING))


def pieces(text: str, options: Collection[str] = ()) -> list[str]:
    """What lies between commas or semicolons.

    An option of the file stays whole, whatever is in it, and so does what is in brackets: "watch (e.g., TV)" is one action.
    """
    whole = [rf"\s*{re.escape(option)}(?=\s*(?:[,;]|$))" for option in sorted(options, key=len, reverse=True) if option.strip()]
    found = re.findall("|".join([*whole, r"(?:\([^()]*\)|[^,;])+"]), text)
    return [piece.strip() for piece in found if piece.strip()]


def warn_of_bare(path: Path, bare: Sequence[object]) -> None:
    """Say how many boxes were drawn and never given an action, and which is the first; "none" would be an answer."""
    if bare:
        log.warning("%s: %s without an action left out, the first: %s.", path, counted(len(bare), "box"), bare[0])


class Key(NamedTuple):
    """A box that was drawn: at which frame, degrees that it is turned by, what is done, and whether anybody is there from then on."""

    frame: int
    box: Box
    turned: float
    actions: Collection[str]
    there: bool


def between(where: str, name: str, keys: Iterable[Key], pivot: str = "centre") -> list[tuple[int, Box, str, str]]:
    """(frame, box, action, track) of every frame of a track: boxes move evenly from each key to the next.

    The last key is of its frame alone. Each stretch without a break is a track of its own.

    Args:
        where: the track, for messages.
        name: of the track.
        keys: in any order; equal ones may be there several times.
        pivot: of turned boxes, see `upright`.

    Raises:
        InputError: for two different keys in one frame, and frames that no video has.
    """
    found: dict[int, Key] = {}
    for key in keys:
        if found.setdefault(key.frame, key) != key:
            raise InputError(f"{where} has two boxes in frame {key.frame}; remove one of them.")
        if not 0 <= key.frame <= MOST_FRAMES:
            raise InputError(f"{where} has a box in frame {key.frame}; no video does.")
    empty = [key for key in found.values() if key.there and (key.box[0] == key.box[2] or key.box[1] == key.box[3])]
    if empty:
        log.warning("%s: %d boxes without area are left out, the first in frame %d.", where, len(empty), empty[0].frame)
    track = [found[frame] for frame in sorted(found) if found[frame] not in empty]
    rows: list[tuple[int, Box, str, str]] = []
    stretch = 1
    for key, following in pairwise([*track, None]):
        assert key is not None
        if not key.there:
            stretch += bool(rows)
            continue
        last, goal = (key.frame + 1, key) if following is None else (following.frame, following)
        start, way = np.array([*key.box, key.turned]), np.array([*goal.box, goal.turned]) - [*key.box, key.turned]
        way[4] = (way[4] + 180) % 360 - 180  # the short way round
        for frame in range(key.frame, last):
            values = (start + way * ((frame - key.frame) / (last - key.frame))).tolist()
            box = upright((values[0], values[1], values[2], values[3]), values[4], pivot)
            rows += [(frame, box, action, name if stretch == 1 else f"{name}-{stretch}") for action in key.actions]
    return rows


def counted_from(path: Path, frames: Mapping[str, Collection[int]], videos: Videos, usual: int) -> int:
    """What a file calls the first frame of a video, 0 or 1: told once for all of it from its numbers, and said.

    Args:
        path: of the file.
        frames: the numbers that it has, by video.
        videos: whose lengths may tell.
        usual: what such files count from, where nothing tells.
    """
    if any(0 in numbers for numbers in frames.values()):
        first, why = 0, "there is a frame 0"
    else:
        first, why = usual, "as such files do; nothing in it tells (--first-frame says otherwise)"
        for name, numbers in frames.items():
            look = videos.look(name)
            if look is not None and numbers and max(numbers) == look.frames:
                first, why = 1, f"{name} has {look.frames} frames, and one is number {look.frames}"
                break
    log.info("%s: frames are counted from %d: %s.", path, first, why)
    return first
