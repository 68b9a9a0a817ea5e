"""``mssc detect``: videos in, action tubes out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..structures import InputError, counted
from .options import FLAG, MODEL, OUTPUT, Device, Runtime, default
from .sharing import Jobs, Shard, Share, VideoBar

if TYPE_CHECKING:
    from ..detection.pipeline import Step
    from ..detection.written import Job

log = logging.getLogger("mssc")


@dataclass(frozen=True)
class Detect:
    """Find the action tubes of videos: an annotated MP4, a JSON and a CSV for each.

    Of several videos, as many are done at a time as there are cores. When the same command is given again, those of
    which there are results of the same model, runtime and threshold are left as they are.

    For example:
        mssc detect video.mp4 folder/ --model jhmdb -o results
        mssc detect folder/ -o results --shard 3/16
    """

    videos: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="VIDEO...", help_behavior_hint="(required)")]
    """Video files, or folders of them."""
    output: Annotated[Path, OUTPUT] = Path("outputs")
    """Folder for the results."""
    model: Annotated[str, MODEL, default("jhmdb")] = "default"
    """Name of a model that ships, or a model's folder."""
    threshold: Annotated[float | None, default("the model's own")] = None
    """Report tubes of at least this score, 0 to 1."""
    device: Device = "auto"
    runtime: Runtime = "auto"
    draw: Annotated[bool, FLAG, tyro.conf.arg(help="Write no annotated video.")] = True

    shard: Shard = None
    jobs: Jobs = None

    def run(self) -> None:
        """Each video by itself: a bad one is named at the end and does not stop the others."""
        from ..detection.naming import find_sources, free_places
        from ..detection.workers import how_many, refuse
        from ..detection.written import Job
        from ..model.shipped import default_threshold, load_config, model_folder, model_hash, name_of

        share = Share(self.shard)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"--threshold is {self.threshold}; it must lie in [0, 1].")
        if self.output.exists() and not self.output.is_dir():
            raise InputError(
                f"{self.output} is a file, and results cannot be written into it; name a folder for the results with -o."
            )
        how_many(self.jobs, "cpu")  # a number that is none is refused, of a single video too
        sources, drawn, others = find_sources(self.videos)
        if drawn:
            log.info("left out: %s of earlier runs, such as %s", counted(len(drawn), "annotated video"), drawn[0])
        if others:
            kinds = ", ".join(sorted({file.suffix.lower() or "no suffix" for file in others}))
            log.info("left out: %s that no video is named like (%s), such as %s", counted(len(others), "file"), kinds, others[0])
        folder = model_folder(self.model)
        load_config(folder)  # what is no model is refused as such
        threshold = default_threshold(folder) if self.threshold is None else self.threshold
        places = zip(sources, free_places(self.output, sources), strict=True)
        weights = model_hash(folder)
        part = share.part(
            [Job(source, base, self.draw, threshold, name_of(folder), weights, self.runtime) for source, base in places]
        )
        run = self._one if len(sources) == 1 else self._several
        refuse(share.gather(run(share.mine(part), share)), len(part))

    def _one(self, jobs: "Sequence[Job]", share: Share) -> list[str]:
        """A video that is the only one, frame by frame; none in another process of a launch. Says what failed."""
        from ..detection.detector import Detector
        from ..detection.workers import attempt

        failed: list[str] = []
        for job in jobs:
            detector = Detector.load(self.model, share.device(self.device), self.runtime)
            with tqdm(desc=job.source.file.name, unit="frame", dynamic_ncols=True) as bar:
                said, reason = attempt(str(job.source.file), job.run, detector, partial(_show, bar))
            failed += _tell(said, reason)
        return failed

    def _several(self, jobs: "Sequence[Job]", share: Share) -> list[str]:
        """What is not done yet, some videos at a time. Says what failed."""
        from ..detection.detector import Detector
        from ..detection.workers import each, how_many
        from ..detection.written import in_turn

        device = share.device(self.device)
        at_a_time = how_many(self.jobs, device)
        todo = {str(job.source.file): job for job in jobs if not job.is_done()}
        if len(todo) < len(jobs):
            log.info("%d of %d videos are done already, in %s", len(jobs) - len(todo), len(jobs), self.output)
        failed: list[str] = []
        with logging_redirect_tqdm(), VideoBar(len(jobs), len(jobs) - len(todo), share.first) as bar:
            for _, said, reason in each(
                in_turn, todo, partial(Detector.load, self.model, device, self.runtime), at_a_time, bar.moved
            ):
                failed += _tell(said, reason)
        return failed


def _tell(said: list[str] | None, reason: str | None) -> list[str]:
    """Tell what was found; what failed is told at the end."""
    if said:
        log.info("%s", "\n".join(said))
    return [] if reason is None else [reason]


def _show(bar: tqdm, step: "Step") -> None:
    if step.done < bar.n:  # the next stage begins
        bar.reset()
    bar.total = max(step.total, step.done) if step.total else None
    bar.set_postfix_str(step.stage, refresh=False)
    bar.update(step.done - bar.n)
