"""What was found in a video, and how it is written down."""

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np

from ..files import fingerprint, whole_file, write_whole
from ..linking import identify, join
from ..structures import Detections, Tube
from ..video import VideoInfo
from .people import Person

_NUMBERS = re.compile(r"\[\n([^][{}\"]+)\]")
"""Lists of numbers in indented JSON, and nothing in a text, where no line ends: each gets a line of its own."""
CSV_COLUMNS = ("actor", "action", "score", "start_frame", "end_frame", "start_seconds", "end_seconds")


@dataclass(frozen=True)
class VideoResult:
    """What was found in a video.

    Attributes:
        info: about the video.
        classes: names of the actions.
        tubes: that score at least `threshold`, in order of their start.
        detections: of every frame, all rows of at least `LOWEST_SCORE`, with the scores of their links.
        times: seconds of each frame, by the file's clock, which need not begin at 0.
        timings: seconds that each stage took; decoding, in the first pass with resizing, runs beside the others and counts as far as they
            waited for it.
        model: its name.
        threshold: used.
        video: the annotated video, if one was asked for.
        notes: sentences on what is wrong with the file, such as damage that frames were lost to.
        people: everybody who is seen, whether or not an action is sure, in order of appearance.
    """

    info: VideoInfo
    classes: tuple[str, ...]
    tubes: list[Tube]
    detections: Sequence[Detections]
    times: list[float]
    timings: dict[str, float]
    model: str
    threshold: float
    video: Path | None = None
    notes: list[str] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)

    @property
    def frames_per_second(self) -> float:
        """Of the whole pipeline."""
        return len(self.times) / max(sum(self.timings.values()), 1e-9)

    @property
    def end(self) -> float:
        """Seconds when the last frame ends."""
        return self.times[-1] + float(1 / self.info.rate)

    def seconds(self, tube: Tube) -> tuple[float, float]:
        """When a tube starts and ends; it ends when its last frame does."""
        return self.times[tube.start], self.times[tube.stop] if tube.stop < len(self.times) else self.end

    @cached_property
    def numbers(self) -> tuple[list[int], list[int]]:
        """Who is who: a number for each tube, and one for each of the people, from 1 in order of their appearance; who acts and was not
        seen as somebody comes after them. See `mssc.linking.join`. To be asked for when all of them are there."""
        seen = [person.tube for person in self.people]
        numbers = identify(seen)
        return join(self.tubes, seen, numbers), numbers

    @property
    def actors(self) -> list[int]:
        """Who does it: the number of each tube."""
        return self.numbers[0]

    def only(self, threshold: float, off: Sequence[str] = (), people: bool = True) -> "VideoResult":
        """The same without tubes that score less, without some actions, and perhaps without people; everybody keeps their number.

        Args:
            threshold: in [0, 1].
            off: names of actions.
            people: whether they are kept.
        """
        kept = [tube.score >= threshold and self.classes[tube.label] not in off for tube in self.tubes]
        tubes, seen = list(compress(self.tubes, kept)), self.people if people else []
        fewer = replace(self, tubes=tubes, people=seen, threshold=threshold)
        vars(fewer)["numbers"] = list(compress(self.actors, kept)), self.numbers[1][: len(seen)]
        return fewer

    def shown_at(self, frame: int) -> tuple[Detections, list[int]]:
        """The tubes that cover a frame as detections with the tubes' scores, and their actors."""
        here = [pair for pair in zip(self.tubes, self.actors, strict=True) if pair[0].start <= frame < pair[0].stop]
        boxes = np.array([tube.boxes[frame - tube.start] for tube, _ in here]).reshape(-1, 4)
        labels, scores = (np.array([getattr(tube, name) for tube, _ in here]) for name in ("label", "score"))
        return Detections(boxes, labels, scores), [actor for _, actor in here]

    def others_at(self, frame: int) -> tuple[np.ndarray, list[int]]:
        """Boxes (P, 4) of the people in a frame of whom no tube covers it, and their numbers."""
        _, acting = self.shown_at(frame)
        pairs = zip(self.people, self.numbers[1], strict=True)
        here = [(tube, number) for (tube, _), number in pairs if tube.start <= frame < tube.stop and number not in acting]
        return np.array([tube.boxes[frame - tube.start] for tube, _ in here]).reshape(-1, 4), [number for _, number in here]

    def _told(self, tube: Tube, actor: int, **what: object) -> dict:
        """A tube with its boxes, as plain values."""
        start, end = self.seconds(tube)
        return {
            "actor": actor,
            **what,
            "start_frame": tube.start,
            "end_frame": tube.stop - 1,
            "start_seconds": round(start, 4),
            "end_seconds": round(end, 4),
            "boxes": np.round(tube.boxes.astype(np.float64), 2).tolist(),
        }

    def _rows(self) -> list[dict]:
        """The tubes as plain values."""
        return [
            self._told(tube, actor, action=self.classes[tube.label], score=round(tube.score, 4))
            | {"scores": np.round(tube.scores, 4).tolist()}
            for tube, actor in zip(self.tubes, self.actors, strict=True)
        ]

    def to_json(self) -> dict:
        """Plain values: the video, the model, each tube with its boxes, and everybody who is seen, with the actions that are likeliest."""
        everybody = []
        for (tube, likeliest), number in zip(self.people, self.numbers[1], strict=True):
            best = [{"action": self.classes[label], "score": round(score, 4)} for label, score in likeliest]
            everybody.append(self._told(tube, number, score=round(tube.score, 4), likeliest=best))
        return {
            "video": self.info.path.name,
            "width": self.info.width,
            "height": self.info.height,
            "frames": len(self.times),
            "frames_per_second": float(self.info.rate),
            "seconds": round(self.end, 4),
            "model": self.model,
            "threshold": self.threshold,
            "boxes_are": "x1, y1, x2, y2 in pixels of the video, one per frame from start_frame to end_frame",
            "tubes": self._rows(),
            "people": everybody,
            "notes": self.notes,
        }

    def write_json(self, path: Path, run: Mapping[str, str] | None = None) -> None:
        """Write `to_json`, where the video is, as seen from the file's folder, and how large and of when; whole or not at all.

        Args:
            path: of the file.
            run: more to be noted: the model's weights and the runtime, say.

        Raises:
            InputError: if the file cannot be written.
        """
        try:
            source = os.path.relpath(self.info.path.parent.resolve() / self.info.path.name, path.parent.resolve())
        except ValueError:  # another drive
            source = str(self.info.path.resolve())
        about: dict[str, object] = {**(run or {}), "source": source, "source_is": None}
        if self.info.path.exists():
            about["source_is"] = fingerprint(self.info.path)
        write_whole(
            path, _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(self.to_json() | about, indent=1))
        )

    def write_csv(self, path: Path) -> None:
        """Write a line per tube.

        Raises:
            InputError: if the file cannot be written.
        """
        with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore")
            rows.writeheader()
            rows.writerows(self._rows())
