"""Draws the toy set: round-eyed figures before a textured background, with exact outlines.

A figure is a closed curve in polar coordinates, radius ``R(angle)``, so its bounding box in any pose is that of the curve's
points, not of its pixels.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

ANGLES = np.linspace(0, 2 * np.pi, 256, endpoint=False)
SHAPES = ("disc", "egg", "square", "triangle", "flower", "pebble")
TEXTURES = ("plain", "stripes", "dots", "checks")
RING = 0.09  # width of the dark outline, in radii


@dataclass(frozen=True)
class Look:
    """How a figure appears; drawn from one distribution, whatever it does.

    Attributes:
        shape: one of SHAPES.
        texture: one of TEXTURES.
        colours: (2, 3), RGB in [0, 1]: body and pattern.
        pattern: waves of the pattern across the body, and their direction in radians.
    """

    shape: str
    texture: str
    colours: np.ndarray
    pattern: tuple[float, float]

    @classmethod
    def random(cls, rng: Generator) -> "Look":
        """A new one."""
        hue = rng.random()
        body = colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 0.9), rng.uniform(0.75, 1.0))
        mark = colorsys.hsv_to_rgb((hue + rng.uniform(0.08, 0.5)) % 1, rng.uniform(0.3, 0.9), rng.uniform(0.55, 1.0))
        pattern = (rng.uniform(1.4, 2.2), rng.uniform(0, np.pi))
        return cls(str(rng.choice(SHAPES)), str(rng.choice(TEXTURES)), np.array([body, mark]), pattern)


@dataclass(frozen=True)
class Pose:
    """Where a figure is in T frames.

    Attributes:
        x: (T,), centre, pixels of the frame.
        y: (T,).
        radius: (T,), pixels.
        angle: (T,), radians, clockwise on the screen.
    """

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def outline(shape: str, angle: np.ndarray) -> np.ndarray:
    """R(angle) of a shape of radius 1: between 0.67 and 1 everywhere, so that the eyes always fit in."""
    c, s = np.cos(angle), np.sin(angle)
    if shape == "disc":
        return np.full_like(angle, 0.88)
    if shape == "egg":
        return 1 / np.sqrt(c**2 / 0.72**2 + s**2)
    if shape == "square":
        return (c**6 + s**6) ** (-1 / 6) / 2 ** (1 / 3)
    if shape == "triangle":
        return 0.84 - 0.16 * np.sin(3 * angle)
    if shape == "flower":
        return 0.86 + 0.14 * np.cos(5 * angle)
    return 0.84 + 0.1 * np.cos(2 * angle + 1) + 0.06 * np.cos(3 * angle)  # pebble


def boxes(look: Look, pose: Pose) -> np.ndarray:
    """The exact bounding boxes, (T, 4), x1, y1, x2, y2."""
    reach = pose.radius[:, None] * outline(look.shape, ANGLES)
    x = pose.x[:, None] + reach * np.cos(ANGLES + pose.angle[:, None])
    y = pose.y[:, None] + reach * np.sin(ANGLES + pose.angle[:, None])
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], 1)


def draw(frames: np.ndarray, look: Look, pose: Pose) -> None:
    """Paints a figure over `frames`, (T, H, W, 3) float32 in [0, 1], in place. Parts outside the frame are cut off."""
    side = int(np.ceil(2 * pose.radius.max())) + 3
    left, top = (np.floor(centre - side / 2).astype(int) for centre in (pose.x, pose.y))
    step = np.arange(side, dtype=np.float32) + 0.5
    dx = (left - pose.x)[:, None, None].astype(np.float32) + step
    dy = (top - pose.y)[:, None, None].astype(np.float32) + step[:, None]
    c, s, r = (a[:, None, None].astype(np.float32) for a in (np.cos(pose.angle), np.sin(pose.angle), pose.radius))
    colour, alpha = _paint(look, (c * dx + s * dy) / r, (c * dy - s * dx) / r, r)
    height, width = frames.shape[1:3]
    for frame, x, y, rgb, a in zip(frames, left, top, colour, alpha, strict=True):
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
        if x1 < x2 and y1 < y2:
            inside = (slice(y1 - y, y2 - y), slice(x1 - x, x2 - x))
            frame[y1:y2, x1:x2] += a[inside][..., None] * (rgb[inside] - frame[y1:y2, x1:x2])


def _paint(look: Look, u: np.ndarray, v: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colour (T, S, S, 3) and opacity (T, S, S) at the points u, v of the figure's own coordinates, in radii."""

    def cover(depth: np.ndarray) -> np.ndarray:  # depth inside an edge, in radii: soft over one pixel
        return np.clip(depth * radius + 0.5, 0, 1)

    angle = np.arctan2(v, u)
    edge = outline(look.shape, angle)
    slope = (outline(look.shape, angle + 0.01) - edge) / 0.01 / edge
    depth = (edge - np.hypot(u, v)) / np.sqrt(1 + slope**2)  # distance from the curve, to first order
    waves, turn = look.pattern
    a = np.sin(np.pi * waves * (np.cos(turn) * u + np.sin(turn) * v) * 2)
    b = np.sin(np.pi * waves * (np.cos(turn) * v - np.sin(turn) * u) * 2)
    mark = {"plain": 0 * u, "stripes": a, "dots": a + b - 0.9, "checks": a * b}[look.texture]
    mark = np.clip(3 * mark + 0.5, 0, 1) if look.texture != "plain" else mark
    body, other = look.colours.astype(np.float32)
    colour = body + mark[..., None] * (other - body)
    colour *= (0.92 - 0.16 * v)[..., None]  # lit from its own top, so that even a plain disc shows how it is turned
    for x in (-0.28, 0.28):
        for size, rgb, dy in ((0.24, 1.0, 0.0), (0.12, 0.08, 0.03)):
            eye = cover(size - np.hypot(u - x, v + 0.2 - dy))[..., None]
            colour += eye * (rgb - colour)
    ring = (1 - cover(depth - RING))[..., None]
    colour += ring * (0.25 * body - colour)
    return np.clip(colour, 0, 1), cover(depth)


def background(rng: Generator, height: int, width: int) -> np.ndarray:
    """A muted, soft landscape of noise, discs and a faint weave, (height, width, 3) float32 in [0, 1]."""
    tones = np.array(
        [colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.55), rng.uniform(0.3, 0.75)) for _ in range(3)], np.float32
    )
    noise = [_noise(rng, height, width, cells) for cells in (3, 5, 9, 24)]
    image = tones[0] + noise[0][..., None] * (tones[1] - tones[0])
    image += noise[1][..., None] * 0.6 * (tones[2] - image)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(10):
        cx, cy, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.05, 0.2) * height
        disc = np.clip(size - np.hypot(x - cx, y - cy), 0, 1)[..., None] * rng.uniform(0.15, 0.4)
        image += disc * (tones[rng.integers(3)] * rng.uniform(0.7, 1.3) - image)
    turn, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.12) * height
    weave = np.sin(2 * np.pi * (np.cos(turn) * x + np.sin(turn) * y) / period)
    image *= (0.85 + 0.2 * noise[2] + 0.12 * noise[3] + 0.03 * weave)[..., None]
    return np.clip(image, 0, 1).astype(np.float32)


def _noise(rng: Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise in [0, 1] with about `cells` bumps a side."""
    grid = rng.random((cells + 1, cells + 1)).astype(np.float32)
    return _blend(height, cells) @ grid @ _blend(width, cells).T


def _blend(length: int, cells: int) -> np.ndarray:
    """(length, cells + 1): how much of each grid point a pixel takes; smooth steps between neighbours."""
    place = np.linspace(0, cells, length, endpoint=False, dtype=np.float32)
    low = place.astype(int)
    part = place - low
    part = part * part * (3 - 2 * part)
    weights = np.zeros((length, cells + 1), np.float32)
    rows = np.arange(length)
    weights[rows, low], weights[rows, low + 1] = 1 - part, part
    return weights


def crop(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, height: int, width: int) -> np.ndarray:
    """What a camera at x, y (T,), in pixels and fractions of them, sees of a canvas: (T, height, width, 3)."""
    frames = np.empty((len(x), height, width, 3), np.float32)
    for frame, left, top in zip(frames, x, y, strict=True):
        i, j = int(top), int(left)
        b, a = np.float32(top - i), np.float32(left - j)
        rows = canvas[i : i + height + 1, j : j + width + 1]
        rows = rows[:-1] * (1 - b) + rows[1:] * b
        frame[:] = rows[:, :-1] * (1 - a) + rows[:, 1:] * a
    return frames
