"""Frames as the network takes them: squares for the actions, larger ones of their own shape for the people. Without torch, whose import
takes seconds and half a gigabyte that a graph runtime can do without."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..config import LOOK_EVERY
from ..data.decoding import resize
from ..structures import InputError

if TYPE_CHECKING:
    from torch import Tensor

SLOW_RATE = 20.0
SMALLEST_SIDE = 416
"""A smaller frame is enlarged for people to be looked for, until its longer side has so many pixels: COCO's detector learnt from such
images."""
COARSEST = 32
"""Both sides of such a frame are multiples of the network's coarsest stride."""
Size = tuple[int, int]
"""Height and width of a source frame, in whose pixels boxes are given."""


class Ready(NamedTuple):
    """A frame as the network takes it.

    Attributes:
        frame: (S, S, 3) uint8, see `squares`.
        size: of the source.
        large: (H, W, 3) uint8, the same where people are looked for in it, see `prepare_large`; else None.
    """

    frame: np.ndarray
    size: Size
    large: np.ndarray | None


def squares(frames: Iterable[np.ndarray], side: int) -> np.ndarray:
    """Frames squeezed to squares.

    Args:
        frames: (H, W, 3) uint8 RGB each; taken one by one. Not modified.
        side: `config.key_size` of the network.

    Returns:
        (T, side, side, 3) uint8.

    Raises:
        InputError: for what is no such frame, or for none at all.
    """
    small = []
    for frame in frames:
        if not isinstance(frame, np.ndarray):
            raise InputError(f"a frame is of type {type(frame).__name__}; it must be an array, uint8 of (H, W, 3), RGB.")
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise InputError(f"a frame is {frame.dtype} of shape {frame.shape}; it must be uint8 of (H, W, 3), RGB.")
        small.append(resize(frame, side, side))
    if not small:
        raise InputError("there is no frame; give at least one.")
    return np.stack(small)


def prepare(frames: Iterable[np.ndarray], side: int) -> "Tensor":
    """`squares` as torch has images: (T, 3, side, side) uint8. Same arguments, same errors."""
    import torch

    return torch.from_numpy(squares(frames, side)).permute(0, 3, 1, 2)


def prepare_large(frame: np.ndarray, most: int) -> np.ndarray:
    """A frame as people are looked for in it.

    Args:
        frame: (H, W, 3) uint8 RGB. Not modified.
        most: pixels of its longer side, `config.person_size` of the network.

    Returns:
        (height, width, 3) uint8, see `shape_looked_at`.
    """
    return resize(frame, *shape_looked_at(frame.shape[0], frame.shape[1], most))


def shape_looked_at(height: int, width: int, most: int) -> Size:
    """How large a frame is made for people to be looked for in it: about its own shape, both sides multiples of 32.

    Args:
        height: of the frame in pixels.
        width: likewise.
        most: pixels of the longer side.
    """
    longer = max(height, width)
    side = min(most, max(longer, SMALLEST_SIDE))
    rows, columns = (max(round(length * side / longer / COARSEST), 1) * COARSEST for length in (height, width))
    return rows, columns


def people_every(rate: float | None) -> int:
    """In every how many frames of a stream people are looked for. Below `SLOW_RATE` frames a second they move far from one to the next,
    and are looked for in each."""
    return LOOK_EVERY if rate is None or rate >= SLOW_RATE else 1
