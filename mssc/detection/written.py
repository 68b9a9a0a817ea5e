"""A video's results as files: its tubes as JSON and CSV, and, if wanted, the video with its tubes drawn."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..files import alone, fingerprint, prove_writable
from ..structures import InputError, counted
from . import pipeline
from .detector import Detector
from .naming import SUFFIXES, Source, is_free, with_suffix
from .pipeline import Step
from .workers import Tick


@dataclass(frozen=True)
class Job:
    """What `mssc detect` does about a video.

    Attributes:
        source: the video.
        base: where its results go, without a suffix, see `free_places`.
        draw: whether to write the video with its tubes drawn.
        threshold: tubes of at least this score are reported, in [0, 1].
        model: its name.
        weights: the first hex digits of the model's weights' SHA-256.
        runtime: that computes the network; "auto" is content with any.
    """

    source: Source
    base: Path
    draw: bool
    threshold: float
    model: str
    weights: str
    runtime: str = "auto"

    def is_done(self) -> bool:
        """Whether an earlier run did the same and left the results whole, and the video is as it was then."""
        files = [with_suffix(self.base, suffix) for suffix in (SUFFIXES if self.draw else SUFFIXES[:2])]
        try:
            began, *after = [file.stat().st_mtime_ns for file in files]
            content = json.loads(files[0].read_text(encoding="utf-8"))
            facts = [content.get(name) for name in ("model", "weights", "threshold", "source_is")]
            same = facts == [self.model, self.weights, self.threshold, fingerprint(self.source.file)]
        except (OSError, ValueError, AttributeError):
            return False
        return same and began <= min(after) and self.runtime in ("auto", content.get("runtime"))

    def run(self, detector: Detector, show: Callable[[Step], object] = lambda step: None) -> list[str]:
        """Detect, and write. What was found is written before the video is drawn.

        Args:
            detector: of the model.
            show: is called with every step.

        Returns:
            What to say of it, line by line.

        Raises:
            InputError: for a video or a place that cannot be used, or one that another run writes to.
        """
        file, annotated, result = self.source.file, with_suffix(self.base, ".mp4") if self.draw else None, None
        prove_writable(with_suffix(self.base, ".json"))
        with alone(self.base):
            if not is_free(self.base, file):
                raise InputError(
                    f"{self.base}.* came from another run meanwhile; give the command again, or another folder with -o."
                )
            for step in pipeline.detect_steps(file, detector, self.threshold, annotated):
                show(step)
                if step.complete and result is None:
                    result = step.result
                    run = {"weights": self.weights, "runtime": detector.runtime}
                    result.write_json(with_suffix(self.base, ".json"), run)
                    result.write_csv(with_suffix(self.base, ".csv"))
                    if not self.draw:  # an older one shows other boxes
                        with_suffix(self.base, ".mp4").unlink(missing_ok=True)
        assert result is not None  # every video has a frame
        said = []
        for row in result.to_json()["tubes"]:
            what = f"{row['action']} {row['score']:.2f}, {row['start_seconds']:.2f} to {row['end_seconds']:.2f} s"
            said.append(f"  actor {row['actor']}: {what}")
        found = len(result.tubes)
        what = counted(found, "action tube") if found else f"no action found at threshold {result.threshold:g}"
        said += [f"  {note}" for note in result.notes]
        return [*said, f"{file}: {what}, {result.frames_per_second:.0f} frames a second by {detector.runtime}, in {self.base}.*"]


def in_turn(detector: Detector, job: Job, tick: Tick) -> list[str]:
    """`Job.run`, as work for `each`."""
    stages = 2 if job.draw else 1

    def show(step: Step) -> None:
        drawing = step.stage == "drawing"
        tick((drawing + min(step.done / (step.total or step.done), 1.0) * bool(step.total)) / stages)

    return job.run(detector, show)
