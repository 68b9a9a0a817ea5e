"""What is noted of a video, or of a folder of them, while it is read: damage, jumps of a clock, numbers that may be counted otherwise.
All of it goes to the log, where nobody looks who uses a page or reads a report."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


class _Ear(logging.Handler):
    def __init__(self, start: str, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._start, self._notes = start, notes

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence.startswith(self._start) and (note := sentence.removeprefix(self._start)) not in self._notes:
            self._notes.append(note)


@contextmanager
def warned(room: str, start: str = "") -> Iterator[list[str]]:
    """What the warnings of a package or module say within the block, in any thread, each once; the list grows as they come.

    Args:
        room: its name, such as "mssc.data".
        start: only warnings that begin with this count, and it is left out.
    """
    notes: list[str] = []
    ear, logger = _Ear(start, notes), logging.getLogger(room)
    logger.addHandler(ear)
    try:
        yield notes
    finally:
        logger.removeHandler(ear)


def noted(path: str | Path) -> AbstractContextManager[list[str]]:
    """What this package's warnings say of a video, as sentences without its path, see `warned`."""
    return warned(__name__.rpartition(".")[0], f"{path}: ")
