"""Annotations of one's own videos, whatever tool they were made with, as one table."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...files import undamaged
from ...structures import InputError
from ..media import Videos, first_few, say_missing
from . import coco, cvat, label_studio, mot, table, via
from .table import Rows, write_csv

__all__ = ["KINDS", "Rows", "find", "read", "to_pixels", "write_csv"]

KINDS = "the plain csv, CVAT's XML or zip, JSON of Label Studio, VIA or COCO, VIA's csv, or tracking text (frame id x y w h)"
"""What can be read."""

LISTS = ("splits.csv", "report.json")  # the parts; what check-data wrote
TEXTS = ("labels", "tracks", "gt")


def find(root: Path) -> Path:
    """The file of annotations in a folder of one's own videos, or its folder of tracking texts.

    Raises:
        InputError: if there is none, or several.
    """
    if (root / "boxes.csv").is_file():
        return root / "boxes.csv"
    shown = [file for file in sorted(root.iterdir()) if not file.name.startswith(".") and file.name not in LISTS]
    found = [file for file in shown if file.is_file() and file.suffix.lower() in (*table.CSV[:2], ".xml", ".zip", ".json")]
    found += [folder for folder in shown if folder.is_dir() and folder.name in TEXTS and mot.files_of(folder)]
    if not found and mot.files_of(root):
        return root
    if len(found) != 1:
        names = first_few(file.name for file in found) or "only " + (first_few(file.name for file in shown) or "hidden files")
        raise InputError(f"{root} must hold one file of annotations, boxes.csv or {KINDS}; it holds {names}.")
    return found[0]


def read(path: Path, videos: Videos, first_frame: int | None = None, video: str | None = None, occluded: str = "keep") -> Rows:
    """Reads annotations of any kind that is known.

    Args:
        path: the file, or a folder of tracking texts.
        videos: that they are about; some kinds need their sizes and times.
        first_frame: what the file calls the first frame of a video, 0 or 1; None for what is usual or can be told.
        video: name of the video, if the file does not say or says another.
        occluded: "keep", or "drop" boxes that CVAT marks so.

    Raises:
        InputError: for another kind, for what the readers refuse, and for values of which they make nothing, such as a list for an id.
    """
    if not path.exists():
        raise InputError(f"{path} is not there; name {KINDS}.")
    try:
        with np.errstate(invalid="ignore"):  # what is no number is refused in the end
            return _read(path, videos, first_frame, video, occluded)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} holds what no tool writes there ({type(error).__name__}: {error}); export it again.") from None


def _read(path: Path, videos: Videos, first_frame: int | None, video: str | None, occluded: str) -> Rows:
    kind = path.suffix.lower()
    if (path.is_dir() or kind == ".txt") and mot.files_of(path):
        return mot.read(path, videos, first_frame, video)
    if kind in table.CSV and path.is_file():
        text = table.read_text(path)
        return via.read_csv(text, path, videos, video) if via.is_csv(text) else table.read_csv(path, first_frame or 0)
    if kind in (".xml", ".zip"):
        return cvat.read(path, occluded, video)
    if kind == ".json":
        with undamaged(path, "export it again"):
            content = json.loads(table.read_text(path))
        if label_studio.is_export(content):
            return label_studio.read(content, path, videos, first_frame, video)
        if via.is_project(content):
            return via.read_project(content, path, videos, video)
        if isinstance(content, dict) and "annotations" in content:
            return coco.read(content, path, videos, first_frame, video)
    raise InputError(f"{path} is of an unknown kind; give {KINDS}.")


def to_pixels(rows: Rows, videos: Videos) -> Rows:
    """Boxes that are shares of the frame, in pixels of the videos.

    Raises:
        InputError: if they are none, or a video is not there.
    """
    if not rows.normalised:
        raise InputError(f"{rows.source} has boxes up to {rows.boxes.max():g}, so they are no shares of the frame.")
    names = list(dict.fromkeys(rows.video))
    sizes = {name: videos.size(name, rows.source) for name in names}
    absent = [name for name in names if videos.look(name) is None]
    if absent:
        raise InputError(say_missing(absent, len(names), str(videos.folder)) + "; add them or remove their rows.")
    return replace(rows, boxes=rows.boxes * np.array([sizes[name] * 2 for name in rows.video]))
