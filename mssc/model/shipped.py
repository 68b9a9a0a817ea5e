"""Models as folders: those that ship with the package, by name, and what can be told of a model without its network."""

import hashlib
import sysconfig
from pathlib import Path

from ..config import ModelConfig
from ..files import read_json, undamaged
from ..structures import InputError

WEIGHTS, CONFIG, ABOUT = "model.safetensors", "config.json", "about.json"
INTERVENTIONS = "interventions.json"  # what each part is worth, see `mssc.analysis.stored`
MODELS = Path(__file__).resolve().parents[2] / "assets" / "models"
if not MODELS.is_dir():  # not a checkout: a wheel was installed
    MODELS = Path(sysconfig.get_path("data")) / "share" / "mssc" / "models"
DEFAULT_THRESHOLD = 0.3
EARLIER_PERSON = "head"
"""What a config called the part that looks for people while it read the image path's maps."""


def available_models() -> dict[str, Path]:
    """Names and folders of the models that ship with the package."""
    return {path.parent.name: path.parent for path in sorted(MODELS.glob(f"*/{CONFIG}"))}


def default_model() -> str:
    """The model for a video of which nothing is known.

    Raises:
        InputError: if none ships.
    """
    models = available_models()
    if not models:
        raise InputError(f"{MODELS} holds no model; train one with 'mssc train', or copy one there.")
    return "jhmdb" if "jhmdb" in models else next(iter(models))


def model_folder(name: str | Path) -> Path:
    """Where a model is: "default", a name of `available_models`, or a folder.

    Raises:
        InputError: naming the models there are.
    """
    models = available_models()
    if str(name) == "default":
        return models[default_model()]
    if str(name) in models:
        return models[str(name)]
    folder = Path(name)
    if folder.is_dir():
        return folder
    raise InputError(f"there is no model {str(name)!r}; give a folder with {CONFIG}, or one of: {', '.join(models) or '(none)'}.")


def name_of(folder: Path) -> str:
    """What a model is called: as its folder, or as the run if that is a run's ``model``."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == "model" else folder.name


def load_config(folder: Path) -> ModelConfig:
    """The config of a model's folder.

    Raises:
        InputError: if it is missing, no JSON, or of another version.
    """
    path = folder / CONFIG
    if not path.exists():
        raise InputError(f"{folder} holds no model: {CONFIG} is missing there.")
    values = read_json(path, "copy the model's folder again")
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {type(values).__name__}, not a config; copy the model's folder again.")
    if values.get("person") == EARLIER_PERSON:
        values = {**values, "person": "none"}
    return ModelConfig.from_mapping(values)


def about_of(folder: Path) -> dict:
    """What a model's folder tells of it beside the config; nothing where there is no such file.

    Raises:
        InputError: if that is damaged.
    """
    path, way_out = folder / ABOUT, "copy the model's folder again"
    if not path.exists():
        return {}
    with undamaged(path, way_out):
        return {**read_json(path, way_out)}


def default_threshold(name: str | Path) -> float:
    """The score from which this model's tubes are shown, chosen on its validation videos.

    Raises:
        InputError: if the file that says it is damaged.
    """
    folder = model_folder(name)
    with undamaged(folder / ABOUT, "copy the model's folder again"):
        return float(about_of(folder).get("threshold", DEFAULT_THRESHOLD))


def learnt(folder: Path) -> set[str]:
    """The marks of the videos that a model learnt from, see `mssc.data.Dataset.marks`; none where nobody noted them.

    Raises:
        InputError: if the file that tells them is damaged.
    """
    with undamaged(folder / ABOUT, "copy the model's folder again"):
        return set(about_of(folder).get("learnt", ()))


def model_hash(folder: Path) -> str:
    """The first 12 hex digits of `weights_hash`."""
    return weights_hash(folder)[:12]


def weights_hash(folder: Path) -> str:
    """SHA-256 of a model's weights.

    Raises:
        InputError: if they cannot be read.
    """
    with undamaged(folder / WEIGHTS, "copy the model's folder again"):
        return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
