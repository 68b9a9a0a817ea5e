"""Your own videos: a folder of them and one file of annotations.

::

    boxes.csv         the plain table, or one file of another kind (see `annotations`)
    videos/…          video files or folders of frames, at any depth; or beside the annotations
    classes.txt       optional: the names of the actions, one a line; others are then refused
    splits.csv        optional: "video,split" a line; or train.txt, val.txt and test.txt with a video a line

A tube is one track doing one action. Between annotated frames its box is interpolated. Where every frame is annotated, a gap
of more than 3 frames ends the tube; where only some are, one of more than 10 times the usual spacing does. Boxes without a
track are joined to tubes where they overlap from one annotated frame to the next (see `joining`). All frames and all videos
without a box are background: nothing of interest happens there.

Videos that no list puts anywhere are for training, unless there is no list at all: then a fifth is for validation, such that
videos of one source (one name up to the number at its end) stay together, and the same ones each time.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import IMAGES
from ..structures import InputError, class_name, counted
from ..video import VIDEO_SUFFIXES
from . import annotations
from .annotations import table
from .dataset import Dataset, Video
from .decoding import counting, image_files
from .division import divide
from .joining import tubes
from .media import Media, Videos, first_few

log = logging.getLogger(__name__)

PARTS = ("train", "val", "trainval", "test")
INSIDE = 0.5
"""A box of which less lies inside the frame is an error; others are cut at the frame."""


class Folder(NamedTuple):
    """All that is in a folder, unjudged.

    Attributes:
        rows: the annotations, their videos named as in `paths`.
        paths: every video.
        media: what is known of those that can be read.
        unreadable: why the others cannot be read.
        unknown: annotated videos that are not there, and their numbers of rows.
        classes: names of the actions.
        parts: "train", "val" or "test" of videos, as far as lists or the table say.
    """

    rows: table.Rows
    paths: dict[str, Path]
    media: dict[str, Media]
    unreadable: dict[str, str]
    unknown: Counter
    classes: tuple[str, ...]
    parts: dict[str, str]


def survey(root: str | Path, progress=lambda names: names) -> Folder:
    """Reads the annotations and opens every video, without refusing what does not fit.

    Args:
        root: the folder.
        progress: wraps the list of videos while they are opened, for a bar.

    Raises:
        InputError: if there is no folder, no video or no annotation, or the annotations cannot be understood.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; name the one that holds your annotations and videos.")
    place = root / "videos" if (root / "videos").is_dir() else root
    videos = Videos(place)
    if not videos.paths:
        suffixes = f"video ({', '.join(sorted(VIDEO_SUFFIXES))}) and no folder of images ({', '.join(IMAGES)})"
        raise InputError(f"{place} holds no {suffixes}.")
    media = {name: look for name in progress(list(videos.paths)) if (look := videos.look(name)) is not None}
    rows = annotations.read(annotations.find(root), videos)
    meant = {name: videos.name(name) for name in dict.fromkeys(rows.video)}
    unknown = Counter(name for name in rows.video if meant[name] is None)
    parts = _parts(root, rows, videos)
    sizes = {meant[name] or name: size for name, size in rows.sizes.items() if name in meant}
    kept = rows if len(unknown) == len(meant) else rows.take(np.array([meant[name] is not None for name in rows.video]))
    named = np.array([meant[name] or name for name in kept.video], object)
    kept = replace(kept, video=named, parts={}, sizes=sizes)
    begins = {name: int(kept.frame[kept.video == name].min()) for name in set(named)}
    if len(begins) > 1 and set(begins.values()) == {1} and rows.source.suffix.lower() in table.CSV:
        log.warning(
            "%s: the first box of each of %d videos is in frame 1; if your tool counts frames from 1, not 0, convert it: %s",
            *(rows.source, len(begins), _again(rows.source) + " --first-frame 1"),
        )
    _warn_of_numbers(kept, videos)
    return Folder(kept, videos.paths, media, videos.unreadable, unknown, _classes(root, rows), parts)


def _warn_of_numbers(rows: table.Rows, videos: Videos) -> None:
    """Say where images' own numbers are not those of the frames that the rows mean, which are counted in order from 0."""
    if rows.source.suffix.lower() not in (*table.CSV, ""):
        return  # other tools count images in order as well
    gaps, late = [], []
    for name in dict.fromkeys(rows.video):
        if name not in videos.paths or not videos.paths[name].is_dir() or name in videos.by_image or name in videos.unreadable:
            continue
        files = image_files(videos.paths[name])
        numbers = counting(files)
        if numbers is None:
            continue
        frames = rows.frame[rows.video == name]
        gap = next((i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1), None)
        if gap is not None and frames.max() >= gap:
            gaps.append(f"frame {gap} of {name} is {files[gap].name}, for it comes behind {files[gap - 1].name}")
        elif gap is None and numbers[0] > 0 and rows.source.suffix.lower() in table.CSV[:2]:
            first = min(int(frames.min()), len(files) - 1)
            late.append(f"frame {first} of {name} is {files[first].name}")
    if gaps:
        log.warning(
            "%s: frames are counted in order, and numbers are missing among the images of %s: %s; see that your annotations count so.",
            *(rows.source, counted(len(gaps), "video"), gaps[0]),
        )
    if late and (rows.frame > 0).all():
        log.warning(
            "%s: frames are counted from 0, but the images of %s from a later number: %s; if yours are the images' numbers, convert "
            "it: %s",
            *(rows.source, counted(len(late), "video"), late[0], _again(rows.source) + " --first-frame 1"),
        )


def load(root: str | Path, part: str = "train") -> Dataset:
    """Reads one part of a folder. Videos are opened for their size, length and rate, not decoded.

    Args:
        root: the folder, as described above.
        part: "train", "val", "trainval" (both) or "test".

    Raises:
        InputError: for an unknown or empty part, and for everything that `problems` finds.
    """
    if part not in PARTS:
        raise InputError(f"part {part!r}; use one of {', '.join(PARTS)}.")
    folder = survey(root)
    found = problems(folder)
    if found:
        more = f" ({len(found) - 1} more problems: see mssc check-data --dataset custom --data {root})" if len(found) > 1 else ""
        raise InputError(found[0] + more)
    return build(folder, part)


def build(folder: Folder, part: str) -> Dataset:
    """The data set of one part, from what can be used.

    Raises:
        InputError: if no video of that part can be used, or the videos cannot be divided.
    """
    chosen = _choose(folder, part)
    cut: list[str] = []
    order = np.argsort(folder.rows.video.astype(str), kind="stable")
    videos = folder.rows.video[order].astype(str)
    result = []
    for video in chosen:
        look = folder.media[video]
        here = order[np.searchsorted(videos, video) : np.searchsorted(videos, video, "right")]
        found = tubes(folder.rows.take(here), look, folder.classes, cut) if len(here) else ()
        result.append(Video(video, folder.paths[video], look.frames, look.width, look.height, look.rate, found))
    bare = [video.name for video in result if not video.tubes]
    if bare:
        _warn_of_copies(bare, folder.rows)
        log.info("%d of %d %s videos have no box and serve as background: %s", len(bare), len(result), part, first_few(bare))
    if cut:
        boxes, videos = counted(len(cut), "box"), counted(len(set(cut)), "video")
        log.warning("cut at the frame's edge: %s in %s.", boxes, videos)
    if not result:
        raise InputError(f"no video is in the part {part!r}; list some in splits.csv or in the column split.")
    return Dataset(f"custom {part}", folder.classes, tuple(result))


def _warn_of_copies(bare: Sequence[str], rows: table.Rows) -> None:
    """Say which videos without a box are named as one that has boxes: a camera's proxy, a film beside its frames."""

    def stem(name: str) -> str:
        path = Path(name)
        return (path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path).as_posix().casefold()

    annotated = {stem(name): name for name in dict.fromkeys(rows.video)}
    found = [f"{name} beside {annotated[stem(name)]}" for name in bare if annotated.get(stem(name), name) != name]
    if found:
        log.warning(
            "videos without a box have the name of one that has boxes; remove copies, they are no background: %s",
            first_few(found),
        )


def _classes(root: Path, rows: table.Rows) -> tuple[str, ...]:
    seen = sorted(set(rows.action))
    if not (root / "classes.txt").is_file():
        return tuple(seen)
    names = [class_name(line) for line in table.read_text(root / "classes.txt").splitlines() if line.strip()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{root / 'classes.txt'} lists {twice[0]!r} more than once; remove it there.")
    unknown = [name for name in seen if name not in names]
    if unknown:
        first = rows.at(rows.action == unknown[0])
        raise InputError(f"{first}: the action {unknown[0]!r} is not in classes.txt, which lists {', '.join(names)}.")
    return tuple(names)


def _parts(root: Path, rows: table.Rows, videos: Videos) -> dict[str, str]:
    """Which part a video belongs to, from the table's column or from lists."""
    listed: list[tuple[str, str, str]] = [(video, part, str(rows.source)) for video, part in rows.parts.items()]
    if (root / "splits.csv").is_file():
        for number, line in enumerate(table.read_text(root / "splits.csv").splitlines(), 1):
            video, _, part = line.rpartition(",")
            if not line.strip() or (number == 1 and part.strip().lower() in ("split", "part")):
                continue
            if part.strip().lower() not in table.PARTS:
                raise InputError(
                    f"{root / 'splits.csv'}, line {number} is {line!r}; it must be 'video,split': train, val or test."
                )
            listed.append((video.strip(), table.PARTS[part.strip().lower()], f"splits.csv, line {number}"))
    for part in ("train", "val", "test"):
        if (root / f"{part}.txt").is_file():
            lines = table.read_text(root / f"{part}.txt").splitlines()
            listed += [(line.strip(), part, f"{part}.txt") for line in lines if line.strip()]
    annotated = set(rows.video)
    parts: dict[str, str] = {}
    for video, part, where in listed:
        name = videos.name(video)
        if name is None:
            if video in annotated:
                continue  # annotated and not there: said elsewhere
            raise InputError(f"{where} lists {video!r}, which is no video of this folder; correct the name or remove it.")
        if parts.setdefault(name, part) != part:
            raise InputError(f"{where} puts {video} into {part}, but it is in {parts[name]} already; a video has one split.")
    return parts


def _choose(folder: Folder, part: str) -> list[str]:
    """The readable videos of a part."""
    names = [name for name in folder.paths if name in folder.media]
    if part == "trainval":
        return [name for name in names if folder.parts.get(name) != "test"]
    if not folder.parts:
        if part == "test":
            raise InputError("there is no test part: no list says which videos are for testing; use val, or write splits.csv.")
        held_out = _divide(folder, names)
        return [name for name in names if (name in held_out) == (part == "val")]
    if "val" not in folder.parts.values() and part in ("train", "val"):
        rest = [name for name in names if folder.parts.get(name, "train") == "train"]
        held_out = _divide(folder, rest)
        return [name for name in rest if (name in held_out) == (part == "val")]
    loose = [name for name in names if name not in folder.parts]
    if loose and part == "train":
        log.info("%s in no list, used for training: %s", counted(len(loose), "video"), first_few(loose))
    return [name for name in names if folder.parts.get(name, "train") == part]


def source(name: str) -> str:
    """What a video was cut from, as far as names tell: the name without suffix and the number at its end."""
    stem = Path(name).with_suffix("").as_posix().casefold()
    return re.sub(r"[\s_.()-]*(?:(?:part|clip|scene|cut)?[\s_.-]*\d+)[\s_.()-]*$", "", stem) or stem


def _divide(folder: Folder, names: Sequence[str]) -> set[str]:
    """Names for validation: whole sources if that leaves enough, else single videos; see `divide`."""
    first = {}
    for video, action in zip(folder.rows.video, folder.rows.action, strict=True):
        first.setdefault(video, action.replace("/", "|"))
    if len(names) < 2:
        raise InputError(
            f"{counted(len(names), 'video')} cannot be divided into training and validation; add videos, or train with --all-videos."
        )
    for key in (source, lambda name: name):
        # `divide` reads "<class>/<clip>_<number>" and keeps together what differs in the number alone; of titles it shall know nothing
        keys = {
            f"{first.get(name, '(background)')}/{re.sub('[/_]', '|', key(name))}~_{index}": name
            for index, name in enumerate(names)
        }
        try:
            chosen = {keys[name] for name in divide(list(keys))}
        except InputError:
            continue
        if key is not source:
            origins = {source(name) for name in names}
            log.warning(
                "%s, as far as names tell: each video counts as its own, and the score may be too good. Write splits.csv if that is wrong.",
                f"all videos come from one source ({origins.pop()})"
                if len(origins) == 1
                else "each action comes from one source",
            )
        return chosen
    raise InputError(
        f"the {len(names)} videos cannot be divided: no action is in two of them. Add videos, or say in splits.csv which are for what."
    )


def problems(folder: Folder) -> list[str]:
    """Every reason why the folder cannot be used as it is, one sentence each, the gravest first."""
    rows = folder.rows
    found = [f"{folder.paths[name]} is annotated or listed but cannot be used: {why}" for name, why in folder.unreadable.items()]
    if folder.unknown:
        count = sum(folder.unknown.values())
        found.append(
            f"{rows.source} has {counted(count, 'row')} of {counted(len(folder.unknown), 'video')} not in the folder: "
            f"{first_few(folder.unknown)}; add the videos, or remove the rows."
        )
    known = np.array([name in folder.media for name in rows.video])
    if not known.any():
        return found
    rows = rows.take(known)
    media = [folder.media[name] for name in rows.video]
    sizes = np.array([(look.width, look.height) for look in media], float)
    for name, size in rows.sizes.items():
        look = folder.media.get(name)
        if look is not None and size != (look.width, look.height):
            found.append(
                f"{rows.source} was annotated at {size[0]}x{size[1]}, but {name} is {look.width}x{look.height}; "
                "put the video there that was annotated, or scale the boxes."
            )
    again = _again(rows.source)
    if rows.normalised:
        found.append(
            f"{rows.source} has boxes from {rows.boxes.min():g} to {rows.boxes.max():g}: they look normalised, pixels are wanted; "
            f"convert them: {again} --boxes normalised --videos {_place(folder)}"
        )
    else:
        found += _outside(rows, sizes)
    return found + _late(rows, np.array([look.frames for look in media]), again)


def _again(source: Path) -> str:
    return f"mssc import-annotations {source} -o {source.with_name('boxes.csv')}"


def _place(folder: Folder) -> Path:
    name, path = next(iter(folder.paths.items()))
    return path.parents[len(Path(name).parts) - 1]


def _outside(rows: table.Rows, sizes: np.ndarray) -> list[str]:
    limits = np.concatenate([sizes, sizes], 1)
    inside = np.clip(rows.boxes, 0, limits)
    area = (rows.boxes[:, 2:] - rows.boxes[:, :2]).prod(1)
    bad = (inside[:, 2:] - inside[:, :2]).prod(1) < INSIDE * area
    if not bad.any():
        return []
    width, height = sizes[np.flatnonzero(bad)[0]].astype(int)
    return [f"{rows.at(bad)}: the box lies mostly outside the {width}x{height} frame: {rows.text(bad)}; correct or remove it."]


def _late(rows: table.Rows, frames: np.ndarray, again: str) -> list[str]:
    late = rows.frame >= frames
    if not late.any():
        return []
    index = int(np.flatnonzero(late)[0])
    last = f"{rows.video[index]} has {frames[index]} frames, 0 to {frames[index] - 1}"
    if (rows.frame <= frames).all() and rows.frame.min() >= 1:
        return [f"{rows.at(late)} is of frame {rows.frame[index]}, but {last}: frames seem to be counted from 1; "
                f"convert them: {again} --first-frame 1"]  # fmt: skip
    return [f"{rows.at(late)} is of frame {rows.frame[index]}, but {last}; correct or remove it."]
