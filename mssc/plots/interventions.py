"""What each part of a network is worth, as a picture, as tables, and in a model's card."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..analysis.bootstrap import Interval
from ..analysis.interventions import METRICS, Interventions
from ..analysis.kept import in_words, store
from ..analysis.vitals import Vitals
from ..files import undamaged, write_whole
from . import words
from .paper import (
    INTERVAL_COLUMNS,
    Columns,
    Plot,
    canvas,
    interval_cells,
    model_paint,
    one_name_each,
    shared_legend,
    styled,
    table,
)

BAND = "#f0f0f0"
BEGIN, END = "<!-- by mssc figures --interventions --card -->", "<!-- until here -->"
CARD = "README.md"


@styled
def interventions_plot(found: Sequence[Interventions], columns: Columns = 2) -> Plot:
    """What each intervention changes, in points, a panel per metric, in the order of the network; models side by side. The csv has the
    scores too.

    Raises:
        InputError: for no model, or two of one name.
    """
    one_name_each([one.model for one in found])
    known = dict.fromkeys((row.part, row.kind) for one in found for row in one.rows[1:])
    parts = list(dict.fromkeys(part for part, _ in known))
    keys = sorted(known, key=lambda key: parts.index(key[0]))  # rows that only a later model has stay with their part
    shown = METRICS if columns == 2 else METRICS[:1]
    figure = canvas(columns, 0.9 + 0.14 * len(keys))
    figure.set_layout_engine("constrained", w_pad=0.12)  # small letters are wider in print than matplotlib thinks
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        for part in parts[::2]:
            places = [place for place, key in enumerate(keys) if key[0] == part]
            axes.axhspan(places[0] - 0.5, places[-1] + 0.5, color=BAND, linewidth=0, zorder=0)
        for index, one in enumerate(found):
            _dots(axes, keys, one, metric, index, len(found))
        before = ", ".join(f"{100 * one.rows[0].scores[metric].value:.1f}" for one in found)
        axes.set_title(f"{metric}, of {before}", fontsize=7)
        axes.set_xlabel("change in points", fontsize=7)
        axes.axvline(0, color="#333333", linewidth=0.7)
        axes.grid(axis="x", alpha=0.25, linewidth=0.5)
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(keys)), _labels(keys), fontsize=6)
    panels[0].set_ylim(len(keys) - 0.5, -0.5)
    shared_legend(figure, panels[0])
    rows = [
        (one.model, row.part, row.kind, metric, quantity, *interval_cells(values[metric]))
        for one in found
        for row in one.rows
        for quantity, values in (("score", row.scores), ("change", row.changes))
        for metric in METRICS
    ]
    first = found[0]
    caption = (
        "What is lost where a part of the network is given a video of another class, zeros, is passed by, or weighs all alike. Box "
        "accuracy: share of true boxes whose action is named right, the boxes given; the others are of the network's own detections. "
        f"{words.PROTOCOL} {', '.join(one.model for one in found)}; {first.frames} key frames of {first.videos} videos of {first.dataset}."
    )
    return Plot(figure, ("model", "part", "kind", "metric", "quantity", *INTERVAL_COLUMNS), rows, caption=caption)


def _labels(keys: Sequence[tuple[str, str]]) -> list[str]:
    """The part's name stands at its first row."""
    first = [place == 0 or keys[place - 1][0] != part for place, (part, _) in enumerate(keys)]
    return [f"{part}:  {kind}" if new else kind for new, (part, kind) in zip(first, keys, strict=True)]


def _dots(axes, keys: Sequence[tuple[str, str]], one: Interventions, metric: str, index: int, count: int) -> None:
    """A model's changes: a mark and its interval each; hollow without one, for it rests on a single video."""
    known = {(row.part, row.kind): row.changes[metric] for row in one.rows}
    paint, shift = model_paint(index), (index - (count - 1) / 2) * 0.7 / count
    places = [place for place, key in enumerate(keys) if key in known and np.isfinite(known[key].value)]
    changes = [known[keys[place]] for place in places]
    y = np.array(places) + shift
    axes.hlines(y, [100 * one.low for one in changes], [100 * one.high for one in changes], color=paint["color"], linewidth=0.9)
    axes.plot([100 * one.value for one in changes], y, linestyle="none", markersize=3, label=one.model, **paint)


# -------------------------------------------------------------------- tables


def points(one: Interval) -> str:
    """A change in points of a hundred, as ``-38.1 [-43.0, -33.2]``."""
    if not np.isfinite(one.value):
        return "–"
    value, low, high = (f"{round(100 * x, 1) + 0.0:+.1f}" if np.isfinite(x) else "" for x in one[:3])  # adding 0 makes -0 0
    return f"{value} [{low}, {high}]" if low else value


def _percent(one: Interval) -> str:
    text = f"{100 * one.value:.1f}"
    return f"{text} [{100 * one.low:.1f}, {100 * one.high:.1f}]" if np.isfinite(one.low) else text


def interventions_markdown(found: Interventions) -> str:
    """The table to read: the scores, and what each intervention changes, in points, with 95 % intervals over videos."""
    first, *others = found.rows
    lines, before = [["**nothing**", "", *(_percent(first.scores[name]) for name in METRICS)]], ""
    for row in others:
        part, before = "" if row.part == before else row.part, row.part
        lines.append([part, row.kind, *(points(row.changes[name]) for name in METRICS)])
    return table(["part", "becomes", *METRICS], lines) + "\n"


def vitals_markdown(vitals: Vitals) -> str:
    """Gains, entropies, distances and moves, a table each of those that the model has."""
    tables = []
    if vitals.gain is not None:
        head = ["MSM's gain: mean", "standard deviation", "least", "most"]
        tables.append(table(head, [[f"{value:.3f}" for value in vitals.gain]]))
    if vitals.distances:
        rows = [[words.MEASURES[name].words, *(one.text() for one in three)] for name, three in vitals.distances.items()]
        tables.append(table(["action against background", "before MSM", "after", "change"], rows))
    if vitals.entropy:
        rows = [[where, one.text(2)] for where, one in vitals.entropy.items()]
        tables.append(table(["SFM's exchange", "entropy, 0: of one channel, 1: of all alike"], rows))
    if vitals.moved:
        rows = [[part, f"{one.distance:.2f}", f"{one.chance:.2f}"] for part, one in vitals.moved.items()]
        tables.append(table(["parameters", "moved from their start, relative", "by chance"], rows))
    if vitals.scales:
        rows = [[name, f"{now:.3f}", f"{start:.3f}"] for name, (now, start) in vitals.scales.items()]
        tables.append(table(["mean size", "now", "untrained"], rows))
    return "\n\n".join(tables) + "\n"


def card_table(found: Interventions, vitals: Vitals | None = None, note: str = "") -> str:
    """The section of a model's card.

    Args:
        found: of the model.
        vitals: likewise.
        note: more to say of what was measured.
    """
    text = (
        f"## What each part is worth\n\n{in_words(found)} Measured on {found.videos} videos of {found.dataset}, {found.frames:,} frames, "
        f"every n-th with ground truth, n = {found.step}, streaming, unlinked; changes in points, with 95 % intervals by "
        "bootstrap over videos. A part is given what it is given of a video of another class, or zeros; is passed by; or weighs all "
        f"alike.{' ' + note if note else ''}\n\n{interventions_markdown(found)}"
    )
    return text + (f"\n### Vitals\n\n{vitals_markdown(vitals)}" if vitals is not None else "")


def write_card(folder: Path, found: Interventions, vitals: Vitals | None = None, note: str = "") -> list[Path]:
    """Keep what was found beside a model, for the page, and tell it in the model's card, where an earlier account is replaced.

    Args:
        folder: of the model.
        found: of it.
        vitals: likewise.
        note: see `card_table`.

    Returns:
        The two files.

    Raises:
        InputError: if one cannot be read or written.
    """
    card, section = folder / CARD, f"{BEGIN}\n{card_table(found, vitals, note)}{END}\n"
    text = f"# {found.model}\n"
    if card.exists():
        with undamaged(card, "mend the card or remove it"):
            text = card.read_text(encoding="utf-8")
    known = re.compile(re.escape(BEGIN) + ".*" + re.escape(END) + "\n?", re.DOTALL)
    text = known.sub(lambda _: section, text) if known.search(text) else text.rstrip("\n") + "\n\n" + section
    kept = store(folder, found, vitals)
    write_whole(card, text)
    return [kept, card]
