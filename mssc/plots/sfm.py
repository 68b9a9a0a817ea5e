"""Pictures of what SFM does: where it responds, what its first stage exchanges, what can be read from its maps."""

from collections.abc import Sequence

import numpy as np

from ..analysis.bootstrap import Interval, mean_interval
from ..analysis.maps import MAP_MEASURES
from ..analysis.study import PATHS, STAGES, STRIDES, Study
from ..structures import InputError
from .paper import (
    GREY,
    INTERVAL_COLUMNS,
    NOTHING,
    WIDTHS,
    Columns,
    Plot,
    canvas,
    class_paint,
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
DIRECTIONS = {"spatial": "motion → spatial", "motion": "spatial → motion"}


@styled
def response_plot(study: Study, columns: Columns = 2) -> Plot:
    """Key frames with their boxes, and every kind of response of the finest level over them, each from 0 to its own maximum.

    Raises:
        InputError: if the study has no examples.
    """
    if not study.examples:
        raise InputError(f"the study of {study.model} holds no example; examine it with examples=3.")
    kinds = [kind for kind in KINDS if kind in study.examples[0].maps]
    across, down = 1 + len(kinds), len(study.examples)
    figure = canvas(columns, WIDTHS[columns] / across * down + 0.36 * down)
    panels = figure.subplots(down, across, squeeze=False)
    paint = class_paint(study.classes)
    rows: list[tuple] = []
    for line, example in zip(panels, study.examples, strict=True):
        size = len(example.image)
        grey = example.image.mean(2)
        names = ", ".join(sorted({study.classes[label] for label in example.labels}))
        line[0].imshow(example.image)
        line[0].set_title(f"{names}\n{frame_name(example.video, example.frame)}", fontsize=6)
        for axes, kind in zip(line[1:], kinds, strict=True):
            response = example.maps[kind]
            draw_map(axes, grey, response)
            axes.set_title(kind, fontsize=6)
            cells = np.ndindex(*response.shape)
            rows += [(example.video, example.frame, kind, y, x, float(response[y, x])) for y, x in cells]
        for axes in line:
            frame_axes(axes, size, example.boxes, example.labels, paint)
    return Plot(figure, ("video", "frame", "kind", "row", "column", "response"), rows)


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
                draw_intervals(axes, kinds, series)
                axes.set_title(measure)
                axes.tick_params(axis="x", rotation=35, labelsize=6)
    panels[0].axhline(1, color=GREY, linestyle="--", linewidth=0.8)
    shared_legend(figure, panels[0])
    return Plot(figure, ("model", "kind", "stride", "measure", *INTERVAL_COLUMNS), rows)


def _response(study: Study, kind: str, measure: str) -> Interval:
    return study.response(kind, measure) if kind in study.maps else NOTHING


@styled
def exchange_plot(studies: Sequence[Study], columns: Columns = 2) -> Plot:
    """Stage 1 by level: how much each path's correction changes when the other path is another clip's (left mark of the group names) or
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
        groups = [f"{level}\n{how}" for how in ("other", "zero") for level in levels]
        panel(
            axes,
            f"{name}, change",
            groups,
            {s.model: [s.exchange(stride, f"{path}_{how}") for how in ("other", "zero") for stride in STRIDES] for s in having},
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
    shared_legend(figure, panels[0])
    return Plot(figure, ("model", "quantity", "level", *INTERVAL_COLUMNS), rows)


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
    series = {s.model: [s.accuracy(path, stride) for stride in STRIDES for path in PATHS] for s in studies}
    draw_intervals(axes, groups, series)
    axes.axhline(1 / len(studies[0].classes), color=GREY, linestyle="--", linewidth=0.8)  # what guessing gives
    axes.set(ylabel="probe accuracy", xlabel="feature and stride", ylim=(0, 1.02))
    shared_legend(figure, axes)
    rows = [
        (model, *group.split("\n"), *interval_cells(one))
        for model, found in series.items()
        for group, one in zip(groups, found, strict=True)
    ]
    return Plot(figure, ("model", "feature", "stride", *INTERVAL_COLUMNS), rows)
