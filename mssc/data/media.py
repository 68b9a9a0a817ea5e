"""Video files and folders of frames below a folder: which there are, what annotations call them, how long and large they are."""

import contextlib
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import video as video_files
from ..files import IMAGES, walk
from ..structures import InputError
from .decoding import image_files, is_dim, open_image

log = logging.getLogger(__name__)

FRAMES_RATE = Fraction(25)
"""Frames per second of a folder of images, which does not say."""


class Media(NamedTuple):
    """A video before it is decoded: frames, width and height in pixels as shown, frames per second, seconds of each frame, and width
    of a pixel over its height where players stretch it."""

    frames: int
    width: int
    height: int
    rate: Fraction
    times: np.ndarray
    pixel_aspect: Fraction = Fraction(1)


def find(folder: Path) -> dict[str, Path]:
    """Videos below a folder, at any depth: files by their suffix, and folders that hold images and no video.

    Left out are hidden files and, with a word, videos into which we drew boxes.

    Returns:
        Paths by name, in order; the name is the path relative to `folder`, with "/" between its parts, with the suffix.
    """
    found: dict[str, Path] = {}
    drawn: list[Path] = []
    for here, shown in walk(folder):
        videos = [path for path in shown if path.suffix.lower() in video_files.VIDEO_SUFFIXES]
        if here != folder and not videos and any(path.suffix.lower() in IMAGES for path in shown):
            videos = [here]
        drawn += [path for path in videos if path != here and video_files.is_drawn(path)]
        found |= {path.relative_to(folder).as_posix(): path for path in videos if path not in drawn}
    if drawn:
        log.info("left out: %d videos that show our own boxes, such as %s", len(drawn), drawn[0])
    return dict(sorted(found.items()))


def plain(name: str) -> str:
    """A name in the one way of composing letters: file systems and tools write é as one letter or as two."""
    return unicodedata.normalize("NFC", name)


class Videos:
    """The videos below a folder, each opened when it is first asked for, under whatever name annotations call it.

    Args:
        folder: None for none at all: then annotations must do without.

    Attributes:
        paths: by name, see `find`.
        unreadable: by name, why a video that was asked for cannot be used.
        by_image: names of those of which frames were told by their images' names.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.paths = find(folder) if folder is not None else {}
        self.unreadable: dict[str, str] = {}
        self._looks: dict[str, Media | None] = {}
        self._images: dict[str, dict[str, int]] = {}
        self.by_image: set[str] = set()
        self._elsewhere: set[str] = set()
        self._meant: list[defaultdict[str, list[str]]] = [defaultdict(list) for _ in range(8)]
        for name in self.paths:
            path = Path(name)
            stem = path.name if path.suffix.lower() not in video_files.VIDEO_SUFFIXES else path.stem
            # MOTChallenge's folders: <video>/img1 beside <video>/gt; of one video, its folder may be all that there is.
            last = path.parent.name or Path(folder or "").resolve().name if path.name == "img1" else stem
            keys = [plain(key) for key in (name, path.with_name(stem).as_posix(), path.name, last)]
            for table, key in zip(self._meant, keys + [key.casefold() for key in keys], strict=True):
                table[key].append(name)

    def name(self, given: str) -> str | None:
        """The video that annotations mean, with or without its suffix, with or without its folder; None if there is none.

        Letters may be composed in another way, as macOS has them, and small or capital, as Windows does not mind.

        Raises:
            InputError: for a name that fits several videos.
        """
        meant = plain(given.replace("\\", "/").removeprefix("./"))
        fits = self._fits(meant)
        if not fits and self.folder is not None:  # written from the folder above, or from the root
            above = [plain(folder.as_posix()) + "/" for folder in (Path(self.folder.name), self.folder, self.folder.resolve())]
            fits = next((self._fits(meant.removeprefix(place)) for place in above if meant.startswith(place)), [])
        if len(fits) > 1:
            raise InputError(
                f"the video {given!r} may be {fits[0]} or {fits[1]}; write the path from the videos' folder, with the suffix."
            )
        return fits[0] if fits else None

    def _fits(self, meant: str) -> list[str]:
        keys = [meant] * 4 + [meant.casefold()] * 4
        return next((table[key] for table, key in zip(self._meant, keys, strict=True) if key in table), [])

    def look(self, given: str) -> Media | None:
        """What is known of a video; None if it is not there or cannot be read."""
        name = self.name(given)
        if name is None:
            return None
        if name not in self._looks:
            try:
                self._looks[name] = look(self.paths[name])
            except InputError as error:
                self.unreadable[name], self._looks[name] = str(error), None
        return self._looks[name]

    def size(self, given: str, path: Path) -> tuple[int, int]:
        """Width and height, for annotations in `path` that need them; (1, 1) for a video that is not there, which is said elsewhere.

        Raises:
            InputError: if there is no folder of videos to look into.
        """
        if self.folder is None:
            raise InputError(
                f"{path} does not say everything by itself: the videos are needed too; name their folder with --videos."
            )
        seen = self.look(given)
        return (seen.width, seen.height) if seen is not None else (1, 1)

    def frame_at(self, given: str, seconds: float) -> int:
        """The frame that a player shows at a time, which tools round to milliseconds; 0 for a video that is not there.

        Behind the end frames are counted on, so that these are told from the last one.
        """
        seen = self.look(given)
        if seen is None:
            return 0
        late = int((seconds - float(seen.times[-1])) * float(seen.rate) - 1.5)
        return seen.frames + late if late > 0 else max(int(np.searchsorted(seen.times, seconds + 0.001, "right")) - 1, 0)

    def image(self, file: str) -> tuple[str, int] | None:
        """The video, a folder of images, and the frame that an image is, by its path or, if there is one such folder, its name alone.

        Where the image's own folder is not there, that is said.
        """
        path = Path(file.replace("\\", "/"))
        above = [path.parent.as_posix(), path.parent.name] if path.parent.name else []
        inside = next((name for given in above if (name := self.name(given))), None)
        folders = [inside] if inside else [name for name, place in self.paths.items() if place.is_dir()]
        found = [(name, frame) for name in folders if (frame := self._frame(name, path.stem)) is not None]
        if len(found) != 1:
            return None
        if above and not inside and above[0] not in self._elsewhere:
            self._elsewhere.add(above[0])
            log.warning("%s is not in %s; its images are taken for those of %s.", above[0], self.folder, found[0][0])
        self.by_image.add(found[0][0])
        return found[0]

    def _frame(self, name: str, stem: str) -> int | None:
        """The frame that an image without suffix is in a folder of images."""
        if name not in self._images:
            files = image_files(self.paths[name]) if self.paths[name].is_dir() else []
            stems = [plain(file.stem) for file in files]
            self._images[name] = {key: frame for keys in (map(str.casefold, stems), stems) for frame, key in enumerate(keys)}
        known, stem = self._images[name], plain(stem)
        return known.get(stem, known.get(stem.casefold()))


def look(path: Path, rate: Fraction = FRAMES_RATE) -> Media:
    """Open a video, count its frames and decode its first one. Containers' own counts are often wrong: see `mssc.video.times`.

    Args:
        path: a video file, or a folder of images.
        rate: frames per second of a folder of images.

    Raises:
        InputError: if it cannot be read.
    """
    if path.is_dir():
        files = image_files(path)
        width, height = open_image(files[0]).size
        if is_dim(files[0]):
            log.warning("%s has 16 bits and uses the lowest 12 of them, so it is nearly black; scale the images first.", files[0])
        return Media(len(files), width, height, rate, np.arange(len(files)) / float(rate))
    with contextlib.suppress(OSError):  # of which opening it tells more
        status = path.stat()
        return _look(path, status.st_mtime_ns, status.st_size)
    return _look(path)


@lru_cache(maxsize=10_000)
def _look(path: Path, *_: int) -> Media:
    """Of a video file as it is; each part of a data set asks anew."""
    info = video_files.probe(path)
    times = video_files.times(path)
    return Media(len(times), info.width, info.height, info.rate, times, info.pixel_aspect)


def find_clips(root: Path, names: Iterable[str], files: Collection[str], frames: Collection[str]) -> dict[str, Path]:
    """Where the videos ``<class>/<clip>`` of a data set are, as far as they are there.

    Args:
        root: of the data set.
        names: of the videos.
        files: folders of video files, with folders of the classes in them or without; the first that has a video counts.
        frames: folders, likewise, of a folder of images for each video; these come last.
    """

    @cache  # one listing per folder instead of a look per video and suffix
    def listing(base: str, category: str) -> dict[str, Path]:
        folder = root / base / category
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        if base in frames:
            return {path.name: path for path in paths if path.is_dir()}
        found: dict[str, Path] = {}
        for path in paths:
            if path.suffix.lower() in video_files.VIDEO_SUFFIXES and not path.name.startswith("."):
                if path.stem in found:
                    log.warning("%s and %s have one name; the second is taken.", found[path.stem], path.name)
                found[path.stem] = path
        return found

    found = {}
    for name in names:
        category, _, clip = name.rpartition("/")
        places = (listing(base, place).get(clip) for base in (*files, *frames) for place in (category, ""))
        if path := next(filter(None, places), None):
            found[name] = path
    return found


def check_missing(names: Collection[str], found: Collection[str], missing: str, where: str) -> None:
    """Warn of videos that are annotated and not there.

    Args:
        names: of all that are annotated.
        found: those that are there.
        missing: "skip" to warn, "error" to refuse.
        where: they were looked for.

    Raises:
        InputError: if they are to be refused, or none is there.
    """
    absent = [name for name in names if name not in found]
    if not absent:
        return
    message = say_missing(absent, len(names), where)
    if missing == "error" or not found:
        raise InputError(
            f'{message}. Add them; from Python, missing="skip" leaves them out, but one video at least must be there.'
        )
    log.warning("%s; left out.", message)


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Names for a message: "a, b, c and 4 more"."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def say_missing(absent: list[str], total: int, where: str) -> str:
    """The sentence on videos that are annotated and not there."""
    return f"{len(absent)} of {total} annotated videos are not in {where}: {first_few(absent)}"
