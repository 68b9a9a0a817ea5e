"""AVA v2.1 and v2.2: films of which one frame a second is annotated, with all persons and all that they do.

Read are the files as published, in one folder or in its folder ``annotations``::

    ava_train_v2.2.csv                                   video,second,x1,y1,x2,y2,action[,person]; boxes are shares of the frame
    ava_action_list_v2.2_for_activitynet_2019.pbtxt      the 60 actions of the task
    ava_train_excluded_timestamps_v2.2.csv               video,second: key frames that do not count
    videos/<video>.mp4                                   whole films, their quarter of an hour from second 900 on, or clips from second 0
    frames/<video>/<video>_000001.jpg                    that quarter of an hour at 30 frames a second, instead of videos

A key frame is the frame at its second, at the film's true frame rate. What happens between key frames is not annotated, so a
`Video` names its key frames as `labelled`. A second without any row is left out too: the lists do not say that it is empty.
"""

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..files import visible
from ..structures import InputError, Tube
from . import media
from .annotations.table import numbers_of, read_text
from .dataset import Dataset, Video
from .decoding import counting, image_files
from .media import Media, check_missing, find_clips, first_few

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
FIRST_SECOND = 900
"""Where the annotated quarter of an hour begins in a film."""
SEGMENT_SECONDS = 1000
"""A video that is shorter is that quarter of an hour alone, unless seconds before it are annotated: then it is a clip of one's own."""
FRAMES_RATE = Fraction(30)
COLUMNS = ("the second", "x1", "y1", "x2", "y2", "the action", "the person")
VERSIONS = ("v2.2", "v2.1", "v1.0")


@dataclass(frozen=True, eq=False)
class AvaRows:
    """Annotated boxes, one row per box and action.

    Attributes:
        videos: their names, alphabetically.
        video: (N,) int64, index into `videos`.
        second: (N,) int64, since the film's beginning.
        boxes: (N, 4) float64, x1, y1, x2, y2 as shares of the frame, 0 to 1.
        action: (N,) int64, AVA's own numbers, from 1.
        person: (N,) int64, one per person and film; -1 where the file does not say.
    """

    videos: tuple[str, ...]
    video: np.ndarray
    second: np.ndarray
    boxes: np.ndarray
    action: np.ndarray
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.video)

    def take(self, chosen: np.ndarray) -> "AvaRows":
        """Some of the rows, (N,) bool or indices, of the same `videos`."""
        names = ("video", "second", "boxes", "action", "person")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def without(self, excluded: Iterable[tuple[str, int]]) -> "AvaRows":
        """The rows of all but these (video, second)."""
        index = {name: number for number, name in enumerate(self.videos)}
        keys = [index[video] * 1_000_000 + second for video, second in excluded if video in index]
        return self.take(~np.isin(self.video * 1_000_000 + self.second, keys))


def read_classes(path: str | Path) -> dict[int, str]:
    """AVA's action numbers and names from a pbtxt, of either kind (``item {name id}``, ``label {name label_id}``).

    Raises:
        InputError: for a file that lists none, or a number or name twice.
    """
    path = Path(path)
    blocks = re.findall(r"\b(?:item|label)\s*\{([^{}]*)\}", read_text(path))
    found = []
    for number, block in enumerate(blocks, 1):
        name, index = re.search(r'\bname:\s*"([^"]+)"', block), re.search(r"\b(?:label_)?id:\s*(\d+)", block)
        if name is None or index is None:
            raise InputError(f"{path}: entry {number} lacks a name or an id: {' '.join(block.split())!r}.")
        found.append((int(index[1]), name[1]))
    if not found:
        raise InputError(f'{path} lists no action; its entries must be: item {{ name: "walk" id: 14 }}.')
    for values in zip(*found, strict=True):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise InputError(f"{path} lists {twice[0]!r} more than once.")
    return dict(sorted(found))


def read_excluded(path: str | Path) -> set[tuple[str, int]]:
    """(video, second) pairs of a list of excluded timestamps.

    Raises:
        InputError: for another number of columns or a second that is no number.
    """
    path, found = Path(path), set()
    for line, row in _cells(path, (2,)):
        try:
            found.add((row[0], int(row[1])))
        except ValueError:
            raise InputError(f"{path}, line {line}: the second is {row[1]!r}; it must be a whole number.") from None
    return found


def read_rows(path: str | Path) -> AvaRows:
    """Reads a csv of annotations; commas or tabs (v1.0) separate its 7 or 8 columns. Rows without a box (",,,,") say nothing.

    Raises:
        InputError: naming the line, for a wrong number of columns, something that is no number, boxes in pixels or inverted, and a
            second or an action out of range. Boxes without area, and rows that repeat each other, are left out with a warning.
    """
    path = Path(path)
    numbered = [(line, row) for line, row in _cells(path, (7, 8)) if any(cell.strip() for cell in row[2:])]
    if not numbered:
        raise InputError(f"{path} holds no box; its rows are video,second,x1,y1,x2,y2,action[,person].")
    lines = np.array([line for line, _ in numbered])
    cells = [row[1:7] + [row[7] or "-1" if len(row) == 8 else "-1"] for _, row in numbered]
    values = numbers_of(path, COLUMNS, cells, lines)
    whole = values[:, [0, 5, 6]]
    boxes = values[:, 1:5]
    for says, bad in (
        ("has NaN or infinity", ~np.isfinite(values).all(1)),
        ("has boxes that are no shares of the frame (0 to 1); are they pixels?", ((boxes < 0) | (boxes > 1)).any(1)),
        ("has a box with x2 < x1 or y2 < y1", (boxes[:, 2:] < boxes[:, :2]).any(1)),
        ("has a second, an action or a person that is no whole number", (whole % 1 != 0).any(1)),
        ("has a negative second or an action below 1", (whole[:, 0] < 0) | (whole[:, 1] < 1)),
    ):
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            raise InputError(f"{path}, line {lines[index]} {says}: {','.join(numbered[index][1])}; {bad.sum()} such rows in all.")
    names, video = np.unique([row[0] for _, row in numbered], return_inverse=True)
    _, first = np.unique(np.column_stack([video, values]), axis=0, return_index=True)
    bad = (boxes[:, 2:] == boxes[:, :2]).any(1) | ~np.isin(np.arange(len(values)), first)
    if bad.any():
        line = lines[int(np.flatnonzero(bad)[0])]
        log.warning("%s: %d rows without area or that repeat others are left out, the first in line %d.", path, bad.sum(), line)
    second, action, person = (column.astype(np.int64) for column in whole.T)
    return AvaRows(tuple(names.tolist()), video.astype(np.int64), second, boxes, action, person).take(~bad)


def _cells(path: Path, widths: tuple[int, ...]) -> list[tuple[int, list[str]]]:
    """Lines with their numbers, from 1."""
    text = read_text(path)
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = [(number, row) for number, row in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter), 1) if row]
    for line, row in rows:
        if len(row) not in widths:
            wanted = " or ".join(map(str, widths))
            raise InputError(f"{path}, line {line} has {len(row)} columns, {wanted} are wanted: {delimiter.join(row)[:80]!r}.")
    return rows


def find_file(root: Path, *patterns: str) -> Path | None:
    """The first file below `root` or its ``annotations`` that one of the patterns fits."""
    for pattern in patterns:
        for place in (root / "annotations", root):
            fits = visible(place, pattern) if place.is_dir() else []
            if fits:
                return fits[0]
    return None


def annotation_files(root: str | Path, part: str) -> tuple[Path, Path, Path | None]:
    """Where the newest annotation of a part is: its rows, the 60 actions of the task, what is excluded (None without such a list).

    Args:
        root: the folder.
        part: "train", "val" or "test".

    Raises:
        InputError: for an unknown part, and if rows or actions are not there.
    """
    root = Path(root)
    if part not in PARTS:
        raise InputError(f"part {part!r}; use one of {', '.join(PARTS)}.")
    for version in VERSIONS:
        rows = find_file(root, f"*ava_{part}_{version}.csv")
        if rows is None:
            continue
        names = [f"*ava_action_list_{v}_for_*.pbtxt*" for v in (version, *VERSIONS)]
        listed = find_file(root, *names)
        if listed is None:
            raise InputError(f"{root} has no {names[0]}, the list of 60 actions; put it beside {rows.name}.")
        return rows, listed, find_file(root, *(f"*ava_{part}_excluded_timestamps_{v}.csv" for v in (version, *VERSIONS)))
    raise InputError(f"{root} has no ava_{part}_v2.2.csv, also not in its folder annotations.")


def load(root: str | Path, part: str = "train", missing: str = "skip") -> Dataset:
    """Reads a part with its videos, which are opened for their size, length and rate.

    Args:
        root: the folder with the files above.
        part: "train", "val" or "test".
        missing: what to do with films that are not there: "skip" to leave them out with a warning, or "error".

    Raises:
        InputError: if annotations are missing or damaged, or no film is there, and for films too short for their key frames.
    """
    root = Path(root)
    annotated, listed, excluded = annotation_files(root, part)
    names = read_classes(listed)
    rows = read_rows(annotated)
    rows = rows.take(np.isin(rows.action, list(names))).without(read_excluded(excluded) if excluded else ())
    label = {number: index for index, number in enumerate(names)}
    paths = find_clips(root, rows.videos, ("videos", "videos_15min"), ("frames",))
    check_missing(rows.videos, paths, missing, f"{root} (videos, frames; part {part})")
    videos = []
    for index, name in enumerate(rows.videos):
        chosen = rows.take(rows.video == index)
        if name in paths and len(chosen):
            videos.append(_video(name, paths[name], media.look(paths[name], FRAMES_RATE), chosen, label))
    return Dataset(f"AVA {part}, {len(names)} classes", tuple(names.values()), tuple(videos))


def _video(name: str, path: Path, look: Media, rows: AvaRows, label: dict[int, int]) -> Video:
    """One film: a tube of one frame for each box and action."""
    if path.is_dir():
        files = image_files(path)
        numbers = counting(files) or []
        gap = next((i for i, number in enumerate(numbers) if number != numbers[0] + i or numbers[0] > 1), None)
        if gap is not None:
            raise InputError(
                f"{path} lacks images before {files[gap].name}; key frames are found by counting, so none may be missing."
            )
    alone = rows.second.min() >= FIRST_SECOND and (path.is_dir() or look.times[-1] < SEGMENT_SECONDS)
    begin = FIRST_SECOND if alone else 0
    # The frame that a player shows then; half a frame is room for rates such as 29.97.
    frames = np.maximum(np.searchsorted(look.times, rows.second - begin + 0.5 / float(look.rate), "right") - 1, 0)
    beyond = rows.second - begin >= look.times[-1] + 1 / float(look.rate)
    if beyond.all():
        raise InputError(
            f"{path} lasts {look.times[-1]:.0f} s, but its key frames are at {rows.second.min()} to {rows.second.max()} s; "
            "it must be the whole film, its part from second 900 on, or a clip whose seconds count from 0."
        )
    if beyond.any():
        late = first_few(sorted({str(second) for second in rows.second[beyond]}))
        log.warning("%s ends before its key frames at second %s; these are left out.", path, late)
    boxes = rows.boxes * [look.width, look.height, look.width, look.height]
    kept = np.flatnonzero(~beyond)
    tubes = tuple(Tube(int(label[rows.action[i]]), 1.0, int(frames[i]), boxes[i : i + 1]) for i in kept)
    labelled = tuple(np.unique(frames[kept]).tolist())
    return Video(name, path, look.frames, look.width, look.height, look.rate, tubes, labelled)
