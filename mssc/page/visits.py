"""Whose files are whose: every visitor's uploads and results, removed soon after the tab closes.

A closed tab and a lost connection look alike, and of a visitor whose connection was lost no end is heard again. So work ends at once, but
files stay until `GRACE_SECONDS` have passed without a word of the visitor: the page, if it is still there, asks for one of them now and
then, see `back`.

Gradio serves a file to whoever knows its path, so results lie in folders with names that cannot be guessed; uploads lie under the hash of
their content, where two visitors with one and the same video share it. Uploads of clients of the API, who may wait in the queue unheard of,
are left to Gradio, which deletes what is older than `limits.KEEP_SECONDS`.
"""

import math
import secrets
import shutil
import threading
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING

from gradio.utils import get_upload_folder

from ..structures import InputError
from .limits import KEEP_SECONDS
from .texts import LEFT

if TYPE_CHECKING:
    from ..detection.result import VideoResult

MOST_REMEMBERED = 1000  # visitors who left, and jobs that were cancelled
GRACE_SECONDS = 120.0
"""Longer than the page is silent, also behind other tabs, whose clocks a browser slows down to one tick a minute."""
BACK_SECONDS = 5.0
"""What a visitor asked for just before they left may still come so long after; later, a lost connection has come back."""

_lock = threading.Lock()
_left: dict[str, float] = {}  # and when
_lost: dict[str, float] = {}  # of whom no end will be heard, and when they were last heard of
_cancelled: deque[str] = deque(maxlen=MOST_REMEMBERED)
_waiting: threading.Timer | None = None  # the one that clears next
_files: dict[str, dict[Path, float]] = defaultdict(dict)
_seen: dict[str, tuple[str, list["VideoResult"]]] = {}


def is_upload(path: str | Path) -> bool:
    """Whether a file lies where uploads and results do: nothing else may be asked for."""
    return Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())


def cancel(job: object) -> None:
    """A visitor wants no more of a job, by the name that the page gave it; it may run, wait or be over."""
    if isinstance(job, str) and len(job) <= 64:
        _cancelled.append(job)


def is_cancelled(job: str) -> bool:
    """Whether `cancel` was called."""
    return job in _cancelled


def keep(session: str | None, job: str, seen: list["VideoResult"]) -> None:
    """Remember what a job found in a visitor's video, until the next one or until they leave."""
    if session and not has_left(session):
        _seen[session] = (job, seen)


def kept(session: str | None, job: str) -> list["VideoResult"]:
    """What `keep` was given, by model; nothing if there was nothing yet, or if that was of another job than the one asked for."""
    known, seen = _seen.get(session or "", ("", []))
    return seen if job == known else []


def note(session: str | None, path: str | Path | None) -> None:
    """Remember that a visitor uses a file or folder of the upload folder; and, if a lost connection came back, that they are here again."""
    if session and time.monotonic() - _left.get(session, math.inf) > BACK_SECONDS:
        _left.pop(session, None)
        _lost[session] = time.monotonic()
    elif session in _lost and not has_left(session):
        _lost[session] = time.monotonic()
    if session and path and is_upload(path):
        with _lock:
            _files[session][Path(path)] = time.time()
        if has_left(session):
            _lost.setdefault(session, _left[session])
            _clear()


def new_folder(session: str | None) -> Path:
    """An empty folder for results, which the page may serve.

    Raises:
        InputError: if the disk is full, or the visitor has left.
    """
    note(session, None)
    if has_left(session):
        raise InputError(LEFT)
    with _lock:
        old = [
            (one, path) for one, files in _files.items() for path, since in files.items() if time.time() - since > KEEP_SECONDS
        ]
    for one, path in old:  # of clients of the API, too, whose end nobody hears of
        forget(one, path)
    folder = Path(get_upload_folder(), secrets.token_urlsafe(16))
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"The server cannot write at the moment ({error.strerror}); please try again later.") from None
    note(session, folder)
    return folder


def leave(session: str | None) -> None:
    """The tab was closed, or the connection lost: work for the visitor ends at its next step, see `has_left`, and their files go soon."""
    if session:
        _left.pop(session, None)  # the latest comes last
        _left[session] = _lost[session] = time.monotonic()
        _clear()


def back(path: str) -> None:
    """A file is asked for: whose it is has not left, or is here again."""
    asked = Path(path)
    with _lock:
        here = [session for session in _lost if any(asked.is_relative_to(mine) for mine in _files.get(session, ()))]
    for session in here:
        _left.pop(session, None)
        _lost[session] = time.monotonic()


def _clear() -> None:
    """Remove what those have left behind who were not heard of for a while, and come again for others."""
    global _waiting
    for session, heard in list(_lost.items()):
        if time.monotonic() - heard >= GRACE_SECONDS:
            _lost.pop(session, None)
            _left.setdefault(session, heard)
            _seen.pop(session, None)
            forget(session)
    while len(_left) > MOST_REMEMBERED:
        _left.pop(next(iter(_left)), None)
    if _lost and not (_waiting and _waiting.is_alive() and _waiting is not threading.current_thread()):
        _waiting = threading.Timer(min(GRACE_SECONDS, 10.0), _clear)
        _waiting.daemon = True
        _waiting.start()


def has_left(session: str | None) -> bool:
    """Whether nobody waits for this visitor's results any more."""
    return session in _left


def forget(session: str | None, *paths: Path) -> None:
    """Remove files of a visitor, all if none is named, but for those that somebody else uses too. A folder that is named goes in any case:
    work may have written into it while it was removed before."""
    if not session:
        return
    with _lock:
        mine = _files.get(session, {})
        gone = {path: mine.pop(path) for path in (paths or list(mine)) if path in mine}
        if not mine:
            _files.pop(session, None)
        gone |= {path: 0.0 for path in paths if path not in gone and path.is_dir()}
        used = {path for files in _files.values() for path in files}
    for path, since in gone.items():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in used and path.exists() and path.stat().st_ctime <= since + 1:  # else somebody has uploaded it again
            path.unlink(missing_ok=True)
