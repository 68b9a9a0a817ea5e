"""Import of VIA, the VGG annotator: the project (JSON) or csv of VIA 3, of videos and images, and those of VIA 2, of images.

A region is a rectangle (shape 2 or 8: x, y, width, height in pixels) at a time `z` in seconds of a video, or of an image. Its action is
the value of the attribute `action`, or of the only attribute that regions have; values of lists are numbers of the attribute's options,
several with commas between them. Its track is an attribute such as `track`, `person` or `id`. Stretches of time without a region are
left out.
"""

import csv
import io
import json
import logging
import re
from pathlib import Path
from typing import NamedTuple, TypeGuard

from ...structures import InputError
from ..media import Videos
from . import table
from .shared import ACTION, NOTHING, TRACK, pieces, split_actions, warn_of_bare

log = logging.getLogger(__name__)

RECTANGLES = (2, 8)
TEXT = 1  # type of an attribute that is not chosen from a list
CHOICE = 4
VIA_2 = "filename,file_size,file_attributes,region_count,"


class _Region(NamedTuple):
    file: str
    times: list
    shape: list
    values: dict[str, str]


def is_csv(text: str) -> bool:
    """Whether a text is the csv that VIA exports."""
    return text.startswith(("# Exported using VGG Image Annotator", VIA_2))


def is_project(content: object) -> TypeGuard[dict]:
    """Whether a JSON is a project of VIA 3, a project of VIA 2, or the annotations that VIA 2 exports."""
    if not isinstance(content, dict):
        return False
    each = list(content.values())
    plain = bool(each) and all(isinstance(item, dict) and {"filename", "regions"} <= item.keys() for item in each)
    return {"attribute", "file", "view", "metadata"} <= content.keys() or "_via_img_metadata" in content or plain


def read_project(content: dict, path: Path, videos: Videos, video: str | None = None) -> table.Rows:
    """Reads what `is_project`. Arguments and errors are those of `coco.read`."""
    if "view" not in content:
        return _rows(*_of_via_2(content), path, videos, video)
    files, views, regions = content["file"], content["view"], []
    for item in content["metadata"].values():
        file = files[str(views[str(item["vid"])]["fid_list"][0])]
        names = [str(file[key]) for key in ("fname", "src") if file.get(key)]
        known = (name for name in names if videos.image(name) or videos.name(name.rpartition("/")[2]))
        regions.append(_Region(next(known, names[0]), item["z"], item["xy"], item["av"]))
    return _rows(content["attribute"], regions, path, videos, video)


def read_csv(text: str, path: Path, videos: Videos, video: str | None = None) -> table.Rows:
    """Reads the csv. Arguments and errors are those of `coco.read`."""
    if text.startswith(VIA_2):
        keys = ("shape_attributes", "region_attributes")
        rows = csv.DictReader(io.StringIO(text))
        images = [
            {
                "filename": row["filename"],
                "regions": [{keys[0]: json.loads(row[f"region_{keys[0]}"]), keys[1]: json.loads(row[keys[1]])}],
            }
            for row in rows
        ]
        return _rows(*_of_via_2(dict(enumerate(images))), path, videos, video)
    attributes = re.search(r"^# ATTRIBUTE = (\{.*\})$", text, re.MULTILINE)
    regions = []
    for row in csv.reader(io.StringIO("".join(line for line in text.splitlines(True) if not line.startswith("#")))):
        if row:
            _, files, _, times, shape, values = row
            regions.append(_Region(str(json.loads(files)[0]), json.loads(times), json.loads(shape), json.loads(values)))
    return _rows(json.loads(attributes[1]) if attributes else {}, regions, path, videos, video)


def _of_via_2(content: dict) -> tuple[dict, list[_Region]]:
    """What VIA 2 says, as VIA 3 would: attributes by their names, images without a time."""
    images = content.get("_via_img_metadata", content)
    described = content.get("_via_attributes", {}).get("region", {})
    regions = []
    for image in images.values():
        shown = image["regions"]
        for item in shown.values() if isinstance(shown, dict) else shown:  # VIA 1 numbers them
            shape, values = item["shape_attributes"], item["region_attributes"]
            corners = [2, *(shape[key] for key in ("x", "y", "width", "height"))] if shape.get("name") == "rect" else []
            told = {
                key: [one for one, on in value.items() if on] if isinstance(value, dict) else [value]
                for key, value in values.items()
            }
            if shape:
                regions.append(
                    _Region(str(image["filename"]), [], corners, {key: ",".join(map(str, each)) for key, each in told.items()})
                )
    attributes = {}
    for name in dict.fromkeys([*described, *(key for region in regions for key in region.values)]):
        options = described.get(name, {}).get("options") or {}
        attributes[name] = {
            "aname": name,
            "type": CHOICE if options else TEXT,
            "options": {key: text or key for key, text in options.items()},
        }
    return attributes, regions


def _rows(attributes: dict, regions: list[_Region], path: Path, videos: Videos, video: str | None) -> table.Rows:
    rows: list[table.Row] = []
    left_out = 0
    stretched: set[str] = set()
    bare: list[int] = []
    of_regions = [key for key, item in attributes.items() if not str(item.get("anchor_id", "XY1")).endswith("XY0")]
    named = [key for key in of_regions if ACTION.fullmatch(str(attributes[key]["aname"]).strip())] or of_regions
    named = named if len(named) == 1 else [key for key in named if not TRACK.fullmatch(str(attributes[key]["aname"]).strip())]
    if len(named) != 1:
        names = ", ".join(str(attributes[key]["aname"]) for key in of_regions) or "none"
        raise InputError(f"{path}: which attribute of a region is its action? There are: {names}; call one 'action'.")
    track = next((key for key in of_regions if TRACK.fullmatch(str(attributes[key]["aname"]).strip())), "")
    for number, region in enumerate(regions, 1):
        if not region.shape or region.shape[0] not in RECTANGLES:
            left_out += 1
            continue
        x, y, width, height = (float(value) for value in region.shape[1:5])
        name, frame = _place(region, path, videos, video)
        across, down = _stretch(name, path, videos, stretched)
        value = str(region.values.get(named[0], "")).strip()
        bare += [] if value else [number]
        for action in _actions(attributes[named[0]], value, f"{path}, entry {number}"):
            box = (x / across, y / down, (x + width) / across, (y + height) / down)
            rows.append(table.Row(name, frame, box, action, str(region.values.get(track, "")).strip(), number))
    warn_of_bare(path, bare)
    if left_out:
        log.warning("%s: only rectangles are read; %d entries of other kinds are left out.", path, left_out)
    return table.make(path, rows)


def _stretch(name: str, path: Path, videos: Videos, said: set[str]) -> tuple[float, float]:
    """By how much the browser, in which VIA runs, stretches a video of pixels that are not square: its width or its height grows."""
    seen = videos.look(name)
    aspect = float(seen.pixel_aspect) if seen is not None else 1.0
    if aspect != 1 and name not in said:
        said.add(name)
        log.info(
            "%s: pixels of %s are %.3g times as wide as high; boxes are taken for those of the stretched picture.",
            path,
            name,
            aspect,
        )
    return max(aspect, 1.0), max(1 / aspect, 1.0)


def _place(region: _Region, path: Path, videos: Videos, video: str | None) -> tuple[str, int]:
    """Video and frame, from the time or, of an image, from its name."""
    image = videos.image(region.file)
    if image is not None:
        return image
    name = video or region.file
    name = name if videos.name(name) else re.split(r"[/\\]", name)[-1]
    if not region.times:
        raise InputError(f"{path} has a region of {region.file} without a time, and no such image is in the videos' folders.")
    videos.size(name, path)  # times need the video
    return name, videos.frame_at(name, float(region.times[0]))


def _actions(attribute: dict, value: str, where: str) -> list[str]:
    options = {str(key): str(option).strip() for key, option in attribute.get("options", {}).items()}
    named = options | {option.casefold(): option for option in options.values()}
    if attribute.get("type") == TEXT:
        return split_actions(value)
    chosen = pieces(value, [*options, *options.values()])
    unknown = [key for key in chosen if key.strip().casefold() not in named]
    if unknown:
        raise InputError(f"{where}: option {unknown[0]!r} of the attribute {attribute['aname']!r} is not in its list.")
    found = [named[key.strip().casefold()] for key in chosen]
    return [name for name in dict.fromkeys(found) if name.lower() not in NOTHING]
