"""Small pictures that a page holds in itself: frames with boxes, heat maps over them, bars."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..video.drawing import class_colours

HEIGHT = 200  # pixels
OPACITY = 0.6  # of a map over its frame


def _sized(image: np.ndarray, aspect: float, way: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
    width = int(np.clip(round(HEIGHT * aspect), 40, 800))
    return Image.fromarray(image).resize((width, HEIGHT), way)


def _outlined(picture: Image.Image, boxes: np.ndarray, size: int, colours: Sequence[tuple[int, int, int]]) -> str:
    pen = ImageDraw.Draw(picture)
    scale = np.array([picture.width / size, picture.height / size] * 2)
    for box, colour in zip(boxes * scale, colours, strict=True):
        corners = np.clip(box, 0, [picture.width - 1, picture.height - 1] * 2).round().astype(int).tolist()
        pen.rectangle(corners, outline=(0, 0, 0), width=4)
        pen.rectangle(corners, outline=colour, width=2)
    return jpeg_address(picture, quality=85)


def jpeg_address(picture: Image.Image, quality: int) -> str:
    """The address of a JPEG that holds it."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def frame_picture(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, classes: Sequence[str], aspect: float) -> str:
    """A frame with its boxes.

    Args:
        image: (S, S, 3) uint8 RGB, the network's input.
        boxes: (N, 4) in its pixels.
        labels: (N,).
        classes: their names.
        aspect: width over height of the video.

    Returns:
        The address of a picture that holds it.
    """
    colours = class_colours(classes)
    return _outlined(_sized(image, aspect), boxes, len(image), [colours[label] for label in labels])


def heat_picture(image: np.ndarray, response: np.ndarray, boxes: np.ndarray, aspect: float) -> str:
    """A response over its frame, from 0 to its own maximum; see `frame_picture`.

    Args:
        image: (S, S, 3) uint8 RGB.
        response: (h, w), not negative.
        boxes: (N, 4) in pixels of the image.
        aspect: width over height of the video.
    """
    from matplotlib import colormaps

    share = response / max(float(response.max()), 1e-12)
    heat = (255 * colormaps["inferno"](share)[..., :3]).astype(np.uint8)
    grey = _sized(image.mean(2).astype(np.uint8), aspect).convert("RGB")
    mixed = Image.blend(grey, _sized(heat, aspect, Image.Resampling.NEAREST), OPACITY)
    return _outlined(mixed, boxes, len(image), [(255, 255, 255)] * len(boxes))


def card(name: str, text: str, address: str) -> str:
    """A picture with a title and a text, which is HTML, below it."""
    shown = html.escape(name)
    return f'<figure><img src="{address}" alt="{shown}"><figcaption><strong>{shown}</strong><br>{text}</figcaption></figure>'


def gain_bars(gain: np.ndarray) -> str:
    """MSM's gain per channel as bars around 1, the largest first; above 1 a channel is pushed away from the video's average.

    Args:
        gain: (D,).
    """
    order, reach = np.sort(gain)[::-1], max(float(np.abs(gain - 1).max()), 1e-6)
    bars = []
    for place, value in enumerate(order):
        high = 45 * abs(float(value) - 1) / reach
        top = 50 - high if value > 1 else 50
        colour = "#0072b2" if value > 1 else "#d55e00"
        bars.append(f'<rect x="{5 * place}" y="{top:.1f}" width="4" height="{max(high, 0.5):.1f}" fill="{colour}"/>')
    share, mean = float((gain > 1).mean()), float(gain.mean())
    said = f"MSM's gain: {100 * share:.0f} % of {len(gain)} channels are above 1, the mean is {mean:.2f}"
    return (
        f'<figure class="gain"><svg viewBox="0 0 {5 * len(gain)} 100" role="img" aria-label="{said}" preserveAspectRatio="none">'
        f'{"".join(bars)}<line x1="0" x2="{5 * len(gain)}" y1="50" y2="50" stroke="currentColor"/></svg>'
        f"<figcaption><strong>{said}.</strong><br>One bar a channel, from {order[0]:.2f} to {order[-1]:.2f}; the line is 1. Above it, "
        "what differs from the video's average is raised.</figcaption></figure>"
    )
