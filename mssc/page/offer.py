"""The models that the page offers, and how they run: one copy of each in memory, for all visitors."""

import ctypes
import html
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

try:
    import spaces  # type: ignore[import-not-found]  # see app.py
except ImportError:
    spaces = None

import torch

from ..detection import pipeline
from ..model.checkpoint import load_config
from ..model.mssc import MSSC

GPU_SECONDS = 120  # for which a visitor's call may hold a lent GPU
Function = TypeVar("Function", bound=Callable[..., Any])

OWN: dict[str, Path] = {}
"""Models that were named on the command line: names on the page, and folders, which the page does not show."""


def on_gpu(function: Function) -> Function:
    """Let a function or generator of plain values run on a lent GPU; elsewhere the function itself."""
    return spaces.GPU(duration=GPU_SECONDS)(function) if spaces is not None else function


def few_arenas() -> None:
    """Let glibc's threads share their memory. Every step of a visitor's work may run in another thread of the server, and each thread would
    keep a network's worth of freed blocks for itself. Nothing happens on other systems."""
    if platform.system() == "Linux":
        try:
            arena_max, arenas = -8, 2
            ctypes.CDLL("libc.so.6").mallopt(arena_max, arenas)
        except (OSError, AttributeError):
            return


def add_model(folder: Path) -> str:
    """Offer a model on the page, beside those that ship.

    Returns:
        Its name there: that of the folder, or of the run if the folder is a run's ``model``; numbered if it is taken.

    Raises:
        InputError: if the folder holds no model.
    """
    load_config(folder)
    folder = folder.resolve()
    name = wanted = folder.parent.name if folder.name == "model" else folder.name
    number = 2
    while OWN.get(name, folder) != folder:
        name, number = f"{wanted} {number}", number + 1
    OWN[name] = folder
    return name


def names() -> list[str]:
    """The models on offer, those of the command line first."""
    return [*OWN, *(name for name in sorted(pipeline.available_models()) if name not in OWN)]


def folder_of(name: str) -> str | Path:
    """What `mssc.detection.pipeline` knows a model on offer by."""
    return OWN.get(name, name)


def ready(name: str) -> MSSC:
    """The model, on the GPU if there is one.

    Raises:
        InputError: see `mssc.detection.pipeline.load_for_detection`.
    """
    return pipeline.load_for_detection(folder_of(name)).to("cuda" if torch.cuda.is_available() else "cpu")


def classes_of(name: str) -> tuple[str, ...]:
    """The actions that a model knows."""
    return load_config((pipeline.available_models() | OWN)[name]).classes


def threshold_of(name: str) -> float:
    """A model's usual threshold."""
    return round(pipeline.default_threshold(folder_of(name)), 2)


def about(model: str) -> tuple[float, str]:
    """A model's usual threshold, and a sentence on what it can recognise."""
    classes = classes_of(model)
    known = ", ".join(classes)
    return threshold_of(model), f"Recognises {len(classes)} actions: {html.escape(known)}."
