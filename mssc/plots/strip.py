"""A video's tubes on paper: some of its frames, and below them who does what from when to when."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..detection.result import VideoResult
from ..structures import Tube
from ..video import read
from . import words
from .frame import draw_frame
from .paper import GREY, WIDTHS, Columns, Plot, canvas, class_paint, styled


@styled
def tube_plot(result: VideoResult, truth: Sequence[Tube] = (), frames: int = 5, columns: Columns = 2) -> Plot:
    """Frames with the tubes that cover them, at even times, and a bar per tube. True tubes are hollow bars in the same rows.

    Args:
        result: of `mssc.detect_video`. The video is read again.
        truth: its annotation, where it is known.
        frames: how many to show.
        columns: of the page.
    """
    wanted = np.unique(np.linspace(0, len(result.times) - 1, frames + 2).round().astype(int)[1:-1]).tolist()
    shown = {frame.index: frame.image for frame in read(result.info.path) if frame.index in wanted}
    alone = result.only(result.threshold, people=False)
    names = sorted({tube.label for tube in (*result.tubes, *truth)})
    high = WIDTHS[columns] / len(shown) * result.info.height / (result.info.width * float(result.info.pixel_aspect))
    figure = canvas(columns, high + 0.75 + 0.22 * max(len(names), 1))
    parts: Any = figure.subfigures(2, 1, height_ratios=[high + 0.25, 0.5 + 0.22 * max(len(names), 1)])
    above, below = parts
    for axes, (index, image) in zip(above.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        draw_frame(axes, image, alone, index)
        axes.set_title(f"{result.times[index]:.2f} s", fontsize=7)
    axes, paint, rows = below.add_subplot(), class_paint(result.classes), []
    for kind, tubes in (("found", result.tubes), ("true", truth)):
        for tube in tubes:
            start, stop = result.seconds(tube)
            style = (
                {"color": paint[tube.label]} if kind == "found" else {"facecolor": "none", "edgecolor": "black", "linewidth": 1}
            )
            axes.barh(names.index(tube.label), stop - start, 0.5 if kind == "found" else 0.75, start, **style)
            rows.append((kind, result.classes[tube.label], tube.score, tube.start, tube.stop - 1, start, stop))
    for line in wanted:
        axes.axvline(result.times[line], color=GREY, linewidth=0.5, linestyle=":", zorder=0)
    axes.set(xlim=(0, result.end), ylim=(max(len(names), 1) - 0.5, -0.5))
    axes.set_xlabel("seconds (filled: found; outlined: true)" if truth else "seconds")
    axes.set_yticks(range(len(names)), [result.classes[label] for label in names])
    if not names:
        axes.text(0.5, 0.5, "No action found", ha="center", va="center", transform=axes.transAxes, color=GREY)
    caption = (
        f"Action tubes that {words.literal(result.model)} finds in {words.literal(result.info.path.name)} with a score of at least "
        f"{result.threshold:g}: frames at even times, and below who does what from when to when{' (outlined: the truth)' if truth else ''}."
    )
    return Plot(figure, ("kind", "action", "score", "first frame", "last frame", "start", "stop"), rows, caption=caption)
