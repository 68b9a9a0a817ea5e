"""ACT's layout, which MOC and its successors share: an array of 8 columns, as .npy or in a pickle.

Columns: index of the video in the list of the part, frame from 1, class from 0, score, x1, y1, x2, y2 in pixels. A pickle may
hold, instead, ``{video: {frame: {class: (n, 5) array of x1, y1, x2, y2, score}}}``.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ...boxes import BoxTable
from ...data import plain_pickle
from ...files import undamaged
from ...structures import Detections, InputError
from .checks import Known, build, finite, whole


def read_act(path: Path, known: Known, first: int = 1) -> dict[str, dict[int, Detections]]:
    """Detections from one file; nothing that a pickle may hold besides arrays and plain containers is executed.

    Raises:
        InputError: for an unreadable file, another layout, and all that `checks.build` refuses.
    """
    content = _load(path)
    if isinstance(content, list | tuple) and len(content) == 1:
        content = content[0]
    rows = _from_dict(content, known, path) if isinstance(content, dict) else content
    try:
        rows = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{path} holds a {type(content).__name__}, not an array of numbers; see the layouts that are read."
        ) from None
    if rows.size == 0:
        raise InputError(f"{path} holds no detection at all; it cannot be scored.")
    if rows.ndim != 2 or rows.shape[1] != 8:
        raise InputError(f"{path} has shape {rows.shape}; it must be (N, 8): video, frame, class, score, x1, y1, x2, y2.")
    where = str(path)
    finite(rows, where)
    video, frame, label = (whole(rows[:, i], what, where) for i, what in enumerate(("the video", "the frame", "the class")))
    return build(video, BoxTable(frame, label, rows[:, 4:], rows[:, 3]), known, first, where)


def _load(path: Path) -> Any:
    if path.suffix.lower() != ".npy":
        return plain_pickle.load(path)
    with undamaged(path, "it must be an array of numbers; write it again"):
        return np.load(path, allow_pickle=False)


def _from_dict(content: dict, known: Known, path: Path) -> np.ndarray:
    index = {name: i for i, name in enumerate(known.truth)}
    unknown = [name for name in content if name not in index]
    if unknown:
        raise InputError(
            f"{path} has results for {len(unknown)} unknown videos, e.g. {unknown[0]!r}; names must match the truth's."
        )
    parts = [np.zeros((0, 8))]
    for name, frames in content.items():
        for frame, classes in _items(frames, f"{path}: {name!r}"):
            for label, rows in _items(classes, f"{path}: {name!r}, frame {frame}"):
                rows = np.asarray(rows, dtype=np.float64)
                if rows.size and (rows.ndim != 2 or rows.shape[1] != 5):
                    raise InputError(f"{path}: {name!r}, frame {frame}, class {label} has shape {rows.shape}; it must be (n, 5).")
                rows = rows.reshape(-1, 5)
                head = np.tile([index[name], frame, label], (len(rows), 1))
                parts.append(np.column_stack([head, rows[:, 4], rows[:, :4]]))
    return np.concatenate(parts)


def _items(value: Any, where: str) -> list[tuple[Any, Any]]:
    if not isinstance(value, dict) or not all(isinstance(key, int | np.integer) for key in value):
        raise InputError(f"{where} is a {type(value).__name__}; it must be a dictionary with numbers as keys.")
    return list(value.items())
