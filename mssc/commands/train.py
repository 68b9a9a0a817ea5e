"""``python -m mssc train``: a data set in, a model out."""

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..config import ModelConfig, TrainConfig

log = logging.getLogger("mssc")


@dataclass(frozen=True)
class Train:
    """Train a model. A run that was stopped goes on where it was when the same command is given again."""

    dataset: tyro.conf.Positional[Literal["jhmdb", "ucf101-24", "ava", "toy", "custom"]]
    """What to learn from. The toy set is generated, the others are read from --data; custom are your own videos."""
    data: Path
    """Folder of the data set."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run: checkpoints, metrics.jsonl, the model."""
    coco: Path | None = None
    """YOLOX-nano as ONNX, whose weights both paths start from."""
    start: str | None = None
    """Name or folder of a model to start from instead; it may know other actions. Its network is kept but for model options that
    are given and are not the default."""
    motion: str | None = None
    """Folder of a model whose motion stream was trained by itself (--learn motion), to start that part from."""
    split: int = 1
    """Of J-HMDB: 1, 2 or 3."""
    all_videos: bool = False
    """Learn from the validation videos as well, and keep the last model instead of the best (always so for ava)."""
    cache: Path | None = None
    """Folder for decoded frames; frames/ beside the run if not given."""
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    """The run."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network; its classes are the data set's."""

    def run(self) -> None:
        """Read, decode what is not cached, train."""
        from ..data.cache import FrameCache
        from ..data.catalogue import load_dataset, several_at_once
        from ..data.clips import reach
        from ..detection.pipeline import model_folder
        from ..model.checkpoint import load_model
        from ..model.transfer import motion_weights
        from ..training.loop import Trainer

        select = not self.all_videos and self.dataset != "ava"  # AVA's "val" is what everybody scores on
        parts = ("train", "val") if select else ("trainval",)
        found = [load_dataset(self.dataset, self.data, part, self.split) for part in parts]
        cache = self.cache or self.output / "frames"
        model, weights = self._start(found[0].classes, several_at_once(found[0]))
        for dataset in found:
            frames = FrameCache.build(dataset, cache, reach=reach(model, self.config))
        validation = found[1] if select else None
        motion = None if self.motion is None else motion_weights(load_model(model_folder(self.motion)), model)
        trainer = Trainer(model, self.config, self.output, found[0], frames, validation, self.coco, weights, motion)
        log.info("%d videos to learn from, %d steps, into %s", len(found[0]), trainer.steps, self.output)
        trainer.run()
        log.info("the model is in %s", self.output / "model")

    def _start(self, classes: tuple[str, ...], several: bool) -> tuple:
        """The network, and the weights of the model to start from, if there is one; `several` actions may be done at once."""
        from ..detection.pipeline import model_folder
        from ..model.checkpoint import load_model
        from ..model.transfer import carry_over

        start = load_model(model_folder(self.start)) if self.start is not None else None
        base = self.model
        if start is not None:
            usual = ModelConfig()
            asked = {f.name: getattr(self.model, f.name) for f in dataclasses.fields(usual)}
            base = dataclasses.replace(start.config, **{k: v for k, v in asked.items() if v != getattr(usual, k)})
        config = dataclasses.replace(base, classes=classes, actions="multilabel" if several else base.actions)
        return config, None if start is None else carry_over(start, config, self.config.seed)
