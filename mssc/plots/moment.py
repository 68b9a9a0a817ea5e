"""A moment of a video for a paper: the frame and its tubes, what each model's maps say of it, and the numbers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..analysis.moment import TAPS, Inside, lift, maps_of
from ..detection.lanes import Lanes
from ..detection.result import VideoResult
from ..structures import InputError
from ..video import read
from . import words
from .frame import draw_frame, draw_lanes
from .paper import (
    BACKGROUND_GREY,
    GREY,
    WIDTHS,
    Columns,
    Plot,
    canvas,
    class_paint,
    colour_bar,
    draw_map,
    frame_axes,
    one_name_each,
    styled,
)

NAMES = {
    "before": "before MSM",
    "after": "after MSM",
    "change": "after minus before",
    "spatial takes": "2D path takes $T_A$",
    "motion takes": "3D path takes $T_M$",
    "spatial": "2D path $|A|$",
    "motion": "3D path $|M|$",
    "fused": "after the fusion",
}
KINDS = {"before": "distance", "after": "distance", "spatial takes": "taken", "motion takes": "taken"}  # maps of one scale
PANELS = 6  # of a model: five maps, t-SNE
SOMEBODY = "#4d4d4d"  # whose action is not sure; no class has a grey
MOST_ABOVE = {1: 1.6, 2: 2.2}  # inches of the frame, by columns of the page
MOST_PANEL = 1.3  # inches


@styled
def moment_plot(result: VideoResult, looked: Sequence[Inside], columns: Columns = 2) -> Plot:
    """The frame with its tubes and when they last; below, a row for each model: how far features lie from the video's average before and
    after MSM and the difference, what the paths take from each other in SFM, and the features in two dimensions.

    Args:
        result: of `mssc.detect_video`, of the model that found the tubes. The video is read again.
        looked: of `mssc.analysis.look_at`, at one moment.
        columns: of the page.

    Raises:
        InputError: for no model, two of one name, or a moment that the video does not have.
    """
    one_name_each([one.model for one in looked])
    frame = looked[0].key.frame
    image = next((one.image for one in read(result.info.path) if one.index == frame), None)
    if image is None:
        raise InputError(f"{result.info.path} has no frame {frame}; look at a moment of this video.")
    square = float(result.info.pixel_aspect)
    looked = [one._replace(key=replace(one.key, aspect=one.key.aspect * square)) for one in looked]
    aspect, paint = looked[0].key.aspect, [*class_paint(result.classes), SOMEBODY]
    across = PANELS if columns == 2 else PANELS // 2
    lines = len(looked) * PANELS // across
    wide = WIDTHS[columns]
    lanes = Lanes.of(result, 0, result.end)
    bars = 0.7 + 0.17 * lanes.count
    most = min((0.36 if columns == 2 else 1) * wide / aspect, MOST_ABOVE[columns])
    above = max(most, bars) + 0.2 if columns == 2 else most + 0.2 + bars
    below = lines * (min(wide / across / aspect, MOST_PANEL) + 0.45) + 0.2 * len(looked)
    figure = canvas(columns, above + below)
    parts: Any = figure.subfigures(2, 1, height_ratios=[above, below])
    top = {"width_ratios": [0.36, 0.64]} if columns == 2 else {"height_ratios": [above - bars, bars]}
    shown, timeline = parts[0].subplots(1, 2, **top) if columns == 2 else parts[0].subplots(2, 1, **top)
    draw_frame(shown, image, result, frame)
    shown.set_title(f"{result.times[frame]:.2f} s, frame {frame}", fontsize=7)
    draw_lanes(timeline, lanes, result, (0.55 if columns == 2 else 0.85) * wide)
    timeline.axvline(result.times[frame], color="black", linewidth=0.8)
    timeline.set_xlabel("seconds", fontsize=7)
    models: Any = np.atleast_1d(parts[1].subfigures(len(looked), 1))
    tops = _tops(looked)
    rows: list[tuple] = []
    for part, one in zip(models, looked, strict=True):
        part.suptitle(f"{one.model}: {one.kind}", fontsize=7)
        rows += _model(part, one, tops, across, paint)
    return Plot(figure, ("model", "quantity", "where", "value"), rows, caption=_caption(result, looked))


def _maps(one: Inside) -> dict[str, np.ndarray]:
    """The five maps to show of a model, in order; those that it does not have are empty."""
    maps = maps_of(one.key)
    nothing = np.zeros((0, 0))
    first = {name: maps.get(name, nothing) for name in ("before", "after")} if one.sense else {}
    shown = first | {"change": maps["after"] - maps["before"]} if one.sense else {"motion": maps["motion"], "change": nothing}
    taken = {name: maps[name] for name in ("spatial takes", "motion takes") if name in maps}
    shown |= taken or {"spatial": maps["spatial"], "spatial takes": nothing}
    return shown if one.sense else shown | {"fused": maps["fused"]}


def _tops(looked: Sequence[Inside]) -> dict[str, float]:
    """Where the scale of each kind of map ends, the same for all models: all but the strongest places are below."""
    values: dict[str, list[np.ndarray]] = {}
    for one in looked:
        for name, response in _maps(one).items():
            values.setdefault(KINDS.get(name, name), []).append(np.abs(response).ravel())
    known = {kind: np.concatenate(parts) for kind, parts in values.items()}
    return {kind: max(float(np.quantile(all_of, 0.99)), 1e-6) if len(all_of) else 1.0 for kind, all_of in known.items()}


def _model(part: Any, one: Inside, tops: dict[str, float], across: int, paint: Sequence[str]) -> list[tuple]:
    panels = part.subplots(PANELS // across, across, squeeze=False).ravel()
    rows: list[tuple] = []
    seen = None
    for axes, (name, response) in zip(panels, _maps(one).items(), strict=False):
        axes.set_axis_off()
        if not response.size:
            axes.text(
                0.5, 0.5, f"no {'MSM' if name == 'change' else 'SFM'} here", ha="center", va="center", color=GREY, fontsize=7
            )
            continue
        most = tops[KINDS.get(name, name)]
        seen = draw_map(axes, one.key.image, response, most, -most if name == "change" else 0)
        frame_axes(axes, one.key.size, one.key.boxes, one.key.labels, paint, one.key.aspect)
        colour_bar(part, seen, axes)
        inside = None if name == "change" else lift(one.key, response)
        axes.set_title(NAMES[name] + (f"\n{inside:.2f} inside" if inside is not None else "\n"), fontsize=6)
        rows += [] if inside is None else [(one.model, "mean inside the boxes", name, inside)]
    tap = next((tap for tap in reversed(TAPS) if tap in one.cells), None)
    axes = panels[PANELS - 1]
    if seen is not None:
        colour_bar(part, seen, axes, empty=True)
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(1 / one.key.aspect)
    axes.spines[["left", "bottom"]].set_color(BACKGROUND_GREY)
    if tap is None:
        axes.text(0.5, 0.5, "too few places", ha="center", va="center", transform=axes.transAxes, color=GREY, fontsize=7)
    else:
        cells, points = one.cells[tap]
        axes.scatter(*points[~cells.action].T, s=3, color=BACKGROUND_GREY, marker="s", linewidths=0)
        axes.scatter(*points[cells.action].T, s=5, color=[paint[label] for label in cells.labels[cells.action]], linewidths=0)
        axes.set_title(
            f"t-SNE {words.TAPS[tap] if one.sense else '3D path'}\nAUROC {one.distances[tap]['AUROC']:.2f}", fontsize=6
        )
    for where in TAPS[: 2 if one.sense else 1]:
        rows += [
            (one.model, words.MEASURES[name].words, words.TAPS[where], value) for name, value in one.distances[where].items()
        ]
    return rows


def _caption(result: VideoResult, looked: Sequence[Inside]) -> str:
    frame = looked[0].key.frame
    text = (
        f"{words.literal(result.info.path.name)}, frame {frame} ({result.times[frame]:.2f} s): tubes of {words.literal(result.model)} "
        f"(score at least {result.threshold:g}) by person, and by model, in units of each map's average: distance from the video's average "
        "before and after MSM, and the difference; what the paths take from each other in SFM (stride 8); t-SNE of action and "
        "background (grey). "
    )
    for one in looked:
        before, after = (one.distances.get(tap, {}) for tap in TAPS)
        told = []
        for name in ("d_euc", "AUROC"):
            if name in before and name in after:
                term = words.MEASURES[name]
                told.append(f"{term.symbol or name} {before[name]:.2f}" + (f" → {after[name]:.2f}" if one.sense else ""))
        if told:
            text += f"{words.literal(one.model)}: {', '.join(told)}{' (before → after MSM)' if one.sense else ''}. "
    return text + (
        f"The boxes are found, not labelled; {looked[0].frames} key frames, each in its window; AUROC of a linear probe on parts of the "
        "video that it was not fitted on."
    )
