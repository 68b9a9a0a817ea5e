"""Ablations as a picture and as tables: a bar per row, a dot per seed, intervals over videos and seeds."""

import re
from collections.abc import Sequence

import numpy as np

from ..ablate.results import METRICS, AblationResults
from ..analysis.bootstrap import NOTHING, Interval
from ..structures import InputError
from .interventions import points
from .paper import GREY, MODELS, Columns, Plot, canvas, styled, table

COLUMNS = ("table", "row", "metric", "seeds", "mean", "spread", "low", "high", "difference", "difference low", "difference high")


def _known(results: AblationResults, metrics: Sequence[str]) -> None:
    if not results.names:
        raise InputError(f"the results of {results.table} hold no finished run; let the ablation go on.")
    strange = [metric for metric in metrics if metric not in METRICS]
    if strange:
        raise InputError(f"there is no metric {strange[0]!r}; use some of {', '.join(METRICS)}.")


def _difference(results: AblationResults, row: str, metric: str) -> Interval:
    """To the reference; NaN for the reference itself, or where nothing can be paired."""
    if row == results.reference or not set(results.seeds(row)) & set(results.seeds(results.reference)):
        return NOTHING
    return results.difference(row, metric=metric)


def ablation_rows(results: AblationResults, metrics: Sequence[str] = METRICS) -> list[tuple]:
    """The numbers, a row per row and metric, with the columns of `COLUMNS`."""
    _known(results, metrics)
    rows = []
    for row in results.names:
        for metric in metrics:
            one, change = results.interval(row, metric), _difference(results, row, metric)
            counts = (len(results.seeds(row)), one.value, results.spread(row, metric), one.low, one.high)
            rows.append((results.table, row, metric, *counts, change.value, change.low, change.high))
    return rows


def ablation_markdown(results: AblationResults, metrics: Sequence[str] = METRICS) -> str:
    """The table to read, in percent: mean ± spread over seeds of each metric; then what the first metric is above the reference, with its
    95 % interval over videos and seeds, paired, and in how many seeds it is above; parameters."""
    _known(results, metrics)
    named = [_code(metric) for metric in metrics]
    head = [f"{results.table}", *named, f"{named[0]} against {results.reference}", "better in", "parameters"]
    lines = []
    for row in results.names:
        cells = [_percent(results.mean(row, metric), results.spread(row, metric)) for metric in metrics]
        change = _difference(results, row, metrics[0])
        change_cells = ["–", "–"]
        if np.isfinite(change.value):
            wins, of = results.better(row, metric=metrics[0])
            change_cells = [points(change), f"{wins} of {of}"]
        lines.append([row, *cells, *change_cells, f"{results.parameters(row):,}"])
    return table(head, lines) + "\n"


def _code(metric: str) -> str:
    """A metric's name with its number as code: else Markdown takes "mAP@0.5" for a mail address."""
    return re.sub(r"\S+@\S+", r"`\g<0>`", metric)


def studies_markdown(results: AblationResults) -> str:
    """What the studies found, in points of frame-mAP@0.5 that are lost, with 95 % intervals: a line per replaced path or spoilt input, a
    column per row that was asked, and, of spoilt inputs, what the row loses more than the reference. Empty if nothing was asked."""
    by_path = {row: [c for run in results.of(row) for c in run.paths] for row in results.names}
    by_noise = {row: [key for run in results.of(row) for key in run.noise if key[0] != "none"] for row in results.names}
    text = ""
    for title, asked in (("without a path", by_path), ("with one input spoilt", by_noise)):
        rows = [row for row in asked if asked[row]]
        lines = []
        for key in dict.fromkeys(key for row in rows for key in asked[row]):
            losses = [_lost(results, row, key) if key in asked[row] else "–" for row in rows]
            lines.append([key if isinstance(key, str) else f"{key[0]} {key[1]:g}", *losses])
        if rows:
            text += table([f"{results.table}, lost {title}", *rows], lines) + "\n\n"
    return text.rstrip("\n") + "\n" if text else ""


def _lost(results: AblationResults, row: str, key: str | tuple[str, float]) -> str:
    if isinstance(key, str):
        return points(results.path_loss(row, key))
    loss = points(results.noise_loss(row, *key))
    if row == results.reference or not any(key in run.noise for run in results.of(results.reference)):
        return loss
    return f"{loss}; {points(results.noise_loss(row, *key, results.reference))} more"


def _percent(mean: float, spread: float) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if np.isfinite(spread) else "")


@styled
def ablation_plot(results: AblationResults, metrics: Sequence[str] = METRICS[:1], columns: Columns = 2) -> Plot:
    """A bar per row (mean over seeds), its 95 % interval over videos and seeds, a dot per seed; one panel a metric. A line marks the
    reference.

    Raises:
        InputError: for no finished run, an unknown metric, or no metric.
    """
    _known(results, metrics)
    if not metrics:
        raise InputError(f"no metric was named; use some of {', '.join(METRICS)}.")
    names = results.names
    figure = canvas(columns, 0.5 + 0.2 * len(names))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    y = np.arange(len(names))[::-1]
    for axes, metric in zip(panels, metrics, strict=True):
        found = [results.interval(row, metric) for row in names]
        colours = [GREY if row == results.reference else MODELS[0] for row in names]
        axes.barh(y, [100 * one.value for one in found], height=0.68, color=colours, alpha=0.45)
        axes.hlines(y, [100 * one.low for one in found], [100 * one.high for one in found], color="#333333", linewidth=0.9)
        for place, row in zip(y, names, strict=True):
            values = list(results.scores(row, metric).values())
            axes.plot([100 * value for value in values], [place] * len(values), "o", markersize=2.6, color="#000000", alpha=0.75)
        if results.reference in names:
            axes.axvline(100 * results.mean(results.reference, metric), color=GREY, linewidth=0.7, linestyle=":")
        axes.set_xlabel(f"{metric}, %")
        axes.set_xlim(left=0)
        axes.grid(axis="x", alpha=0.25, linewidth=0.5)
        axes.set_axisbelow(True)
    panels[0].set_yticks(y, names)
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    caption = (
        f"{results.table}: {', '.join(metrics)}. Bars: mean over seeds; lines: 95 % intervals, bootstrap over videos and seeds; dots: "
        f"single seeds. Dotted: {results.reference}, with which all is compared."
    )
    return Plot(figure, COLUMNS, ablation_rows(results, metrics), caption=caption)
