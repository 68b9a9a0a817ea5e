"""What a detector takes of its machine: a device, some cores, memory that is kept."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..structures import InputError


def choose_device(name: str = "auto") -> torch.device:
    """A device by its name as PyTorch writes it ("cpu", "cuda", "cuda:1"); "auto" is the GPU where there is one.

    Raises:
        InputError: for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # an AssertionError where PyTorch was built without CUDA
        why = str(error).splitlines()[0]
        why = "there is no such device" if why.startswith("Expected one of") else why
        raise InputError(f"the device {name!r} cannot be used ({why}); use auto, cpu or cuda.") from None
    return device


def network_threads() -> int:
    """How many threads a network gets: half of the cores, and no more than torch may use."""
    return min(torch.get_num_threads(), max(1, (os.cpu_count() or 2) // 2))


@contextmanager
def inference_threads() -> Iterator[None]:
    """Let torch use half of the cores: maps of a few frames are too small to gain from more, on two cores one is 2.5 times as fast as two
    for a single frame; and decoder and encoder want the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(network_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tune_malloc(arenas: int | None = None) -> None:
    """Tell glibc to reuse large blocks instead of returning them to the system: eager networks on a CPU spend up to half of their
    time in page faults otherwise. Nothing happens on other systems.

    Args:
        arenas: how many pools of memory the threads share at most. In a server each step of the work may run in another thread, and each
            would keep a network's worth of freed blocks for itself.
    """
    if platform.system() != "Linux":
        return
    arena_max, mmap_threshold, trim_threshold, keep = -8, -3, -1, 1 << 25
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(mmap_threshold, keep)
        mallopt(trim_threshold, 8 * keep)
        if arenas is not None:
            mallopt(arena_max, arenas)
    except (OSError, AttributeError):
        return
