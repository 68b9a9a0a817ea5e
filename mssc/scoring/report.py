"""An evaluation to read: a Markdown table, and a page that carries its pictures and asks nobody for anything."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jinja2
import numpy as np

from ..video import fonts
from .run import Evaluation

if TYPE_CHECKING:  # slow to import, and most commands draw nothing
    from matplotlib.figure import Figure

SCORES = ("frame-mAP", "video-mAP", "video accuracy", "actor AP", "mAP@")
FACTS = ("dataset", "part", "split", "videos", "frames", "detections", "tubes", "model", "weights", "mode", "threshold")


def markdown(record: Mapping) -> str:
    """Scores, what they are of, and the table per class.

    Args:
        record: `Evaluation.record` and what else is known: data set, model, versions, command.
    """
    return _render("report.md.jinja", record)


def page(record: Mapping, results: Evaluation) -> str:
    """The whole evaluation as one HTML file."""
    voc = results.voc
    pictures = [("Classes", "frame-AP@0.5, voc.", class_chart(voc.per_class, voc.positives, results.classes))]
    if results.errors is not None:
        text = "Left: at the threshold in use. Right: what frame-mAP would gain if this kind alone were gone, at any score."
        pictures.append(("Errors by kind", text, error_chart(results.error_counts(), results.errors.gain)))
    if results.confusion is not None:
        text = "Boxes are matched by place whatever their class, at the threshold in use."
        pictures.append(("What is taken for what", text, confusion_chart(results.confusion, results.classes)))
    if results.alarms:
        thresholds, rates = zip(*((threshold, alarms.per_minute) for threshold, alarms in results.alarms), strict=True)
        text = "Reports of an action in frames where nothing happens, consecutive frames counted once."
        pictures.append(("False alarms", text, alarm_chart(thresholds, rates, results.threshold)))
    coded = [(name, text, base64.b64encode(png(figure)).decode()) for name, text, figure in pictures]
    return _render("report.html.jinja", record, pictures=coded)


def _render(template: str, record: Mapping, **more: object) -> str:
    places = jinja2.Environment(
        loader=jinja2.PackageLoader("mssc.scoring", "."),
        autoescape=".html." in template,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    warning = ""
    if record.get("learnt"):
        warning = (
            f"The model learnt from {record['learnt']} of these {record['videos']} videos: the scores tell nothing of others."
        )
    facts = [(name, str(record[name])) for name in FACTS if record.get(name) is not None]
    facts += [(f"false alarms, {name}", f"{value:.3g}") for name, value in record.get("false alarms", {}).items()]
    facts += [(f"{name} version", str(value)) for name, value in record.get("versions", {}).items()]
    rows = record.get("per class", {})
    columns = list(next(iter(rows.values()), ()))
    table = [[name, *(_percent(row[c]) if "AP" in c else str(row[c]) for c in columns)] for name, row in rows.items()]
    return places.get_template(template).render(
        warning=warning,
        title=f"{record.get('model') or 'Detections'} on {record.get('dataset')}",
        scores=[(name, _percent(value)) for name, value in record.items() if name.startswith(SCORES)],
        facts=[*facts, ("command", str(record.get("command", "")))],
        heads=["class", *columns],
        classes=table,
        **more,
    )


def _percent(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.2f}"


# -------------------------------------------------------------------- pictures

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#e69f00", "#009e73", "#767676"  # Okabe and Ito: apart for colour-blind viewers
KINDS = ("#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#999999", "#0072b2", "#e69f00")


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))  # laid out by `png`: matplotlib's engines draw everything several times


def class_chart(precision: np.ndarray, positives: np.ndarray, classes: Sequence[str]) -> "Figure":
    """A bar per class, best first; classes without ground truth come last, without a bar.

    Args:
        precision: average precision by class, in [0, 1], NaN without ground truth.
        positives: how many boxes there were to find.
        classes: their names.
    """
    values = np.asarray(precision, float)
    order = np.argsort(-np.nan_to_num(values, nan=-1), kind="stable")
    figure = _figure(7, 1.2 + 0.22 * len(classes))
    axes = figure.add_subplot()
    axes.barh(range(len(order)), 100 * np.nan_to_num(values[order]), color=BLUE)
    axes.set_yticks(range(len(order)), [f"{classes[int(i)]} ({positives[int(i)]})" for i in order], fontsize=8)
    for row, i in enumerate(order):
        text = "no ground truth" if np.isnan(values[i]) else f"{100 * values[i]:.1f}"
        axes.text(100 * float(np.nan_to_num(values[i])) + 0.5, row, text, va="center", fontsize=7, color=GREY)
    axes.set(xlim=(0, 108), ylim=(len(order) - 0.5, -0.5), xlabel="average precision, %; boxes to find in brackets")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion_chart(table: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Rows: what it was, each as shares of its row; columns: what was said. The last of each are background and missed.

    Args:
        table: (A + 1, A + 1) counts.
        classes: the A names.
    """
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.26 * len(table)
    figure = _figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(table)), [*classes, "missed"], rotation=90, fontsize=7)
    axes.set_yticks(range(len(table)), [*classes, "background"], fontsize=7)
    if len(table) <= 30:
        for row, column in zip(*np.nonzero(table), strict=True):
            ink = "white" if share[row, column] > 0.6 else "black"
            axes.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=5, color=ink)
    axes.set(xlabel="said", ylabel="was")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the row")
    return figure


def error_chart(counts: Mapping[str, int], gain: Mapping[str, float]) -> "Figure":
    """Two rows of bars: how many detections are of each kind, and what each kind costs.

    Args:
        counts: by kind, also of right detections and missed boxes.
        gain: by kind, what frame-mAP would gain without it, as a fraction.
    """
    kinds = [name for name in {**counts, **gain} if name != "right"]
    colours = {name: KINDS[i % len(KINDS)] for i, name in enumerate(kinds)} | {"right": GREEN}
    figure = _figure(9, 3.2)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.35})
    for axes, values, label in (
        (left, dict(counts), "detections and missed boxes"),
        (right, {name: 100 * value for name, value in gain.items()}, "frame-mAP to gain, points"),
    ):
        bars = axes.barh(range(len(values)), list(values.values()), color=[colours[name] for name in values])
        axes.bar_label(
            bars, [f"{value:.1f}" if isinstance(value, float) else str(value) for value in values.values()], fontsize=8
        )
        axes.set_yticks(range(len(values)), list(values), fontsize=8)
        axes.set(ylim=(len(values) - 0.5, -0.5), xlabel=label)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def alarm_chart(thresholds: Sequence[float], per_minute: Sequence[float], operating: float) -> "Figure":
    """False alarms per minute of video against the threshold from which tubes are shown.

    Args:
        thresholds: ascending.
        per_minute: alarms a minute at each.
        operating: the threshold in use, marked.
    """
    figure = _figure(6, 3)
    axes = figure.add_subplot()
    axes.plot(thresholds, per_minute, color=BLUE, marker="o", markersize=3)
    axes.axvline(operating, color=ORANGE, linestyle="--", label=f"in use: {operating:g}")
    axes.set(xlabel="threshold", ylabel="false alarms a minute", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def png(figure: "Figure", dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    fonts.fit(figure).savefig(out, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    return out.getvalue()
