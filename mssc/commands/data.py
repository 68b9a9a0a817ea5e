"""``mssc check-data`` and ``mssc import-annotations``: what comes before training."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from ..data.catalogue import Name
from ..structures import InputError, counted
from .options import DIR, OUTPUT, default

log = logging.getLogger("mssc")


@dataclass(frozen=True)
class CheckData:
    """Say what a data set holds and what is wrong with it, before anyone trains. Exit code 2 if it cannot be used.

    For example:
        mssc check-data --dataset custom --data my-videos -o report
    """

    dataset: Name
    """What to look at; custom are your own videos."""
    data: Annotated[Path, DIR] = Path("data")
    """Folder of the data set."""
    output: Annotated[Path | None, OUTPUT, default("none is written")] = None
    """Folder for report.json and boxes.png, a sheet of drawn boxes."""
    split: int = 1
    """Of J-HMDB: 1, 2 or 3."""

    def run(self) -> None:
        """Read every part that is there, decode every video, report."""
        from ..data.check import check

        parts, problems = self._custom() if self.dataset == "custom" else self._known()
        report = check(f"{self.dataset} in {self.data}", parts, problems, lambda videos: _bar(videos, "decoding"))
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
    """Turn CVAT's XML or zip, a COCO-style JSON or another csv into the plain csv of one's own videos.

    For example:
        mssc import-annotations export.zip -o my-videos/boxes.csv
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The annotations."""
    output: Annotated[Path, OUTPUT, tyro.conf.arg(metavar="FILE")]
    """The csv to write: boxes.csv in the folder that has your videos."""
    video: Annotated[str | None, default("as the file says")] = None
    """Name of the video, if the file does not say it or says another."""
    first_frame: Literal[0, 1] = 0
    """What the file calls the first frame (csv and JSON; CVAT always says 0)."""
    boxes: Literal["pixels", "normalised"] = "pixels"
    """Whether boxes are pixels, or shares of the frame from 0 to 1; these need --videos."""
    videos: Annotated[Path | None, DIR, default("none is needed")] = None
    """Folder of the videos, for their sizes."""
    occluded: Literal["keep", "drop"] = "keep"
    """What to do with boxes that CVAT marks as occluded."""

    def run(self) -> None:
        """Read, convert, write."""
        from ..data import custom, table

        rows = custom.read_annotations(self.file, self.first_frame, self.video, self.occluded)
        if self.boxes == "normalised":
            rows = self._to_pixels(rows)
        elif rows.normalised:
            raise InputError(
                f"{self.file} has boxes from {rows.boxes.min():g} to {rows.boxes.max():g}: they look normalised; "
                "add --boxes normalised --videos FOLDER, and they become pixels."
            )
        table.write_csv(rows, self.output)
        tracks = len({(video, track) for video, track in zip(rows.video, rows.track, strict=True) if track})
        actions = ", ".join(sorted(set(rows.action)))
        held = ((len(rows), "box"), (tracks, "track"), (len(set(rows.video)), "video"))
        log.info("%s, actions %s: %s", ", ".join(counted(*some) for some in held), actions, self.output)

    def _to_pixels(self, rows):
        import dataclasses

        import numpy as np

        from ..data import media

        if not rows.normalised:
            raise InputError(f"{self.file} has boxes up to {rows.boxes.max():g}, so they are no shares of the frame.")
        if self.videos is None or not self.videos.is_dir():
            raise InputError(f"shares of the frame need the videos' sizes: --videos is {self.videos}; name their folder.")
        paths = media.find(self.videos)
        meant = media.resolve(dict.fromkeys(rows.video), paths)
        absent = [name for name, there in meant.items() if there is None]
        if absent:
            raise InputError(media.say_missing(absent, len(meant), str(self.videos)) + "; add them or remove their rows.")
        looks = {name: media.look(paths[there]) for name, there in meant.items() if there is not None}
        scale = np.array([[looks[name].width, looks[name].height] * 2 for name in rows.video])
        return dataclasses.replace(rows, boxes=rows.boxes * scale)
