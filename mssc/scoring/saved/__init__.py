"""Detections on disk: our own, kept video by video, and those of other systems, in their layouts.

Everything that is read is checked against the ground truth that it is to be scored with, and refused by name if it does not fit:
see `checks`.
"""

from pathlib import Path

from ...files import visible
from ...structures import Detections, InputError, Tube
from .act import read_act
from .ava_csv import read_ava
from .checks import Known
from .folder import PLACE, Folder, is_folder, read_folder
from .truth import read_truth
from .tubes import SUFFIX, read_tubes, tube_files
from .yowo import read_yowo

__all__ = ["Folder", "Known", "read_ava", "read_detections", "read_saved_tubes", "read_truth"]


def read_detections(path: Path, known: Known, first_frame: int | None = None) -> dict[str, dict[int, Detections]]:
    """Saved detections in whatever layout.

    Args:
        path: a folder that `mssc evaluate` wrote, a folder of YOWO's text files, ACT's array (.npy, .pkl) or a folder
            that holds it, or tubes (see `tubes`) alone, whose boxes then count as detections.
        known: the videos and classes that they are scored with.
        first_frame: the number of a video's first frame in the file; None for the layout's own, 1 in all foreign ones.

    Returns:
        By video, by frame from 0.

    Raises:
        InputError: for another layout, and for all that `checks` refuses.
    """
    path, first = Path(path), _first(first_frame)
    if not path.exists():
        raise InputError(f"{path} does not exist; name a folder or file of detections.")
    if path.is_dir() and is_folder(path):
        return read_folder(path, known)
    above = [folder for folder in (path.parent, path.parent.parent) if is_folder(folder) and path.is_relative_to(folder / PLACE)]
    if above:
        raise InputError(f"{path} is inside of a folder that 'mssc evaluate' wrote; give {above[0]}.")
    arrays = _arrays(path)
    if len(arrays) > 1:
        raise InputError(f"{path} holds {len(arrays)} arrays, {arrays[0].name} and {arrays[1].name} among them; name one.")
    if arrays:
        return read_act(arrays[0], known, first)
    if tube_files(path) and not (path.is_dir() and bool(visible(path, "*.txt"))):
        return read_tubes(path, known, first)[1]
    if path.is_dir():
        return read_yowo(path, known, first)
    raise InputError(
        f"{path} is of no layout that is read: a folder that 'mssc evaluate' wrote, a folder of YOWO's text files, "
        "ACT's array as .npy or .pkl, tubes as .npz or ACT's pickles, or for AVA a csv."
    )


def read_saved_tubes(path: Path, known: Known, first_frame: int | None = None) -> dict[str, list[Tube]] | None:
    """The tubes that lie in a file or folder, by video; None if there are none, or the folder is our own, whose detections we link.

    Arguments and errors are those of `read_detections`.
    """
    path = Path(path)
    if is_folder(path) or not tube_files(path):
        return None
    return read_tubes(path, known, _first(first_frame))[0]


def _first(given: int | None) -> int:
    if given not in (None, 0, 1):
        raise InputError(f"the first frame is {given}; frames are counted from 0 or from 1.")
    return 1 if given is None else given


def _arrays(path: Path) -> list[Path]:
    """ACT's arrays that a path is or, beside no text file, holds."""
    if path.is_dir():
        return [] if bool(visible(path, "*.txt")) else [file for file in visible(path, "*") if file.is_file() and _arrays(file)]
    return [path] if path.suffix.lower() in (".npy", ".pkl", ".pickle") and not path.name.endswith(SUFFIX) else []
