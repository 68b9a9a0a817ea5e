"""UCF101-24: 3,194 untrimmed videos of 24 actions, several actors, many frames without action; split 1.

Read are the corrected annotations as published, and the videos as far as they are there::

    pyannot.pkl or finalAnnots.mat        boxes x, y, w, h on 320x240
    testlist01.txt, trainlist01.txt       "<class>/<video>" a line; without the first, UCF's groups 1 to 7 are the test part
    videos/<class>/<video>.mp4            or UCF-101/…, any usual container
    rgb-images/<class>/<video>/00001.jpg  instead of videos

Conventions. The pickle's first frames are 0-based and its last ones exclusive, MATLAB's are 1-based and inclusive. Some
videos decode to a frame less than is annotated: tubes are cut there, with a warning. An actor's tube is one per action; all
other frames are background.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import video as video_files
from ..files import undamaged
from ..structures import InputError, Tube
from . import plain_pickle
from .annotations.table import read_text
from .dataset import Dataset, Video
from .decoding import image_files
from .media import check_missing, find_clips, first_few

log = logging.getLogger(__name__)

CLASSES = (
    "Basketball", "BasketballDunk", "Biking", "CliffDiving", "CricketBowling", "Diving", "Fencing", "FloorGymnastics", "GolfSwing",
    "HorseRiding", "IceDancing", "LongJump", "PoleVault", "RopeClimbing", "SalsaSpin", "SkateBoarding", "Skiing", "Skijet",
    "SoccerJuggling", "Surfing", "TennisSwing", "TrampolineJumping", "VolleyballSpiking", "WalkingWithDog",
)  # fmt: skip
"""In the order of the annotations' labels, which is the alphabetical one."""
PARTS = ("train", "val", "trainval", "test")
TEST_GROUPS = frozenset(range(1, 8))
"""UCF's groups of the official test list of split 1."""
VALIDATION_GROUPS = frozenset({8, 13, 18, 23})
"""Our own division of the training list: these of its groups 8 to 25 are "val". Videos of a group share their source."""
WIDTH, HEIGHT, RATE = 320, 240, Fraction(25)
VIDEO_FOLDERS = ("videos", "UCF-101")
FRAME_FOLDERS = ("rgb-images", "frames", "Frames")


class _Rows(NamedTuple):
    """One annotated tube: label from 0, first frame from 0, boxes (T, 4) as x, y, w, h."""

    label: int
    start: int
    boxes: np.ndarray


def group(name: str) -> int:
    """The group of a video named ``…_g<group>_c<clip>``.

    Raises:
        InputError: for another name.
    """
    match = re.search(r"_g(\d+)_c\d+$", name)
    if match is None:
        raise InputError(f"the video {name!r} is not named v_<class>_g<group>_c<clip> as UCF101's are.")
    return int(match[1])


def load(root: str | Path, part: str = "train", split: int = 1, missing: str = "skip") -> Dataset:
    """Reads the annotations of one part of UCF101-24. Videos are opened for their length and rate, not decoded.

    Args:
        root: the folder with the files above.
        part: "test", the official list; "trainval", all others; "train" and "val", our division of these by UCF's groups.
        split: 1; the published boxes are for no other.
        missing: what to do with videos that are not there: "skip" to leave them out with a warning, or "error".

    Raises:
        InputError: for an unknown part or split, missing or damaged annotations, and if no video of the part is there.
    """
    root = Path(root)
    if part not in PARTS or split != 1 or missing not in ("error", "skip"):
        raise InputError(f"part {part!r}, split {split!r}, missing {missing!r}: use one of {', '.join(PARTS)}; 1; error or skip.")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; name the one that holds UCF101-24's annotations and videos.")
    annotations = _read(root)
    wanted = _part(root, annotations, part)
    names = [name for name in annotations if name in wanted]
    paths = find_clips(root, names, VIDEO_FOLDERS, FRAME_FOLDERS)
    check_missing(names, paths, missing, f"{root} ({', '.join(VIDEO_FOLDERS + FRAME_FOLDERS)}; part {part})")
    short: list[str] = []
    videos = [_video(name, path, *annotations[name], short) for name, path in paths.items()]
    if short:
        log.warning("%d videos have fewer frames than are annotated; their tubes are cut: %s", len(short), first_few(short))
    return Dataset(f"UCF101-24 split 1 {part}", CLASSES, tuple(videos))


def _part(root: Path, annotations: Mapping[str, object], part: str) -> set[str]:
    """The names of a part."""
    lists = {name: root / f"{name}list01.txt" for name in ("train", "test")}
    test = _read_list(lists["test"]) & set(annotations) if lists["test"].is_file() else None
    if test is None:
        log.info("%s is not there; UCF's groups 1 to 7 are the test part.", lists["test"])
        test = {name for name in annotations if group(name) in TEST_GROUPS}
    elif not test:
        raise InputError(f"{lists['test']} names no annotated video; its lines must be '<class>/<video>'.")
    if part == "test":
        return test
    rest = set(annotations) - test
    if lists["train"].is_file():
        rest &= _read_list(lists["train"])
    if part == "trainval":
        return rest
    return {name for name in rest if (group(name) in VALIDATION_GROUPS) == (part == "val")}


def _read_list(path: Path) -> set[str]:
    """Names in a list: "Diving/v_Diving_g01_c01", perhaps with a suffix and a class number behind."""
    return {re.sub(r"\.\w+$", "", line.split()[0]) for line in read_text(path).splitlines() if line.strip()}


def _video(name: str, path: Path, frames: int, rows: list[_Rows], short: list[str]) -> Video:
    """Checks one video; `short` gets its name if it has fewer frames than annotated."""
    decoded, rate = _length(path)
    if decoded is not None and decoded < frames:
        short.append(name)
        frames = decoded
    tubes = []
    for row in rows:
        boxes = _boxes(name, row)[: max(frames - row.start, 0)]
        if len(boxes):
            tubes.append(Tube(row.label, 1.0, row.start, boxes))
    return Video(name, path, frames, WIDTH, HEIGHT, rate, tuple(tubes))


def _length(path: Path) -> tuple[int | None, Fraction]:
    """Frames, or None where the container does not say, and frames per second."""
    if path.is_dir():
        return len(image_files(path)), RATE
    with video_files.open_video(path) as (_, stream):
        return stream.frames or None, Fraction(stream.average_rate or RATE)


def _boxes(name: str, row: _Rows) -> np.ndarray:
    """(T, 4) corners inside the frame."""
    boxes = np.asarray(row.boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise InputError(f"{name} has boxes of shape {boxes.shape} {boxes.dtype}; they must be (frames, 4) numbers.")
    boxes = boxes.astype(np.float64)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    inside = np.clip(corners, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    bad = ~np.isfinite(boxes).all(1) | (inside[:, 2] <= inside[:, 0]) | (inside[:, 3] <= inside[:, 1])
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        says = f"x, y, w, h {boxes[index].tolist()} is no box inside {WIDTH}x{HEIGHT}"
        raise InputError(f"{name}, frame {row.start + index} (from 0): {says}; correct or remove it.")
    return inside.astype(np.float32)


def _read(root: Path) -> dict[str, tuple[int, list[_Rows]]]:
    """Frames and tubes of every annotated video, in alphabetical order."""
    if (root / "pyannot.pkl").is_file():
        rows = _from_pickle(root / "pyannot.pkl")
    elif (root / "finalAnnots.mat").is_file():
        rows = _from_matlab(root / "finalAnnots.mat")
    else:
        raise InputError(f"{root} holds neither pyannot.pkl nor finalAnnots.mat, the corrected annotations of UCF101-24.")
    found = {}
    for name, frames, tubes in rows:
        for tube in tubes:
            if not 0 <= tube.label < len(CLASSES) or tube.start < 0:
                known = f"labels run from 0 to {len(CLASSES) - 1}, frames from 0"
                raise InputError(f"{name} has a tube of label {tube.label} from frame {tube.start} on; {known}.")
        found[name] = (frames, tubes)
    if not found:
        raise InputError(f"{root} has annotations of no video; fetch them again.")
    return dict(sorted(found.items()))


def _from_pickle(path: Path) -> Iterator[tuple[str, int, list[_Rows]]]:
    content = plain_pickle.load(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dictionary of videos; it is not a pyannot.pkl.")
    for name, entry in content.items():
        try:
            tubes = []
            for tube in entry["annotations"]:
                start, stop, boxes = int(tube["sf"]), int(tube["ef"]), np.asarray(tube["boxes"])
                if stop - start != len(boxes):
                    raise InputError(f"{path}: {name} has {len(boxes)} boxes for the frames {start} to {stop - 1}.")
                tubes.append(_Rows(int(tube["label"]), start, boxes))
            yield str(name), int(entry["numf"]), tubes
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} does not describe {name!r} ({type(error).__name__}: {error}).") from None


def _from_matlab(path: Path) -> Iterator[tuple[str, int, list[_Rows]]]:
    from scipy.io import loadmat  # a slow import that only this file needs

    with undamaged(path, "it must hold annot; fetch it again"):
        annot = loadmat(path, variable_names=["annot"])["annot"]
        for entry in annot.reshape(-1):
            name, tubes = str(entry["name"].reshape(-1)[0]), []
            for tube in entry["tubes"].reshape(-1):
                start, label = (int(tube[key].reshape(-1)[0]) for key in ("sf", "class"))
                tubes.append(_Rows(label - 1, start - 1, tube["boxes"].reshape(-1, 4)))
            yield name, int(entry["num_imgs"].reshape(-1)[0]), tubes
