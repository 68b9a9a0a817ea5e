"""What the page offers: examples, and models, of which one copy is in memory for all visitors."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

try:
    import spaces  # type: ignore[import-not-found]  # there on Hugging Face Spaces alone, see app.py
except ImportError:
    spaces = None

from ..detection.detector import Detector, shared_detector
from ..model import shipped
from ..model.shipped import load_config
from ..video.drawing import class_colours, hex_colour, ink

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
EXAMPLES = ASSETS / "examples"
EXAMPLE_FILES = {"toy.mp4": "one of them acts", "toy-two.mp4": "two of them act"}
EXAMPLE_MODEL = "toy"
GPU_SECONDS = 120  # for which a visitor's call may hold a lent GPU
Function = TypeVar("Function", bound=Callable[..., Any])

OWN: dict[str, Path] = {}
"""Models that were named on the command line: names on the page, and folders, which the page does not show."""


def on_gpu(function: Function) -> Function:
    """Let a function or generator of plain values run on a lent GPU; elsewhere the function itself."""
    return spaces.GPU(duration=GPU_SECONDS)(function) if spaces is not None else function


def add_model(folder: Path) -> str:
    """Offer a model on the page, beside those that ship.

    Returns:
        Its name there, see `mssc.model.shipped.name_of`; numbered if it is taken.

    Raises:
        InputError: if the folder holds no model.
    """
    load_config(folder)
    folder = folder.resolve()
    name = wanted = shipped.name_of(folder)
    number = 2
    while OWN.get(name, folder) != folder:
        name, number = f"{wanted} {number}", number + 1
    OWN[name] = folder
    return name


def names() -> list[str]:
    """The models on offer, those of the command line first."""
    return [*OWN, *(name for name in sorted(shipped.available_models()) if name not in OWN)]


def folder_of(name: str) -> Path:
    """Of a model on offer."""
    return (shipped.available_models() | OWN)[name]


def ready(name: str, lent: bool = False) -> Detector:
    """The model, on the GPU if there is one.

    Args:
        name: of the model, on the page.
        lent: whether this is called inside of `on_gpu`; elsewhere, where GPUs are lent, there is none.

    Raises:
        InputError: see `Detector.load`.
    """
    return shared_detector(folder_of(name), "cpu" if spaces is not None and not lent else "auto")


def classes_of(name: str) -> tuple[str, ...]:
    """The actions that a model knows."""
    return load_config(folder_of(name)).classes


def threshold_of(name: str) -> float:
    """A model's usual threshold."""
    return round(shipped.default_threshold(folder_of(name)), 2)


def offered(name: str) -> dict[str, Any]:
    """A model as the page and its clients know it: name, usual threshold, actions, and the licence that its card states."""
    card = folder_of(name) / "README.md"
    stated = re.search(r"^\| licence \| (.+?) \|$", card.read_text(), re.M) if card.exists() else None
    return {
        "name": name,
        "threshold": threshold_of(name),
        "actions": list(classes_of(name)),
        "licence": stated[1] if stated else "",
    }


def painted(name: str) -> dict[str, Any]:
    """`offered`, with the colour of each action and that of letters on it, and whether the model looks for people."""
    config = load_config(folder_of(name))
    colours = [[hex_colour(colour), hex_colour(ink(colour))] for colour in class_colours(config.classes)]
    return offered(name) | {"colours": colours, "people": config.person != "none"}
