"""Import of COCO-style JSON: images that are frames of videos, boxes x, y, w, h, categories, and perhaps tracks.

An image belongs to the video that its `video_id` names in `videos`, or to the folder that its `file_name` lies in. Its frame
is its `frame_id` (also `frame_index` or `frame`), or the number at the end of its file's name. A box's action is its
category, or what its `attributes` say under `action`. Its track is `track_id` or `instance_id`, also under `attributes`.
"""

import json
import math
import re
from pathlib import Path, PurePosixPath

from mssc.data import table
from mssc.structures import InputError

FRAME_KEYS = ("frame_id", "frame_index", "frame")
TRACK_KEYS = ("track_id", "instance_id")


def read(path: Path, first_frame: int = 0, video: str | None = None) -> table.Rows:
    """Reads a file, one row per box and action.

    Args:
        path: of the JSON.
        first_frame: what the file calls the first frame of a video, 0 or 1.
        video: name of the video, if the file does not say or says another.

    Raises:
        InputError: for a file that is not of this kind, and images, categories or boxes that it does not describe, by id.
    """
    content = _load(path)
    categories = {item.get("id"): str(item.get("name", "")).strip() for item in content.get("categories", [])}
    videos = {item.get("id"): str(item.get("name") or item.get("file_name") or "") for item in content.get("videos", [])}
    places, sizes = {}, {}
    for image in content["images"]:
        name, frame = _place(image, videos, path, video)
        if frame < first_frame:
            raise InputError(f"{path}: image {image.get('id')} is frame {frame}, so frames do not count from {first_frame}.")
        if image.get("id") in places:
            raise InputError(f"{path}: the image id {image.get('id')!r} is there twice.")
        places[image.get("id")] = (name, frame - first_frame)
        if image.get("width") and image.get("height"):
            sizes[name] = (int(image["width"]), int(image["height"]))
    rows: list[tuple] = []
    for number, item in enumerate(content["annotations"], 1):
        if item.get("image_id") not in places:
            raise InputError(
                f"{path}: annotation {item.get('id', number)} is of image {item.get('image_id')!r}, which is not there."
            )
        name, frame = places[item["image_id"]]
        track = _track(item)
        rows += [
            (name, frame, _corners(item, path, number), action, track, number) for action in _actions(item, categories, path)
        ]
    if not rows:
        raise InputError(f"{path} holds {len(content['annotations'])} annotations and no action; annotate at least one box.")
    return table.make(path, rows, sizes)


def _load(path: Path) -> dict:
    try:
        content = json.loads(table.read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no whole JSON file ({error}).") from None
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{path} has no list {key!r}; it is no COCO-style file.")
    for key in ("images", "annotations", "categories", "videos"):
        if not all(isinstance(item, dict) for item in content.get(key) or []):
            raise InputError(f"{path}: every entry of {key!r} must be an object with names and values.")
        content[key] = content.get(key) or []
    return content


def _place(image: dict, videos: dict, path: Path, video: str | None) -> tuple[str, int]:
    """Video and frame of an image."""
    file = PurePosixPath(str(image.get("file_name", "")).replace("\\", "/"))
    folder = file.parent.as_posix() if str(file.parent) != "." else ""
    name = video or videos.get(image.get("video_id")) or str(image.get("video") or "") or folder
    if not name:
        raise InputError(
            f"{path}: image {image.get('id')} ({file.name}) does not say which video it is of; name it with --video."
        )
    frame = next((image[key] for key in FRAME_KEYS if key in image), None)
    if frame is None:
        digits = re.search(r"(\d+)$", file.stem)
        frame = int(digits[1]) if digits else None
    if not isinstance(frame, int | float) or isinstance(frame, bool) or not math.isfinite(frame) or frame % 1:
        raise InputError(f"{path}: image {image.get('id')} ({file.name}) does not say which frame it is: add frame_id.")
    return name, int(frame)


def _corners(item: dict, path: Path, number: int) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(value) for value in item["bbox"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: annotation {item.get('id', number)} has the bbox {item.get('bbox')!r}; it must be x, y, width, height."
        ) from None
    return x, y, x + width, y + height


def _actions(item: dict, categories: dict, path: Path) -> list[str]:
    attributes = item.get("attributes")
    named = attributes.get("action", attributes.get("actions")) if isinstance(attributes, dict) else None
    if named is not None:
        parts = named if isinstance(named, list) else re.split(r"[,;]", str(named))
        return list(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))
    category = categories.get(item.get("category_id"))
    if not category:
        raise InputError(f"{path}: the category {item.get('category_id')!r} has no name in 'categories'.")
    return [category]


def _track(item: dict) -> str:
    attributes = item.get("attributes") if isinstance(item.get("attributes"), dict) else {}
    for place in (item, attributes):
        for key in TRACK_KEYS:
            if place and place.get(key) is not None:
                return str(place[key])
    return ""
