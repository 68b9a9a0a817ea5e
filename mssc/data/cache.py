"""Decoded frames of a data set on disk, so that training never waits for a video decoder.

All frames lie in one memory-mapped file of uint8 RGB, video after video, each (T, H, W, 3) in its own size; `index.json` says
where. A folder holds the videos of any number of data sets: what a new one lacks is added, and a video whose file has
changed is decoded again. J-HMDB-21's 928 clips take 7 GB.

Of a film that is labelled once a second (AVA), only what lies near labelled frames may be kept, whatever its length: a
quarter of an hour at 320x180 and 25 to 30 frames a second takes 3.9 to 4.7 GB, AVA's 235 films for training 1 TB.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..files import explained, write_whole
from ..structures import InputError, counted
from ..video import frames_per_look
from .dataset import Dataset, Video
from .decoding import decode, fingerprint, resize

log = logging.getLogger(__name__)

VERSION = 1
INDEX = "index.json"
MARGIN = 64 << 20  # bytes that stay free on the disk


@dataclass(frozen=True)
class _Entry:
    """Where a video's frames lie: (frames, height, width, 3) bytes from `offset` on, and what file they came from."""

    offset: int
    frames: int
    height: int
    width: int
    source: tuple[int, ...]  # of the video: see `fingerprint`
    kept: tuple[tuple[int, int], ...] | None = None  # the video's frames that these are, from one to before another; None for all


class FrameCache:
    """The frames of videos, by name. Safe to copy into worker processes: each opens the file itself, when it first reads.

    Args:
        folder: one that `build` made.

    Raises:
        InputError: if there is no complete cache in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        if index is None:
            raise InputError(f"{self.folder} holds no complete frame cache; build it with FrameCache.build(dataset, folder).")
        self._file, self.max_side, self._entries = index
        self._map: np.ndarray | None = None
        self._owner = 0

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        folder: str | Path,
        progress: bool = True,
        max_side: int = 320,
        workers: int = 2,
        reach: int | None = None,
    ) -> "FrameCache":
        """Decodes what the folder does not hold yet, and opens it.

        An interrupted build, or one on a full disk, leaves the folder as it was. If a video cannot be decoded, those that were are kept.

        Args:
            dataset: its videos are decoded as far as their `frames` say; a video that ends before is cached as it is, logged.
            folder: made if it does not exist.
            progress: show a bar.
            max_side: frames whose longer side exceeds it are made smaller, others keep their size.
            workers: threads that decode.
            reach: of videos that are labelled in some frames only, keep those within so many looks (see `frames_per_look`) of a
                labelled one; None keeps all.

        Raises:
            InputError: for a video that cannot be read or has another size than its annotations say, a full disk, and a
                folder that cannot be written.
        """
        if max_side < 1:
            raise InputError(f"the longest side of cached frames is {max_side}; it must be at least 1 pixel.")
        folder = Path(folder)
        near = {video.name: None if reach is None else _near(video, reach) for video in dataset.videos}
        fingerprints = {video.name: _source(video, near[video.name]) for video in dataset.videos}
        index = _read_index(folder)
        old = index[2] if index is not None and index[1] == max_side else {}
        before = index[0] if index is not None else None
        keep = {name: entry for name, entry in old.items() if fingerprints.get(name, entry.source) == entry.source}
        todo = [video for video in dataset.videos if video.name not in keep]
        if not todo:
            return cls(folder)
        plan, end = _plan(todo, fingerprints, near, max_side, keep)
        size = f"{end / 1e9:.1f} GB" if end >= 1e9 else f"{math.ceil(end / 1e6)} MB"
        log.info("%s to decode; all frames take %s in %s", counted(len(todo), "video"), size, folder)
        with _new_file(folder, end) as file:
            for name, entry in keep.items():
                _copy(folder / str(before), entry.offset, file, plan[name])
            lengths, refused = _decode_all(todo, file, plan, progress, workers)
            if refused is not None and not lengths:
                raise refused
            done = {name: plan[name] for name in (*keep, *lengths)}
            entries = {name: _shortened(entry, lengths.get(name, entry.frames)) for name, entry in done.items()}
            _write_index(folder, file.name, max_side, entries)
        _remove_leftovers(folder, file.name, before)
        if refused is not None:
            raise refused
        return cls(folder)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def length(self, name: str) -> int:
        """How many frames of the video there are, up to the last that is kept; may be fewer than its annotations claim."""
        entry = self._entry(name)
        return entry.frames if entry.kept is None else entry.kept[-1][1]

    def size(self, name: str) -> tuple[int, int]:
        """Height and width of the cached frames."""
        entry = self._entry(name)
        return entry.height, entry.width

    def frames(self, name: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Frames of one video.

        Args:
            name: of the video.
            indices: any order, repeats allowed; those before the first or after the last frame give the first or the last.

        Returns:
            A copy, (len(indices), H, W, 3) uint8 RGB.

        Raises:
            InputError: for a video that is not there, and for a frame that was not kept (see `build`).
        """
        return np.asarray(self.whole(name)[self.places(name, indices)])

    def clip(self, name: str, indices: Sequence[int] | np.ndarray, crop: tuple[int, int, int, int]) -> torch.Tensor:
        """Like `frames`, of a part of each: top, left, height and width in pixels. (len(indices), height, width, 3)."""
        top, left, height, width = crop
        part = self.whole(name)[self.places(name, indices), top : top + height, left : left + width]
        return torch.from_numpy(np.asarray(part))

    def whole(self, name: str) -> np.ndarray:
        """All frames of a video, (T, H, W, 3) uint8, where they lie: not to be written to."""
        entry = self._entry(name)
        pixels = self._pixels()[entry.offset : entry.offset + entry.frames * entry.height * entry.width * 3]
        return pixels.reshape(entry.frames, entry.height, entry.width, 3)

    def places(self, name: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where frames of a video lie in `whole`; see `frames`."""
        entry = self._entry(name)
        return np.clip(_places(name, entry, np.asarray(indices, np.int64)), 0, entry.frames - 1)

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise InputError(f"the frame cache in {self.folder} does not hold the video {name!r}; build it again.") from None

    def _pixels(self) -> np.ndarray:
        if self._map is None or self._owner != os.getpid():
            path = self.folder / self._file
            try:
                self._map = np.memmap(path, np.uint8, mode="r")
            except (OSError, ValueError) as error:
                raise InputError(f"{path} is gone or unreadable ({error}); open the frame cache again.") from None
            self._owner = os.getpid()
        return self._map

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_map": None}


class DeviceFrames:
    """The frames of videos for a GPU: in its memory where they fit, else brought there when they are wanted.

    Args:
        cache: holds them.
        names: of the videos.
        device: a GPU, say.
        share: how many processes use it at the same time. Each takes half of its share of the free memory at most.
    """

    def __init__(self, cache: FrameCache, names: Sequence[str], device: torch.device, share: int = 1) -> None:
        self.cache, self.device, self.cuda = cache, device, device.type == "cuda"
        size = sum(cache.whole(name).size for name in names)
        fits = not self.cuda or 2 * share * size <= torch.cuda.mem_get_info(device)[0]
        self.held = {name: torch.from_numpy(np.array(cache.whole(name))).to(device) for name in names if fits}

    def clip(self, name: str, indices: Sequence[int] | np.ndarray, crop: tuple[int, int, int, int]) -> torch.Tensor:
        """As of `FrameCache`, on the device. Nothing waits for it."""
        if name not in self.held:
            part = self.cache.clip(name, indices, crop)
            return (part.pin_memory() if self.cuda else part).to(self.device, non_blocking=True)
        top, left, height, width = crop
        places = torch.from_numpy(self.cache.places(name, indices)).to(self.device, non_blocking=True)
        return self.held[name][:, top : top + height, left : left + width].index_select(0, places)


def _near(video: Video, reach: int) -> tuple[tuple[int, int], ...] | None:
    """The stretches of frames around labelled ones, each from one frame to before another; None if all are labelled."""
    if video.labelled is None:
        return None
    labelled, side = np.array(video.labelled), reach * frames_per_look(float(video.rate))
    starts, stops = np.maximum(labelled - side, 0), np.minimum(labelled + side + 1, video.frames)
    apart = np.flatnonzero(starts[1:] > stops[:-1])
    return tuple(zip(starts[np.r_[0, apart + 1]].tolist(), stops[np.r_[apart, len(stops) - 1]].tolist(), strict=True))


def _source(video: Video, kept: tuple[tuple[int, int], ...] | None) -> tuple[int, ...]:
    """What makes cached frames those of this video: its fingerprint, and which of its frames are wanted."""
    return fingerprint(video) if kept is None else (*fingerprint(video), zlib.crc32(repr(kept).encode()))


def _places(name: str, entry: _Entry, frames: np.ndarray) -> np.ndarray:
    """Where frames of a video lie among those that are kept."""
    if entry.kept is None:
        return frames
    starts, stops = np.array(entry.kept).T
    frames = np.clip(frames, starts[0], stops[-1] - 1)
    stretch = np.searchsorted(starts, frames, "right") - 1
    lost = frames[frames >= stops[stretch]]
    if len(lost):
        raise InputError(f"frame {lost[0]} of {name!r} is not cached, it is too far from labelled frames; build with more reach.")
    return frames - starts[stretch] + (np.cumsum(stops - starts) - (stops - starts))[stretch]


def _shortened(entry: _Entry, frames: int) -> _Entry:
    """The entry of a video that turned out to have fewer frames."""
    if entry.kept is None:
        return replace(entry, frames=frames)
    kept, left = [], frames
    for start, stop in entry.kept:
        if left > 0:
            kept.append((start, min(stop, start + left)))
        left -= stop - start
    return replace(entry, frames=frames, kept=tuple(kept))


@contextlib.contextmanager
def _new_file(folder: Path, size: int) -> Iterator[Path]:
    """A file of this size with a name of its own; it goes away if the block raises.

    Raises:
        InputError: if the disk has too little room, before or in the block, or the folder cannot be written.
    """
    path = folder / f"frames-{uuid.uuid4().hex[:8]}.bin"
    with explained(path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if size + MARGIN > free:
                raise InputError(f"the frames need {size / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; make room.")
            with open(path, "wb") as file:
                file.truncate(size)
            yield path
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def _plan(
    todo: Sequence[Video],
    fingerprints: dict[str, tuple[int, ...]],
    near: dict[str, tuple[tuple[int, int], ...] | None],
    max_side: int,
    keep: dict[str, _Entry],
) -> tuple[dict[str, _Entry], int]:
    """Where everything will lie, and the bytes that it takes."""
    plan, offset = {}, 0
    for name, entry in keep.items():
        plan[name] = replace(entry, offset=offset)
        offset += entry.frames * entry.height * entry.width * 3
    for video in todo:
        scale = min(1.0, max_side / max(video.height, video.width))
        height, width = max(1, round(video.height * scale)), max(1, round(video.width * scale))
        kept = near[video.name]
        frames = video.frames if kept is None else sum(stop - start for start, stop in kept)
        plan[video.name] = _Entry(offset, frames, height, width, fingerprints[video.name], kept)
        offset += frames * height * width * 3
    return plan, offset


def _copy(source: Path, start: int, target: Path, entry: _Entry) -> None:
    """One video's frames from the old file, `start` bytes into it, to the new one."""
    left = entry.frames * entry.height * entry.width * 3
    with open(source, "rb") as old, open(target, "r+b") as new:
        old.seek(start)
        new.seek(entry.offset)
        while left:
            block = old.read(min(left, 1 << 24))
            if not block:
                raise InputError(f"{source} ends too early; remove it and build the frame cache again.")
            left -= new.write(block)


def _decode_all(
    todo: Sequence[Video], part: Path, plan: dict[str, _Entry], progress: bool, workers: int
) -> tuple[dict[str, int], InputError | None]:
    """Frames of each video that was decoded to its end, and why the first one that was not was refused; that stops the rest."""
    stop: list[bool] = []
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        tqdm(total=len(todo), desc="decoding", unit="video", disable=not progress) as bar,
    ):

        def work(video: Video) -> int:
            frames = 0 if stop else _decode_one(video, part, plan[video.name], stop)
            bar.update()
            return frames

        jobs = {video.name: pool.submit(work, video) for video in todo}
        try:
            wait(jobs.values(), return_when=FIRST_EXCEPTION)
        finally:  # an interrupt or an error: let the threads run dry
            if not all(job.done() and job.exception() is None for job in jobs.values()):
                stop.append(True)
        errors = [error for job in jobs.values() if (error := job.exception()) is not None]
        refused = [error for error in errors if isinstance(error, InputError)]
        if len(refused) < len(errors):
            raise next(error for error in errors if not isinstance(error, InputError))
        lengths = {name: job.result() for name, job in jobs.items() if job.exception() is None}
        return {name: frames for name, frames in lengths.items() if frames}, next(iter(refused), None)


def _wanted(images: Iterator[np.ndarray], kept: Sequence[tuple[int, int]] | None) -> Iterator[np.ndarray | None]:
    """The images of these stretches, None for others before the last of them; all images without any."""
    if kept is None:
        yield from images
        return
    stretches = iter(kept)
    start, stop = next(stretches)
    for number, image in enumerate(images):
        yield image if number >= start else None
        if number == stop - 1:
            following = next(stretches, None)
            if following is None:
                return
            start, stop = following


def _decode_one(video: Video, part: Path, entry: _Entry, stop: list[bool]) -> int:
    """Writes one video's frames to their place and says how many there were, at most as many as wanted.

    Gives up without a word when `stop` gets an entry.
    """
    frames = 0
    with open(part, "r+b") as file:
        file.seek(entry.offset)
        for image in _wanted(decode(video.path), entry.kept):
            if stop:
                return 0  # not whole
            if image is None:
                continue
            if frames == entry.frames:
                log.info("%s goes on after its %d annotated frames; the rest is not cached.", video.name, frames)
                break
            if image.shape[:2] != (video.height, video.width):
                seen = f"{image.shape[1]}x{image.shape[0]}"
                raise InputError(f"{video.path} is {seen}, but its annotations are for {video.width}x{video.height}.")
            file.write(resize(image, entry.height, entry.width).data)
            frames += 1
    if frames == 0:
        raise InputError(f"{video.path} holds no frame; leave the video {video.name!r} out or fetch it again.")
    if frames < entry.frames:
        log.warning("%s has %d frames, but %d are annotated; the last of them are left out.", video.name, frames, entry.frames)
    return frames


def _read_index(folder: Path) -> tuple[str, int, dict[str, _Entry]] | None:
    """File, longest side and entries; None if there is no index of this version, or not the file that it describes."""
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["version"] != VERSION:
            return None
        entries = {name: _entry_of(entry) for name, entry in index["videos"].items()}
        size = max(entry.offset + entry.frames * entry.height * entry.width * 3 for entry in entries.values())
        path = folder / index["file"]
        if path.stat().st_size < size:
            raise ValueError(f"it has {path.stat().st_size} of {size} bytes")
        return index["file"], index["max_side"], entries
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is cut off or damaged (%s); frames must be decoded again.", path, error)
        return None


def _entry_of(values: dict) -> _Entry:
    kept = values.get("kept")
    return _Entry(**{**values, "source": tuple(values["source"]), "kept": kept and tuple((a, b) for a, b in kept)})


def _write_index(folder: Path, file: str, max_side: int, entries: dict[str, _Entry]) -> None:
    videos = {name: asdict(entry) for name, entry in entries.items()}
    index = {"version": VERSION, "file": file, "max_side": max_side, "videos": videos}
    write_whole(folder / INDEX, json.dumps(index, indent=1))


def _remove_leftovers(folder: Path, current: str, old: str | None) -> None:
    """Removes the file that the new one replaces, and those of builds that were killed more than an hour ago."""
    for file in folder.glob("frames-*.bin"):
        with contextlib.suppress(OSError):  # another process may have it open, or have removed it
            if file.name == old or (file.name != current and time.time() - file.stat().st_mtime > 3600):
                file.unlink()
