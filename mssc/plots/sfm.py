"""Pictures of what SFM does: where it responds, what its first stage exchanges, what can be read from its maps."""

from collections.abc import Sequence

import numpy as np
import torch

from ..analysis.bootstrap import NOTHING, Interval, mean_interval
from ..analysis.maps import MAP_MEASURES
from ..analysis.study import PATHS, STAGES, STRIDES, Study
from ..model.fusion import context_entropy
from ..structures import InputError
from . import words
from .paper import (
    GREY,
    INTERVAL_COLUMNS,
    WIDTHS,
    Columns,
    Plot,
    canvas,
    class_paint,
    colour_bar,
    draw_intervals,
    draw_map,
    frame_axes,
    frame_name,
    interval_cells,
    one_name_each,
    shared_legend,
    styled,
)

KINDS = ("T spatial", "T motion", "OUT", "Grad-CAM", "attention")
"""What responses are of: what each path takes in the exchange, what fusion puts out, the true class's logit, and attention rows."""
DIRECTIONS = {"spatial": "change of the 2D path", "motion": "change of the 3D path"}
SWAPS = {"other": "swapped", "zero": "zero"}


@styled
def response_plot(study: Study, columns: Columns = 2) -> Plot:
    """Key frames with their boxes, and every kind of response of the finest level over them, in units of the map's average: each kind has
    one scale, which ends where all but its strongest places are below.

    Raises:
        InputError: if the study has no examples.
    """
    if not study.examples:
        raise InputError(f"the study of {study.model} holds no example; examine it with examples=3.")
    kinds = [kind for kind in KINDS if kind in study.examples[0].maps]
    across, down = 1 + len(kinds), len(study.examples)
    heights = [1 / example.aspect for example in study.examples]
    figure = canvas(columns, WIDTHS[columns] / across * sum(heights) + 0.36 * down + 0.3)
    panels = figure.subplots(down, across, squeeze=False, height_ratios=heights)
    paint = class_paint(study.classes)
    rows: list[tuple] = []
    for row, (line, example) in enumerate(zip(panels, study.examples, strict=True)):
        names = ", ".join(sorted({study.classes[label] for label in example.labels}))
        photo = line[0].imshow(example.image)
        if row == down - 1:
            colour_bar(figure, photo, list(panels[:, 0]), empty=True)
        line[0].set_title(f"{names}\n{frame_name(example.video, example.frame, 18)}", fontsize=6)
        for column, kind in enumerate(kinds, 1):
            response = example.maps[kind]
            scaled = [one.maps[kind] * one.maps[kind].size for one in study.examples]
            most = max(float(np.quantile(np.concatenate([one.ravel() for one in scaled]), 0.99)), 1e-9)
            shown = draw_map(line[column], example.image, scaled[row], most)
            if not row:
                line[column].set_title(words.MAPS[kind], fontsize=6)
            if row == down - 1:
                colour_bar(figure, shown, list(panels[:, column]), "times the average", 1)
            cells = np.ndindex(*response.shape)
            rows += [(example.video, example.frame, kind, y, x, float(response[y, x])) for y, x in cells]
        for axes in line:
            frame_axes(axes, len(example.image), example.boxes, example.labels, paint, example.aspect)
    caption = (
        f"Where {study.model} responds at the finest level, on key frames of {study.dataset} with their true boxes, in units of each map's "
        "average. $T_A$, $T_M$: what the 2D and the 3D path take from each other in SFM. Grad-CAM: of the true action's logit."
    )
    return Plot(figure, ("video", "frame", "kind", "row", "column", "response"), rows, caption=caption)


@styled
def context_plot(study: Study, columns: Columns = 2) -> Plot:
    """The contexts of SFM's first stage on one key frame: a column per level, above what the 2D path is given, below the 3D path; of the
    first head. A column of a matrix says how a channel is mixed from the other path's channels.

    Raises:
        InputError: if the study has no example, or the model no channel contexts.
    """
    found = next((one for one in study.examples if one.contexts), None)
    if found is None:
        raise InputError(f"{study.model} has no channel contexts to show; its fusion must be sfm, sfm1 or frm+sfm.")
    levels, rows = len(found.contexts), []
    figure = canvas(columns, 2 * (WIDTHS[columns] / levels * 0.8 + 0.3))
    panels = figure.subplots(2, levels, squeeze=False)
    for level, pair in enumerate(found.contexts):
        for path, (name, heads) in enumerate(zip(("2D", "3D"), pair, strict=True)):
            axes, matrix = panels[path, level], heads[0]
            shown = axes.imshow(matrix, cmap="inferno", vmin=0, vmax=float(matrix.max()), interpolation="nearest")
            colour_bar(figure, shown, axes)
            entropy = float(context_entropy(torch.from_numpy(heads[:1])))
            axes.set_title(f"to the {name} path, stride {STRIDES[level]}\nentropy {entropy:.2f}", fontsize=6)
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"channel of the {name} path", fontsize=6)
            axes.set_ylabel(f"channel of the {'3D' if path == 0 else '2D'} path", fontsize=6)
            rows += [(name, STRIDES[level], y, x, float(matrix[y, x])) for y, x in np.ndindex(*matrix.shape)]
    caption = (
        f"Contexts $G$ of SFM's first stage in {study.model}, on frame {found.frame} of {found.video} ({study.dataset}), first head. Each "
        "column says how a channel of one path is mixed from those of the other. Entropy: 0 picks one channel, 1 mixes all alike."
    )
    return Plot(figure, ("to path", "stride", "row", "column", "weight"), rows, caption=caption)


@styled
def pointing_plot(studies: Sequence[Study], columns: Columns = 2) -> Plot:
    """How well each kind of response points at the actors, at the finest level; the csv has all levels. A lift of 1 is that of a map which
    prefers no place.

    Raises:
        InputError: for no model, or two of one name.
    """
    one_name_each([study.model for study in studies])
    kinds = [kind for kind in KINDS if any(f"{kind} {STRIDES[0]}" in study.maps for study in studies)]
    shown = ("lift", "area IoU", "pointing", "entropy")
    figure = canvas(columns, 1.9 if columns == 2 else 3.2)
    panels = figure.subplots(1, 4).ravel() if columns == 2 else figure.subplots(2, 2).ravel()
    rows = []
    for measure in MAP_MEASURES:
        for stride in STRIDES:
            series = {s.model: [_response(s, f"{kind} {stride}", measure) for kind in kinds] for s in studies}
            rows += [
                (model, kind, stride, measure, *interval_cells(one))
                for model, found in series.items()
                for kind, one in zip(kinds, found, strict=True)
                if one.videos
            ]
            if measure in shown and stride == STRIDES[0]:
                axes = panels[shown.index(measure)]
                draw_intervals(axes, [words.MAPS[kind] for kind in kinds], series)
                axes.set_title(measure)
                axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=35, ha="right", fontsize=6)
    panels[0].axhline(1, color=GREY, linestyle="--", linewidth=0.8)
    shared_legend(figure, panels[0])
    caption = (
        "How well responses of the finest level point at the actors: mean inside the boxes over the map's average (lift; dashed: a map "
        "that prefers no place), overlap of its strongest places with the boxes, how often its maximum lies in one, and how even it is. "
        f"{words.PROTOCOL} {words.seen(studies)}"
    )
    return Plot(figure, ("model", "kind", "stride", "measure", *INTERVAL_COLUMNS), rows, caption=caption)


def _response(study: Study, kind: str, measure: str) -> Interval:
    return study.response(kind, measure) if kind in study.maps else NOTHING


@styled
def exchange_plot(studies: Sequence[Study], columns: Columns = 2) -> Plot:
    """Stage 1 by level: how much each path's correction changes when the other path's input is swapped for another clip's, or
    zero, how evenly the contexts mix channels, and how alike both paths are before and after.

    Args:
        studies: models without a stage 1 are left out.
        columns: of the page.

    Raises:
        InputError: if none has one.
    """
    having = [study for study in studies if study.strength or study.entropy]
    if not having:
        raise InputError("none of the models has an exchange; their fusion must be sfm, sfm1, frm+sfm or sfm_attention.")
    one_name_each([study.model for study in having])
    figure = canvas(columns, 3.4 if columns == 2 else 6.4)
    panels = figure.subplots(2, 2).ravel() if columns == 2 else figure.subplots(4, 1).ravel()
    levels = [str(stride) for stride in STRIDES]
    rows: list[tuple] = []

    def panel(axes, name: str, groups: list[str], series: dict[str, list[Interval]]) -> None:
        draw_intervals(axes, groups, series)
        axes.set_title(name)
        for model, found in series.items():
            rows.extend(
                (model, name, group.replace("\n", " "), *interval_cells(one)) for group, one in zip(groups, found, strict=True)
            )

    for axes, (path, name) in zip(panels, DIRECTIONS.items(), strict=False):
        groups = [f"{level}\n{said}" for said in SWAPS.values() for level in levels]
        panel(
            axes,
            name,
            groups,
            {s.model: [s.exchange(stride, f"{path}_{how}") for how in SWAPS for stride in STRIDES] for s in having},
        )
    entropy = {s.model: [mean_interval(s.per_video(s.entropy, level)) for level in levels] for s in having}
    panel(panels[2], "context entropy", levels, entropy)
    panels[2].set_ylim(0, 1.05)
    groups = [f"{level}\n{stage}" for level in levels for stage in STAGES]
    panel(
        panels[3], "CKA of the paths", groups, {s.model: [s.cka(n, stage) for n in STRIDES for stage in STAGES] for s in having}
    )
    for axes in panels:
        axes.set_xlabel("stride")
        axes.set_ylim(bottom=0)
    for axes, other in zip(panels, ("3D", "2D"), strict=False):
        axes.set_xlabel(f"stride; the {other} path's input")
        axes.tick_params(axis="x", labelsize=6)
    shared_legend(figure, panels[0])
    caption = (
        "What the first stage of SFM exchanges, by stride. Above: how much each path's corrected features change when the other path's "
        "input is swapped for another video's, or is zero. Below: how evenly the contexts $G$ mix channels (0 picks one, 1 mixes all "
        f"alike), and how alike both paths are before and after (linear CKA). {words.PROTOCOL} {words.seen(having)}"
    )
    return Plot(figure, ("model", "quantity", "level", *INTERVAL_COLUMNS), rows, caption=caption)


@styled
def probe_plot(studies: Sequence[Study], columns: Columns = 1) -> Plot:
    """How well a linear classifier names the action from one feature at the box's centre: of the spatial path A, of the motion path M, and
    of what SFM makes of both, by level. Tested on videos that it has not seen.

    Raises:
        InputError: for no model, or two of one name.
    """
    one_name_each([study.model for study in studies])
    figure = canvas(columns, 2.1)
    axes = figure.add_subplot()
    groups = [f"{path}\n{stride}" for stride in STRIDES for path in PATHS]
    ticks = [f"{'SFM' if path == 'OUT' else f'${path}$'}\n{stride}" for stride in STRIDES for path in PATHS]
    series = {s.model: [s.accuracy(path, stride) for stride in STRIDES for path in PATHS] for s in studies}
    draw_intervals(axes, ticks, series)
    axes.axhline(1 / len(studies[0].classes), color=GREY, linestyle="--", linewidth=0.8)  # what guessing gives
    axes.set(ylabel="probe accuracy", xlabel="feature and stride", ylim=(0, 1.02))
    shared_legend(figure, axes)
    rows = [
        (model, *group.split("\n"), *interval_cells(one))
        for model, found in series.items()
        for group, one in zip(groups, found, strict=True)
    ]
    caption = (
        "How well a linear classifier names the action from one feature at the box's centre, tested on other videos: of the 2D path $A$, "
        f"of the 3D path $M$, and after SFM, by stride. Dashed: guessing. {words.PROTOCOL} {words.seen(studies)}"
    )
    return Plot(figure, ("model", "feature", "stride", *INTERVAL_COLUMNS), rows, caption=caption)
