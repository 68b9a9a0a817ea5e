"""What MSM does, in pictures and tables: distances of action and background before and after it, gains."""

from collections.abc import Sequence

import numpy as np

from ..analysis.bootstrap import NOTHING, Interval
from ..analysis.distances import MEASURES
from ..analysis.keyframes import TAPS
from ..analysis.msm import rank_correlation
from ..analysis.study import Study, nanmean
from ..structures import InputError
from . import words
from .paper import (
    GREY,
    INTERVAL_COLUMNS,
    Columns,
    Plot,
    canvas,
    csv_text,
    draw_intervals,
    interval_cells,
    model_paint,
    one_name_each,
    shared_legend,
    styled,
    table,
)

ARROW = {"up": " ↑", "down": " ↓", "": ""}
BEFORE, AFTER = "MSM in", "MSM out"
TICKS = {BEFORE: "before\nMSM", AFTER: "after\nMSM", "SFM in": "before\nSFM"} | {
    f"SFM out {stride}": f"SFM\n1/{stride}" for stride in (8, 16, 32)
}
CLAIMS = {name: one.claim for name, one in MEASURES.items()} | {"AUROC": "up"}
TABLED = (BEFORE, AFTER, "SFM in", "SFM out 8")
SHOWN = ("d_cos", "d_euc", "Fisher J", "silhouette", "AUROC", "sim2avg", "D_A/D_B", "effective rank")


def taps_of(studies: Sequence[Study]) -> list[str]:
    """The taps at which any of the models has distances, in the order of the network."""
    return [tap for tap in TAPS if any(tap in study.cells for study in studies)]


@styled
def separability_plot(studies: Sequence[Study], columns: Columns = 2) -> Plot:
    """Every distance along the network, a panel each, models side by side, 95 % intervals over videos. An arrow says what the paper's
    claim expects after MSM. The csv holds all measures, also those without a panel.

    Raises:
        InputError: for no model, two of one name, or no frame with cells of both kinds.
    """
    one_name_each([study.model for study in studies])
    taps = taps_of(studies)
    if not taps:
        raise InputError("no key frame has cells of both kinds: boxes are too small or too large for the maps.")
    across = 4 if columns == 2 else 2
    figure = canvas(columns, 1.45 * len(SHOWN) / across + 0.3)
    panels = figure.subplots(len(SHOWN) // across, across, squeeze=False).ravel()
    rows = []
    for name in ("AUROC", *MEASURES):
        series = {s.model: [s.distance(tap, name) if tap in s.cells else NOTHING for tap in taps] for s in studies}
        for model, found in series.items():
            rows += [(model, tap, name, *interval_cells(one)) for tap, one in zip(taps, found, strict=True)]
        if name in SHOWN:
            axes = panels[SHOWN.index(name)]
            draw_intervals(axes, [TICKS[tap] for tap in taps], series, join=True)
            axes.tick_params(axis="x", labelsize=5.5)
            axes.set_title(words.MEASURES[name].label + ARROW[CLAIMS[name]], fontsize=7)
    shared_legend(figure, panels[0])
    caption = (
        "Action against background along the network: before and after MSM, where the 3D path enters SFM, and after SFM at 1/8 "
        "to 1/32 of the frame's size. Arrows "
        f"say what the claim of the paper expects of MSM. {words.PROTOCOL} {words.seen(studies)}"
    )
    return Plot(figure, ("model", "tap", "measure", *INTERVAL_COLUMNS), rows, caption=caption)


@styled
def change_plot(studies: Sequence[Study], columns: Columns = 2) -> Plot:
    """What MSM changes: each measure after minus before, paired by video, with its 95 % interval, a panel each. The side on which the
    paper's claim wants it is shaded; an interval that holds 0 shows nothing.

    Args:
        studies: models without MSM are left out.
        columns: of the page.

    Raises:
        InputError: if none has one, or no frame has cells of both kinds.
    """
    having = [study for study in studies if study.sense and {BEFORE, AFTER} <= study.cells.keys()]
    if not having:
        raise InputError("none of the models has cells before and after MSM; they need MSM, and boxes that its map can resolve.")
    one_name_each([study.model for study in having])
    across = 4 if columns == 2 else 2
    down = len(SHOWN) // across
    figure = canvas(columns, (0.55 + 0.16 * len(having)) * down + 0.1)
    panels = figure.subplots(down, across, squeeze=False)
    rows, names = [], [study.model for study in having]
    for place, name in enumerate(SHOWN):
        axes = panels[divmod(place, across)]
        found = [study.change(BEFORE, AFTER, name) for study in having]
        rows += [(model, name, CLAIMS[name], *interval_cells(one)) for model, one in zip(names, found, strict=True)]
        reach = 1.15 * max([abs(edge) for one in found for edge in one[:3] if np.isfinite(edge)], default=1) or 1
        if CLAIMS[name]:
            axes.axvspan(*((0, reach) if CLAIMS[name] == "up" else (-reach, 0)), color="#e3f1ec", linewidth=0, zorder=0)
        axes.axvline(0, color=GREY, linestyle="--", linewidth=0.8)
        for index, one in enumerate(found):
            paint = model_paint(index)
            axes.plot([one.low, one.high], [index, index], color=paint["color"], linewidth=1.2)
            axes.plot([one.value], [index], markersize=4, linestyle="none", **paint)
        axes.set(xlim=(-reach, reach), ylim=(len(names) - 0.4, -0.6))
        axes.set_yticks(range(len(names)), names if place % across == 0 else [""] * len(names))
        axes.set_title(words.MEASURES[name].label, fontsize=7)
        axes.tick_params(axis="x", labelsize=6)
        axes.locator_params(axis="x", nbins=3)
    caption = (
        "What MSM changes: each measure after MSM minus before it, paired by video. Shaded: the side that the claim of the paper wants. "
        f"{words.PROTOCOL} {words.seen(having)}"
    )
    return Plot(figure, ("model", "measure", "claim", *INTERVAL_COLUMNS), rows, caption=caption)


# -------------------------------------------------------------------- tables


def verdict(change: Interval, claim: str) -> str:
    """What a paired change says of the claim: "as claimed", "against", "unclear" (the interval holds 0), or "" where nothing is claimed."""
    if not claim or not np.isfinite(change.low):
        return ""
    if change.low <= 0 <= change.high:
        return "unclear"
    return "as claimed" if (change.value > 0) == (claim == "up") else "against"


def separability_rows(studies: Sequence[Study]) -> list[tuple]:
    """(model, measure, claim, where, value, low, high, videos): each measure at each tap, and its paired change by MSM."""
    one_name_each([study.model for study in studies])
    rows: list[tuple] = []
    for study in studies:
        for measure, claim in CLAIMS.items():
            rows += [(study.model, measure, claim, t, *interval_cells(study.distance(t, measure))) for t in study.cells]
            if study.sense and {BEFORE, AFTER} <= study.cells.keys():
                rows.append((study.model, measure, claim, "change", *interval_cells(study.change(BEFORE, AFTER, measure))))
    return rows


def separability_csv(studies: Sequence[Study]) -> str:
    """`separability_rows` as csv."""
    return csv_text(("model", "measure", "claim", "where", *INTERVAL_COLUMNS), separability_rows(studies))


def separability_markdown(studies: Sequence[Study]) -> str:
    """The same to read: a table per model, means over videos with 95 % bootstrap intervals, and what MSM changes, paired by video."""
    lines = []
    for model in dict.fromkeys(study.model for study in studies):
        study = next(one for one in studies if one.model == model)
        taps = [tap for tap in TABLED if tap in study.cells]
        found = {row[1:4]: Interval(*row[4:]) for row in separability_rows([study])}
        lines += [f"## {model}", "", f"{study.frames} key frames of {len(study.videos)} videos of {study.dataset}.", ""]
        rows = []
        for measure, claim in CLAIMS.items():
            at = [found[measure, claim, tap].text() for tap in taps]
            change = found.get((measure, claim, "change"))
            compared = ["" if study.sense else "no MSM here", ""] if change is None else [change.text(), verdict(change, claim)]
            rows.append([_named(measure), claim, *at, *compared])
        lines.append(table(["measure", "claim", *(words.TAPS[tap] for tap in taps), "change by MSM", ""], rows))
        for name, value in (study.gain_facts() if len(study.gain) else {}).items():
            lines += ["", f"MSM's gain, {name}: {value.text()}."]
        lines.append("")
    return "\n".join(lines)


def _named(measure: str) -> str:
    """Its words, and the key by which the csv has it where that says more."""
    name = words.MEASURES[measure].words
    return name if measure in name or measure == name else f"{name} ({measure})"


# -------------------------------------------------------------------- the gain


@styled
def gain_plot(studies: Sequence[Study], columns: Columns = 2) -> Plot:
    """MSM's gain per channel, 1 + a * phi, mean over key frames: how it is spread, and whether the channels that it raises are those that
    tell action from background (Fisher's score of the normalised input).

    Args:
        studies: models whose MSM has no such gain are left out.
        columns: of the page.

    Raises:
        InputError: if none has one.
    """
    having = [study for study in studies if len(study.gain)]
    if not having:
        raise InputError("none of the models has a gain per channel; they need MSM with a perceptual branch.")
    one_name_each([study.model for study in having])
    figure = canvas(columns, 1.6 * len(having) + 0.1)
    panels = figure.subplots(len(having), 2, squeeze=False)
    rows: list[tuple] = []
    for (left, right), study, index in zip(panels, having, range(len(having)), strict=True):
        gain, score = study.gain.mean(0), nanmean(study.fisher)
        facts, colour = study.gain_facts(), model_paint(index)["color"]
        left.hist(gain, bins=24, color=colour, edgecolor="white", linewidth=0.3)
        left.axvline(1, color=GREY, linestyle="--", linewidth=0.8)
        left.set(xlabel=r"gain $1 + a\varphi$", ylabel="channels")
        left.set_title(f"{study.model}: share above 1 is {facts['share above 1'].text(2)}", fontsize=7)
        right.scatter(score, gain, s=8, color=colour, linewidths=0)
        right.axhline(1, color=GREY, linestyle="--", linewidth=0.8)
        right.set(xlabel="Fisher score of the channel", ylabel="gain")
        known = score[np.isfinite(score) & (score > 0)]
        if len(known) and known.max() > 100 * known.min():
            right.set_xscale("log")
        right.set_title(f"rank correlation {facts['correlation with Fisher'].text(2)}", fontsize=7)
        rows += [(study.model, channel, float(g), float(s)) for channel, (g, s) in enumerate(zip(gain, score, strict=True))]
        rows.append((study.model, "rank correlation", rank_correlation(gain, score), float("nan")))
    caption = (
        "MSM's gain $1 + a\\varphi$ per channel, mean over key frames. Left: how it is spread; channels above 1 are pushed away from the "
        f"video's average. Right: against how well the channel alone tells action from background (Fisher score). {words.PROTOCOL} "
        f"{words.seen(having)}"
    )
    return Plot(figure, ("model", "channel", "gain", "Fisher score"), rows, caption=caption)
