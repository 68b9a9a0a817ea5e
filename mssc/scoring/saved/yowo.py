"""The text files of YOWO and its successors: a file per frame, ``<class>_<video>_<frame>.txt``, a line per detection.

A line is ``class score x1 y1 x2 y2``, with classes and frames from 1 and boxes in pixels; an empty file is a frame in which
nothing was found. The first part of the name is the folder of the video, as in ``Basketball_v_Basketball_g01_c01_00009.txt``.
"""

import re
from pathlib import Path

import numpy as np

from ...boxes import BoxTable
from ...data.annotations.table import read_text
from ...files import visible
from ...structures import Detections, InputError
from .checks import Known, build, finite, whole


def read_yowo(folder: Path, known: Known, first: int = 1) -> dict[str, dict[int, Detections]]:
    """Detections from a folder of text files.

    Raises:
        InputError: for no text file, a name or a line of another form, an unknown video, and all that `checks.build` refuses.
    """
    index = {name.replace("/", "_"): i for i, name in enumerate(known.truth)}
    heads, lines = [], []
    files = visible(folder, "*.txt")
    if not files:
        raise InputError(f"{folder} holds no text file <class>_<video>_<frame>.txt, and was not written by 'mssc evaluate'.")
    for file in files:
        match = re.fullmatch(r"(.+)_(\d+)", file.stem)
        if match is None:
            raise InputError(f"{file} is not named <class>_<video>_<frame>.txt, as YOWO does; leave it out.")
        if match[1] not in index:
            raise InputError(f"{file} is of the unknown video '{match[1]}'; was it made for another data set or part?")
        for number, line in enumerate(read_text(file).splitlines(), 1):
            cells = line.split()
            if not cells:
                continue
            if len(cells) != 6:
                raise InputError(f"{file}, line {number} has {len(cells)} columns; it must have 6: class score x1 y1 x2 y2.")
            try:
                lines.append([float(cell) for cell in cells])
            except ValueError:
                raise InputError(f"{file}, line {number} is {line!r}; its 6 columns must be numbers.") from None
            heads.append((index[match[1]], int(match[2])))
    rows, places = np.array(lines).reshape(-1, 6), np.array(heads, np.int64).reshape(-1, 2)
    where = str(folder)
    finite(rows, where)
    label = whole(rows[:, 0], "the class", where)
    if label.size and label.min() < 1:
        raise InputError(f"{where}: class {label.min()}, but in YOWO's files classes are counted from 1.")
    return build(places[:, 0], BoxTable(places[:, 1], label - 1, rows[:, 2:], rows[:, 1]), known, first, where)
