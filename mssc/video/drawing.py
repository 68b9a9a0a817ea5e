"""What the tubes look like: boxes with labels on a frame, and who does what from when to when.

One class has one colour everywhere. Images are (H, W, 3) uint8 RGB. Nothing here knows the model.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from ..boxes import CONTINUOUS, box_iou
from ..structures import Detections, InputError, Tube
from . import fonts

if TYPE_CHECKING:  # slow to import, and drawing does not need it
    from plotly.graph_objects import Figure as PlotlyFigure

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
LIGHTNESS = (0.5, 0.92)  # of Oklab; darker or lighter colours vanish on a dark or a white page

SAME_ACTOR_IOU = 0.5  # mean over shared frames, for two actions to be one actor's (the usual threshold of a correct box)
NEXT_ACTOR_IOU = 0.3  # from the end of one action to the start of the next: the actor may have moved meanwhile
NEXT_ACTOR_GAP = 15  # frames without an action over which an actor keeps its number (half a second at 30 per second)


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
    nearest = np.linalg.norm(seen[:, :, None] - _seen(np.array(OKABE_ITO))[:, None], axis=-1).min((0, 2))
    while len(chosen) < count:
        best = int(nearest.argmax())
        red, green, blue = grid[best].astype(int).tolist()
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[:, best, None], axis=-1).min(0))
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


def _place(box: np.ndarray, width: int, height: int, frame: tuple[int, int], taken: list) -> tuple[int, int]:
    """Where a stack of labels goes: above its box, else inside, else below; within the frame, and free of others if it can."""
    x = int(min(max(box[0], 0), max(frame[0] - width, 0)))
    spots = []
    for y in (box[1] - height, box[1], box[3] - height, box[3]):
        y = int(min(max(y, 0), max(frame[1] - height, 0)))
        spots.append((x, y))
        if not any(x < right and left < x + width and y < bottom and top < y + height for left, top, right, bottom in taken):
            return spots[-1]
    return spots[0]


def draw(image: np.ndarray, detections: Detections, classes: Sequence[str], actors: Sequence[int] | None = None) -> np.ndarray:
    """Draw boxes with their actions and scores.

    Rows of one actor, or of equal boxes where no actors are given, are drawn as one box under a stack of labels, the best
    action first. Line width and letters grow with the image. Boxes may reach out of the frame; labels stay within it.

    Args:
        image: (H, W, 3) uint8 RGB; not modified.
        detections: what to draw, in pixels of `image`.
        classes: their names.
        actors: a number for each row, written before the action (see `actors`); None writes none.

    Returns:
        (H, W, 3) uint8 RGB, a copy.

    Raises:
        InputError: for another kind of image, or a label that `classes` does not have.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"the image is {image.dtype} of shape {image.shape}; it must be uint8 (H, W, 3), RGB.")
    if len(detections) and detections.labels.max() >= len(classes):
        raise InputError(f"label {detections.labels.max()} has no name: there are {len(classes)} classes, counted from 0.")
    if not len(detections):
        return image.copy()
    canvas = Image.fromarray(image)
    pen, colours = ImageDraw.Draw(canvas), class_colours(classes)
    short = min(canvas.size)
    line, size = max(2, round(short / 200)), max(11, round(short / 28))
    stacks: dict[bytes | int, list[int]] = {}
    for row in np.argsort(-detections.scores, kind="stable").tolist():
        stacks.setdefault(detections.boxes[row].tobytes() if actors is None else actors[row], []).append(row)
    for rows in stacks.values():  # every box before any label, so that no line runs through a text
        x1, y1, x2, y2 = np.clip(detections.boxes[rows[0]].round(), 0, (*canvas.size, *canvas.size)).astype(int).tolist()
        if x1 < x2 and y1 < y2:
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colours[detections.labels[rows[0]]], width=line)
    taken: list[tuple[int, int, int, int]] = []
    for rows in stacks.values():
        patches = []
        for row in rows:
            label, who = int(detections.labels[row]), "" if actors is None else f"{actors[row]}: "
            patches.append(_label(f"{who}{classes[label]} {detections.scores[row]:.2f}", colours[label], size))
        width, height = max(patch.width for patch in patches), sum(patch.height for patch in patches)
        x, y = _place(detections.boxes[rows[0]], width, height, canvas.size, taken)
        taken.append((x, y, x + width, y + height))
        for patch in patches:
            canvas.paste(patch, (x, y))
            y += patch.height
    return np.array(canvas)


def _fits(tube: Tube, members: list[Tube]) -> float:
    """How well `tube` continues or accompanies what one actor does, 0 where it cannot be the same actor."""
    beside, before = [], []
    for other in members:  # none starts after `tube`
        shared = min(tube.stop, other.stop) - tube.start
        if shared <= 0:
            if shared >= -NEXT_ACTOR_GAP:
                before.append(float(box_iou(other.boxes[-1], tube.boxes[0], CONTINUOUS)))
        elif other.label == tube.label:  # nobody does the same thing twice at once
            return 0.0
        else:
            offset = tube.start - other.start
            beside.append(float(box_iou(other.boxes[offset : offset + shared], tube.boxes[:shared], CONTINUOUS).mean()))
    if beside:
        return min(beside) if min(beside) >= SAME_ACTOR_IOU else 0.0
    return max(before) if before and max(before) >= NEXT_ACTOR_IOU else 0.0


def actors(tubes: Sequence[Tube]) -> list[int]:
    """Number who does what: tubes get the same number where their boxes say that it is the same actor.

    Tubes that share frames are one actor's if their boxes nearly coincide; a tube that starts where another has just ended
    goes on with that one's actor. This reads positions only: an actor who leaves and comes back gets a new number.

    Returns:
        A number for each tube, from 1 in the order of appearance.
    """
    known: list[list[Tube]] = []
    numbers = [0] * len(tubes)
    for index in sorted(range(len(tubes)), key=lambda i: (tubes[i].start, -tubes[i].score)):
        fits = [_fits(tubes[index], members) for members in known]
        best = int(np.argmax(fits)) if fits and max(fits) > 0 else len(known)
        if best == len(known):
            known.append([])
        known[best].append(tubes[index])
        numbers[index] = best + 1
    return numbers


def span(tube: Tube, rate: Fraction | float, times: Sequence[float] | None = None) -> tuple[float, float]:
    """When a tube starts and ends, in seconds. It ends when its last frame does.

    Args:
        tube: what to time.
        rate: frames per second.
        times: seconds of every frame, for videos of variable rate; None counts frames at `rate`.
    """
    if times is None:
        return float(tube.start / rate), float(tube.stop / rate)
    return times[tube.start], times[tube.stop] if tube.stop < len(times) else times[-1] + float(1 / rate)


def _bars(
    tubes: Sequence[Tube], classes: Sequence[str], rate: Fraction | float, times: Sequence[float] | None
) -> tuple[list[tuple[Tube, int, int, float, float]], list[str]]:
    """(tube, actor, row, from, to) for each tube, and the names of the rows: one for each actor and action, in order of start."""
    numbers = actors(tubes)
    order = sorted(zip(numbers, tubes, strict=True), key=lambda pair: (pair[0], pair[1].start))
    keys = list(dict.fromkeys((number, tube.label) for number, tube in order))
    bars = [(tube, n, keys.index((n, tube.label)), *span(tube, rate, times)) for n, tube in zip(numbers, tubes, strict=True)]
    return bars, [f"{number}: {classes[label]}" for number, label in keys]


def _duration(frames: int, rate: Fraction | float, times: Sequence[float] | None) -> float:
    return times[-1] + float(1 / rate) if times else float(max(frames, 1) / rate)


def timeline(
    tubes: Sequence[Tube], classes: Sequence[str], rate: Fraction | float, frames: int, times: Sequence[float] | None = None
) -> "PlotlyFigure":
    """Who does what from when to when, as bars over seconds, with a hover text. Colours are those of `draw`.

    Args:
        tubes: the bars; none gives an empty axis with a note.
        classes: their names.
        rate: frames per second.
        frames: of the whole video, which the axis spans.
        times: seconds of every frame, see `span`.
    """
    import plotly.graph_objects as go

    bars, rows = _bars(tubes, classes, rate, times)
    colours = [class_colours(classes)[tube.label] for tube, _, _, _, _ in bars]
    hover = [
        f"<b>{classes[tube.label]}</b>, actor {actor}<br>score {tube.score:.2f}<br>"
        f"{start:.2f} s to {stop:.2f} s<br>frames {tube.start} to {tube.stop - 1}"
        for tube, actor, _, start, stop in bars
    ]
    figure = go.Figure(
        go.Bar(
            orientation="h",
            base=[start for _, _, _, start, _ in bars],
            x=[stop - start for _, _, _, start, stop in bars],
            y=[row for _, _, row, _, _ in bars],
            width=0.7,
            marker={"color": [f"rgb{colour}" for colour in colours], "line": {"color": "#777", "width": 1}},
            text=[f"{tube.score:.2f}" for tube, _, _, _, _ in bars],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"color": [f"rgb{ink(colour)}" for colour in colours]},
            hovertext=hover,
            hoverinfo="text",
        )
    )
    grid = {"gridcolor": "rgba(128, 128, 128, 0.25)", "zeroline": False}
    ticks = {"tickvals": list(range(len(rows))), "ticktext": rows, "range": [max(len(rows), 1) - 0.5, -0.5], "automargin": True}
    figure.update_layout(
        template="none",
        height=90 + 32 * max(len(rows), 1),
        margin={"l": 8, "r": 12, "t": 12, "b": 40},
        paper_bgcolor="rgba(0, 0, 0, 0)",  # the page behind it may be light or dark
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"color": "#767676"},
        xaxis={"title": {"text": "seconds"}, "range": [0, _duration(frames, rate, times)], **grid},
        yaxis={**ticks, **grid, "fixedrange": True},
    )
    if not tubes:
        figure.add_annotation(text="No action found", xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False)
    return figure
