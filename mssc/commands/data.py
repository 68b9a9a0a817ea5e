"""``mssc check-data`` and ``mssc import-annotations``: what comes before training."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from ..files import claim, set_aside
from ..structures import InputError, counted
from .options import DIR, OUTPUT, OnData, default

log = logging.getLogger("mssc")


@dataclass(frozen=True, kw_only=True)
class CheckData(OnData):
    """Say what a data set holds and what is wrong with it, before anyone trains. Exit code 2 if it cannot be used.

    For example:
        mssc check-data --dataset custom --data my-videos -o report
    """

    output: Annotated[Path | None, OUTPUT, default("none is written")] = None
    """Folder for report.json and boxes.png, a sheet of drawn boxes."""

    def run(self) -> None:
        """Read every part that is there, decode every video, report."""
        from ..data.check import check
        from ..video.notes import warned

        if self.output is not None:
            claim(self.output, "usable", "report.json", "boxes.png")
        with warned("mssc") as said:
            parts, problems = self._custom() if self.dataset == "custom" else self._known()
            report = check(f"{self.dataset} in {self.data}", parts, problems, lambda videos: _bar(videos, "decoding"))
        report.warnings[:0] = said
        for line in report.lines():
            log.info("%s", line)
        if self.output is not None:
            report.write(self.output)
            log.info("the report and the sheet of boxes are in %s", self.output)
        if report.problems:
            raise InputError(
                f"{self.data} cannot be used as it is: it has {counted(len(report.problems), 'problem')}, see above."
            )

    def _custom(self) -> tuple[dict, list[str]]:
        from ..data import custom

        folder = custom.survey(self.data, lambda names: _bar(names, "opening"))
        problems = custom.problems(folder)
        if not problems:
            _say_plainly(folder)
        wanted = ("train", "val", "test") if "test" in folder.parts.values() else ("train", "val")
        parts = {}
        for part in wanted:
            try:
                parts[part] = custom.build(folder, part)
            except InputError as error:
                problems.append(f"part {part}: {error}")
        return parts, list(dict.fromkeys(problems))

    def _known(self) -> tuple[dict, list[str]]:
        from ..data.catalogue import load_dataset

        parts, refused = {}, []
        for part in ("train", "val", "test"):
            try:
                parts[part] = load_dataset(self.dataset, self.data, part, self.split, "skip" if self.dataset == "jhmdb" else None)
            except InputError as error:
                refused.append(f"part {part}: {error}")
        if not parts:
            raise InputError(refused[0].partition(": ")[2])
        for sentence in refused:
            log.warning("left out: %s", sentence)
        return parts, []


def _say_plainly(folder) -> None:
    """How the annotations were understood, so that a wrong reading is seen."""
    rows = folder.rows
    log.info(
        "%s: %s in %d of %s, pixels from %g to %g, frames counted from 0 (the first is %d).",
        rows.source,
        counted(len(rows), "box"),
        len(set(rows.video)),
        counted(len(folder.paths), "video"),
        rows.boxes.min(),
        rows.boxes.max(),
        rows.frame.min(),
    )


def _bar(items: Sequence, what: str) -> Iterable:
    return tqdm(items, desc=what, unit="video", dynamic_ncols=True)


@dataclass(frozen=True)
class ImportAnnotations:
    """Turn what an annotation tool exports into the plain csv of one's own videos.

    CVAT's XML or zip, JSON of Label Studio, VIA or COCO, VIA's csv, tracking text and other plain csv are read.

    For example:
        mssc import-annotations export.zip -o my-videos/boxes.csv
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The annotations."""
    output: Annotated[Path, OUTPUT, tyro.conf.arg(metavar="FILE")]
    """The csv to write: boxes.csv in the folder that has your videos."""
    video: Annotated[str | None, default("as the file says")] = None
    """Name of the video, if the file does not say it or says another."""
    first_frame: Annotated[Literal[0, 1] | None, default("as such files do, or as its numbers tell")] = None
    """What the file calls the first frame."""
    boxes: Literal["pixels", "normalised"] = "pixels"
    """Whether boxes are pixels, or shares of the frame from 0 to 1; these need --videos."""
    videos: Annotated[Path | None, DIR, default("that of the output")] = None
    """Folder of the videos, for their sizes and times."""
    occluded: Literal["keep", "drop"] = "keep"
    """What to do with boxes that CVAT marks as occluded."""

    def run(self) -> None:
        """Read, convert, write."""
        from ..data import annotations
        from ..data.media import Videos

        around = self.output.parent / "videos" if (self.output.parent / "videos").is_dir() else self.output.parent
        place = self.videos or (around if around.is_dir() else None)
        if place is not None and not place.is_dir():
            raise InputError(f"--videos is {place}, which is no folder; name the one that holds your videos.")
        videos = Videos(place)
        rows = annotations.read(self.file, videos, self.first_frame, self.video, self.occluded)
        if self.boxes == "normalised":
            rows = annotations.to_pixels(rows, videos)
        elif rows.normalised:
            raise InputError(
                f"{self.file} has boxes from {rows.boxes.min():g} to {rows.boxes.max():g}: they look normalised; "
                "add --boxes normalised --videos FOLDER, and they become pixels."
            )
        if kept := set_aside(self.output):
            log.info("what was in %s is now %s", self.output, kept)
        annotations.write_csv(rows, self.output)
        tracks = len({(video, track) for video, track in zip(rows.video, rows.track, strict=True) if track})
        actions = ", ".join(sorted(set(rows.action)))
        held = ((len(rows), "box"), (tracks, "track"), (len(set(rows.video)), "video"))
        log.info("%s, actions %s: %s", ", ".join(counted(*some) for some in held), actions, self.output)
