"""Work on many videos, several at a time: each in one of a few processes, which load the model once.

The network runs on one thread then, however many processes there are: more threads add in another order, and results would differ in
their last bits. A process that dies costs the video that it was at, and another takes its place.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import psutil

from ..structures import InputError
from .detector import Detector
from .resources import is_cpu, one_thread, usable_cores

log = logging.getLogger(__name__)

MEMORY = 3 << 29  # bytes that a process is given room for: 1280x720 takes two thirds of it
T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[float], object]
"""Is told how much of a video is done, in [0, 1]."""


def how_many(jobs: int | None = None, device: str = "auto") -> int:
    """How many processes are to work at a time.

    Args:
        jobs: so many; None for what suits this machine: one per core that may be used, as far as memory allows, or one if they would share
            a GPU. Processes that `accelerate launch` started on this machine share its cores.
        device: of the network.

    Raises:
        InputError: for none, and for a device that is not there.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}; it must be at least 1.")
    if jobs is not None or not is_cpu(device):
        return jobs or 1
    return max(1, min(usable_cores(), free_memory() // MEMORY) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def free_memory() -> int:
    """Bytes that are free, of a container at most its limit."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # another system, or no limit
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free


def each(
    work: Callable[[Detector, T, Tick], R],
    items: Mapping[str, T],
    load: Callable[[], Detector],
    jobs: int = 1,
    moved: Callable[[str, float], object] = lambda name, share: None,
) -> Iterator[tuple[str, R | None, str | None]]:
    """Do the same work on every item, whatever becomes of the others.

    With one job all is done in this process. More are processes of their own: `work`, the items and what comes of them are pickled. They
    are ended, and leave no half-written file, when the iterator is closed or this process is interrupted.

    Args:
        work: on one item.
        items: by name.
        load: the model, once per process.
        jobs: at a time.
        moved: is called with an item's name and how much of it is done; 1 when it has come to its end, also to a bad one.

    Yields:
        As items come to their ends: the name, what the work gave, and, where it failed, the reason in a sentence.

    Raises:
        InputError: for a model that cannot be loaded.
    """
    if min(jobs, len(items)) > 1:
        yield from _side_by_side(work, items, load, jobs, moved)
        return
    with one_thread():
        detector = load() if items else None
        for name, item in items.items():
            answer, reason = attempt(name, work, detector, item, partial(moved, name))
            moved(name, 1.0)
            yield name, answer, reason


def attempt(name: str, work: Callable[..., R], *arguments: object) -> tuple[R | None, str | None]:
    """What the work gives, or the reason why it failed: whatever that is, it must not cost the videos that are still to come."""
    try:
        return work(*arguments), None
    except InputError as error:
        return None, str(error)
    except Exception as error:
        log.debug("%s", name, exc_info=True)
        return None, f"{name}: an error of the program, not of the file: {type(error).__name__}: {error}"


def refuse(failed: Sequence[str], count: int) -> None:
    """Say what failed of `count` videos, if anything did.

    Raises:
        InputError: with all reasons.
    """
    if failed:
        raise InputError("\n".join([f"{len(failed)} of {count} videos failed:", *failed] if count > 1 else failed))


# -------------------------------------------------------------------- several processes


def _side_by_side(work, items: Mapping, load: Callable[[], Detector], jobs: int, moved) -> Iterator[tuple]:
    context, waiting = multiprocessing.get_context("spawn"), deque(items)
    busy: dict[Connection, tuple[BaseProcess, str]] = {}
    started: list[BaseProcess] = []

    def start() -> tuple[Connection, BaseProcess]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, load, work), daemon=True)
        started.append(process)  # before it starts: an interrupt may come at once
        with _ignored_by_children():
            process.start()
        theirs.close()
        return ours, process

    def give(link: Connection, process: BaseProcess) -> None:
        busy[link] = process, waiting.popleft()
        with contextlib.suppress(BrokenPipeError):  # it is dead; that is heard of when it is listened to
            link.send((busy[link][1], items[busy[link][1]]))

    try:
        for _ in range(min(jobs, len(items))):
            give(*start())
        while busy:
            for link in wait(list(busy)):
                assert isinstance(link, Connection)
                process, name = busy[link]
                try:
                    said = link.recv()
                except (EOFError, OSError):
                    said = None, f"{name}: its process was killed, perhaps for lack of memory; run fewer at a time with --jobs."
                    process.join()
                    link.close()
                if isinstance(said, InputError):
                    raise said
                if isinstance(said, float):
                    moved(name, said)
                    continue
                del busy[link]
                if waiting:
                    give(*(start() if link.closed else (link, process)))
                else:
                    _end([process])
                moved(name, 1.0)
                yield name, *said
    finally:
        _end([process for process in started if process.pid is not None])


@contextlib.contextmanager
def _ignored_by_children() -> Iterator[None]:
    """Ctrl-C reaches all processes, and this one ends the others: who starts within the block inherits that it is held back. It is for this
    thread, too, but not lost: it comes at the block's end, or through another thread."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        return
    from multiprocessing import resource_tracker  # POSIX only

    resource_tracker.ensure_running()  # which lets interrupts through when it starts
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(20)
        process.kill()
        process.join(20)


def _serve(link: Connection, load: Callable[[], Detector], work) -> None:
    """The life of a process: it ends when it is told to, or when nobody listens any more."""
    signal.signal(signal.SIGTERM, _leave)
    with one_thread(), contextlib.suppress(EOFError, OSError):
        try:
            detector = load()
        except InputError as error:
            link.send(error)
            return
        while True:
            name, item = link.recv()
            link.send(attempt(name, work, detector, item, link.send))


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what is half-written is being removed
    sys.exit(1)
