"""What a detector takes of its machine: a device, some cores, memory that is kept. Torch is asked only where it is there already, or where
there is a GPU: its import takes seconds and half a gigabyte."""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..structures import InputError

if TYPE_CHECKING:
    import torch

DRIVERS = ("libcuda.so.1", "nvcuda.dll")
OTHER_DRIVER = Path("/dev/kfd")  # AMD's
_limits: list[int] = []
"""Of threads, see `one_thread`."""


def choose_device(name: str = "auto") -> "torch.device":
    """A device by its name as PyTorch writes it ("cpu", "cuda", "cuda:1"); "auto" is the GPU where there is one.

    Raises:
        InputError: for a device that is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise AssertionError("networks here run on no such device")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # an AssertionError where PyTorch was built without CUDA
        why = str(error).splitlines()[0]
        why = "there is no such device" if why.startswith("Expected one of") else why
        raise InputError(f"the device {name!r} cannot be used ({why}); use auto, cpu or cuda.") from None
    return device


def is_cpu(name: str = "auto") -> bool:
    """Whether `choose_device` gives the CPU, found out without torch where that can be."""
    return name == "cpu" or (name == "auto" and not _may_have_gpu()) or choose_device(name).type == "cpu"


def _may_have_gpu() -> bool:
    if OTHER_DRIVER.exists():
        return True
    for library in DRIVERS:
        with contextlib.suppress(OSError, AttributeError):
            driver, count = ctypes.CDLL(library), ctypes.c_int()
            return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    return False


def usable_cores() -> int:
    """Cores that this process may run on; a batch scheduler may have left it a few of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def all_threads() -> int:
    """How many threads this process may use: as many as torch does where it is there, else as many as it would."""
    if torch := sys.modules.get("torch"):
        return min([torch.get_num_threads(), *_limits])
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min([int(wanted) if wanted.isdecimal() and int(wanted) else usable_cores(), *_limits])


def network_threads() -> int:
    """How many threads a network gets: half of the cores, and no more than the process may use."""
    return min(all_threads(), max(1, (os.cpu_count() or 2) // 2))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let networks use one thread within the block."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    _limits.append(1)
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        _limits.pop()
        if torch:
            torch.set_num_threads(before)


@contextmanager
def inference_threads() -> Iterator[None]:
    """Let torch use half of the cores: maps of a few frames are too small to gain from more, on two cores one is 2.5 times as fast as two
    for a single frame; and decoder and encoder want the others."""
    import torch

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
