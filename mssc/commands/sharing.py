"""Which of the videos this process takes, where several processes or machines do one command's work."""

import logging
import os
import re
import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import tyro
from tqdm import tqdm

from ..structures import InputError, counted

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")
Shard = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="N/OF",
        help="Only this part of the videos, such as 3/16, for batch schedulers: every 16th from the third on.",
        help_behavior_hint="(default: all)",
    ),
]
Jobs = Annotated[
    int | None,
    tyro.conf.arg(metavar="N", help="Videos at a time.", help_behavior_hint="(default: one per core, or one on a GPU)"),
]
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""How torchrun, which `accelerate launch` uses, and the kinds of MPI say how many processes they started."""


class Share:
    """A share of a command's videos: of a shard that is named, what falls to this process of an `accelerate launch`.

    Args:
        shard: such as 3/16; None for all.

    Attributes:
        first: whether this is the process that speaks for all of its launch.

    Raises:
        InputError: for a shard that is none.
    """

    def __init__(self, shard: str | None = None) -> None:
        said = re.fullmatch(r"(\d+)/(\d+)", shard or "1/1", re.ASCII)
        self.number, self.of = (int(said[1]), int(said[2])) if said else (0, 0)
        if not 1 <= self.number <= self.of:
            raise InputError(f"--shard is {shard!r}; write it as 3/16 for the third of 16 parts, from 1/16 to 16/16.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # by which launchers and schedulers say what Ctrl-C does
        self.shard, self.state = shard, _launched()
        self.first = self.state is None or self.state.is_main_process
        if not self.first:
            logging.getLogger("mssc").setLevel(logging.WARNING)

    def part(self, videos: Sequence[T]) -> Sequence[T]:
        """The shard's videos.

        Raises:
            InputError: if it has none.
        """
        part = videos[self.number - 1 :: self.of]
        if videos and not part:
            raise InputError(
                f"--shard {self.shard} has no video, for there are {len(videos)} in all; "
                f"cut them into {counted(len(videos), 'part')} at most."
            )
        return part

    def mine(self, part: Sequence[T]) -> Sequence[T]:
        """What of a shard's videos falls to this process; it may be none."""
        return part if self.state is None else part[self.state.process_index :: self.state.num_processes]

    def device(self, name: str) -> str:
        """A device by its name; of several GPUs, "auto" is this process's own."""
        import torch

        if self.state is None or name != "auto" or not torch.cuda.is_available():
            return name
        return f"cuda:{self.state.local_process_index % torch.cuda.device_count()}"

    def gather(self, failed: list[str]) -> list[str]:
        """Wait for the other processes of the launch.

        Returns:
            What failed in any of them; nothing in those that do not speak.

        Raises:
            InputError: if another one came to an early end.
        """
        if self.state is None:
            return failed
        from accelerate.utils import gather_object

        try:
            everything = gather_object(failed)
            self.state.destroy_process_group()
        except RuntimeError as error:
            log = logging.getLogger("mssc")
            log.debug("gathering", exc_info=True)
            raise InputError(
                f"another of the {self.state.num_processes} processes came to an early end ("
                f"{str(error).splitlines()[0][:100]}); what is done is kept, give the same command again."
            ) from None
        return everything if self.first else []


def _launched() -> "PartialState | None":
    """What accelerate knows of the processes that were started together; None where this one is alone."""
    if not any(os.environ.get(name, "1").isdigit() and int(os.environ.get(name, "1")) > 1 for name in _SIZES):
        return None
    from accelerate import PartialState

    return PartialState(cpu=True, timeout=timedelta(days=30))  # nothing is computed together, so that a GPU is not needed for it


class VideoBar(tqdm):
    """A progress bar over all videos, those that are being worked on counted by how far they are.

    Args:
        videos: how many.
        done: so many are done already.
        shown: or else it is silent.
    """

    def __init__(self, videos: int, done: int = 0, shown: bool = True) -> None:
        form = "{l_bar}{bar}| {n:.1f}/{total_fmt} videos [{elapsed}<{remaining}{postfix}]"
        super().__init__(total=videos, initial=done, disable=not shown, dynamic_ncols=True, bar_format=form)
        self.shares: dict[str, float] = {}

    def moved(self, name: str, share: float) -> None:
        """A video is done to this share, in [0, 1]."""
        self.n = min(round(self.n + share - self.shares.get(name, 0.0), 6), self.total)  # sums of fractions go astray
        self.update(0)
        self.shares[name] = share
