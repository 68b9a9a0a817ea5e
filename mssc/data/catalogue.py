"""Data sets by name: one function that reads any part of any of them."""

from pathlib import Path
from typing import Literal, get_args

from ..structures import InputError
from .dataset import Dataset

Name = Literal["jhmdb", "ucf101-24", "ava", "toy", "custom"]
Part = Literal["train", "val", "trainval", "test"]
NAMES: tuple[str, ...] = get_args(Name)
TOY_SIZES = {"train": 240, "val": 60, "trainval": 300, "test": 60}


def load_dataset(name: str, root: str | Path, part: str = "train", split: int = 1, missing: str | None = None) -> Dataset:
    """Reads a part of a data set; the toy set is made where it is not there.

    Args:
        name: one of `NAMES`.
        root: its folder, or one that has it as a folder of this name (jhmdb, ucf101-24, ava).
        part: "train", "val", "trainval" or "test". AVA's "trainval" is its "train": its "val" is what everybody scores on.
        split: of J-HMDB, 1 to 3.
        missing: "skip" videos that are not there with a warning, or make it an "error"; None for the reader's own way.

    Raises:
        InputError: for an unknown name, and for all that the readers refuse.
    """
    # Readers are imported when asked for: some bring libraries that the others do not need.
    root = Path(root)
    inside = root / name if name in ("jhmdb", "ucf101-24", "ava") and (root / name).is_dir() else root
    if name not in NAMES:
        raise InputError(f"there is no data set {name!r}; use one of {', '.join(NAMES)}.")
    if split != 1 and name != "jhmdb":
        raise InputError(f"split {split} of {name}: only jhmdb has several; use split 1.")
    if name == "jhmdb":
        from . import jhmdb

        return jhmdb.load(inside, split, part, missing or "error")
    if name == "ucf101-24":
        from . import ucf101_24

        return ucf101_24.load(inside, part, split, missing or "skip")
    if name == "ava":
        from . import ava

        return ava.load(inside, "train" if part == "trainval" else part, missing=missing or "skip")
    if name == "toy":
        from . import toy

        if part not in TOY_SIZES:
            raise InputError(f"part {part!r} of the toy set; use one of {', '.join(TOY_SIZES)}.")
        return toy.generate(root / part, TOY_SIZES[part], part="train" if part == "trainval" else part)
    from . import custom

    return custom.load(root, part)


def several_at_once(dataset: Dataset) -> bool:
    """Whether somebody does two actions at once: equal boxes of different classes in a frame."""
    for video in dataset.videos:
        seen: dict[tuple[int, bytes], int] = {}
        for tube in video.tubes:
            for offset in range(0, len(tube), max(1, len(tube) // 8)):  # a few frames of each tell
                key = (tube.start + offset, tube.boxes[offset].tobytes())
                if seen.setdefault(key, tube.label) != tube.label:
                    return True
    return False
