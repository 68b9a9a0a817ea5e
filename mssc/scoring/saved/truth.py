"""Ground truth without videos, for scoring what others found: boxes as published, not clipped to the frame."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from ...data import plain_pickle, ucf101_24
from ...data.catalogue import load_dataset
from ...evaluate import Truth
from ...structures import InputError, Tube
from .checks import Known


def read_truth(name: str, root: Path, part: str, split: int = 1) -> Known:
    """Videos and classes of a part.

    The official parts of J-HMDB-21 and UCF101-24 need their annotation files alone, in whose order the videos come; all others
    need their videos.

    Args:
        name: of the data set.
        root: its folder, or the one that has it as a folder of that name.
        part: "test", "trainval", …
        split: of J-HMDB, 1 to 3.

    Raises:
        InputError: for damaged or missing annotations, and what the reader refuses.
    """
    folder = root / name if (root / name).is_dir() else root
    if name == "jhmdb" and part in ("test", "trainval") and (folder / "JHMDB-GT.pkl").is_file():
        return _jhmdb(folder / "JHMDB-GT.pkl", part, split)
    if name == "ucf101-24" and part == "test" and (folder / "pyannot.pkl").is_file() and (folder / "testlist01.txt").is_file():
        return _ucf(folder)
    dataset = load_dataset(name, root, part, split)
    return Known({video.name: Truth(video.tubes, video.frames, video.rate) for video in dataset.videos}, dataset.classes)


def _jhmdb(path: Path, part: str, split: int) -> Known:
    content = plain_pickle.load(path)
    truth: dict[str, Truth] = {}
    try:
        for name in content[f"{'test' if part == 'test' else 'train'}_videos"][split - 1]:
            groups = content["gttubes"][name].items()
            tubes = [Tube(label, 1, int(rows[0, 0]) - 1, rows[:, 1:5]) for label, group in groups for rows in group]
            truth[name] = Truth(tuple(tubes), int(content["nframes"][name]), Fraction(30))
        return Known(truth, tuple(content["labels"]))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a JHMDB-GT.pkl with split {split} ({type(error).__name__}: {error}).") from None


def _ucf(folder: Path) -> Known:
    content = plain_pickle.load(folder / "pyannot.pkl")
    truth: dict[str, Truth] = {}
    try:
        for line in (folder / "testlist01.txt").read_text(encoding="utf-8").splitlines():
            name = line.split()[0].rsplit(".", 1)[0] if line.strip() else ""
            if name not in content:  # the list is of UCF101's 101 classes in some copies
                continue
            entry, tubes = content[name], []
            for tube in entry["annotations"]:
                x, y, width, height = np.asarray(tube["boxes"], np.float64).reshape(-1, 4).T
                boxes = np.stack([x, y, x + width, y + height], axis=1)[: int(tube["ef"]) - int(tube["sf"])]
                tubes.append(Tube(int(tube["label"]), 1, int(tube["sf"]), boxes))
            frames = max([int(entry["numf"]), *(tube.stop for tube in tubes)])
            truth[name] = Truth(tuple(tubes), frames, ucf101_24.RATE)
    except (KeyError, IndexError, TypeError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} does not hold a readable pyannot.pkl and testlist01.txt ({error}).") from None
    return Known(truth, ucf101_24.CLASSES)
