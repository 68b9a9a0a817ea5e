"""``mssc ablate``: rows of an ablation table, trained over seeds and compared."""

import dataclasses
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..config import ModelConfig, TrainConfig
from ..structures import InputError
from .options import DIR, NO_OPTIONS, OUTPUT, RARE, RecipeName, RunOptions, Settings, command_line, default

log = logging.getLogger("mssc")


@dataclass(frozen=True)
class _Rare:
    reference: Annotated[str | None, default("the table's own")] = None
    """Row that the others are compared with."""
    noise_step: int = 8
    """Every n-th frame with ground truth is scored in spoilt videos."""
    videos: Annotated[int | None, default("all")] = None
    """Learn from this many videos at most, spread evenly over the training part."""
    cache: Annotated[Path | None, DIR, default("frames beside the runs")] = None
    """Folder for decoded frames."""


@dataclass(frozen=True, kw_only=True)
class Ablate(Settings):
    """Train named rows of an ablation table over seeds, score them alike, and print the table with intervals.

    All rows see the same clips, augmented in the same way, for as many steps. Runs that are finished are kept, and one that was stopped
    goes on when the same command is given again; more rows, seeds, studies and tables can be asked for later, and rows that are the same
    network are run once. Nothing is selected on the videos that are scored. Results are numbers in TABLE.json; a table, its csv and a
    picture are beside it.

    For example:
        mssc ablate T-A --dataset toy --data data/toy --seeds 0 1 -o runs/ablate
    """

    table: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TABLE")]
    """T-A: which modules; T-B: inside MSM; T-C: inside SFM, and what it is compared with. Or a JSON file of your own rows:
    {"a name": {"fusion": "concat"}, ...}, each with its --model options; the first is what others are compared with."""
    dataset: Literal["jhmdb", "ucf101-24", "toy", "custom"]
    """What to learn from and to score on; the toy set is generated where it is not there."""
    output: Annotated[Path, OUTPUT]
    """Folder of the ablation."""
    rows: Annotated[tuple[str, ...], default("all of the table")] = ()
    """Names of rows."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of order, augmentation and initial weights."""
    studies: Annotated[tuple[Literal["paths", "noise"], ...], default("none")] = ()
    """Beside scores: the trained models with one path's features replaced (1 + 1 > 2), or with one input spoilt (filter noise)."""
    jobs: Annotated[int | None, default("one per GPU, or one by one without")] = None
    """Runs at a time, each in a process of its own; several may share a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where runs are trained and scored; auto takes a GPU where there is one."""
    part: Literal["val", "test"] = "val"
    """Which videos are scored."""
    recipe: Annotated[RecipeName | None, default("one training run")] = None
    """Train every row by the stages of this recipe that leave the videos out which are scored, instead of by one run."""
    coco: Annotated[Path | None, tyro.conf.arg(metavar="ONNX"), default("weights are random")] = None
    """YOLOX-nano as ONNX, whose weights both paths start from."""
    rare: Annotated[_Rare, *RARE] = _Rare()
    run_options: Annotated[RunOptions, tyro.conf.arg(name="run")] = field(default_factory=lambda: RunOptions(workers=0))

    def run(self) -> None:
        """Read, run what is not done, print."""
        network = self.model  # a value that does not fit is refused before anything is read
        if self.config.seed != TrainConfig.seed:
            raise InputError(f"seed is {self.config.seed}; give --seeds, one or several.")
        if self.recipe is not None:
            self.refuse_own(self.recipe)
        from ..ablate.runs import ablate
        from ..ablate.tables import REFERENCES
        from ..files import claim, write_whole
        from ..plots import ablation_markdown, ablation_plot, studies_markdown

        table, rows = self._table()
        reference = (
            self._chosen((self.rare.reference,), rows)[0] if self.rare.reference else REFERENCES.get(table, next(iter(rows)))
        )
        claim(self.output, "runs", *(f"{table}.{kind}" for kind in ("json", "md", "pdf", "png", "csv")))
        rows = {row: rows[row] for row in self._chosen(self.rows, rows) or rows}
        plan = self._plan(network)
        results = ablate(plan, rows, self.seeds, table, reference, self.jobs, command_line())
        text = "\n".join(part for part in (ablation_markdown(results), studies_markdown(results)) if part)
        ablation_plot(results).save(self.output, table)
        write_whole(self.output / f"{table}.md", text)  # after the picture, whose caption would have that name
        sys.stdout.write(text)
        log.info("results are in %s", self.output / f"{table}.json")

    def _table(self) -> tuple[str, dict[str, dict[str, object]]]:
        """Its name and rows."""
        from ..ablate.tables import ABLATIONS
        from ..files import read_json

        if self.table in ABLATIONS:
            return self.table, ABLATIONS[self.table]
        path = Path(self.table)
        if not path.exists():
            raise InputError(f"there is no table {self.table!r}; use {', '.join(ABLATIONS)} or a JSON file of rows.")
        rows = read_json(path, "correct it, or write it again")
        known = {item.name: item.default for item in dataclasses.fields(ModelConfig)}
        if not isinstance(rows, dict) or not rows or not all(isinstance(changes, dict) for changes in rows.values()):
            raise InputError(f'{path} holds no rows; write {{"a name": {{"fusion": "concat"}}, ...}}.')
        for row, changes in rows.items():
            for name, value in changes.items():
                if name not in known or name in NO_OPTIONS:
                    raise InputError(f"{path}: the row {row!r} changes {name!r}, which is no option of a network.")
                number = isinstance(known[name], float) and isinstance(value, int)
                if not number and not isinstance(value, type(known[name])) and not isinstance(known[name], tuple):
                    raise InputError(f"{path}: the row {row!r} sets {name} to {value!r}; it is like {known[name]!r}.")
        if (self.output / f"{path.stem}.json").resolve() == path.resolve():
            raise InputError(f"{path} is where the results would be written; give the rows' file another name or place.")
        return path.stem, rows

    def _chosen(self, names: tuple[str, ...], rows: dict) -> tuple[str, ...]:
        strange = [name for name in names if name not in rows]
        if strange:
            raise InputError(f"{self.table} has no row {strange[0]!r}; use some of: {'; '.join(rows)}.")
        return names

    def _plan(self, network: ModelConfig):
        import numpy as np

        from ..ablate.runs import Plan
        from ..data.cache import FrameCache
        from ..data.catalogue import load_dataset, several_at_once

        training, validation = (load_dataset(self.dataset, self.data, part, self.split) for part in ("train", self.part))
        if self.rare.videos is not None:
            if self.rare.videos < 1:
                raise InputError(f"videos is {self.rare.videos}; it must be at least 1.")
            chosen = np.linspace(0, len(training) - 1, min(self.rare.videos, len(training))).round().astype(int)
            training = training.subset([training.videos[i].name for i in chosen])
        for dataset in (training, validation):
            cache = FrameCache.build(dataset, self.rare.cache or self.output / "frames")
        actions = "multilabel" if several_at_once(training) else network.actions
        base, stages = dataclasses.replace(network, classes=training.classes, actions=actions), ()
        if self.recipe is not None:
            from ..training.recipes import RECIPES

            base = dataclasses.replace(base, **RECIPES[self.recipe].model)
            stages = tuple(stage for stage in RECIPES[self.recipe].stages if not stage.all_videos)
        study = (tuple(self.studies), self.rare.noise_step)
        return Plan(
            self.output, base, self.config, training, validation, cache, self.coco, *study, device=self.device, stages=stages
        )
