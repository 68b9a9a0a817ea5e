"""What tubes look like: boxes with labels on a frame.

One class has one colour everywhere. Images are (H, W, 3) uint8 RGB. Nothing here knows the model.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from ..structures import Detections, InputError
from . import fonts

Colour = tuple[int, int, int]

# The first seven are Okabe and Ito's (2008, "Color Universal Design"), chosen to stay apart in every kind of colour blindness.
OKABE_ITO = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))
# Linear RGB as seen with protanopia, deuteranopia and tritanopia: Machado, Oliveira and Fernandes (2009), severity 1.
COLOUR_BLIND = np.array(
    [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
# Linear RGB to cone responses, and their cube roots to lightness, green-red, blue-yellow: Ottosson's Oklab (2020).
OKLAB_CONES = np.array([[0.4122215, 0.5363325, 0.0514460], [0.2119035, 0.6806995, 0.1073970], [0.0883025, 0.2817188, 0.6299787]])
OKLAB_AXES = np.array([[0.2104543, 0.7936178, -0.004072], [1.9779985, -2.4285922, 0.4505937], [0.025904, 0.7827718, -0.8086758]])
GREY = (182, 187, 193)  # who does nothing that is sure
CROWD = 8  # more of them have no labels
# Weights of the four kinds of viewers: most tell all colours, and shall have more to tell them by than the other three.
VIEWERS = np.array([0.6, 1, 1, 1])[:, None]
LIGHTNESS = (0.5, 0.92)  # of Oklab; darker or lighter colours vanish on a dark or a white page


def _linear(colours: np.ndarray) -> np.ndarray:
    values = np.asarray(colours) / 255  # undoes sRGB's curve
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _seen(colours: np.ndarray) -> np.ndarray:
    """Oklab of (N, 3) colours from 0 to 255 as the four kinds of viewers see them: (4, N, 3)."""
    linear = _linear(colours)
    viewers = np.stack([linear, *(linear @ view.T for view in COLOUR_BLIND)]).clip(0, 1)
    return np.cbrt(viewers @ OKLAB_CONES.T) @ OKLAB_AXES.T


@lru_cache(maxsize=8)
def _palette(count: int) -> tuple[Colour, ...]:
    # Farthest point first: each colour is the one whose worst viewer tells it best from all before it. So a longer palette
    # starts with the shorter one, and the first classes are the easiest to tell apart.
    steps = np.linspace(0, 255, 16).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    seen = _seen(grid)
    usable = (seen[0, :, 0] >= LIGHTNESS[0]) & (seen[0, :, 0] <= LIGHTNESS[1])
    grid, seen = grid[usable], seen[:, usable]
    chosen = list(OKABE_ITO)
    known = _seen(np.array([*OKABE_ITO, GREY]))
    nearest = (VIEWERS * np.linalg.norm(seen[:, :, None] - known[:, None], axis=-1).min(2)).min(0)
    while len(chosen) < count:
        best = int(nearest.argmax())
        red, green, blue = grid[best].astype(int).tolist()
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, (VIEWERS * np.linalg.norm(seen - seen[:, best, None], axis=-1)).min(0))
    return tuple(chosen[:count])


def class_colours(classes: Sequence[str]) -> tuple[Colour, ...]:
    """One RGB colour per class, which depends on the class's index alone.

    Eighty colours cannot all be told apart, least of all by colour-blind viewers; they are as far apart for the worst of four
    kinds of viewers as a greedy choice gets them, and every label is written out as well.
    """
    return _palette(len(classes))


def ink(colour: Colour) -> Colour:
    """Black or white, whichever is the easier to read on a colour: they are equal at a relative luminance of 0.179 (WCAG 2)."""
    return (0, 0, 0) if _linear(np.array(colour)) @ (0.2126, 0.7152, 0.0722) > 0.179 else (255, 255, 255)


def hex_colour(colour: Colour) -> str:
    """A colour as pages and plots write it: #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


@lru_cache(maxsize=1024)
def _label(text: str, colour: Colour, size: int) -> Image.Image:
    # Writing text costs more than all the rest of a frame, and labels repeat from frame to frame.
    pad = max(2, size // 5)
    patch = Image.new("RGB", (fonts.width(text, size) + 2 * pad, round(1.2 * size) + pad), colour)
    fonts.write(ImageDraw.Draw(patch), (pad, patch.height / 2), text, size, ink(colour))
    return patch


def _place(box: np.ndarray, width: int, height: int, frame: tuple[int, int], occupied: list) -> tuple[int, int]:
    """Where a stack of labels goes: above its box, else inside, else below; within the frame, and free of others if it can."""
    x = int(min(max(box[0], 0), max(frame[0] - width, 0)))
    spots = []
    for y in (box[1] - height, box[1], box[3] - height, box[3]):
        y = int(min(max(y, 0), max(frame[1] - height, 0)))
        spots.append((x, y))
        if not any(x < right and left < x + width and y < bottom and top < y + height for left, top, right, bottom in occupied):
            return spots[-1]
    return spots[0]


def draw(
    image: np.ndarray,
    detections: Detections,
    classes: Sequence[str],
    actors: Sequence[int] | None = None,
    people: np.ndarray | None = None,
    numbers: Sequence[int] | None = None,
) -> np.ndarray:
    """Draw boxes with their actions and scores, and thin grey ones around everybody else.

    Rows of one actor, or of equal boxes where no actors are given, are drawn as one box under a stack of labels, the best
    action first. Line width and letters grow with the image. Boxes may reach out of the frame; labels stay within it.

    Args:
        image: (H, W, 3) uint8 RGB; not modified.
        detections: what to draw, in pixels of `image`.
        classes: their names.
        actors: a number for each row, written before the action (see `mssc.linking.identify`); None writes none.
        people: (P, 4) boxes of those who do nothing that is sure, likewise.
        numbers: of these people.

    Returns:
        (H, W, 3) uint8 RGB, a copy.

    Raises:
        InputError: for another kind of image, or a label that `classes` does not have.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"the image is {image.dtype} of shape {image.shape}; it must be uint8 (H, W, 3), RGB.")
    if len(detections) and detections.labels.max() >= len(classes):
        raise InputError(f"label {detections.labels.max()} has no name: there are {len(classes)} classes, counted from 0.")
    people = np.zeros((0, 4)) if people is None else people
    if not len(detections) and not len(people):
        return image.copy()
    canvas = Image.fromarray(image)
    pen, colours = ImageDraw.Draw(canvas), class_colours(classes)
    short = min(canvas.size)
    line, size = max(2, round(short / 200)), max(11, round(short / 28))
    stacks: dict[bytes | int, list[int]] = {}
    for row in np.argsort(-detections.scores, kind="stable").tolist():
        stacks.setdefault(detections.boxes[row].tobytes() if actors is None else actors[row], []).append(row)
    thin = max(1, line // 2)
    outlines = [
        part for box in people for part in ((box, (0, 0, 0), thin + 2), (box + [1, 1, -1, -1], GREY, thin))
    ]  # on any ground
    outlines += [(detections.boxes[rows[0]], colours[detections.labels[rows[0]]], line) for rows in stacks.values()]
    for box, colour, thick in outlines:  # every box before any label, so that no line runs through a text
        x1, y1, x2, y2 = np.clip(box.round(), 0, (*canvas.size, *canvas.size)).astype(int).tolist()
        if x1 < x2 and y1 < y2:
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour, width=thick)
    occupied: list[tuple[int, int, int, int]] = []
    labelled = []
    for rows in stacks.values():
        patches = []
        for row in rows:
            label, who = int(detections.labels[row]), "" if actors is None else f"{actors[row]}: "
            patches.append(_label(f"{who}{classes[label]} {detections.scores[row]:.2f}", colours[label], size))
        labelled.append((detections.boxes[rows[0]], patches))
    named = [f"{number}: person" for number in numbers] if numbers is not None else ["person"] * len(people)
    for box, name in zip(people, named, strict=True) if len(people) <= CROWD else ():  # the names of many would hide them
        labelled.append((box, [_label(name, GREY, max(11, 2 * size // 3))]))
    for box, patches in labelled:
        width, height = max(patch.width for patch in patches), sum(patch.height for patch in patches)
        x, y = _place(box, width, height, canvas.size, occupied)
        occupied.append((x, y, x + width, y + height))
        for patch in patches:
            canvas.paste(patch, (x, y))
            y += patch.height
    return np.array(canvas)
