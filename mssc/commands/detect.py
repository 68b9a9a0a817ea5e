"""``mssc detect``: videos in, action tubes out."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tqdm import tqdm

from ..files import prove_writable
from ..structures import InputError, counted
from .options import FLAG, MODEL, OUTPUT, Device, default

if TYPE_CHECKING:
    from ..detection.detector import Detector

log = logging.getLogger("mssc")


@dataclass(frozen=True)
class Detect:
    """Find the action tubes of videos: an annotated MP4, a JSON and a CSV for each.

    For example:
        mssc detect video.mp4 folder/ --model jhmdb -o results
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
    draw: Annotated[bool, FLAG, tyro.conf.arg(help="Write no annotated video.")] = True

    def run(self) -> None:
        """Each video by itself: a bad one is named at the end and does not stop the others."""
        from ..detection.detector import Detector
        from ..detection.naming import find_sources, free_place

        sources, drawn, others = find_sources(self.videos)
        if drawn:
            log.info("left out: %s of earlier runs, such as %s", counted(len(drawn), "annotated video"), drawn[0])
        if others:
            kinds = ", ".join(sorted({file.suffix.lower() or "no suffix" for file in others}))
            log.info("left out: %s that no video is named like (%s), such as %s", counted(len(others), "file"), kinds, others[0])
        detector = Detector.load(self.model, self.device)
        failed: list[str] = []
        for source in sources:
            try:
                self._detect(detector, source.file, free_place(self.output, source))
            except InputError as error:
                failed.append(str(error))
            except Exception as error:  # whatever it is, it must not cost the videos that are still to come
                log.debug("%s", source.file, exc_info=True)
                failed.append(f"{source.file}: an error of the program, not of the file: {type(error).__name__}: {error}")
        if failed:
            count = f"{len(failed)} of {len(sources)} videos failed:"
            raise InputError("\n".join([count, *failed] if len(sources) > 1 else failed))

    def _detect(self, detector: "Detector", file: Path, target: Path) -> None:
        """One video. What was found is written before the video is drawn."""
        from ..detection.pipeline import detect_steps

        prove_writable(target.with_name(target.name + ".json"))
        annotated = target.with_name(target.name + ".mp4") if self.draw else None
        result = None
        with tqdm(desc=file.name, unit="frame", dynamic_ncols=True) as bar:
            for step in detect_steps(file, detector, self.threshold, annotated):
                _show(bar, step.done, step.total, step.stage)
                if step.complete and result is None:
                    result = step.result
                    result.write_json(target.with_name(target.name + ".json"))
                    result.write_csv(target.with_name(target.name + ".csv"))
        assert result is not None  # every video has a frame
        for row in result.to_json()["tubes"]:
            what = f"{row['action']} {row['score']:.2f}, {row['start_seconds']:.2f} to {row['end_seconds']:.2f} s"
            log.info("  actor %d: %s", row["actor"], what)
        found = len(result.tubes)
        said = counted(found, "action tube") if found else f"no action found at threshold {result.threshold:g}"
        log.info("%s: %s, %.0f frames a second, in %s.*", file, said, result.frames_per_second, target)


def _show(bar: tqdm, done: int, total: int | None, stage: str) -> None:
    if done < bar.n:  # the next stage begins
        bar.reset()
    bar.total = max(total, done) if total else None
    bar.set_postfix_str(stage, refresh=False)
    bar.update(done - bar.n)
