"""What the commands' options share: how they are written, and the fields of the two configs as options in groups."""

import dataclasses
import inspect
import re
import shlex
import sys
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..config import ModelConfig, TrainConfig
from ..data.catalogue import Name
from ..structures import InputError

CONFIG = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)
"""How every command is parsed: nobody types None, and no flag has a twin that says no."""
DIR = tyro.conf.arg(metavar="DIR")
OUTPUT = tyro.conf.arg(aliases=["-o"], metavar="DIR")
MODEL = tyro.conf.arg(metavar="MODEL")
FLAG = tyro.conf.arg(help_behavior_hint="")
WHERE = "Where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one."
RecipeName = Literal["jhmdb", "toy"]
Device = Annotated[str, tyro.conf.arg(metavar="DEVICE", help=WHERE)]
HOW = "What computes a video's network: torch, onnx, openvino, or openvino-bf16, which rounds; auto takes the fastest that does not round."
Runtime = Annotated[str, tyro.conf.arg(metavar="RUNTIME", help=HOW)]
RARE = (tyro.conf.arg(name="rarely used"), tyro.conf.OmitArgPrefixes)
"""For a dataclass whose options are shown in the last group of a command's help."""

USUAL_RUN = ("epochs", "batch", "learning_rate", "precision", "workers", "seed")
USUAL_NETWORK = ("key_size", "clip_size", "motion", "fusion", "backbone2d", "backbone3d")
NO_OPTIONS = ("classes", "version")  # what the data set and the package decide


def default(words: str) -> object:
    """Says in words what is taken where an option is not given."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {words})")


def command_line() -> str:
    """What was typed, to be written beside the results; without the shard, which is of no matter once all are there."""
    words = sys.argv[1:]
    pairs = zip(["", *words], words, strict=False)
    return shlex.join(["mssc", *(word for before, word in pairs if before != "--shard" and not word.startswith("--shard"))])


def _readable(value: str) -> str:
    """A default as people write it: 0.3333333333333333 is 0.3333."""
    return "(default: " + re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.4g}", value or "none") + ")"


def meanings(config: type) -> dict[str, str]:
    """What the fields of a config mean: the comment behind each."""
    return dict(re.findall(r"^    (\w+): .*(?:\n     .*)?  # (.+)$", inspect.getsource(config), re.MULTILINE))


def _options(config: type, names: list[str], prefix: str) -> type:
    """A dataclass of some of a config's fields."""
    comments, hints, fields = meanings(config), typing.get_type_hints(config), []
    for item in dataclasses.fields(config):
        if item.name in names:
            flag, text = prefix + item.name.replace("_", "-"), comments.get(item.name, "")
            text = text[:1].upper() + text[1:] + "."
            shown = tyro.conf.arg(name=flag, prefix_name=False, help=text, help_behavior_hint=_readable)
            fields.append((item.name, Annotated[hints[item.name], shown], item.default))
    return dataclasses.make_dataclass(config.__name__, fields, frozen=True, namespace={"__doc__": ""})


def _split(config: type, usual: tuple[str, ...], prefix: str = "") -> tuple[type, type]:
    rest = [item.name for item in dataclasses.fields(config) if item.name not in (*usual, *NO_OPTIONS)]
    return _options(config, list(usual), prefix), _options(config, rest, prefix)


if TYPE_CHECKING:
    RunOptions = TrainConfig
    _RareRun = TrainConfig
    _Network = ModelConfig
    _RareNetwork = ModelConfig
else:
    RunOptions, _RareRun = _split(TrainConfig, USUAL_RUN)
    _Network, _RareNetwork = _split(ModelConfig, USUAL_NETWORK, "model.")


@dataclass(frozen=True, kw_only=True)
class OnData:
    """Which data set a command is about."""

    dataset: Name
    """The toy set is generated where it is not there; custom are your own videos."""
    data: Annotated[Path, DIR] = Path("data")
    """Folder of the data set."""
    split: int = 1
    """Of J-HMDB: 1, 2 or 3."""


@dataclass(frozen=True, kw_only=True)
class Settings(OnData):
    """A run and its network, as options in three groups: the run, the network, and what is rarely used of both."""

    run_options: Annotated[RunOptions, tyro.conf.arg(name="run")] = field(default_factory=RunOptions)
    network_options: Annotated[_Network, tyro.conf.arg(name="network")] = field(default_factory=_Network)
    rare_run_options: Annotated[_RareRun, *RARE] = field(default_factory=_RareRun)
    rare_network_options: Annotated[_RareNetwork, *RARE] = field(default_factory=_RareNetwork)

    def refuse_own(self, recipe: str, more: tuple[str, ...] = ()) -> None:
        """Refuse options that a recipe brings itself; those of the hardware are its follower's."""
        from ..training.recipes import HARDWARE

        pairs = (("", self.config, TrainConfig()), ("model.", self.model, ModelConfig()))
        given = {
            place + name
            for place, config, usual in pairs
            for name, value in vars(config).items()
            if value != getattr(usual, name)
        }
        if own := sorted((given | {*more}) - {*HARDWARE}):
            flags = ", ".join("--" + name.replace("_", "-") for name in own)
            raise InputError(f"the recipe {recipe!r} brings its own options; leave out {flags}.")

    @property
    def config(self) -> TrainConfig:
        """The run. Raises `InputError` for values that do not fit."""
        return TrainConfig(**vars(self.run_options), **vars(self.rare_run_options))

    @property
    def model(self) -> ModelConfig:
        """The network; its classes are the data set's. Raises `InputError` for values that do not fit."""
        return ModelConfig(**vars(self.network_options), **vars(self.rare_network_options))
