"""The one table that all annotations become, a row per box and action, and the plain csv that one writes oneself.

::

    video,frame,x1,y1,x2,y2,action,track,split
    kitchen/monday.mp4,0,31.5,20,120,200,pour,1,train

`frame` counts from 0, boxes are pixels of the video as shown. `track` (any word, one per actor) and `split` (train, val or
test) may be left out, and the first line as well if the columns stand in this order.
"""

import csv
import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...files import write_whole
from ...structures import InputError, class_name

log = logging.getLogger(__name__)

COLUMNS = ("video", "frame", "x1", "y1", "x2", "y2", "action", "track", "split")
NEEDED = COLUMNS[:7]
NUMBERS = ("frame", "x1", "y1", "x2", "y2")
PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
CSV = (".csv", ".tsv", ".txt")
MOST_FRAMES = 10_000_000  # of a video; a number beyond is a slip or an attack
NORMALISED = 1.01  # boxes whose largest number is not above it are shares of the frame, not pixels

Box = tuple[float, float, float, float]


class Row(NamedTuple):
    """A box and what is done in it: the video as it is called there, the frame from 0, x1, y1, x2, y2, the action, the track or "", and
    the line or entry of the file."""

    video: str
    frame: int
    box: Box
    action: str
    track: str
    line: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Boxes of videos, one row per box and action.

    Attributes:
        source: the file they come from, for messages.
        video: (N,) str, as written there.
        frame: (N,) int64 from 0.
        boxes: (N, 4) float64, x1, y1, x2, y2.
        action: (N,) str, as `class_name` writes them.
        track: (N,) str, "" where the actor is not known.
        line: (N,) int64, where each row stands in the file, from 1.
        parts: "train", "val" or "test" by video, as far as the file says.
        sizes: width and height that a video was annotated at, as far as the file says.
    """

    source: Path
    video: np.ndarray
    frame: np.ndarray
    boxes: np.ndarray
    action: np.ndarray
    track: np.ndarray
    line: np.ndarray
    parts: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.video)

    def at(self, bad: np.ndarray) -> str:
        """Where the first bad row stands, and how many there are: "boxes.csv, line 7 (and 3 more)"."""
        count = int(bad.sum())
        more = f" (and {count - 1} more)" if count > 1 else ""
        return f"{self.source}, {self.place(int(np.flatnonzero(bad)[0]))}{more}"

    def place(self, index: int) -> str:
        """Where a row stands: "line 7" of a text, "entry 7" (a track, an annotation) of other files."""
        return f"{'line' if self.source.suffix.lower() in CSV else 'entry'} {self.line[index]}"

    def text(self, bad: np.ndarray) -> str:
        """The first bad row as it was read."""
        index = int(np.flatnonzero(bad)[0])
        box = ", ".join(f"{value:g}" for value in self.boxes[index])
        return f"{self.video[index]}, frame {self.frame[index]}, {box}, {self.action[index]}"

    def take(self, chosen: np.ndarray) -> "Rows":
        """Some of the rows, (N,) bool or their indices."""
        names = ("video", "frame", "boxes", "action", "track", "line")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    @property
    def normalised(self) -> bool:
        """Whether all boxes look like shares of the frame, 0 to 1."""
        return bool(self.boxes.max() <= NORMALISED)


def make(
    source: Path, rows: Sequence[Row], parts: dict[str, str] | None = None, sizes: dict[str, tuple[int, int]] | None = None
) -> Rows:
    """The table of these rows. A box without area, or one that is there twice, is left out with a warning.

    Raises:
        InputError: for no row, a box that is no box, a number that is none, and a track with two boxes at once.
    """
    video, frame, boxes, action, track, line = zip(*rows, strict=True) if rows else ((),) * 6
    names, tracks = np.array(video, object), np.array(track, object)
    actions = np.array(list(map(class_name, action)), object)
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    numbers = np.array(frame, np.int64), boxes, actions, tracks, np.array(line, np.int64)
    table = Rows(source, names, *numbers, parts or {}, sizes or {})
    if not len(table):
        raise InputError(f"{source} holds no box; annotate at least one.")
    with np.errstate(invalid="ignore"):  # infinity less infinity
        sides = boxes[:, 2:] - boxes[:, :2]
    for says, bad in (
        ("has NaN or infinity in its box", ~np.isfinite(boxes).all(1)),
        ("has a box with x2 < x1 or y2 < y1 (boxes are x1, y1, x2, y2)", (sides < 0).any(1)),
        ("has a negative frame", table.frame < 0),
        ("names no video", names == ""),
        ("names no action", actions == ""),
    ):
        if np.any(bad):
            bad = np.asarray(bad, bool)
            raise InputError(f"{table.at(bad)} {says}: {table.text(bad)}; correct or remove it.")
    _warn_of_twins(source, actions)
    return _without(_without(table, "without area", (sides == 0).any(1)), "that repeat others")


def _warn_of_twins(source: Path, actions: np.ndarray) -> None:
    """Say which actions look like one that was written in two ways: they stay two."""
    alike: dict[str, str] = {}
    for name in sorted(set(actions)):
        key = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold()) or name
        if alike.setdefault(key, name) != name:
            log.warning("%s: %r and %r are two actions; if they are one, write it in one way.", source, alike[key], name)


def _without(table: Rows, which: str, bad: np.ndarray | None = None) -> Rows:
    """All rows but the bad ones, or those that repeat others, which is said."""
    bad = _repeats(table) if bad is None else bad
    if not bad.any():
        return table
    log.warning("%s: %d boxes %s are left out, the first: %s.", table.at(bad), bad.sum(), which, table.text(bad))
    if bad.all():
        raise InputError(f"{table.source} holds no box with an area; annotate at least one.")
    return table.take(~bad)


def _repeats(table: Rows) -> np.ndarray:
    seen: dict[tuple, int] = {}
    again = np.zeros(len(table), bool)
    keys = zip(table.video, table.frame.tolist(), table.action, table.track, map(tuple, table.boxes.tolist()), strict=True)
    for index, (video, frame, action, track, box) in enumerate(keys):
        key = (video, frame, action, track) if track else (video, frame, action, track, box)
        first = seen.setdefault(key, index)
        again[index] = first != index
        if first != index and (table.boxes[first] != table.boxes[index]).any():
            raise InputError(
                f"{table.source}, {table.place(index)} gives the track {track!r} a second box for the same action beside "
                f"{table.place(first)}: {video}, frame {frame}, {action}; remove one of them."
            )
    return again


def read_csv(path: Path, first_frame: int = 0) -> Rows:
    """Reads a csv file as described above. Commas, semicolons or tabs separate its columns.

    Args:
        path: of the file.
        first_frame: what the file calls the first frame of a video, 0 or 1.

    Raises:
        InputError: naming the line, for a wrong number of columns, a missing or unknown column, something that is no number,
            an unknown split, and for all that `make` refuses.
    """
    header, lines, cells = _cells(path)
    columns = {name: [row[index].strip() for row in cells] for index, name in enumerate(header)}
    numbers = numbers_of(path, NUMBERS, list(zip(*(columns[name] for name in NUMBERS), strict=True)), lines)
    frame, boxes = whole_frames(path, numbers[:, 0], lines, first_frame), numbers[:, 1:].tolist()
    parts = _parts(path, columns["video"], columns.get("split", []), lines)
    tracks = columns.get("track", [""] * len(lines))
    return make(path, list(map(Row, columns["video"], frame.tolist(), boxes, columns["action"], tracks, lines)), parts)


def whole_frames(path: Path, frame: np.ndarray, lines: Sequence[int], first_frame: int) -> np.ndarray:
    """Numbers of frames as integers from 0; an InputError, which names the line, if one is none."""
    bad = np.flatnonzero(~(np.abs(frame) <= MOST_FRAMES) | (frame % 1 != 0))
    if len(bad):
        says = f"a whole number of at most {MOST_FRAMES}"
        raise InputError(f"{path}, line {lines[bad[0]]}: the frame is '{frame[bad[0]]:g}'; it must be {says}.")
    if first_frame and frame.min() < first_frame:
        line = lines[int(frame.argmin())]
        raise InputError(f"{path}, line {line} has frame {frame.min():g}, so frames do not count from {first_frame}.")
    return frame.astype(np.int64) - first_frame


def read_text(path: Path) -> str:
    """A text file, with or without a byte order mark.

    Raises:
        InputError: if it cannot be read as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as text ({getattr(error, 'strerror', None) or error}); save it as UTF-8."
        ) from None


def _cells(path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """The columns' names, and the other rows with their line numbers."""
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{path} is no csv file ({error}).") from None
    if not rows:
        raise InputError(f"{path} is empty; its columns are {','.join(NEEDED)}[,track][,split].")
    names: list[str] = [cell.strip().lower() for cell in rows[0][1]]
    if "video" in names or "action" in names:
        _check_header(path, names)
        rows = rows[1:]
    else:
        names = list(COLUMNS[: max(len(rows[0][1]), len(NEEDED))])
    wrong = [(line, row) for line, row in rows if len(row) != len(names)]
    if wrong:
        line, row = wrong[0]
        raise InputError(
            f"{path}, line {line} has {len(row)} columns, {len(names)} are wanted ({','.join(names)}): "
            f"{delimiter.join(row)[:80]!r}; {len(wrong)} such lines in all."
        )
    if not rows:
        raise InputError(f"{path} holds no box, only the names of its columns; annotate at least one.")
    return names, [line for line, _ in rows], [row for _, row in rows]


def _check_header(path: Path, names: list[str]) -> None:
    absent = [name for name in NEEDED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if absent or unknown or twice:
        raise InputError(
            f"{path}: its first line lacks the columns {absent}, has the unknown ones {unknown} and twice {twice}; "
            f"the columns are {','.join(NEEDED)}[,track][,split]."
        )


def numbers_of(
    path: Path, names: Sequence[str], rows: Sequence[Sequence[str]], lines: Iterable[int], kind: str = "line"
) -> np.ndarray:
    """Cells as float64, (N, columns).

    Args:
        path: of the file.
        names: of the columns.
        rows: N of them.
        lines: where they stand in the file.
        kind: what is counted there.

    Raises:
        InputError: for a cell that is no number.
    """
    try:
        return np.array(rows, np.float64)
    except ValueError:
        for line, row in zip(lines, rows, strict=True):
            for name, cell in zip(names, row, strict=False):
                try:
                    float(cell)
                except ValueError:
                    raise InputError(f"{path}, {kind} {line}: {name} is {cell!r}, which is no number.") from None
        raise


def _parts(path: Path, videos: list[str], splits: list[str], lines: list[int]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for video, split, line in zip(videos, splits, lines, strict=False):
        if not split:
            continue
        if split.lower() not in PARTS:
            raise InputError(f"{path}, line {line}: the split is {split!r}; use train, val or test.")
        part = PARTS[split.lower()]
        if parts.setdefault(video, part) != part:
            raise InputError(f"{path}, line {line}: {video} is in {part} and in {parts[video]}; a video belongs to one split.")
    return parts


def write_csv(rows: Rows, path: Path) -> None:
    """Writes the plain csv, whole or not at all. Numbers keep two decimals: hundredths of a pixel.

    Raises:
        InputError: if it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS if rows.parts else COLUMNS[:-1])
    cells = zip(rows.video, rows.frame.tolist(), rows.boxes.round(2).tolist(), rows.action, rows.track, strict=True)
    for video, frame, box, action, track in cells:
        part = [rows.parts.get(video, "")] if rows.parts else []
        writer.writerow([video, frame, *(f"{value:g}" for value in box), action, track, *part])
    write_whole(path, text.getvalue())
