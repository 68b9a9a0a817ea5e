"""Import of Label Studio's video object tracking: its export as JSON or JSON-MIN.

A region is a sequence of key frames: x, y, width and height in percent of the frame, turned by `rotation` about the first corner. Between
key frames boxes move evenly, until one that is not `enabled`; an enabled last one holds to the end of the video. Its actions are its
labels, or the choices of a control named `action`; its track is its id.

Frames count from 1 as in the annotator's window, unless there is a frame 0. Where the video has another number of frames than
`framesCount`, the frame rate that was set there was not the video's, and frames are found by their seconds; so are those of videos
whose frames do not follow each other evenly, as phones record them.
"""

import logging
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote

import numpy as np

from ...structures import InputError
from ..media import Videos
from . import table
from .shared import ACTION, Key, between, counted_from, warn_of_bare

log = logging.getLogger(__name__)


def is_export(content: object) -> TypeGuard[list[dict]]:
    """Whether a JSON is an export of videos."""
    return isinstance(content, list) and bool(content) and all(isinstance(task, dict) for task in content)


def read(content: list[dict], path: Path, videos: Videos, first_frame: int | None = None, video: str | None = None) -> table.Rows:
    """Reads an export, one row per frame and action. Arguments and errors are those of `coco.read`."""
    found = [region for task in content for region in _regions(task, path, videos, video)]
    numbers: dict[str, list[int]] = {}
    for name, _, value, _ in found:
        numbers.setdefault(name, []).extend(int(item["frame"]) for item in value["sequence"])
    first = counted_from(path, numbers, videos, 1) if first_frame is None else first_frame
    rows: list[table.Row] = []
    for number, (name, key, value, labels) in enumerate(found, 1):
        keys = _keys(name, value, labels, first, path, videos)
        rows += [table.Row(name, *row, number) for row in between(f"{path}: region {key}", key, keys, "corner")]
    warn_of_bare(path, [key for _, key, _, labels in found if not labels])
    return table.make(path, rows)


def _regions(task: dict, path: Path, videos: Videos, video: str | None) -> Iterator[tuple[str, str, dict, list[str]]]:
    """Video, id, value and labels of each region of a task."""
    data = task.get("data", task)
    links = [_address(value) for value in data.values() if isinstance(value, str)]
    links = [link for link in links if re.search(r"\.\w{2,5}$", link)]
    named = [_named(link, videos) for link in links]
    name = video or next((one for one in named if videos.name(one)), next(iter(named), ""))
    if not name:
        raise InputError(f"{path}: task {task.get('id')} does not say which video it is of; name it with --video.")
    if "data" not in task:  # JSON-MIN: a list of values for each control
        for control, values in task.items():
            for number, value in enumerate(values if isinstance(values, list) else []):
                if isinstance(value, dict) and "sequence" in value:
                    yield name, f"{task.get('id')}-{control}-{number}", value, list(value.get("labels", []))
        return
    done = [item for item in task.get("annotations", []) if not item.get("was_cancelled")]
    if len(done) > 1:
        done = [item for item in done if item.get("ground_truth")][:1] or done[:1]
        log.warning("%s: task %s was annotated several times; annotation %s is read.", path, task.get("id"), done[0].get("id"))
    results = done[0]["result"] if done else []
    chosen = {
        item["id"]: list(item["value"]["choices"])
        for item in results
        if item.get("type") == "choices" and ACTION.fullmatch(str(item.get("from_name"))) and item.get("id")
    }
    for item in results:
        if item.get("type") == "videorectangle":
            yield name, str(item["id"]), item["value"], chosen.get(item["id"]) or list(item["value"].get("labels", []))


def _address(link: str) -> str:
    """Without what signed links have behind the file's name."""
    return re.sub(r"(?i)^([a-z][a-z0-9+.-]*://[^?#]*)[?#].*", r"\1", link)


def _named(link: str, videos: Videos) -> str:
    """The video that a link means; uploads have eight letters or digits before their own names."""
    path = unquote(link).split("?d=")[-1]
    own = re.sub(r"^[0-9a-f]{8}-", "", path.rsplit("/", 1)[-1])
    return next((name for name in (path, path.rsplit("/", 1)[-1], own) if videos.name(name)), own)


def _keys(name: str, value: dict, labels: list[str], first: int, path: Path, videos: Videos) -> Iterator[Key]:
    """A region's key frames, in pixels."""
    width, height = videos.size(name, path)
    seen, count = videos.look(name), int(value.get("framesCount") or 0)
    duration = float(value.get("duration") or 0)
    other_rate = False
    if seen is not None and count > 0 and duration > 0:
        if abs(seen.frames - count) > 1:
            other_rate = True
            log.warning(
                "%s counts %d frames of %s, which has %d: they are found by their seconds.", path, count, name, seen.frames
            )
        elif abs(seen.times - np.arange(seen.frames) * duration / count).max() > 1.5 * duration / count:
            other_rate = True
            log.warning("%s: frames of %s do not follow each other evenly: they are found by their seconds.", path, name)

    def at(number: float) -> int:
        return videos.frame_at(name, (number - first) * duration / count) if other_rate else int(number) - first

    sequence = sorted(value["sequence"], key=lambda item: item["frame"])
    for item, following in zip_longest(sequence, sequence[1:]):
        x, y = float(item["x"]) * width / 100, float(item["y"]) * height / 100
        box = (x, y, x + float(item["width"]) * width / 100, y + float(item["height"]) * height / 100)
        if following is not None and at(following["frame"]) == at(item["frame"]):
            continue  # the annotator's frames were shorter than the video's
        key = Key(at(item["frame"]), box, float(item.get("rotation") or 0), tuple(labels), True)
        yield key
        end = seen.frames if seen is not None and following is None and item.get("enabled", True) else key.frame + 1
        if following is None or (not item.get("enabled", True) and at(following["frame"]) > end):
            yield key._replace(frame=max(end, key.frame + 1), there=False)
