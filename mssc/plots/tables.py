"""Tables of separability for papers and pages: before and after MSM, where it enters SFM, and behind SFM."""

from collections.abc import Sequence

import numpy as np

from ..analysis.bootstrap import Interval
from ..analysis.distances import MEASURES
from ..analysis.study import Study
from .paper import INTERVAL_COLUMNS, csv_text, interval_cells, one_name_each

BEFORE, AFTER = "MSM in", "MSM out"
SHOWN = (BEFORE, AFTER, "SFM in", "SFM out 8")


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
        for measure, (_, claim, _) in MEASURES.items():
            rows += [(study.model, measure, claim, t, *interval_cells(study.distance(t, measure))) for t in study.cells]
            if {BEFORE, AFTER} <= study.cells.keys():
                rows.append((study.model, measure, claim, "change", *interval_cells(study.change(BEFORE, AFTER, measure))))
        rows += [(study.model, "AUROC", "up", tap, *interval_cells(study.auroc(tap))) for tap in study.cells]
    return rows


def separability_csv(studies: Sequence[Study]) -> str:
    """`separability_rows` as csv."""
    return csv_text(("model", "measure", "claim", "where", *INTERVAL_COLUMNS), separability_rows(studies))


def separability_markdown(studies: Sequence[Study]) -> str:
    """The same to read: a table per model, means over videos with 95 % bootstrap intervals, and what MSM changes, paired by video."""
    lines = []
    for model in dict.fromkeys(study.model for study in studies):
        study = next(one for one in studies if one.model == model)
        taps = [tap for tap in SHOWN if tap in study.cells]
        found = {row[1:4]: Interval(*row[4:]) for row in separability_rows([study])}
        lines += [f"## {model}", "", f"{study.frames} key frames of {len(study.videos)} videos of {study.dataset}.", ""]
        lines += ["| measure | claim | " + " | ".join([*taps, "change by MSM", ""]) + " |", "|---" * (len(taps) + 4) + "|"]
        for measure, claim in [*((name, one.claim) for name, one in MEASURES.items()), ("AUROC", "up")]:
            at = [found[measure, claim, tap].text() for tap in taps]
            change = found.get((measure, claim, "change"))
            said = ["", ""] if change is None else [change.text(), verdict(change, claim)]
            lines.append("| " + " | ".join([measure, claim, *at, *said]) + " |")
        for name, value in (study.gain_facts() if len(study.gain) else {}).items():
            lines += ["", f"MSM's gain, {name}: {value.text()}."]
        lines.append("")
    return "\n".join(lines)
