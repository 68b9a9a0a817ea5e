"""Models on disk: a folder with ``model.safetensors`` (tensors only, nothing that could run), ``config.json`` and a card."""

import json
import os
import uuid
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..config import ModelConfig
from ..structures import InputError
from .mssc import MSSC

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_model(model: MSSC, folder: Path, about: dict | None = None) -> None:
    """Write a model; each file is whole or not there.

    Args:
        model: its weights and config are saved.
        folder: made if missing.
        about: more to tell, kept beside the config as ``about.json``.

    Raises:
        InputError: if the folder cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{uuid.uuid4().hex[:8]}.part"
        try:
            save_file(tensors, part)
            os.replace(part, folder / WEIGHTS)
            for name, text in ((CONFIG, model.config.to_json()), ("about.json", json.dumps(about, indent=2) if about else "")):
                if text:
                    part.write_text(text)
                    os.replace(part, folder / name)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"the model cannot be written to {folder}: {error.strerror or error}; choose another folder.") from error


def load_config(folder: Path) -> ModelConfig:
    """The config of a model's folder.

    Raises:
        InputError: if it is missing, no JSON, or of another version.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder} holds no model: {CONFIG} is missing there.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); copy the model's folder again.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {type(values).__name__}, not a config; copy the model's folder again.")
    return ModelConfig.from_mapping(values)


def load_model(folder: Path) -> MSSC:
    """A model in eval mode, on the CPU. Strict: every tensor must be there, with its shape, and finite. Uses no network.

    Raises:
        InputError: naming the tensors that are missing, unknown, of another shape or not finite, or the file that cannot be read.
    """
    model = MSSC(load_config(folder))
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no weights: {WEIGHTS} is missing there.") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); copy the model's folder again.") from None
    wanted = model.state_dict()
    again = "copy the model's folder again, or train anew"
    for names, what in ((sorted(set(wanted) - set(tensors)), "lacks"), (sorted(set(tensors) - set(wanted)), "has unknown")):
        if names:
            raise InputError(f"{path} {what} {len(names)} tensors, the first {names[0]!r}; it does not fit its {CONFIG}: {again}.")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)}, {tuple(wanted[name].shape)} is wanted; "
                f"it does not fit its {CONFIG}: {again}."
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name!r} contains NaN or infinity; {again}.")
    model.load_state_dict(tensors)
    return model.eval()
