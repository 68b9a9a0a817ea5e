"""Detections on disk: our own, kept video by video, and those of other systems, in their layouts.

Everything that is read is checked against the ground truth that it is to be scored with, and refused by name if it does not fit:
see `checks`.
"""

from pathlib import Path

from ..evaluate import AvaTable
from ..structures import Detections, InputError
from .act import read_act
from .ava import read_ava
from .checks import Known
from .folder import Folder, is_folder, read_folder
from .truth import read_truth
from .yowo import read_yowo

__all__ = ["AvaTable", "Folder", "Known", "read_ava", "read_detections", "read_truth"]


def read_detections(path: Path, known: Known, first_frame: int | None = None) -> dict[str, dict[int, Detections]]:
    """Saved detections in whatever layout.

    Args:
        path: a folder that `python -m mssc evaluate` wrote, a folder of YOWO's text files, or ACT's array (.npy, .pkl).
        known: the videos and classes that they are scored with.
        first_frame: the number of a video's first frame in the file; None for the layout's own, 1 in all foreign ones.

    Returns:
        By video, by frame from 0.

    Raises:
        InputError: for another layout, and for all that `checks` refuses.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; name a folder or file of detections.")
    if first_frame not in (None, 0, 1):
        raise InputError(f"the first frame is {first_frame}; frames are counted from 0 or from 1.")
    if path.is_dir():
        return read_folder(path, known) if is_folder(path) else read_yowo(path, known, 1 if first_frame is None else first_frame)
    if path.suffix.lower() in (".npy", ".pkl", ".pickle"):
        return read_act(path, known, 1 if first_frame is None else first_frame)
    raise InputError(
        f"{path} is of no layout that is read: a folder that 'python -m mssc evaluate' wrote, a folder of YOWO's text files, "
        "ACT's array as .npy or .pkl, or for AVA a csv."
    )
