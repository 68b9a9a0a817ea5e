"""What every reader returns: videos with their ground-truth tubes."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..structures import InputError, Tube


@dataclass(frozen=True, eq=False)
class Video:
    """One annotated video.

    Args:
        name: unique in its data set.
        path: a video file, or a folder with one image per frame in the order of their names.
        frames: how many there are; the annotations count them from 0.
        width: in pixels, as shown.
        height: in pixels, as shown.
        rate: frames per second.
        tubes: the ground truth, in pixels of this width and height. Frames outside all tubes are known to hold no action.
        labelled: the frames of which that is true, ascending; what happens in others is not known. None for all.

    Raises:
        InputError: if there is no frame or pixel, a tube goes on after the last frame, or no frame is labelled, or one beyond.
    """

    name: str
    path: Path
    frames: int
    width: int
    height: int
    rate: Fraction
    tubes: tuple[Tube, ...]
    labelled: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or self.width < 1 or self.height < 1 or self.rate <= 0:
            size = f"{self.frames} frames of {self.width}x{self.height} at {self.rate} a second"
            raise InputError(f"video {self.name!r} has {size}; each number must be positive.")
        for tube in self.tubes:
            if tube.stop > self.frames:
                raise InputError(f"video {self.name!r} has {self.frames} frames, but a tube goes on to frame {tube.stop - 1}.")
        if self.labelled is not None:
            object.__setattr__(self, "labelled", tuple(sorted(set(self.labelled))))
            if not self.labelled or not 0 <= self.labelled[0] <= self.labelled[-1] < self.frames:
                which = f"{self.labelled[0]} to {self.labelled[-1]}" if self.labelled else "none"
                raise InputError(
                    f"video {self.name!r} has {self.frames} frames, of which {which} are labelled; name some of them."
                )

    def boxes_at(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The ground truth of one frame.

        Args:
            frame: counted from 0.

        Returns:
            Boxes (N, 4) float32 and their labels (N,) int64, one row per tube that covers the frame; N may be 0.
        """
        tubes = [tube for tube in self.tubes if tube.start <= frame < tube.stop]
        boxes = np.array([tube.boxes[frame - tube.start] for tube in tubes], np.float32).reshape(-1, 4)
        return boxes, np.array([tube.label for tube in tubes], np.int64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Videos that share a list of classes.

    Args:
        name: for messages and tables.
        classes: their names; a label is an index into them.
        videos: at least one, all names different.
        backwards: pairs of classes, the second of which a video of the first shows when played backwards: sitting down is
            standing up. Training plays such videos in both directions.

    Raises:
        InputError: for no class, no video, a name twice or a label without a class.
    """

    name: str
    classes: tuple[str, ...]
    videos: tuple[Video, ...]
    backwards: tuple[tuple[str, str], ...] = ()

    @property
    def marks(self) -> set[str]:
        """A short hash of each video's name, by which a model knows again what it learnt from without telling the names."""
        family = self.name.partition(" ")[0]
        return {hashlib.sha256(f"{family}/{video.name}".encode()).hexdigest()[:8] for video in self.videos}

    @property
    def digest(self) -> str:
        """A short hash of the videos' names and ground truth."""
        found = hashlib.sha256()
        for video in self.videos:
            found.update(repr((video.name, video.frames, float(video.rate), video.labelled)).encode())
            for tube in video.tubes:
                found.update(repr((tube.label, tube.start)).encode() + np.ascontiguousarray(tube.boxes).tobytes())
        return found.hexdigest()[:12]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "videos", tuple(self.videos))
        if not self.classes:
            raise InputError(f"data set {self.name!r} has no class; name at least one.")
        if not self.videos:
            raise InputError(f"data set {self.name!r} has no video; check its folder and the part that was asked for.")
        for what, names in (("class", self.classes), ("video", [video.name for video in self.videos])):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise InputError(f"data set {self.name!r} has the {what} {twice[0]!r} more than once; names must differ.")
        strangers = {name for pair in self.backwards for name in pair} - {*self.classes}
        if strangers:
            raise InputError(f"data set {self.name!r} plays {sorted(strangers)[0]!r} backwards, which is none of its classes.")
        for video in self.videos:
            for tube in video.tubes:
                if tube.label >= len(self.classes):
                    known = f"the {len(self.classes)} classes are numbered from 0 to {len(self.classes) - 1}"
                    raise InputError(f"video {video.name!r} has the label {tube.label}, but {known}.")

    def __len__(self) -> int:
        return len(self.videos)

    def subset(self, names: Iterable[str]) -> "Dataset":
        """The videos of these names, in the order given.

        Raises:
            InputError: for an unknown name, a name twice or no name.
        """
        known = {video.name: video for video in self.videos}
        names = list(names)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(f"data set {self.name!r} has no video {unknown[0]!r} ({len(unknown)} unknown in all).")
        return replace(self, videos=tuple(known[name] for name in names))
