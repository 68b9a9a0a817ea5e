"""What was found about a model's parts, kept beside it and told in a sentence."""

import json
from pathlib import Path

import numpy as np

from ..files import read_json, undamaged, write_whole
from ..model.shipped import INTERVENTIONS, weights_hash
from .bootstrap import Interval
from .interventions import METRICS, Interventions
from .stand_ins import EXCHANGE, IDENTITY, MOTION_INPUT, MSM, OTHER, UNIFORM
from .vitals import Vitals

TOLD = (
    (MOTION_INPUT, OTHER, "another class's motion"),
    (MSM, IDENTITY, "leaving MSM out"),
    (EXCHANGE, UNIFORM, "a uniform exchange"),
)
"""The rows that a sentence is made of, and what they are called in it."""
WAY_OUT = "remove it, or measure again with mssc figures --interventions --card"


def store(folder: Path, found: Interventions, vitals: Vitals | None = None) -> Path:
    """Keep what was found beside a model, with the hash of its weights.

    Raises:
        InputError: if the weights cannot be read, or the file cannot be written.
    """
    record = {"weights": weights_hash(folder), **found.record()} | ({"vitals": vitals.record()} if vitals is not None else {})
    write_whole(folder / INTERVENTIONS, json.dumps(record) + "\n")
    return folder / INTERVENTIONS


def stored(folder: Path) -> Interventions | None:
    """What `store` kept; None if there is nothing, or the weights have changed since.

    Raises:
        InputError: if the file is damaged.
    """
    path = folder / INTERVENTIONS
    if not path.exists():
        return None
    record = read_json(path, WAY_OUT)
    with undamaged(path, WAY_OUT):
        weights, _ = record.pop("weights"), record.pop("vitals", None)
        found = Interventions.of(record)
    return found if weights == weights_hash(folder) else None


def in_words(found: Interventions) -> str:
    """The main rows in words: "In this model another class's motion costs 38 points [33, 43]; leaving MSM out 6 [3, 9]" or so.

    "" for a model that has none of these parts.
    """
    known = {(row.part, row.kind): row.changes[METRICS[0]] for row in found.rows}
    said = [(words, known[part, kind]) for part, kind, words in TOLD if (part, kind) in known]
    if not said:
        return ""
    first, *rest = said
    text = f"In this model {first[0]} costs {_lost(first[1], ' points of box accuracy')}"
    return "; ".join([text, *(f"{words} {_lost(change)}" for words, change in rest)]) + "."


def _lost(change: Interval, unit: str = "") -> str:
    """In whole points; what is gained is negative."""
    points = round(-100 * change.value)
    lost = f"{points}{unit.replace('points', 'point') if points == 1 else unit}"
    return f"{lost} [{round(-100 * change.high)}, {round(-100 * change.low)}]" if np.isfinite(change.low) else lost
