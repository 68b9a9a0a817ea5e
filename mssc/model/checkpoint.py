"""Models on disk: a folder with ``model.safetensors`` (tensors only, nothing that could run), ``config.json`` and a card."""

import contextlib
import json
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..files import explained, part_file, read_json, undamaged
from ..structures import InputError
from .layers import ConvBlock
from .mssc import MSSC
from .shipped import ABOUT, CONFIG, EARLIER_PERSON, WEIGHTS, about_of, load_config, model_folder

log = logging.getLogger(__name__)


def save_model(model: MSSC, folder: Path, about: dict | None = None) -> None:
    """Write a model. The files are written under other names first: if that fails, those of an earlier model stay as they were.

    Args:
        model: its weights and config are saved; not one whose BatchNorms are folded.
        folder: made if missing.
        about: more to tell, kept beside the config as ``about.json``; without it, that of an earlier model there is removed.

    Raises:
        InputError: if the folder cannot be written.
        ValueError: if the model's BatchNorms are folded: its weights would not fit its config.
    """
    if any(isinstance(block, ConvBlock) and isinstance(block.bn, nn.Identity) for block in model.modules()):
        raise ValueError("the model's BatchNorms are folded; save it before fold_batch_norms.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    texts = {CONFIG: model.config.to_json()} | ({ABOUT: json.dumps(about, indent=2)} if about else {})
    with contextlib.ExitStack() as stack:
        stack.enter_context(explained(folder, SafetensorError))
        parts = {name: stack.enter_context(part_file(folder / name)) for name in (*texts, WEIGHTS)}
        save_file(tensors, parts[WEIGHTS])
        for name, text in texts.items():
            parts[name].write_text(text, encoding="utf-8")
        parts[WEIGHTS].chmod(parts[CONFIG].stat().st_mode)  # safetensors lets nobody else read it
    if not about:
        with explained(folder):
            (folder / ABOUT).unlink(missing_ok=True)


def load_model(name: str | Path) -> MSSC:
    """A model in eval mode, on the CPU. Strict: every tensor must be there, with its shape, and finite. Uses no network.

    Args:
        name: a folder, or of a model that ships, see `mssc.model.shipped.model_folder`.

    Raises:
        InputError: naming the tensors that are missing, unknown, of another shape or not finite, the file that cannot be read, or the
            models that there are.
    """
    folder = model_folder(name)
    model = MSSC(load_config(folder))
    path, again = folder / WEIGHTS, "copy the model's folder again, or train anew"
    if not path.exists():
        raise InputError(f"{folder} holds no weights: {WEIGHTS} is missing there.")
    with undamaged(path, again):
        tensors = load_file(path)
    if read_json(folder / CONFIG, again).get("person") == EARLIER_PERSON:
        log.warning(
            "%s looks for people with an earlier form of that part, which is left out; mssc train --phase person adds one.",
            folder,
        )
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("person.")}
    wanted = model.state_dict()
    for names, what in ((sorted(set(wanted) - set(tensors)), "lacks"), (sorted(set(tensors) - set(wanted)), "has unknown")):
        if names:
            raise InputError(
                f"{path} {what} {len(names)} tensors, the first {names[0]!r}; it does not fit its {CONFIG}: {again}."
            )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: {name!r} has shape {tuple(tensor.shape)}, {tuple(wanted[name].shape)} is wanted; "
                f"it does not fit its {CONFIG}: {again}."
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name!r} contains NaN or infinity; {again}.")
    model.load_state_dict(tensors)
    model.about = about_of(folder)
    return model.eval()
