"""Recipes: models that take several training runs, each a stage that starts from what an earlier one gave.

A stage with several seeds gives the mean of their weights, with BatchNorm statistics of its own ("model soups", Wortsman et al., 2022).
All stages lie in one folder, `<stage>/seed-<n>/` each. A recipe that was stopped goes on where it was, between stages too.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig, TrainConfig
from ..data.cache import FrameCache
from ..data.catalogue import Name, several_at_once
from ..data.clips import BatchOrder, ClipDataset, collate, reach
from ..data.dataset import Dataset
from ..detection.detector import prepare
from ..files import read_json, write_whole
from ..model.checkpoint import load_model, save_model
from ..model.mssc import MSSC
from ..model.shipped import learnt
from ..model.transfer import carry_over, flow_alone
from ..scoring.run import versions
from ..structures import InputError
from .loop import Trainer, validate
from .people import frames_to_learn

log = logging.getLogger(__name__)

DONE = "done.json"
HARDWARE = ("workers", "precision", "checkpoint_minutes")
"""Options of a run that say how it is computed here. A recipe leaves them to who follows it."""
AVERAGED_VIDEOS = 64
STATISTICS_BATCHES = 64  # that BatchNorm statistics of averaged weights are measured on


@dataclass(frozen=True)
class Stage:
    """One training run, or several that are averaged.

    Attributes:
        name: of its folder.
        train: changes to `TrainConfig`.
        model: changes to the recipe's network from this stage on.
        start: the stage to start from, "coco", or "nothing". What the network has that the earlier one had not is new.
        seeds: of the runs. Only runs that start from the same trained weights can be averaged.
        all_videos: learn from the validation videos as well, and keep the last weights instead of the best.
    """

    name: str
    train: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    start: str = "coco"
    seeds: tuple[int, ...] = (0,)
    all_videos: bool = False


@dataclass(frozen=True)
class Recipe:
    """How a model is made.

    Attributes:
        dataset: by whose name it is read.
        classes: that it must have.
        stages: in order.
        model: changes to `ModelConfig`.

    Raises:
        ValueError: if a stage starts from one that is not before it, or averages runs of different random weights.
    """

    dataset: Name
    classes: tuple[str, ...]
    stages: tuple[Stage, ...]
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {"coco", "nothing"}
        for stage in self.stages:
            if stage.start not in known or stage.name in known:
                raise ValueError(f"stage {stage.name!r} starts from {stage.start!r}; known before it are {sorted(known)}.")
            if len(stage.seeds) > 1 and stage.start in ("coco", "nothing"):
                raise ValueError(f"stage {stage.name!r} averages runs that start from different random weights.")
            known.add(stage.name)

    def described(self) -> dict:
        """As plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _on_all_videos(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The same stages, learning from the validation videos as well."""
    known = {stage.name for stage in stages}
    return tuple(
        dataclasses.replace(
            stage, name=f"all-{stage.name}", start=f"all-{stage.start}" if stage.start in known else stage.start, all_videos=True
        )
        for stage in stages
    )


_JHMDB = (
    "brush hair, catch, clap, climb stairs, golf, jump, kick ball, pick, pour, pullup, push, run, shoot ball, shoot bow, "
    "shoot gun, sit, stand, swing baseball, throw, walk, wave"
)
JHMDB_CLASSES = tuple(_JHMDB.split(", "))
GENTLE = ("image.", "video.backbone.", "head.stems.", "head.reg_convs.", "head.boxes.")
"""What has learnt before the paths learn together."""
ACTIONS = (
    Stage(
        "video",
        {"phase": "video", "epochs": 47, "batch": 16, "keys": 8, "learning_rate": 1.5e-3, "mixup": 0.2, "smallest_crop": 0.35},
        {"backbone3d": "causal_cspdarknet_nano"},
    ),
    Stage("together", {"epochs": 50, "batch": 16, "mixup": 0.3, "smallest_crop": 0.35, "gentle": GENTLE}, start="video"),
    Stage(
        "flow",
        {"phase": "video", "epochs": 12, "keys": 8, "learning_rate": 1.5e-3, "mixup": 0.1, "smallest_crop": 0.35},
        {"backbone3d": "causal_flow", "rgb_dropout": 0.0},
        start="together",
    ),
    Stage(
        "again",
        {"epochs": 3, "learning_rate": 5e-4, "mixup": 0.3, "smallest_crop": 0.35, "gentle": GENTLE, "heads": ()},
        start="flow",
    ),
    Stage(
        "narrow",
        {
            "phase": "fusion",
            "epochs": 12,
            "keys": 4,
            "learning_rate": 3e-3,
            "mixup": 0.0,
            "smallest_crop": 0.35,
            "validate_every": 12,
        },
        {"fusion_reduction": 4, "fusion_residual": "none"},
        start="again",
    ),
)
"""Stages that are validated; then the same on all videos."""
PEOPLE = {"phase": "person", "epochs": 3, "batch": 8, "learning_rate": 2e-5}
"""A rate far below the others': the detector of people begins as its teacher."""
TOY_CLASSES = ("circle", "bounce", "sway", "spin", "rock", "pulse")
RECIPES: dict[str, Recipe] = {
    "jhmdb": Recipe(
        "jhmdb",
        JHMDB_CLASSES,
        (
            *ACTIONS,
            *_on_all_videos(ACTIONS),
            Stage("people", PEOPLE, {"person": "detector"}, start="all-narrow", all_videos=True),
        ),
        {"fusion_reduction": 1, "fusion_residual": "part", "fusion_context": "correlation"},
    ),
    "toy": Recipe(
        "toy",
        TOY_CLASSES,
        (
            Stage("first", {"epochs": 6, "frozen": "none", "validate_every": 2}, start="nothing"),
            Stage("more", {"epochs": 2, "learning_rate": 3e-4, "frozen": "none"}, start="first", seeds=(1, 2)),
        ),
    ),
}
"""By name."""


@dataclass
class Kitchen:
    """What a recipe is followed with.

    Attributes:
        folder: of all its stages; `model/` in it is the result.
        part: reads "train", "val" or "trainval" of the data set.
        frames: folder for decoded frames.
        coco: a YOLOX-nano ONNX file.
        hardware: values of `HARDWARE`.
        cpu: leave GPUs alone.
        progress: show bars.
        stop: says when to leave; the state is then saved.
    """

    folder: Path
    part: Callable[[str], Dataset]
    frames: Path
    coco: Path | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    cpu: bool = False
    progress: bool = True
    stop: Callable[[], bool] = lambda: False


def follow(name: str, recipe: Recipe, kitchen: Kitchen) -> MSSC | None:
    """Run every stage that is not done, and write the last one's model with an account of all.

    Returns:
        The model, in eval mode; None if it was stopped.

    Raises:
        InputError: for a data set with other classes, a folder of another recipe, a missing COCO file, and all that a run refuses.
    """
    folder, training = kitchen.folder, kitchen.part("train")
    if tuple(training.classes) != recipe.classes:
        raise InputError(
            f"the recipe {name!r} is for the classes {', '.join(recipe.classes)}; {training.name} has "
            f"{', '.join(training.classes)}. Train on it with --start {name} instead."
        )
    if kitchen.coco is None and any(stage.start == "coco" for stage in recipe.stages):
        raise InputError(f"the recipe {name!r} starts from COCO weights; name a YOLOX-nano ONNX file with --coco.")
    _claim(folder, {"recipe": name, **recipe.described()})
    network = ModelConfig(classes=recipe.classes, actions="multilabel" if several_at_once(training) else "exclusive")
    network, accounts = dataclasses.replace(network, **recipe.model), []
    for number, stage in enumerate(recipe.stages, 1):
        network = dataclasses.replace(network, **stage.model)
        log.info("stage %d of %d: %s", number, len(recipe.stages), stage.name)
        account = _run(stage, network, kitchen)
        if account is None:
            return None
        accounts.append(account)
    model = load_model(folder / recipe.stages[-1].name / "model")
    validated = [account for account in accounts if account["scores"]]
    scores = validated[-1]["scores"] if validated else {}
    about = {"name": name, "data": training.name.rsplit(maxsplit=1)[0], "scores": scores}
    about |= {"learnt": sorted(learnt(folder / recipe.stages[-1].name / "model"))}
    save_model(model, folder / "model", about | {"stages": accounts, "versions": versions()})
    return model


def _claim(folder: Path, recipe: dict) -> None:
    """Refuse a folder that holds something else."""
    file = folder / "recipe.json"
    if file.exists():
        if read_json(file, "choose another folder, or delete this one") != recipe:
            raise InputError(f"{folder} holds stages of another recipe, or of an earlier form of it; choose another folder.")
    elif there := next((name for name in ("run.json", "model") if (folder / name).exists()), None):
        raise InputError(f"{folder} holds {there}, which is of no recipe; choose another folder.")
    else:
        write_whole(file, json.dumps(recipe, indent=1))


def _run(stage: Stage, network: ModelConfig, kitchen: Kitchen) -> dict | None:
    """A stage's account: its settings, seeds and scores; None if it was stopped."""
    folder = kitchen.folder / stage.name
    if (folder / DONE).exists():
        return read_json(folder / DONE, "delete it, and the stage is run again")
    config = dataclasses.replace(TrainConfig(), **{**stage.train, **kitchen.hardware})
    found = [kitchen.part(part) for part in (("trainval",) if stage.all_videos else ("train", "val"))]
    people = config.phase == "person"
    found = [frames_to_learn(dataset) for dataset in found] if people else found
    for dataset in found:
        cache = FrameCache.build(dataset, kitchen.frames, kitchen.progress, reach=0 if people else reach(network, config))
    validation = None if stage.all_videos else found[1]
    account = dataclasses.asdict(stage) | {"videos": len(found[0]), "steps": 0, "seconds": 0.0}
    for seed in stage.seeds:
        trainer = _trainer(stage, network, dataclasses.replace(config, seed=seed), found[0], cache, validation, kitchen)
        trainer.run(kitchen.stop)
        if trainer.step < trainer.steps:
            return None
        account["steps"] += trainer.steps
        account["seconds"] = round(account["seconds"] + sum(entry["seconds"] for entry in trainer.metrics()), 1)
    models = [load_model(folder / f"seed-{seed}" / "model") for seed in stage.seeds]
    model = models[0]
    if len(models) > 1:
        model = average(models).to(trainer.accelerator.device)
        measure_statistics(model, models, ClipDataset(found[0], cache, network, config), config)
    scores: dict[str, float] = {}
    if validation is not None and config.phase in ("all", "fusion"):  # in others there is no head to judge by
        scores = validate(model, validation, cache, config.validation_step)
    account["scores"] = {name: round(float(value), 4) for name, value in scores.items()}
    save_model(model, folder / "model", account | {"learnt": sorted(learnt(folder / f"seed-{stage.seeds[0]}" / "model"))})
    write_whole(folder / DONE, json.dumps(account, indent=1))
    for seed in stage.seeds:
        (folder / f"seed-{seed}" / "last.pt").unlink(missing_ok=True)
    return account


def _trainer(
    stage: Stage,
    network: ModelConfig,
    config: TrainConfig,
    training: Dataset,
    cache: FrameCache,
    validation: Dataset | None,
    kitchen: Kitchen,
) -> Trainer:
    folder, start, model = kitchen.folder / stage.name / f"seed-{config.seed}", None, None
    if stage.start not in ("coco", "nothing"):
        model = load_model(kitchen.folder / stage.start / "model")
        start = begin_from(model, network, training, cache, config.seed)
    coco = kitchen.coco if stage.start == "coco" or config.phase == "person" else None
    shown, teacher = {"progress": kitchen.progress, "cpu": kitchen.cpu}, model if config.phase == "fusion" else None
    known = () if model is None else learnt(kitchen.folder / stage.start / "model")
    return Trainer(network, config, folder, training, cache, validation, coco, start, **shown, teacher=teacher, learnt=known)


def begin_from(model: MSSC, network: ModelConfig, training: Dataset, cache: FrameCache, seed: int = 0) -> dict[str, Tensor]:
    """The weights that a stage begins with, from the model of an earlier one.

    Args:
        model: of that stage. Where its 3D path sees frames and flow, and that of the new network flow alone, it goes on without the frames.
        network: of the new stage. What it has that the earlier one had not is new.
        training: videos to learn from.
        cache: their frames.
        seed: of what is new.
    """
    if network.paths != "key" and network.backbone3d == "causal_flow" and model.config.backbone3d == "causal_cspdarknet_nano":
        model = flow_alone(model, rgb_average(model, training, cache))
    return carry_over(model, network, seed)


@torch.no_grad()
def rgb_average(model: MSSC, training: Dataset, cache: FrameCache) -> Tensor:
    """What the frames' half of a 3D path says on average over the first frames of some videos, (C,); see `flow_alone`."""
    seen: list[Tensor] = []
    chosen = training.videos[:: max(len(training) // AVERAGED_VIDEOS, 1)][:AVERAGED_VIDEOS]
    with model.get_submodule("video.before").register_forward_pre_hook(lambda _, args: seen.append(args[0].mean((0, 1, 2, 3)))):
        for video in chosen:
            frames = cache.frames(video.name, range(min(cache.length(video.name), model.config.window)))
            clip = prepare(frames, model.config.key_size).transpose(0, 1)[None]
            model.video(clip, model.video.initial_state(1), torch.zeros(1, 1, dtype=torch.int64))
    return torch.stack(seen).mean(0)[: -model.video.flow_dims]


def average(models: Sequence[MSSC]) -> MSSC:
    """A network with the mean of these networks' weights. Its BatchNorm statistics are their mean too, see `measure_statistics`."""
    states = [model.state_dict() for model in models]
    mean = MSSC(models[0].config)

    def one(name: str) -> Tensor:
        tensors = [state[name] for state in states]
        return torch.stack(tensors).mean(0) if tensors[0].is_floating_point() else tensors[0]

    mean.load_state_dict({name: one(name) for name in states[0]})
    return mean.eval()


@torch.no_grad()
def measure_statistics(model: MSSC, models: Sequence[MSSC], clips: ClipDataset, config: TrainConfig) -> None:
    """Give averaged weights BatchNorm statistics of their own: no run has seen what they make of the clips.

    Args:
        model: of `average`; changed in place.
        models: that it is the average of. Statistics that are the same in all of them are of frozen stages and stay.
        clips: of the training videos.
        config: of the stage.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)}
    others, device = [dict(one.named_modules()) for one in models], next(model.parameters()).device
    momentum = {name: layer.momentum for name, layer in layers.items()}
    for name, layer in layers.items():
        means = [other[name].get_buffer("running_mean") for other in others]
        if any(not torch.equal(means[0], mean) for mean in means):
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over batches
            layer.train()
    order = BatchOrder(len(clips), config.batch, config.seed)
    for number in range(STATISTICS_BATCHES):
        order.epoch, order.skip = divmod(number, len(clips) // order.batch)
        batch = collate([clips[item] for item in next(iter(order))], clips.cache, clips.size)
        model(batch.clip.to(device), batch.keys.to(device))
    for name, layer in layers.items():
        layer.momentum = momentum[name]
        layer.eval()
