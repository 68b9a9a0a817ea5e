"""``mssc figures``: look into one or several models, side by side, and draw what was found."""

import json
import logging
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from ..data.catalogue import Part
from ..structures import InputError, counted
from .options import FLAG, OUTPUT, RARE, Device, OnData, command_line, default

log = logging.getLogger("mssc")
PICTURES = ("separability", "tsne", "pca", "gain", "exchange", "pointing", "probe", "corruption", "change", "interventions")


@dataclass(frozen=True)
class _Rare:
    step: int = 4
    """Every n-th frame with ground truth is a key frame."""
    clip: Annotated[bool, FLAG] = False
    """Let the model see of each key frame its window alone, instead of the video up to it."""
    noise_step: int = 8
    """Every n-th frame with ground truth is scored in spoilt videos."""
    parts: Annotated[tuple[str, ...], default("all that it has")] = ()
    """Of the network, for --interventions: "MSM", "flow stream" and others."""
    columns: Literal[1, 2] = 2
    """Of the page that the pictures span."""


@dataclass(frozen=True, kw_only=True)
class Figures(OnData):
    """Draw whether MSM moves action away from background, what SFM exchanges, where a model responds and what noise costs it.

    Every picture is a PDF for papers with its caption in LaTeX and Markdown, a PNG, and a csv of the numbers behind it; embeddings are
    HTML pages as well, whose points show their frames. Tables with 95 % intervals over videos are in table.md.

    For example:
        mssc figures jhmdb jhmdb-plain --dataset jhmdb --data DIR -o pictures
        mssc figures jhmdb --interventions --dataset jhmdb --data DIR -o pictures
    """

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL...", help_behavior_hint="(required)")]
    """Names of models that ship, or models' folders; several are drawn side by side."""
    output: Annotated[Path, OUTPUT] = Path("outputs/figures")
    """Folder for the pictures."""
    part: Part = "val"
    """Which videos. Claims need videos that no model was trained on."""
    videos: int = 200
    """Look at this many at most, spread evenly over the part."""
    noise: Annotated[bool, FLAG, tyro.conf.arg(help="Score no detections in spoilt videos, which takes most of the time.")] = True
    interventions: Annotated[bool, FLAG] = False
    """Instead, give each part of the network another class's video or zeros, pass it by or make it even, and draw what that costs."""
    card: Annotated[bool, FLAG] = False
    """With --interventions: also keep what was found in the models' folders, and write it into their cards."""
    device: Device = "auto"
    rare: Annotated[_Rare, *RARE] = _Rare()

    def run(self) -> None:
        """Examine each model, then draw."""
        if self.card and not self.interventions:
            raise InputError("--card writes what --interventions finds; give both.")
        folders = self._folders()
        self._claim(folders)
        if self.interventions:
            return self._intervene(folders, self._dataset())
        from ..analysis import examine, robustness
        from ..detection.detector import Detector
        from ..plots import corruption_plot

        dataset = self._dataset()
        passes = len(folders) * (2 if self.noise else 1)
        studies, spoilt = [], []
        with _bar(passes * len(dataset)) as bar:
            for name, folder in folders.items():
                detector, tick = Detector.load(folder, self.device), partial(_tick, bar, name)
                mode = "clip" if self.rare.clip else "stream"
                studies.append(examine(detector, dataset, name, self.rare.step, mode, tick=tick))
                if self.noise:
                    spoilt.append(robustness(detector, dataset, name, self.rare.noise_step, tick=tick))
        seen = counted(studies[0].frames, "key frame")
        log.info("%s of %s seen; drawing", seen, counted(len(dataset), "video"))
        drawn = self._write_tables(studies, dataset, folders)
        drawn += self._draw(studies)
        if spoilt:
            drawn += corruption_plot(spoilt, self.rare.columns).save(self.output, "corruption")
        log.info("%d files are in %s", len(drawn), self.output)

    def _claim(self, folders: dict[str, Path]) -> None:
        """See that nothing of anybody else's is in the way."""
        from ..files import claim

        stems = (*PICTURES, *(f"{kind}-{_plain(name)}" for name in folders for kind in ("responses", "contexts")))
        pictures = (f"{stem}.{kind}" for stem in stems for kind in ("pdf", "png", "csv", "html"))
        claim(self.output, "key frames", "about.json", "table.md", "table.csv", "interventions-table.md", *pictures)

    def _intervene(self, folders: dict[str, Path], dataset) -> None:
        """What each part of each model is worth."""
        from .. import plots
        from ..analysis import intervene, vital_signs
        from ..analysis.interventions import chosen_rows, partners
        from ..detection.detector import Detector
        from ..files import write_whole
        from ..model.checkpoint import load_model

        detectors = {name: Detector.load(folder, self.device, "torch") for name, folder in folders.items()}
        parts, step = self.rare.parts or None, self.rare.step
        partners(dataset.videos)
        for name, detector in detectors.items():  # what cannot be done is told before hours of work
            detector.check_classes(dataset)
            chosen_rows(detector.model, parts, name)
        found, tables, drawn = [], [], []
        with _bar(2 * len(folders) * len(dataset)) as bar:
            for name, detector in detectors.items():
                tick = partial(_tick, bar, name)
                vitals = vital_signs(detector, dataset, step, load_model(folders[name]), tick=tick)
                found.append(intervene(detector, dataset, name, step, parts, tick=tick))
                tables.append(f"# {name}\n\n{plots.card_table(found[-1], vitals)}")
                if self.card:
                    drawn += plots.write_card(folders[name], found[-1], vitals)
        texts = {"about.json": self._about(dataset, found[0].frames, folders), "interventions-table.md": "\n".join(tables)}
        for name, text in texts.items():
            write_whole(self.output / name, text)
        drawn += plots.interventions_plot(found, self.rare.columns).save(self.output, "interventions")
        log.info("%d files are in %s", len(drawn) + len(texts), self.output)

    def _folders(self) -> dict[str, Path]:
        """The models' folders by a short name each."""
        from ..model.shipped import model_folder, name_of

        if not self.models:
            raise InputError("no model was named; give names of models that ship, or models' folders.")
        for name, number in (("videos", self.videos), ("step", self.rare.step), ("noise_step", self.rare.noise_step)):
            if number < 1:
                raise InputError(f"{name} is {number}; it must be at least 1.")
        folders = [model_folder(model).resolve() for model in self.models]
        for folder in folders:
            if folders.count(folder) > 1:
                raise InputError(f"the model {folder} is named twice; name each once.")
        names = [name_of(folder) for folder in folders]
        names = [name if names.count(name) == 1 else f"{f.parent.name}-{f.name}" for name, f in zip(names, folders, strict=True)]
        names = [name if names.count(name) == 1 else f"{name} {i + 1}" for i, name in enumerate(names)]
        return dict(zip(names, folders, strict=True))

    def _dataset(self):
        import numpy as np

        from ..data.catalogue import load_dataset
        from ..scoring.run import seen_before

        dataset = load_dataset(self.dataset, self.data, self.part, self.split)
        acting = [video.name for video in dataset.videos if video.tubes]
        if not acting:
            raise InputError(f"none of the {len(dataset)} videos of {dataset.name} has ground truth; choose another part.")
        chosen = np.linspace(0, len(acting) - 1, min(self.videos, len(acting))).round().astype(int)
        dataset = dataset.subset([acting[i] for i in chosen])
        for folder in self._folders().values():
            seen_before(folder, dataset)
        return dataset

    def _draw(self, studies: list) -> list[Path]:
        """Every picture that these models have."""
        from .. import plots
        from ..analysis import project

        taps = plots.taps_of(studies)
        wide, made = self.rare.columns, []

        def draw(name: str, function, *arguments) -> None:
            made.extend(function(*arguments, wide).save(self.output, name))

        if taps:
            draw("separability", plots.separability_plot, studies)
            shown = [tap for tap in taps if tap in ("MSM in", "MSM out", "SFM in", "SFM out 8")]
            for method in ("tsne", "pca"):
                cells = [
                    project(s, tap, method) for s in studies for tap in shown if tap in s.cells and (s.sense or tap != "MSM out")
                ]
                draw(method, plots.projection_plot, cells, studies[0].classes)
        else:
            log.warning("no frame has enough cells inside and outside of boxes: no separability, no embedding")
        if any(study.sense and {"MSM in", "MSM out"} <= study.cells.keys() for study in studies):
            draw("change", plots.change_plot, studies)
        if any(len(study.gain) for study in studies):
            draw("gain", plots.gain_plot, studies)
        if any(study.strength or study.entropy for study in studies):
            draw("exchange", plots.exchange_plot, studies)
        draw("pointing", plots.pointing_plot, studies)
        draw("probe", plots.probe_plot, studies)
        for study in studies:
            name = _plain(study.model)
            draw(f"responses-{name}", plots.response_plot, study)
            if any(one.contexts for one in study.examples):
                draw(f"contexts-{name}", plots.context_plot, study)
        return made

    def _write_tables(self, studies: list, dataset, folders: dict[str, Path]) -> list[Path]:
        """Tables, and what everything here is of."""
        from ..files import write_whole
        from ..plots import separability_csv, separability_markdown

        texts = {
            "about.json": self._about(dataset, studies[0].frames, folders),
            "table.md": separability_markdown(studies),
            "table.csv": separability_csv(studies),
        }
        for name, text in texts.items():
            write_whole(self.output / name, text)
        return [self.output / name for name in texts]

    def _about(self, dataset, frames: int, folders: dict[str, Path]) -> str:
        """What pictures and tables are of, as JSON."""
        from ..model.shipped import model_hash
        from ..scoring.run import versions

        about = {
            "command": command_line(),
            "dataset": dataset.name,
            "split": self.split,
            "videos": [video.name for video in dataset.videos],
            "key frames": frames,
            "mode": "clip" if self.rare.clip else "stream",
            "weights": {name: model_hash(folder) for name, folder in folders.items()},
            "versions": versions(),
        }
        return json.dumps(about, indent=1) + "\n"


def _plain(model: str) -> str:
    return re.sub(r"[^\w.-]+", "-", model)


def _bar(total: int) -> tqdm:
    return tqdm(total=total, unit="video", dynamic_ncols=True, desc="looking")


def _tick(bar: tqdm, name: str, video: str) -> None:
    """One more video was seen by the model of this name."""
    bar.set_postfix_str(f"{name}: {video}", refresh=False)
    bar.update()
