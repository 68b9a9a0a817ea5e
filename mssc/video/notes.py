"""What is noted of a video while it is read: damage, jumps of its clock. All of it goes to the log, where nobody looks who uses a page."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOM = logging.getLogger(__package__)


class _Ear(logging.Handler):
    def __init__(self, path: str | Path, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._start, self._notes = f"{path}: ", notes

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence.startswith(self._start):
            self._notes.append(sentence.removeprefix(self._start))


@contextmanager
def noted(path: str | Path) -> Iterator[list[str]]:
    """What this package's warnings say of a video, from any thread, as sentences without its path; the list grows as they come."""
    notes: list[str] = []
    ear = _Ear(path, notes)
    _ROOM.addHandler(ear)
    try:
        yield notes
    finally:
        _ROOM.removeHandler(ear)
