"""Files that appear whole or not at all, and what to say when they cannot be written."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from .structures import InputError

log = logging.getLogger(__name__)

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""What frames in a folder are named, in small letters."""

STALE = 24 * 60 * 60
"""Seconds after which a hidden, unfinished file counts as left behind by a process that was killed."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextlib.contextmanager
def explained(path: str | Path, *kinds: type[Exception]) -> Iterator[None]:
    """Within the block, errors of the file system become an `InputError` that names the path and the way out.

    Args:
        path: what the block writes.
        kinds: exceptions beside OSError by which a library says that it could not write.
    """
    try:
        yield
    except (OSError, *kinds) as error:
        reason, number = getattr(error, "strerror", None) or str(error), getattr(error, "errno", None)
        if number is None and (code := re.search(r"\(os error (\d+)\)", reason)):  # as Rust's libraries write it
            number = int(code[1])
        if number in _FULL:
            why = f"the disk is full ({reason}); free some space or choose another folder"
        elif number in _FORBIDDEN:
            why = f"there is no permission to write there ({reason}); choose another folder"
        elif number in (errno.EEXIST, errno.ENOTDIR) and (
            file := next((one for one in Path(path).parents if one.is_file()), None)
        ):
            why = f"{file} is a file, not a folder; choose another folder"
        else:
            why = f"{reason}; choose another file or folder"
        raise InputError(f"{path} cannot be written: {why}.") from error


@contextlib.contextmanager
def part_file(path: str | Path) -> Iterator[Path]:
    """An empty hidden file beside `path`, which takes that name when the block ends and is removed when it raises.

    That it can be made is the proof, before any work, that the place can be written to. Folders are made as needed; those that were are
    removed again when the block raises. Hidden files of processes that were killed go if nothing was written to them for `STALE` seconds.

    Raises:
        OSError: if nothing can be written at that place.
    """
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(target))
    made = [folder for folder in target.parents if not folder.exists()]
    part = target.with_name(f".mssc-{secrets.token_hex(6)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target.parent)
        part.touch(exist_ok=False)
        yield part
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()  # only if empty
        raise


def _remove_stale(folder: Path) -> None:
    for left in folder.glob(".mssc-*.part"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


@contextlib.contextmanager
def whole_file(path: str | Path, *kinds: type[Exception]) -> Iterator[Path]:
    """`part_file`, of which errors are `explained`.

    Raises:
        InputError: if the file cannot be written.
    """
    with explained(path, *kinds), part_file(path) as part:
        yield part


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Write a file so that whoever sees it sees all of it. Text is written as UTF-8, its line ends as they are.

    Raises:
        InputError: if it cannot be written.
    """
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def undamaged(path: str | Path, way_out: str) -> Iterator[None]:
    """Within the block, whatever a file makes its reader raise becomes an `InputError` that names it and the way out.

    Files are cut off by full disks, power failures and half-done copies; libraries raise nearly anything then.
    """
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path} was refused: {str(error).rstrip('.')}; {way_out}.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path} cannot be read ({error.strerror}); {way_out}.") from error
        raise InputError(f"{path} is cut off or damaged ({type(error).__name__}: {str(error)[:200]}); {way_out}.") from error


def fingerprint(path: Path) -> list[int]:
    """A file's size in bytes and the time of its last change in nanoseconds, by which it is known again."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def read_json(path: str | Path, way_out: str) -> Any:
    """What a JSON file of ours holds.

    Raises:
        InputError: as `undamaged`.
    """
    with undamaged(path, way_out):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[tuple[Path, list[Path]]]:
    """A folder and all below it, through links too but not in circles, each with its files. Hidden ones are left out.

    What is no folder is a file: links that lead nowhere are among them, so that whoever opens them says so.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        log.warning("%s cannot be looked into (%s); it is left out.", folder, error.strerror or error)
        return
    yield folder, [path for path in shown if not path.is_dir()]
    for path in shown:
        if path.is_dir():
            yield from walk(path, above | {real})


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files and folders that a pattern fits, sorted, without those that macOS and others hide by a dot before their names."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def shortened(name: str, most: int = 200) -> str:
    """A name cut between two letters to so many bytes: file systems count those, most of them up to 255."""
    return os.fsencode(name)[:most].decode(errors="ignore")


def prove_writable(path: str | Path) -> None:
    """See, before any work, that a file can be written at this place. Nothing is left there.

    Raises:
        InputError: if it cannot.
    """
    with explained(path), contextlib.suppress(InterruptedError), part_file(path):
        raise InterruptedError


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within the block, no other process of this user on this machine is in such a block for the same path.

    Raises:
        InputError: if one is.
    """
    from filelock import FileLock, Timeout

    name = hashlib.sha256(os.fsencode(f"{Path.home()}\0{path.resolve()}")).hexdigest()[:24]
    file = Path(tempfile.gettempdir()) / f"mssc-{name}.lock"
    lock = FileLock(file)  # ends with its process, however that ends
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another run is writing {path}.* at this moment; wait for it, or name another folder with -o."
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
        lock.release()


def claim(folder: Path, mark: str, *names: str) -> None:
    """See, before any work, that files of these names may and can be written into a folder.

    Raises:
        InputError: if one is there that an earlier run did not write: the first of an earlier run's is a JSON with the key `mark`; and if
            nothing can be written there.
    """
    prove_writable(folder / names[0])
    there = [folder / name for name in names if (folder / name).exists()]
    try:
        ours = not there or mark in json.loads((folder / names[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise InputError(f"{there[0]} is there already, and no earlier run wrote it, or not whole; name another place with -o.")


def set_aside(path: Path) -> Path | None:
    """Rename a file that is in the way: ``boxes.csv`` becomes ``boxes.csv.1``, or the next number that is free.

    Returns:
        Its new name; None if there is none.

    Raises:
        InputError: if it cannot be renamed.
    """
    if not path.is_file():
        return None
    free = next(name for number in count(1) if not (name := path.with_name(f"{path.name}.{number}")).exists())
    with explained(free):
        path.rename(free)
    return free
