"""Import of "CVAT for video 1.1": the XML that CVAT exports, or its zip.

A track's boxes are interpolated between those that are given; it is there from its first box on, not from a box marked
`outside` to the next one that is not, and not after its last box. Occluded boxes count unless asked otherwise; a box that is
turned counts as the upright one around it. Frames are those of the source video: CVAT writes them so whatever start frame and
frame filter a task has, in exports of jobs and projects too.

Actions are the values of a box's attribute `action` (several with commas between them), and attributes `action/…` or
`action_…` that are true. A track without any such attribute does what its label says.
"""

import logging
import math
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from mssc.data import table
from mssc.structures import InputError

log = logging.getLogger(__name__)

MOST_BYTES = 256 << 20
MOST_FRAMES = 10_000_000  # that one track may last; a number beyond is a slip or an attack
DEEPEST = 32  # levels of elements; CVAT's files have about eight
NOTHING = {"", "none", "no", "false", "0", "n/a", "background", "__undefined__"}
TRUE = {"true", "yes", "1"}
SHAPES = ("polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")


class _Box(NamedTuple):
    frame: int
    corners: tuple[float, float, float, float]
    outside: bool
    occluded: bool
    actions: tuple[str, ...]


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
    rows: list[tuple] = []
    sizes = {}
    for number, track in enumerate(tracks):
        task = _task_of(track, tasks, path, video)
        if task.size is not None:
            sizes[task.video] = task.size
        boxes = _boxes(track, path)
        if occluded == "drop":
            boxes = [box._replace(outside=box.outside or box.occluded) for box in boxes]
        name = track.get("id") or str(number)
        if boxes and not 0 <= boxes[0].frame <= boxes[-1].frame <= MOST_FRAMES:
            raise InputError(f"{path}: track {name} runs from frame {boxes[0].frame} to {boxes[-1].frame}; no video does.")
        rows += [(task.video, *row, number + 1) for row in _rows(f"{track.get('task_id', '')}:{name}".lstrip(":"), boxes)]
    if not rows:
        raise InputError(f"{path} holds no box inside the frame in its {len(tracks)} tracks; annotate tracks of boxes in CVAT.")
    return table.make(path, rows, sizes)


def _bytes(path: Path) -> bytes:
    try:
        if not zipfile.is_zipfile(path):
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


def _boxes(track: Element, path: Path) -> list[_Box]:
    """A track's boxes by frame."""
    where = f"{path}: track {track.get('id')} ({track.get('label')})"
    shared = _actions(track.findall("attribute"))
    found: dict[int, _Box] = {}
    for box in track.findall("box"):
        try:
            frame = int(box.attrib["frame"])
            corners = tuple(float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            turned = float(box.get("rotation", 0))
        except (KeyError, ValueError) as error:
            raise InputError(f"{where} has a box that lacks a number ({error}).") from None
        if frame in found:
            raise InputError(f"{where} has two boxes in frame {frame}; remove one of them.")
        outside, hidden = box.get("outside") == "1", box.get("occluded") == "1"
        if not np.isfinite(corners).all() or (not outside and (corners[2] <= corners[0] or corners[3] <= corners[1])):
            raise InputError(f"{where}, frame {frame}: the box {list(corners)} is empty, inverted or no number.")
        corners = _around(corners, turned) if turned and math.isfinite(turned) else corners
        own = _actions(box.findall("attribute"))
        named = own if own is not None else shared
        if named is None:
            label = (track.get("label") or "").strip()
            if not label:
                raise InputError(f"{where} has neither a label nor an attribute 'action'.")
            named = (label,)
        found[frame] = _Box(frame, corners, outside, hidden, named)  # type: ignore[arg-type]
    return [found[frame] for frame in sorted(found)]


def _around(corners: tuple[float, ...], degrees: float) -> tuple[float, ...]:
    """The upright box around one that is turned about its centre."""
    x1, y1, x2, y2 = corners
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = (x2 - x1) * cos + (y2 - y1) * sin, (x2 - x1) * sin + (y2 - y1) * cos
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _actions(attributes: list[Element]) -> tuple[str, ...] | None:
    """The actions that attributes name, perhaps none; None if no attribute is about actions."""
    found, about = [], False
    for attribute in attributes:
        name, value = (attribute.get("name") or "").strip(), (attribute.text or "").strip()
        named = re.fullmatch(r"actions?[/_:. ](.+)", name, re.IGNORECASE)
        if re.fullmatch(r"actions?", name, re.IGNORECASE):
            about = True
            found += [part.strip() for part in re.split(r"[,;]", value) if part.strip().lower() not in NOTHING]
        elif named:
            about = True
            if value.lower() in TRUE:
                found.append(named[1].strip())
            elif value.lower() not in NOTHING:
                found.append(value)
    return tuple(dict.fromkeys(found)) if about else None


def _rows(name: str, boxes: list[_Box]) -> list[tuple]:
    """(frame, corners, action, track) for every frame in which the track is seen; each stretch is a track of its own."""
    rows: list[tuple] = []
    stretch = 1
    for index, box in enumerate(boxes):
        if box.outside:
            stretch += bool(rows)
            continue
        following = boxes[index + 1] if index + 1 < len(boxes) else None
        last = following.frame if following is not None else box.frame + 1
        start, goal = np.array(box.corners), np.array(following.corners if following is not None else box.corners)
        track = name if stretch == 1 else f"{name}-{stretch}"
        for frame in range(box.frame, last):
            corners = start + (goal - start) * ((frame - box.frame) / (last - box.frame))
            rows += [(frame, tuple(corners.tolist()), action, track) for action in box.actions]
    return rows
