"""Import of COCO-style JSON: images that are frames of videos, boxes x, y, w, h, categories, and perhaps tracks.

An image belongs to the video that its `video_id` names in `videos`, or to the folder that its `file_name` lies in. If that video is a
folder of images, the frame is the image of that name; else it is `frame_id` (also `frame_index` or `frame`), or the number at the end of
the file's name. Annotations may name `video_id` and `frame_id` themselves, or have `bboxes`, one or null for each of their video's
`file_names`, or for each frame.

A box's action is its category, or what its `attributes` say under `action`; they may also turn the box about its centre, by `rotation`.
Its track is `track_id` or `instance_id`, also under `attributes`.
"""

import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ...structures import InputError
from ..media import Videos
from . import table
from .shared import counted_from, split_actions, upright, warn_of_bare

log = logging.getLogger(__name__)

FRAME_KEYS = ("frame_id", "frame_index", "frame")
TRACK_KEYS = ("track_id", "instance_id")
LISTS = ("images", "annotations", "categories", "videos")


def read(content: dict, path: Path, videos: Videos, first_frame: int | None = None, video: str | None = None) -> table.Rows:
    """Reads what a file holds, one row per box and action.

    Args:
        content: of the file.
        path: of the file.
        videos: that it is about.
        first_frame: what the file calls the first frame of a video, 0 or 1; None to tell from its numbers.
        video: name of the video, if the file does not say or says another.

    Raises:
        InputError: for a file that is not of this kind, and images, categories or boxes that it does not describe, by id.
    """
    lists = {key: content.get(key) or [] for key in LISTS}
    for key, items in lists.items():
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InputError(f"{path}: {key!r} must be a list of objects with names and values.")
    categories = {item.get("id"): str(item.get("name", "")).strip() for item in lists["categories"]}
    films = {item.get("id"): str(item.get("name") or _folder(item) or "") for item in lists["videos"]}
    pictures = {item.get("id"): _pictures(item) for item in lists["videos"]}
    images = {}
    for image in lists["images"]:
        if images.setdefault(image.get("id"), image) is not image:
            raise InputError(f"{path}: the image id {image.get('id')!r} is there twice.")
    found: list[tuple[table.Row, bool]] = []
    bare, undone = [], []
    for number, item in enumerate(lists["annotations"], 1):
        where = f"{path}: annotation {item.get('id', number)}"
        if not item.get("bbox") and not isinstance(item.get("bboxes"), list):
            bare.append(where)
            continue
        for place, corners in _boxes(item, images, pictures, where):
            name, frame, exact = _place(place, films, where, video, videos)
            actions = _actions(item, categories, path)
            undone += [] if actions or _is_answered(item) else [item.get("id", number)]
            rows = [table.Row(name, frame, corners, action, _track(item), number) for action in actions]
            found += [(row, exact or ("bboxes" in item and "file_name" not in place)) for row in rows]
    if bare:
        log.warning("%s has no box and is left out%s.", bare[0], f", like {len(bare) - 1} more" if len(bare) > 1 else "")
    warn_of_bare(path, list(dict.fromkeys(map(str, undone))))
    if not found:
        raise InputError(f"{path} holds {len(lists['annotations'])} annotations and no action; annotate at least one box.")
    places = {key: _place(image, films, f"{path}: image {key}", video, videos) for key, image in images.items()}
    first = first_frame
    if first is None:
        numbers: dict[str, list[int]] = {}
        for name, frame, exact in [*places.values(), *((row.video, row.frame, exact) for row, exact in found)]:
            numbers.setdefault(name, []).extend([] if exact else [frame])
        begins_at_1 = bool(images) and all(min(frames) == 1 for frames in numbers.values() if frames)
        first = counted_from(path, numbers, videos, int(begins_at_1)) if any(numbers.values()) else 0
    lowest = min((row.frame for row, exact in found if not exact), default=first)
    if lowest < first:
        raise InputError(f"{path} has an image that is frame {lowest}, so frames do not count from {first}.")
    sized = {key: image for key, image in images.items() if image.get("width") and image.get("height")}
    sizes = {places[key][0]: (int(image["width"]), int(image["height"])) for key, image in sized.items()}
    return table.make(path, [row if exact else row._replace(frame=row.frame - first) for row, exact in found], sizes=sizes)


def _folder(item: dict) -> str:
    """Of the images that a video is, by the first of their names; else the video's own file."""
    names = item.get("file_names") or [""]
    return PurePosixPath(str(names[0])).parent.as_posix().removeprefix(".") or str(item.get("file_name") or "")


def _pictures(item: dict) -> list[str]:
    """The images of a video, where their names say which frames they are: not all may be there."""
    names = item.get("file_names")
    names = [str(name) for name in names] if isinstance(names, list) else []
    return names if all(re.search(r"\d$", PurePosixPath(name).stem) for name in names) else []


def _boxes(item: dict, images: dict, pictures: dict, where: str) -> Iterator[tuple[dict, table.Box]]:
    """Each box of an annotation, and what says where it is: an image, or the annotation itself."""
    if isinstance(item.get("bboxes"), list):
        for frame, box in enumerate(item["bboxes"]):
            if box is not None:
                names = pictures.get(item.get("video_id"), [])
                which = {"file_name": names[frame]} if len(names) == len(item["bboxes"]) else {"frame_id": frame}
                yield {"video_id": item.get("video_id")} | which, _corners(item, box, where)
    elif "image_id" in item or "video_id" not in item:
        if item.get("image_id") not in images:
            raise InputError(f"{where} is of image {item.get('image_id')!r}, which is not there.")
        yield images[item["image_id"]], _corners(item, item.get("bbox"), where)
    else:
        yield item, _corners(item, item.get("bbox"), where)


def _corners(item: dict, box: Any, where: str) -> table.Box:
    attributes = item.get("attributes")
    try:
        x, y, width, height = (float(value) for value in box)
        turned = float(attributes.get("rotation") or 0) if isinstance(attributes, dict) else 0.0
    except (TypeError, ValueError):
        raise InputError(f"{where} has the bbox {box!r}; it must be x, y, width, height.") from None
    return upright((x, y, x + width, y + height), turned)


def _place(place: dict, films: dict, where: str, video: str | None, videos: Videos) -> tuple[str, int, bool]:
    """Video and frame of an image, and whether that is the true one or a number that may count from 1."""
    file = PurePosixPath(str(place.get("file_name", "")).replace("\\", "/"))
    folder = file.parent.as_posix().removeprefix(".")
    name = video or films.get(place.get("video_id")) or str(place.get("video") or "") or folder
    exact = videos.image((PurePosixPath(name) / file.name).as_posix()) if file.name else None
    if exact is not None:
        return exact[0], exact[1], True
    if not name:
        raise InputError(f"{where} ({file.name}) does not say which video it is of; name it with --video.")
    frame = next((place[key] for key in FRAME_KEYS if key in place), None)
    known = videos.name(name)
    if frame is None and known and videos.paths[known].is_dir():
        raise InputError(f"{where} is {file.name}, which is not among the images of {known}; add it, or remove its boxes.")
    if frame is None and (digits := re.search(r"(\d+)$", file.stem)):
        frame = int(digits[1])
    frame = int(frame) if isinstance(frame, str) and frame.isascii() and frame.isdecimal() else frame
    if not isinstance(frame, int | float) or isinstance(frame, bool) or not math.isfinite(frame) or frame % 1:
        raise InputError(f"{where} ({file.name}) does not say which frame it is: add frame_id.")
    return name, int(frame), False


def _actions(item: dict, categories: dict, path: Path) -> list[str]:
    attributes = item.get("attributes")
    named = attributes.get("action", attributes.get("actions")) if isinstance(attributes, dict) else None
    if isinstance(named, list):
        return list(dict.fromkeys(str(part).strip() for part in named if str(part).strip()))
    if named is not None:
        return split_actions(str(named), {*categories.values()})
    category = categories.get(item.get("category_id"))
    if not category:
        raise InputError(f"{path}: the category {item.get('category_id')!r} has no name in 'categories'.")
    return [category]


def _is_answered(item: dict) -> bool:
    """Whether the attributes say anything of the action, if only that there is none."""
    return any(str(item["attributes"].get(key) or "").strip() for key in ("action", "actions"))


def _track(item: dict) -> str:
    attributes = item.get("attributes") if isinstance(item.get("attributes"), dict) else {}
    keys = [place.get(key) for place in (item, attributes) if place for key in TRACK_KEYS]
    if isinstance(item.get("bboxes"), list):
        keys.append(item.get("id"))  # such an annotation is one track
    return next((str(key) for key in keys if key is not None), "")
