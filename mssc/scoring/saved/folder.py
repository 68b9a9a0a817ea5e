"""Our own detections on disk: a file per video, each written whole or not at all, and what they are of.

::

    about.json                     data set, part, split, model, weights, mode: what every file in here is of
    detections/<video>.npz         frame, label, score, box of every row, the number of frames, and how the video's file was then
"""

import json
import zipfile
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ...data.dataset import Video
from ...files import explained, fingerprint, read_json, undamaged, visible, whole_file, write_whole
from ...structures import Detections, InputError
from .checks import Known

ABOUT, PLACE, VERSION = "about.json", "detections", 1
LONGEST = 200  # letters of a file's name; a longer one is cut and gets a number


class Folder:
    """Detections that are written while a model runs, and from which a stopped run goes on.

    Args:
        path: made if it does not exist.
        about: what the detections are of.

    Raises:
        InputError: if the folder holds detections of something else, or cannot be written.
    """

    def __init__(self, path: Path, about: dict[str, object]) -> None:
        self.path, self.about = Path(path), {"version": VERSION, **about}
        if not (self.path / ABOUT).exists():
            with explained(self.path):
                (self.path / PLACE).mkdir(parents=True, exist_ok=True)
            write_whole(self.path / ABOUT, json.dumps(self.about, indent=1))
        self._check()

    def _check(self) -> None:
        here = _about(self.path)
        differ = [key for key in self.about if here.get(key) != self.about[key]]
        if differ:
            key = differ[0]
            raise InputError(
                f"{self.path} holds detections with {key} {here.get(key)!r}, not {self.about[key]!r}; name another output folder."
            )

    def file(self, video: str) -> Path:
        """Where a video's detections are, or will be."""
        name = quote(video, safe=" ()@,+=!")
        if len(name) > LONGEST:
            name = f"{name[:LONGEST]}-{zlib.crc32(video.encode()):08x}"
        return self.path / PLACE / f"{name}.npz"

    def __contains__(self, video: str) -> bool:
        return self.file(video).exists()

    def holds(self, video: Video) -> bool:
        """Whether a video's detections are here, and its file is as it was then."""
        try:
            with np.load(self.file(video.name), allow_pickle=False) as saved:
                return saved["source"].tolist() == fingerprint(video.path)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):  # a damaged file is made anew
            return False

    def write(self, video: str, detections: list[Detections], source: Path | None = None) -> None:
        """Keep a video's detections, one entry per frame, and how the file is that they are of.

        Raises:
            InputError: if they cannot be written, or another run took the folder meanwhile.
        """
        self._check()
        with whole_file(self.file(video)) as part, open(part, "wb") as out:
            np.savez_compressed(
                out,
                source=np.array(fingerprint(source) if source is not None else [], np.int64),
                frames=np.array(len(detections)),
                frame=np.repeat(np.arange(len(detections)), [len(d) for d in detections]).astype(np.int32),
                label=np.concatenate([d.labels for d in detections] or [np.zeros(0)]).astype(np.int32),
                score=np.concatenate([d.scores for d in detections] or [np.zeros(0)]).astype(np.float32),
                box=np.concatenate([d.boxes for d in detections] or [np.zeros((0, 4))]).astype(np.float32),
            )

    def read(self, video: str) -> list[Detections]:
        """A video's detections, one entry per frame.

        Raises:
            InputError: for a file that is missing or damaged.
        """
        file = self.file(video)
        with undamaged(file, "remove it and run the evaluation again"):
            with np.load(file, allow_pickle=False) as saved:
                count, frame, label, score, box = (saved[key] for key in ("frames", "frame", "label", "score", "box"))
            ends = np.searchsorted(frame, np.arange(int(count) + 1))
            return [Detections(box[a:b], label[a:b], score[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]


def is_folder(path: Path) -> bool:
    """Whether a folder was written by `Folder`."""
    return (path / ABOUT).is_file() and (path / PLACE).is_dir()


def read_folder(path: Path, known: Known) -> dict[str, dict[int, Detections]]:
    """Every video's detections, by frame from 0.

    Raises:
        InputError: for a damaged file, an unknown video or class, detections after a video's end, and a video without a file.
    """
    folder = Folder(path, _about(path))
    files = {folder.file(name): name for name in known.truth}
    strange = [file for file in visible(path / PLACE, "*.npz") if file not in files]
    if strange:
        raise InputError(f"{strange[0]} is of a video that is not in the data set; was it made for another part?")
    absent = [name for name in known.truth if name not in folder]
    if absent:
        raise InputError(
            f"{path} lacks {len(absent)} of {len(known.truth)} videos, e.g. '{absent[0]}'; let the evaluation finish."
        )
    found = {}
    for name in known.truth:
        frames = folder.read(name)
        for frame, rows in enumerate(frames):
            if len(rows) and rows.labels.max() >= len(known.classes):
                raise InputError(f"{folder.file(name)}: frame {frame} has class {rows.labels.max()} of {len(known.classes)}.")
        found[name] = {frame: rows for frame, rows in enumerate(frames) if len(rows)}
    return found


def _about(path: Path) -> dict:
    about = read_json(path / ABOUT, "remove the folder and run the evaluation again")
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise InputError(f"{path / ABOUT} is not of this version; name another output folder.")
    return about


def facts(path: Path) -> dict[str, object]:
    """What a folder's detections are of: data set, part, split, model, weights, mode.

    Raises:
        InputError: if it does not say so.
    """
    return {key: value for key, value in _about(path).items() if key != "version"}
