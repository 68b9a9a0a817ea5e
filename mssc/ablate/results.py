"""What runs of an ablation say together: means and spreads over seeds, paired differences with their intervals.

A results file is JSON and holds numbers alone::

    format, table, reference, commands, versions
    dataset {name, training {name, videos}, classes, videos [names], frames, boxes [per video]}
    train, model {the settings that all rows share}, coco {SHA-256 of the initial weights}, rounds
    rows   {name: {changes, parameters}}
    runs   [{row, seed, weights, steps, seconds, loss, scores {metric: value}, draws {metric: [rounds values]}, right [per video],
             paths {condition: {scores, draws}}, noise {corruption: {amount: {score, draws}}}, noise_step}]

``draws`` are the metric over the same resamples of the videos in every run, so that any two rows can be compared, paired, without their
detections. ``paths`` and ``noise`` are there where they were asked for, see `mssc.ablate.studies`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.bootstrap import Interval, of_draws, unrounded
from ..structures import InputError

FORMAT = 1
METRICS = ("frame-mAP@0.5", "frame-mAP@0.5 unlinked", "video-mAP@0.5", "box accuracy", "actor AP@0.5")
"""Fractions in [0, 1]. Frame-mAP is ``voc`` over every annotated frame, with the scores of links or the frames' own; box accuracy is the
share of true boxes that are given the right class; actor AP is of boxes whatever their action."""
SINGLE = ("2D only", "3D only")
"""Rows of T-A that a fused model has to beat: "1+1>2"."""
FUSED = "MS-SC"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        row: its name in the table.
        seed: of order, augmentation and initial weights.
        scores: by metric.
        draws: by metric, over the resamples of the videos that all runs share, (rounds,).
        paths: the same model with a path's features replaced, by condition: scores and draws.
        noise: by corruption and amount, frame-mAP (unlinked) of every `noise_step`-th frame and its draws; ("none", 0) among them.
        facts: the rest: weights' hash, seconds, last losses, true boxes with the right class by video.
    """

    row: str
    seed: int
    scores: dict[str, float]
    draws: dict[str, np.ndarray]
    paths: dict[str, tuple[dict[str, float], dict[str, np.ndarray]]]
    noise: dict[tuple[str, float], tuple[float, np.ndarray]]
    facts: dict[str, object]

    @classmethod
    def from_record(cls, record: Mapping) -> "Run":
        """From a results file's entry."""
        known = ("row", "seed", "scores", "draws", "paths", "noise")
        return cls(
            record["row"],
            int(record["seed"]),
            _numbers(record["scores"]),
            _arrays(record["draws"]),
            {name: (_numbers(one["scores"]), _arrays(one["draws"])) for name, one in record.get("paths", {}).items()},
            {
                (kind, float(amount)): (unrounded(one["score"]), np.array(one["draws"], float))
                for kind, amounts in record.get("noise", {}).items()
                for amount, one in amounts.items()
            },
            {name: value for name, value in record.items() if name not in known},
        )


def _numbers(values: Mapping) -> dict[str, float]:
    return {name: unrounded(value) for name, value in values.items()}


def _arrays(values: Mapping) -> dict[str, np.ndarray]:
    return {name: np.array(column, float) for name, column in values.items()}  # None becomes NaN


@dataclass(frozen=True)
class AblationResults:
    """An ablation's results.

    Attributes:
        table: its name, or that of the file.
        reference: the row that others are compared with.
        rows: by name, in the table's order: ``changes`` to the shared settings and ``parameters``.
        runs: those that are finished.
        about: data set, settings, versions, commands.
    """

    table: str
    reference: str
    rows: dict[str, dict]
    runs: tuple[Run, ...]
    about: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Rows with at least one finished run, in the table's order."""
        return tuple(name for name in self.rows if self.seeds(name))

    def seeds(self, row: str) -> tuple[int, ...]:
        """Of the row's finished runs, ascending."""
        return tuple(sorted(run.seed for run in self.runs if run.row == row))

    def parameters(self, row: str) -> int:
        """How many the row's network has."""
        return int(self.rows[row]["parameters"])

    def run(self, row: str, seed: int) -> Run:
        """One run.

        Raises:
            InputError: if it is not there.
        """
        for run in self.runs:
            if (run.row, run.seed) == (row, seed):
                return run
        raise InputError(f"the results of {self.table} hold no run of {row!r} with seed {seed}; there are {self._finished()}.")

    def _finished(self) -> str:
        return ", ".join(f"{name} ({len(self.seeds(name))} seeds)" for name in self.names) or "none"

    def of(self, row: str) -> list[Run]:
        """The row's runs, by seed.

        Raises:
            InputError: if there are none.
        """
        if not self.seeds(row):
            raise InputError(f"the results of {self.table} hold no run of {row!r}; there are {self._finished()}.")
        return [self.run(row, seed) for seed in self.seeds(row)]

    def scores(self, row: str, metric: str = METRICS[0]) -> dict[int, float]:
        """A metric by seed."""
        return {run.seed: run.scores[metric] for run in self.of(row)}

    def mean(self, row: str, metric: str = METRICS[0]) -> float:
        """Over seeds."""
        return float(np.mean(list(self.scores(row, metric).values())))

    def spread(self, row: str, metric: str = METRICS[0]) -> float:
        """Standard deviation over seeds (n - 1); NaN for a single one."""
        values = list(self.scores(row, metric).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def interval(self, row: str, metric: str = METRICS[0]) -> Interval:
        """The mean over seeds and its 95 % interval; videos are drawn, and with them seeds."""
        runs = self.of(row)
        return self._interval([run.scores[metric] for run in runs], [run.draws[metric] for run in runs])

    def difference(self, row: str, reference: str | None = None, metric: str = METRICS[0]) -> Interval:
        """Row minus reference over the seeds that both have; a draw takes the same videos and seeds for both.

        Raises:
            InputError: if they have no seed in common.
        """
        pairs = self._pairs(row, reference or self.reference)
        values = [one.scores[metric] - other.scores[metric] for one, other in pairs]
        return self._interval(values, [one.draws[metric] - other.draws[metric] for one, other in pairs])

    def better(self, row: str, reference: str | None = None, metric: str = METRICS[0]) -> tuple[int, int]:
        """In how many of the common seeds the row scores higher, and how many there are."""
        pairs = self._pairs(row, reference or self.reference)
        return sum(one.scores[metric] > other.scores[metric] for one, other in pairs), len(pairs)

    def _pairs(self, row: str, reference: str) -> list[tuple[Run, Run]]:
        ours, theirs = self.of(row), {run.seed: run for run in self.of(reference)}
        pairs = [(run, theirs[run.seed]) for run in ours if run.seed in theirs]
        if not pairs:
            raise InputError(f"{row!r} and {reference!r} have no seed in common; run both with the same seeds.")
        return pairs

    def _interval(self, values: Sequence[float], draws: Sequence[np.ndarray]) -> Interval:
        """Of the mean over seeds. Each draw of videos goes with a draw of seeds; one seed is all that there is to draw from."""
        table, videos = np.stack(draws), len(self.about["dataset"]["videos"])
        seeds, rounds = table.shape
        chosen = np.random.default_rng(0).integers(0, seeds, (seeds, rounds))
        return of_draws(float(np.mean(values)), table[chosen, np.arange(rounds)].mean(0), videos)

    # ---------------------------------------------------------------- 1 + 1 > 2, and noise

    def more_than_best(self, row: str = FUSED, singles: Sequence[str] = SINGLE, metric: str = METRICS[0]) -> Interval:
        """What a fused model has over the better one of models that were trained with one path: positive if 1 + 1 > 2.

        In each draw the better one is chosen anew, by the mean over seeds.

        Raises:
            InputError: if a row is missing or they have no seed in common.
        """
        common = [seed for seed in self.seeds(row) if all(seed in self.seeds(single) for single in singles)]
        if not common:
            raise InputError(f"{row!r} and {', '.join(singles)} have no seed in common; run all with the same seeds.")
        table = np.stack([[self.run(name, seed).draws[metric] for seed in common] for name in (row, *singles)])  # (rows, S, R)
        chosen = np.random.default_rng(0).integers(0, len(common), (len(common), table.shape[2]))
        drawn = table[:, chosen, np.arange(table.shape[2])].mean(1)
        values = [np.mean([self.run(name, seed).scores[metric] for seed in common]) for name in (row, *singles)]
        videos = len(self.about["dataset"]["videos"])
        return of_draws(float(values[0] - max(values[1:])), drawn[0] - drawn[1:].max(0), videos)

    def path_loss(self, row: str, condition: str, metric: str = METRICS[0]) -> Interval:
        """What a trained model loses when one path's features are replaced; see `mssc.ablate.studies.CONDITIONS`.

        Raises:
            InputError: if that was not looked at.
        """
        runs = [run for run in self.of(row) if condition in run.paths]
        if not runs:
            raise InputError(f"{row!r} was not scored with {condition!r}; run ablate with --studies paths.")
        values = [run.scores[metric] - run.paths[condition][0][metric] for run in runs]
        return self._interval(values, [run.draws[metric] - run.paths[condition][1][metric] for run in runs])

    def noise_loss(self, row: str, kind: str, amount: float, reference: str | None = None) -> Interval:
        """How much frame-mAP (unlinked) a corruption costs a row; with a reference, how much more than it costs that one.

        Raises:
            InputError: if that was not looked at.
        """
        key = (kind, float(amount))

        def loss(run: Run) -> tuple[float, np.ndarray]:
            (clean, clean_draws), (spoilt, spoilt_draws) = run.noise["none", 0.0], run.noise[key]
            return clean - spoilt, clean_draws - spoilt_draws

        pairs = [(run, run) for run in self.of(row)] if reference is None else self._pairs(row, reference)
        pairs = [pair for pair in pairs if all(key in run.noise for run in pair)]
        if not pairs:
            raise InputError(f"{row!r} was not scored with {kind} {amount:g}; run ablate with --studies noise.")
        losses = [(loss(one), loss(other) if reference is not None else (0.0, 0.0)) for one, other in pairs]
        return self._interval([a[0] - b[0] for a, b in losses], [np.asarray(a[1] - b[1]) for a, b in losses])


def load_results(path: str | Path) -> AblationResults:
    """Read a results file.

    Args:
        path: of the file.

    Raises:
        InputError: if it is missing, damaged or of another format.
    """
    file = Path(path)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise InputError(f"{file} has format {record['format']}, {FORMAT} is read here; run the ablation again.")
        runs = tuple(Run.from_record(run) for run in record["runs"])
        known = ("format", "table", "reference", "rows", "runs")
        about = {name: value for name, value in record.items() if name not in known}
        return AblationResults(record["table"], record["reference"], record["rows"], runs, about)
    except FileNotFoundError:
        raise InputError(f"there is no results file {file}; mssc ablate T-A writes T-A.json into its folder.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} cannot be read as results of an ablation ({error!r}); run the ablation again.") from None
