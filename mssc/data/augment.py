"""Augmentation of a clip together with the boxes of its key frames: drawn first, from a seed, and then done to the pixels.

What is drawn is a few numbers. So it can be drawn by one process and rendered by another, or on a GPU, all clips of a batch after each
other without waiting for any.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

VISIBLE = 0.6
"""A crop keeps at least this share of every box; a box of less would not show its action."""
JITTER = 0.4  # of brightness, contrast and saturation
GREY = np.array([0.2989, 0.587, 0.114])


@dataclass(frozen=True)
class View:
    """How a clip is to be seen, all its frames alike.

    Attributes:
        crop: top, left, height and width in pixels of the frame.
        flip: whether left and right are exchanged.
        colour: (3, 6): a colour is this times (colour, mean colour of its frame). None leaves colours alone.
        blur: standard deviation in pixels of the result; 0 for none.
    """

    crop: tuple[int, int, int, int]
    flip: bool
    colour: np.ndarray | None
    blur: float


def draw_view(height: int, width: int, boxes: np.ndarray, smallest_crop: float, rng: np.random.Generator) -> View:
    """Random crop, flip, brightness, contrast, saturation, sometimes grey or blurred.

    Args:
        height: of the frames in pixels.
        width: likewise.
        boxes: (N, 4) in their pixels, of any frames, that the crop has to show.
        smallest_crop: share of the frame's area.
        rng: is drawn from.
    """
    crop, flip = _draw_crop(height, width, boxes, smallest_crop, rng), bool(rng.random() < 0.5)
    jitter, grey = rng.random() < 0.8, rng.random() < 0.1
    colour = _colour(_draw_changes(rng) if jitter else [], grey) if jitter or grey else None
    return View(crop, flip, colour, float(rng.uniform(0.1, 1.5)) if rng.random() < 0.1 else 0.0)


def _draw_crop(
    height: int, width: int, boxes: np.ndarray, smallest: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A crop that keeps `VISIBLE` of every box; the whole frame if ten tries find none."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for _ in range(10):
        share, aspect = rng.uniform(smallest, 1), np.exp(rng.uniform(-0.35, 0.35))
        h, w = min((share / aspect) ** 0.5, 1) * height, min((share * aspect) ** 0.5, 1) * width
        top, left = rng.random() * (height - h), rng.random() * (width - w)
        low, high = np.maximum(boxes[:, :2], [left, top]), np.minimum(boxes[:, 2:], [left + w, top + h])
        if ((high - low).clip(min=0).prod(1) >= VISIBLE * area).all():
            return int(top), int(left), max(int(h), 1), max(int(w), 1)
    return 0, 0, height, width


def _draw_changes(rng: np.random.Generator) -> list[tuple[str, float]]:
    """Brightness, contrast and saturation in random order, and by how much each changes."""
    order = rng.permutation(["brightness", "contrast", "saturation"])
    return [(str(kind), rng.uniform(1 - JITTER, 1 + JITTER)) for kind in order]


def _colour(changes: list[tuple[str, float]], grey: bool) -> np.ndarray:
    """All changes as one matrix, see `View`. Colours are cut to 0..255 once, at the end."""
    own, mean = np.eye(3), np.zeros((3, 3))
    for kind, amount in [*changes, *([("saturation", 0.0)] if grey else [])]:
        if kind == "contrast":  # towards the frame's mean brightness
            mean = amount * mean + (1 - amount) * np.ones((3, 1)) * (GREY @ (own + mean))
            own = amount * own
        else:
            change = amount * np.eye(3) + ((1 - amount) * GREY if kind == "saturation" else 0)
            own, mean = change @ own, change @ mean
    return np.concatenate([own, mean], 1).astype(np.float32)


def move_boxes(boxes: np.ndarray, view: View, size: int) -> np.ndarray:
    """Boxes (N, 4) in pixels of the frame to those of the result, clipped to it."""
    top, left, height, width = view.crop
    moved = (boxes - np.array([left, top, left, top])) * (size / np.array([width, height, width, height]))
    moved = moved.clip(0, size).astype(np.float32)
    if view.flip:
        moved[:, [0, 2]] = size - moved[:, [2, 0]]
    return moved


def render(frames: list[Tensor], views: list[View], size: int) -> Tensor:
    """Clips as they are to be seen.

    Args:
        frames: of each clip (T, h, w, 3) uint8, its crop. Not modified.
        views: of each.
        size: side of the square result in pixels.

    Returns:
        (B, T, 3, size, size) uint8.
    """
    small = [_resized(clip.flip(2) if view.flip else clip, size) for clip, view in zip(frames, views, strict=True)]
    groups = [[i] for i in range(len(small))] if small[0].device.type == "cpu" else [list(range(len(small)))]
    for group in groups:  # a CPU's caches hold a clip, and a clip may need nothing; a GPU wants much to do at once
        colours = [views[i].colour for i in group]
        if any(colour is not None for colour in colours):
            same = np.eye(3, 6, dtype=np.float32)
            matrices = torch.from_numpy(np.stack([same if colour is None else colour for colour in colours]))
            clips = recolour(torch.stack([small[i] for i in group]), matrices.to(small[0].device, non_blocking=True))
            small[group[0] : group[-1] + 1] = clips.unbind()
    for i, view in enumerate(views):
        if view.blur:
            small[i] = F.gaussian_blur(small[i], [5, 5], [view.blur, view.blur])
    return torch.stack(small)


def _resized(clip: Tensor, size: int) -> Tensor:
    """(T, h, w, 3) to (T, 3, size, size) uint8, bilinear with antialiasing, as detection has them but for rounding."""
    pixels = clip.permute(0, 3, 1, 2)
    if pixels.device.type == "cpu":
        return torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    found = torch.nn.functional.interpolate(pixels.float(), (size, size), mode="bilinear", antialias=True)
    return found.round_().clamp_(0, 255).to(torch.uint8)


def recolour(clips: Tensor, colours: Tensor) -> Tensor:
    """(B, T, 3, S, S) uint8 with colours (B, 3, 6), see `View`."""
    pixels = clips.flatten(3).float()  # (B, T, 3, P)
    offset = colours[:, None, :, 3:] @ pixels.mean(3, keepdim=True)
    found = torch.baddbmm(
        offset.expand(*pixels.shape).flatten(0, 1),
        colours[:, None, :, :3].expand(-1, pixels.shape[1], -1, -1).flatten(0, 1),
        pixels.flatten(0, 1),
    )
    return found.round_().clamp_(0, 255).to(torch.uint8).reshape(clips.shape)
