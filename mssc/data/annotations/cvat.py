"""Import of "CVAT for video 1.1": the XML that CVAT exports, or its zip.

A track's boxes are interpolated between those that are given; it is there from its first box on, not from a box marked
`outside` to the next one that is not, and not after its last box. Occluded boxes count unless asked otherwise; a box that is
turned counts as the upright one around it. Frames are those of the source video: CVAT writes them so whatever start frame and
frame filter a task has, in exports of jobs and projects too.

Actions are the values of a box's attribute `action` (several with commas between them, unless the value is one of the attribute's own
options), and attributes `action/…` or `action_…` that are true. A track without any such attribute does what its label says.
"""

import logging
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from ...structures import InputError
from . import table
from .shared import ACTION, NOTHING, Key, between, split_actions, warn_of_bare

log = logging.getLogger(__name__)

MOST_BYTES = 256 << 20
DEEPEST = 32  # levels of elements; CVAT's files have about eight
TRUE = {"true", "yes", "1"}
SHAPES = ("polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")


class _Task(NamedTuple):
    video: str
    size: tuple[int, int] | None


def read(path: Path, occluded: str = "keep", video: str | None = None) -> table.Rows:
    """Reads an export, one row per frame.

    Args:
        path: the XML, or the zip with annotations.xml in it.
        occluded: "keep", or "drop" the boxes that are marked so.
        video: name of the video, if the file does not say or says another.

    Raises:
        InputError: for a file that is no such export, is cut off or declares entities (none is ever read), and a track or box
            that cannot be understood, by name.
    """
    root = parse(_bytes(path), path)
    if root.tag != "annotations":
        raise InputError(f"{path} begins with <{root.tag}>; it is no CVAT export. Export as 'CVAT for video 1.1'.")
    tracks = root.findall("track")
    if not tracks and root.find("image") is not None:
        raise InputError(f"{path} is 'CVAT for images'; export the task as 'CVAT for video 1.1'.")
    tasks = _tasks(root)
    other = Counter(shape.tag for track in tracks for shape in track if shape.tag in SHAPES)
    if other:
        log.warning("%s: only boxes are read; left out are %s.", path, ", ".join(f"{n} {tag}" for tag, n in other.items()))
    options = _options(root)
    rows: list[table.Row] = []
    bare: list[str] = []
    sizes = {}
    for number, track in enumerate(tracks):
        task = _task_of(track, tasks, path, video)
        if task.size is not None:
            sizes[task.video] = task.size
        where = f"{path}: track {track.get('id')} ({track.get('label')})"
        name = f"{track.get('task_id', '')}:{track.get('id') or number}".lstrip(":")
        keys = _keys(track, where, options, occluded)
        found = between(where, name, keys)
        rows += [table.Row(task.video, *row, number + 1) for row in found]
        if not found and not _is_answered(track):
            bare.append(f"track {track.get('id')}")
    warn_of_bare(path, bare)
    if not rows:
        raise InputError(f"{path} holds no box inside the frame in its {len(tracks)} tracks; annotate tracks of boxes in CVAT.")
    return table.make(path, rows, sizes=sizes)


def _bytes(path: Path) -> bytes:
    try:
        if not zipfile.is_zipfile(path):
            if path.suffix.lower() == ".zip":
                raise InputError(f"{path} is cut off or damaged, or no zip at all; export it again.")
            if path.stat().st_size > MOST_BYTES:
                raise InputError(f"{path} is larger than {MOST_BYTES >> 20} MB; export fewer tasks at once.")
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            inside = [item for item in archive.infolist() if item.filename.rpartition("/")[2] == "annotations.xml"]
            if len(inside) != 1:
                raise InputError(f"{path} holds {len(inside)} files annotations.xml; one is wanted: export 'CVAT for video 1.1'.")
            with archive.open(inside[0]) as file:
                data = file.read(MOST_BYTES + 1)  # the archive's own word on sizes may be a lie
            if len(data) > MOST_BYTES:
                raise InputError(f"{path} unpacks to more than {MOST_BYTES >> 20} MB; it is refused.")
            return data
    except InputError:
        raise
    except Exception as error:  # zipfile raises many kinds for a damaged archive
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def parse(data: bytes, path: Path) -> Element:
    """XML without a document type, so that there are no entities: none is expanded, no file is opened.

    Raises:
        InputError: for a document type, an entity, damage, or elements nested too deeply.
    """
    plain = data.replace(b"\0", b"").upper()  # also when each letter takes two or four bytes
    refused = InputError(f"{path} declares a document type or entities; CVAT's files have none, so it was refused unread.")
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise refused
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise InputError(f"{path} nests elements more than {DEEPEST} deep; it is no CVAT export.")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> int:
        raise refused

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except expat.ExpatError as error:
        raise InputError(f"{path} is no whole XML file ({error}); export it again.") from None
    except (ValueError, LookupError, AssertionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no XML file ({error}); export it again.") from None


def _tasks(root: Element) -> dict[str, _Task]:
    """Tasks by id; "" is the one that a file of a single task or job is of."""
    meta = root.find("meta")
    if meta is None:
        return {}
    found = {}
    for place in (*meta.findall("task"), *meta.findall("job"), *meta.findall("project/tasks/task")):
        source = (place.findtext("source") or meta.findtext("source") or place.findtext("name") or "").strip()
        size = place.find("original_size")
        size = meta.find("original_size") if size is None else size
        shape = None
        if size is not None:
            width, height = (size.findtext(key, "").strip() for key in ("width", "height"))
            shape = (int(width), int(height)) if width.isdecimal() and height.isdecimal() else None
        found[(place.findtext("id") or "").strip()] = _Task(source, shape)
    if len(found) == 1:
        found[""] = next(iter(found.values()))
    return found


def _task_of(track: Element, tasks: dict[str, _Task], path: Path, video: str | None) -> _Task:
    task = tasks.get(track.get("task_id", ""), tasks.get(""))
    name = video or (task.video if task else "") or track.get("source_video", "")
    if not name:
        raise InputError(f"{path} does not say which video the track {track.get('id')} belongs to; name it with --video.")
    return _Task(name, task.size if task else None)


def _keys(track: Element, where: str, options: Collection[str], occluded: str) -> Iterator[Key]:
    """A track's boxes."""
    shared = _actions(track.findall("attribute"), options)
    label = (track.get("label") or "").strip()
    for box in track.findall("box"):
        try:
            frame, turned = int(box.attrib["frame"]), float(box.get("rotation", 0))
            x1, y1, x2, y2 = (float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        except (KeyError, ValueError) as error:
            raise InputError(f"{where} has a box that lacks a number ({error}).") from None
        outside = box.get("outside") == "1" or (occluded == "drop" and box.get("occluded") == "1")
        if not np.isfinite([x1, y1, x2, y2]).all() or (not outside and (x2 < x1 or y2 < y1)):
            raise InputError(f"{where}, frame {frame}: the box {[x1, y1, x2, y2]} is inverted or no number.")
        own = _actions(box.findall("attribute"), options)
        named = own if own is not None else shared
        if named is None and not label:
            raise InputError(f"{where} has neither a label nor an attribute 'action'.")
        yield Key(frame, (x1, y1, x2, y2), turned, (label,) if named is None else named, not outside)


def _options(root: Element) -> set[str]:
    """What can be chosen for an attribute `action`, as the file says."""
    described = [item for item in root.iter("attribute") if ACTION.fullmatch((item.findtext("name") or "").strip())]
    return {line.strip() for item in described for line in (item.findtext("values") or "").splitlines()}


def _is_answered(track: Element) -> bool:
    """Whether a track without an action has no box, or says that there is none."""
    shown = [box for box in track.findall("box") if box.get("outside") != "1"]
    about = [item for item in track.iter("attribute") if (item.get("name") or "").strip().lower().startswith("action")]
    return not shown or any((item.text or "").strip() for item in about)


def _actions(attributes: list[Element], options: Collection[str]) -> tuple[str, ...] | None:
    """The actions that attributes name, perhaps none; None if no attribute is about actions."""
    found, about = [], False
    for attribute in attributes:
        name, value = (attribute.get("name") or "").strip(), (attribute.text or "").strip()
        named = re.fullmatch(r"actions?[/_:. ](.+)", name, re.IGNORECASE)
        if ACTION.fullmatch(name):
            about = True
            found += split_actions(value, options)
        elif named:
            about = True
            if value.lower() in TRUE:
                found.append(named[1].strip())
            elif value.lower() not in NOTHING:
                found.append(value)
    return tuple(dict.fromkeys(found)) if about else None
