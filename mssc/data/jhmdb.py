"""J-HMDB-21: 928 short clips of 21 actions, one actor and one action each, every frame annotated.

Two layouts are read::

    JHMDB-GT.pkl                                   boxes and splits in one file, as ACT and MOC use it
    videos/<class>/<name>.mp4                      or ReCompress_Videos/…, any usual container
    Frames/<class>/<name>/00001.png                or Rename_Images/…, instead of videos

    splits/<class>_test_split<k>.txt               the original one: "<name>.avi 1", 1 training, 2 test, 0 unused
    puppet_mask/<class>/<name>/puppet_mask.mat     masks of the actor; their bounds are the boxes
    ReCompress_Videos/… or Rename_Images/…

Conventions. The files count frames from 1, we count from 0. Box numbers are taken as they stand, as continuous
coordinates, as do the evaluators whose scores are comparable: a box from column 31 to column 185 is 154 wide. Boxes from
masks run from the first to the last column of the actor, both counted from 0, so they stay between 0 and 319 like the
pickle's. Clips are 320x240 with 15 to 40 frames, and 30 frames a second throughout; containers are not opened to check
that, since 928 of them take their time.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..files import undamaged, visible
from ..structures import InputError, Tube, class_name, counted
from . import plain_pickle
from .annotations.table import read_text
from .dataset import Dataset, Video
from .division import divide
from .media import check_missing, find_clips

log = logging.getLogger(__name__)

BACKWARDS = (
    ("brush hair", "brush hair"),
    ("clap", "clap"),
    ("pullup", "pullup"),
    ("sit", "stand"),  # its clips show sitting down and standing up
    ("stand", "sit"),
    ("wave", "wave"),
)
"""What a clip shows when it is played backwards (ours)."""

PARTS = ("train", "val", "trainval", "test")
RATE = Fraction(30)
VIDEO_FOLDERS = ("videos", "ReCompress_Videos")
FRAME_FOLDERS = ("Frames", "Rename_Images")


@dataclass(frozen=True)
class _Clip:
    """A clip as annotated: `rows` maps a class to tubes of (T, 5) rows: frame from 1, x1, y1, x2, y2."""

    frames: int
    height: int
    width: int
    rows: Mapping[int, Sequence[np.ndarray]]


def load(root: str | Path, split: int = 1, part: str = "train", missing: str = "error") -> Dataset:
    """Reads the annotations of one part of J-HMDB-21. No video is opened.

    Args:
        root: the folder with one of the layouts above.
        split: 1, 2 or 3, the official division.
        part: "trainval", the official training list; "test", the official test list; "train" and "val", our own division of
            the official training list, in which no source video is on both sides (see `divide`).
        missing: what to do with clips whose video is not there: "error", or "skip" to leave them out with a warning.

    Raises:
        InputError: for an unknown part or split, a folder in neither layout, missing videos, an empty part, and annotations
            that are damaged, lie outside the frame or have no class.
    """
    root = Path(root)
    if part not in PARTS or split not in (1, 2, 3) or missing not in ("error", "skip"):
        raise InputError(
            f"part {part!r}, split {split!r}, missing {missing!r}: use one of {', '.join(PARTS)}; 1, 2 or 3; error or skip."
        )
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; name the one that holds J-HMDB's annotations and videos.")
    if (root / "JHMDB-GT.pkl").is_file():
        classes, lists, annotation = _read_pickle(root / "JHMDB-GT.pkl", split)
    elif (root / "splits").is_dir():
        classes, lists, annotation = _read_masks(root, split)
    else:
        raise InputError(f"{root} holds neither JHMDB-GT.pkl nor the folder splits; one of the two must be there.")
    names = list(lists["test" if part == "test" else "trainval"])
    if part in ("train", "val"):
        held_out = divide(names)
        names = [name for name in names if (name in held_out) == (part == "val")]
    paths = find_clips(root, names, VIDEO_FOLDERS, FRAME_FOLDERS)
    check_missing(names, paths, missing, f"{root} ({', '.join(VIDEO_FOLDERS + FRAME_FOLDERS)})")
    clipped: list[str] = []
    videos = []
    for name, path in paths.items():
        clip = annotation(name)
        tubes = _tubes(name, clip, len(classes), clipped)
        videos.append(Video(name, path, clip.frames, clip.width, clip.height, RATE, tubes))
    if clipped:
        boxes, clips = counted(len(clipped), "box"), counted(len(set(clipped)), "clip")
        log.info("%s in %s reached outside the frame and were clipped.", boxes, clips)
    classes = tuple(map(class_name, classes))
    backwards = tuple(pair for pair in BACKWARDS if {*pair} <= {*classes})
    return Dataset(f"J-HMDB-21 split {split} {part}", classes, tuple(videos), backwards)


def _read_pickle(path: Path, split: int):
    """Classes, official lists and a function from a name to its `_Clip`, from ACT's pickle."""
    content = plain_pickle.load(path)
    wanted = {"labels": list, "gttubes": dict, "nframes": dict, "resolution": dict, "train_videos": list, "test_videos": list}
    for key, kind in wanted.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise InputError(f"{path} has no {kind.__name__} {key!r}; it is not a JHMDB-GT.pkl in ACT's layout.")
    lists = {"trainval": content["train_videos"][split - 1 : split], "test": content["test_videos"][split - 1 : split]}
    if not (lists["trainval"] and lists["test"]):
        raise InputError(f"{path} has {len(content['train_videos'])} splits; split {split} is not among them.")
    lists = {key: value[0] for key, value in lists.items()}
    for names in (content["labels"], *lists.values()):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}: the labels and the videos of split {split} must be lists of names.")

    def annotation(name: str) -> _Clip:
        try:
            height, width = content["resolution"][name]
            return _Clip(int(content["nframes"][name]), int(height), int(width), content["gttubes"][name])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} lists {name!r} but does not describe it ({type(error).__name__}: {error}).") from None

    return content["labels"], lists, annotation


def _read_masks(root: Path, split: int):
    """The same three from the original layout."""
    files = visible(root / "splits", f"*_test_split{split}.txt")
    if not files:
        raise InputError(f"{root / 'splits'} has no file <class>_test_split{split}.txt.")
    classes = [file.name.removesuffix(f"_test_split{split}.txt") for file in files]
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for category, file in zip(classes, files, strict=True):
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if not line.strip():
                continue
            match = re.fullmatch(r"(.+?)(?:\.\w+)?\s+([012])\s*", line)
            if match is None:
                raise InputError(f'{file}, line {number} is {line!r}; it must be a name and 0, 1 or 2, such as "clip.avi 1".')
            if match[2] != "0":
                lists["trainval" if match[2] == "1" else "test"].append(f"{category}/{match[1]}")

    def annotation(name: str) -> _Clip:
        masks = _load_masks(root / "puppet_mask" / name / "puppet_mask.mat")
        height, width, frames = masks.shape
        return _Clip(frames, height, width, {classes.index(name.rpartition("/")[0]): _mask_tubes(masks)})

    return classes, lists, annotation


def _load_masks(path: Path) -> np.ndarray:
    """(H, W, T), non-zero on the actor."""
    from scipy.io import loadmat  # a slow import that only this layout needs

    with undamaged(path, "it must hold part_mask; fetch it again"):
        masks = loadmat(path, variable_names=["part_mask"])["part_mask"]
    if masks.ndim == 2:  # MATLAB drops a trailing axis of one frame
        masks = masks[:, :, None]
    if masks.ndim != 3:
        raise InputError(f"{path}: part_mask has shape {masks.shape}; it must be (height, width, frames).")
    return masks


def _mask_tubes(masks: np.ndarray) -> list[np.ndarray]:
    """One (T, 5) array of rows per run of frames in which the mask is not empty."""
    rows = []
    for frame in range(masks.shape[2]):
        y, x = (np.flatnonzero(masks[:, :, frame].any(axis)) for axis in (1, 0))
        if len(x):
            rows.append((frame + 1, x[0], y[0], x[-1], y[-1]))
    table = np.array(rows, np.float32).reshape(-1, 5)
    return [run for run in np.split(table, np.flatnonzero(np.diff(table[:, 0]) > 1) + 1) if len(run)]


def _tubes(name: str, clip: _Clip, classes: int, clipped: list[str]) -> tuple[Tube, ...]:
    """Checks the rows of a clip; `clipped` gets its name once for every box that was clipped to the frame."""
    if not isinstance(clip.rows, Mapping):
        raise InputError(f"{name}: its tubes are a {type(clip.rows).__name__}; they must be a dictionary from class to tubes.")
    tubes = []
    for label, group in clip.rows.items():
        if not isinstance(label, int | np.integer) or not 0 <= label < classes:
            raise InputError(f"{name} has the label {label!r}; the {classes} classes are numbered from 0 to {classes - 1}.")
        if not isinstance(group, list | tuple):
            raise InputError(f"{name}: the tubes of class {label} are a {type(group).__name__}; they must be a list.")
        for rows in group:
            tubes.append(Tube(int(label), 1.0, *_check_rows(name, clip, rows, clipped)))
    return tuple(tubes)


def _check_rows(name: str, clip: _Clip, rows: np.ndarray, clipped: list[str]) -> tuple[int, np.ndarray]:
    """The first frame (from 0) and the boxes (T, 4) inside the frame, or an InputError that names clip and frame."""
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] != 5 or len(rows) == 0 or rows.dtype.kind not in "iuf":
        raise InputError(f"{name} has a tube of shape {rows.shape} {rows.dtype}; it must be (frames, 5) numbers.")
    rows = rows.astype(np.float64)
    for problem, bad in (
        ("contains NaN or infinity", ~np.isfinite(rows).all(1)),
        ("is inverted or empty (x2 <= x1 or y2 <= y1)", (rows[:, 3] <= rows[:, 1]) | (rows[:, 4] <= rows[:, 2])),
        (
            f"lies outside the {clip.width}x{clip.height} frame",
            (rows[:, 3] <= 0) | (rows[:, 4] <= 0) | (rows[:, 1] >= clip.width) | (rows[:, 2] >= clip.height),
        ),
        (f"is of a frame outside 1 to {clip.frames}", (rows[:, 0] < 1) | (rows[:, 0] > clip.frames)),
    ):
        if bad.any():
            row = rows[int(np.flatnonzero(bad)[0])]
            raise InputError(f"{name}, frame {row[0]:g}: the box {row[1:].tolist()} {problem}; correct or remove it.")
    if (np.diff(rows[:, 0]) != 1).any() or rows[0, 0] % 1:
        raise InputError(f"{name}: the frames of a tube must follow one another; they are {rows[:, 0].tolist()}.")
    boxes = np.clip(rows[:, 1:], 0, [clip.width, clip.height, clip.width, clip.height])
    clipped.extend([name] * int((boxes != rows[:, 1:]).any(1).sum()))
    return int(rows[0, 0]) - 1, boxes.astype(np.float32)
