"""A frame of a video with its tubes, and who does what from when to when, as lines and letters that a page can enlarge."""

from typing import Any

import numpy as np

from ..detection.lanes import Lanes
from ..detection.result import VideoResult
from ..video.drawing import CROWD, class_colours, hex_colour, ink
from ..video.drawing import GREY as PERSON
from .paper import GREY

LETTERS = 6.0  # points


def draw_frame(axes: Any, image: np.ndarray, result: VideoResult, frame: int) -> None:
    """Boxes with their actions over a frame (H, W, 3), thin grey ones around everybody else; pixels are as wide as they are shown."""
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    axes.imshow(image)
    axes.set_aspect(1 / float(result.info.pixel_aspect))
    axes.set_axis_off()
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))

    def outline(box: np.ndarray, colour: str, line: float) -> None:
        x1, y1, x2, y2 = box.tolist()
        for paint, wide in (("white" if line >= 1 else "black", line + 0.8), (colour, line)):  # the edge shows on any ground
            axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=paint, linewidth=wide))

    def label(box: np.ndarray, lines: list[tuple[str, tuple[int, int, int]]], size: float) -> None:
        x1, y1, x2, _ = box.tolist()
        right, inside = x1 > 0.6 * width, y1 < 0.06 * height * len(lines)  # where there is room
        for number, (text, colour) in enumerate(lines if inside else reversed(lines)):
            down = (size + 2) * number
            axes.annotate(
                text,
                (min(x2, width) - 0.5 if right else max(x1, 0) - 0.5, max(y1, 0) - 0.5),
                (0, -1 - down if inside else 1 + down),
                textcoords="offset points",
                ha="right" if right else "left",
                va="top" if inside else "bottom",
                fontsize=size,
                color=hex_colour(ink(colour)),
                bbox={"boxstyle": "square,pad=0.12", "facecolor": hex_colour(colour), "edgecolor": "none"},
            ).set_in_layout(False)

    others, numbers = result.others_at(frame)
    for box in others:
        outline(box, hex_colour(PERSON), 0.6)
    detections, actors = result.shown_at(frame)
    colours = class_colours(result.classes)
    stacks: dict[int, list[int]] = {}
    for row in np.argsort(-detections.scores, kind="stable").tolist():
        stacks.setdefault(actors[row], []).append(row)
    for rows in stacks.values():
        outline(detections.boxes[rows[0]], hex_colour(colours[detections.labels[rows[0]]]), 1.1)
    for box, number in zip(others, numbers, strict=True) if len(others) <= CROWD else ():
        label(box, [(f"{number}: person", PERSON)], LETTERS - 1)
    for actor, rows in stacks.items():
        told = [(int(detections.labels[row]), float(detections.scores[row])) for row in rows]
        label(
            detections.boxes[rows[0]],
            [(f"{actor}: {result.classes[action]} {score:.2f}", colours[action]) for action, score in told],
            LETTERS,
        )


def draw_lanes(axes: Any, lanes: Lanes, result: VideoResult, wide: float) -> None:
    """The rows of a timeline over all of the video; grey is who was seen. Actions without room for their names have them below.

    Args:
        axes: to draw on.
        lanes: of the result.
        result: what was found.
        wide: inches of the axes, about.
    """
    from matplotlib.patches import Patch

    colours, rows, unnamed = class_colours(result.classes), lanes.rows, set()
    for row, (_, tubes) in enumerate(rows):
        for tube in tubes:
            start, stop = result.seconds(tube)
            name, colour = result.classes[tube.label], colours[tube.label]
            axes.barh(row - 0.08, stop - start, 0.62, start, color=hex_colour(colour), edgecolor="white", linewidth=0.4)
            if (stop - start) / result.end * wide * 72 > 0.56 * LETTERS * len(name) + 3:
                axes.text(
                    start, row - 0.06, f" {name}", fontsize=LETTERS, va="center", color=hex_colour(ink(colour)), clip_on=True
                )
            else:
                unnamed.add(tube.label)
    first = {actor: row for row, (actor, _) in reversed(list(enumerate(rows)))}
    for (tube, _), number in zip(result.people, result.numbers[1], strict=True):
        if number in first:
            start, stop = result.seconds(tube)
            axes.barh(first[number] + 0.36, stop - start, 0.14, start, color=hex_colour(PERSON))
    count = max(lanes.count, 1)
    room = max(4 - count, 0) / 2  # few bars are not to be thick ones
    axes.set(xlim=(0, result.end), ylim=(count - 0.5 + room, -0.5 - room))
    axes.set_yticks([*first.values()], [str(actor) for actor in first])
    axes.set_ylabel("person", fontsize=7)
    if lanes.more:
        axes.text(0, len(rows), f" and {lanes.more} more", fontsize=LETTERS, va="center")
    if not result.tubes:
        axes.text(0.5, 0.5, "no sure action", ha="center", va="center", transform=axes.transAxes, color=GREY)
    if unnamed:
        handles = [Patch(color=hex_colour(colours[label]), label=result.classes[label]) for label in sorted(unnamed)]
        axes.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.28),
            ncols=4,
            fontsize=LETTERS,
            handlelength=1,
            borderpad=0,
        )
