"""Work for processes of their own, each of which imports this module: without torch, as the command's own work."""

import os
import signal
import sys

from mssc.detection.resources import all_threads
from mssc.structures import InputError

KILLED, WRONG, BAD = "killed", "wrong", "bad"


def odd_work(detector: str, item: str, tick) -> str:
    """Work that fails in every way."""
    tick(0.5)
    if item == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == WRONG:
        raise IndexError("list index out of range")
    if item == BAD:
        raise InputError("bad.mp4 is no video.")
    torch = sys.modules.get("torch")
    return f"{detector} saw {item} on {torch.get_num_threads() if torch else all_threads()} thread"


def odd_load() -> str:
    """Stands for a model."""
    return "the model"


def no_load() -> str:
    """One that cannot be had."""
    raise InputError("there is no such model.")


def answer(detector, item, tick):
    """The item itself."""
    return item
