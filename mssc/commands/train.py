"""``mssc train``: a data set in, a model out."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..config import ModelConfig
from ..data.catalogue import Name
from ..structures import InputError, counted
from .options import DIR, FLAG, MODEL, OUTPUT, RARE, RecipeName, Settings, default

if TYPE_CHECKING:  # slow to import
    from ..data.dataset import Dataset
    from ..training import recipes

log = logging.getLogger("mssc")


@dataclass(frozen=True)
class _Rare:
    cache: Annotated[Path | None, DIR, default("frames in the run's folder")] = None
    """Folder for decoded frames."""


@dataclass(frozen=True, kw_only=True)
class Train(Settings):
    """Train a model. A run that was stopped goes on where it was when the same command is given again.

    For example:
        mssc train --dataset toy --data data/toy -o runs/toy
        mssc train --dataset custom --data my-videos -o runs/mine --start jhmdb --epochs 12
        mssc train --recipe toy --data data/toy -o runs/recipe
        mssc train --phase fusion --dataset jhmdb --data DIR --start MODEL -o runs/narrow
        mssc train --phase person --dataset jhmdb --data DIR --start MODEL --coco yolox_nano.onnx -o runs/person
    """

    dataset: Annotated[Name | None, default("the recipe's")] = None  # type: ignore[assignment]  # a recipe knows its own
    """What to learn from. The toy set is generated, the others are read from --data; custom are your own videos."""
    output: Annotated[Path, OUTPUT]
    """Folder of the run: checkpoints, metrics.jsonl, the model."""
    coco: Annotated[Path | None, tyro.conf.arg(metavar="ONNX"), default("weights are random")] = None
    """YOLOX-nano as ONNX, whose weights both paths start from; with --phase person, the teacher."""
    recipe: Annotated[RecipeName | None, default("one run of these options")] = None
    """Make a model as a shipped one was made: all its stages, one after the other. The recipe brings its own options."""
    start: Annotated[str | None, MODEL, default("a new network")] = None
    """Model to start from instead, by name or folder; it may know other actions. Its network is kept but for --model options."""
    all_videos: Annotated[bool, FLAG] = False
    """Learn from the validation videos as well, and keep the last model instead of the best; always so for ava."""
    more_videos: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...", help_behavior_hint="")] = ()
    """With --phase person, folders of videos without annotations, whose people are learnt from as well."""
    rare: Annotated[_Rare, *RARE] = _Rare()

    def run(self) -> None:
        """Read, decode what is not cached, train."""
        config, network = self.config, self.model  # a value that does not fit is refused before anything is read
        if self.recipe is not None:
            return self._follow()
        if self.dataset is None:
            raise InputError("there is nothing to learn from; name a --dataset or a --recipe.")
        from ..data.cache import FrameCache
        from ..data.catalogue import load_dataset, several_at_once
        from ..data.clips import reach
        from ..model.checkpoint import load_model
        from ..model.shipped import learnt, model_folder
        from ..training.loop import NEEDED, Trainer
        from ..training.people import frames_to_learn

        people = config.phase == "person"
        if config.phase in NEEDED and (self.start is None or people and self.coco is None):
            raise InputError(NEEDED[config.phase])
        if self.more_videos and not people:
            raise InputError("--more-videos have no annotations, and only --phase person needs none; leave them out.")
        select = not (self.all_videos or people) and self.dataset != "ava"  # AVA's "val" is what everybody scores on
        parts = ("train", "val") if select else ("trainval",)
        found = [load_dataset(self.dataset, self.data, part, self.split) for part in parts]
        found = [frames_to_learn(found[0], self.more_videos)] if people else found
        cache = self.rare.cache or self.output / "frames"
        model, weights = self._start(network, found[0].classes, several_at_once(found[0]))
        for dataset in found:
            frames = FrameCache.build(dataset, cache, reach=0 if people else reach(model, config))
        validation = found[1] if select else None
        teacher = load_model(self.start) if config.phase == "fusion" and self.start is not None else None
        known = () if self.start is None else learnt(model_folder(self.start))
        trainer = Trainer(
            model, config, self.output, found[0], frames, validation, self.coco, weights, teacher=teacher, learnt=known
        )
        videos, steps = counted(len(found[0]), "video"), counted(trainer.steps, "step")
        log.info("%s to learn from, %s, into %s", videos, steps, self.output)
        trainer.run()
        log.info("the model is in %s", self.output / "model")

    def _follow(self) -> None:
        """All stages of a recipe."""
        from ..data.catalogue import load_dataset
        from ..training.recipes import HARDWARE, RECIPES, Kitchen, follow

        assert self.recipe is not None
        self.refuse_own(self.recipe, tuple(name for name in ("start", "all_videos", "more_videos") if getattr(self, name)))
        recipe = RECIPES[self.recipe]
        dataset, hardware = self.dataset or recipe.dataset, {name: getattr(self.config, name) for name in HARDWARE}
        kitchen = Kitchen(
            self.output,
            lambda part: load_dataset(dataset, self.data, part, self.split),
            self.rare.cache or self.output / "frames",
            self.coco,
            hardware,
        )
        if follow(self.recipe, recipe, kitchen) is not None:
            self._write_card(recipe, kitchen.part)
        log.info("the model is in %s", self.output / "model")

    def _write_card(self, recipe: "recipes.Recipe", part: "Callable[[str], Dataset]") -> None:
        """What each part of a recipe's model is worth, on videos that it has not learnt from: that of the last stage that left some out."""
        from ..analysis import intervene, stored, vital_signs
        from ..detection.detector import Detector
        from ..model.checkpoint import load_model
        from ..plots import write_card

        judged = [stage.name for stage in recipe.stages if not stage.all_videos]
        if not judged or stored(self.output / "model") is not None:
            return
        folder, name = self.output / judged[-1] / "model", str(self.recipe)
        later = judged[-1] != recipe.stages[-1].name
        note = f"They are those of stage {judged[-1]}: the last one has learnt from these videos as well." if later else ""
        log.info("measuring what each part is worth")
        try:
            detector, videos = Detector.load(folder, "auto", "torch"), part("val")
            found = intervene(detector, videos, name)
        except InputError as error:  # too few videos or classes, say: the model is made all the same
            log.warning("the card does not tell what each part is worth: %s", error)
            return
        write_card(self.output / "model", found, vital_signs(detector, videos, weights=load_model(folder)), note)

    def _start(self, base: ModelConfig, classes: tuple[str, ...], several: bool) -> tuple:
        """The network, and the weights of the model to start from, if there is one; `several` actions may be done at once."""
        from ..model.checkpoint import load_model
        from ..model.transfer import carry_over

        start = load_model(self.start) if self.start is not None else None
        if start is not None:
            usual = ModelConfig()
            asked = {f.name: getattr(base, f.name) for f in dataclasses.fields(usual)}
            given = {k: v for k, v in asked.items() if v != getattr(usual, k)}
            if self.config.phase == "fusion":  # of another form, the usual one if none is given
                kept = ("fusion", "fusion_branch", "fusion_position")
                given |= {k: v for k, v in asked.items() if k.startswith("fusion") and k not in kept}
            base = dataclasses.replace(start.config, **given)
        if start is not None and self.config.phase == "person":  # that part alone is new
            size = self.model.person_size
            base = dataclasses.replace(base, classes=start.config.classes, person="detector", person_size=size)
            return base, carry_over(start, base, self.config.seed)
        config = dataclasses.replace(base, classes=classes, actions="multilabel" if several else base.actions)
        return config, None if start is None else carry_over(start, config, self.config.seed)
