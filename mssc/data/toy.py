"""A generated data set whose classes differ by motion only.

Every video shows two to four figures before a background that pans and shakes with the camera. One or two of them act for
a while and are still, or drift on, before and after; the others never act. All figures, and all that they do apart from the
action, come from one distribution, so a single frame tells neither the class nor who acts, and since camera, actors and
others all move, neither does it help to find what moves.

A figure's state is its anchor, which may drift, and four phases::

    centre = anchor + swing * (cos(phase x), sin(phase y))
    radius = base * (1 + 0.25 sin(phase size))
    angle  = turned + 0.8 sin(phase tilt)

Phases start anywhere and stand still; an action is nothing but letting one of them run. That keeps the distribution of single
frames the same for every class.
"""

import json
import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.random import Generator

from .. import video as video_files
from ..files import undamaged, write_whole
from ..structures import InputError, Tube
from . import toy_figures
from .dataset import Dataset, Video

log = logging.getLogger(__name__)

VERSION = 1
ANNOTATIONS = "annotations.json"
PARTS = ("train", "val", "test")
RATE = Fraction(25)
ACTIONS = {"circle": ("x", "y"), "bounce": ("y",), "sway": ("x",), "spin": ("turned",), "rock": ("tilt",), "pulse": ("size",)}
"""Each class and what runs in it."""
CLASSES = tuple(ACTIONS)

LEAST_FRAMES = 12
LEAST_ACTION = 10  # frames: at least two thirds of a period
PERIOD = (8, 14)  # frames
RADIUS = (0.1, 0.145)  # of the frame's shorter side
SWING = (0.4, 0.65)  # of the radius
DRIFT = 0.1  # of the shorter side, at most, over the whole video
PAN = 0.1  # of the shorter side, at most, over the whole video
SHAKE = 0.008  # of the shorter side


@dataclass(frozen=True)
class Actor:
    """A figure of a scene. `actions` are (label, start, stop); a figure that never acts has none."""

    look: toy_figures.Look
    pose: toy_figures.Pose
    actions: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Scene:
    """All that is needed to draw one video.

    Attributes:
        ground: seed of the background.
        camera: its path, x and y, (T,) pixels around 0.
        actors: those later in the list cover earlier ones.
    """

    ground: int
    camera: tuple[np.ndarray, np.ndarray]
    actors: tuple[Actor, ...]

    def render(self, height: int, width: int) -> np.ndarray:
        """(T, height, width, 3) uint8."""
        margin = int(np.ceil(max(np.abs(path).max() for path in self.camera))) + 1
        canvas = toy_figures.background(np.random.default_rng(self.ground), height + 2 * margin + 1, width + 2 * margin + 1)
        x, y = (margin + path for path in self.camera)
        frames = toy_figures.crop(canvas, x, y, height, width)
        for actor in self.actors:
            toy_figures.draw(frames, actor.look, actor.pose)
        return (frames * 255 + 0.5).astype(np.uint8)

    def tubes(self) -> tuple[Tube, ...]:
        """The ground truth: the whole figure's exact box, also where another one covers it."""
        tubes = []
        for actor in self.actors:
            boxes = toy_figures.boxes(actor.look, actor.pose)
            tubes += [Tube(label, 1.0, start, boxes[start:stop]) for label, start, stop in actor.actions]
        return tuple(tubes)


def generate(
    folder: str | Path,
    videos: int = 60,
    seed: int = 0,
    part: str = "train",
    size: tuple[int, int] = (160, 120),
    frames: tuple[int, int] = (24, 48),
    others: tuple[int, int] = (1, 2),
) -> Dataset:
    """Writes videos (H.264) and `annotations.json`, the latter last, so that a folder with one is complete.

    A folder that already holds what would be written is only read. The first actions of the videos go through the classes in
    turn. A video depends on seed, part and its number, not on how many there are.

    Args:
        folder: made if it does not exist.
        videos: how many.
        seed: another number, other videos.
        part: "train", "val" or "test": different videos of one seed.
        size: width and height in pixels, even, at least 48x48.
        frames: least and most per video, at least 12.
        others: least and most figures per video that never act.

    Raises:
        InputError: for arguments out of these ranges, or a folder that cannot be written.
    """
    folder, (width, height) = Path(folder), size
    if part not in PARTS or videos < 1 or seed < 0:
        raise InputError(f"part {part!r}, {videos} videos, seed {seed}: use one of {', '.join(PARTS)}, 1 or more, 0 or more.")
    if min(size) < 48 or width % 2 or height % 2 or not LEAST_FRAMES <= frames[0] <= frames[1]:
        least = f"48x48 with even sides and {LEAST_FRAMES} frames"
        raise InputError(f"toy videos of {width}x{height} with {frames[0]} to {frames[1]} frames: at least {least}.")
    if not 0 <= others[0] <= others[1]:
        raise InputError(f"{others[0]} to {others[1]} other figures: from 0 on, the least first.")
    recipe = {"version": VERSION, "seed": seed, "part": part, "size": [*size], "frames": [*frames], "others": [*others]}
    if _recipe(folder) == recipe | {"videos": videos}:
        return load(folder)
    if folder.is_dir():
        (folder / ANNOTATIONS).unlink(missing_ok=True)  # from here on the folder is not complete
    rows = []
    for number in range(videos):
        rng = np.random.default_rng([seed, PARTS.index(part), number])
        scene = compose(rng, width, height, int(rng.integers(frames[0], frames[1] + 1)), number % len(CLASSES), others)
        images = scene.render(height, width)
        name = f"{part}-{number:04d}"
        with video_files.Writer(folder / f"{name}.mp4", width, height, RATE) as writer:
            for image in images:
                writer.write(image)
        tubes = [{"label": tube.label, "start": tube.start, "boxes": _rounded(tube.boxes)} for tube in scene.tubes()]
        rows.append({"name": name, "frames": len(images), "width": width, "height": height, "tubes": tubes})
    content = {"recipe": recipe | {"videos": videos}, "classes": CLASSES, "rate": str(RATE), "videos": rows}
    write_whole(folder / ANNOTATIONS, json.dumps(content))
    return load(folder)


def load(folder: str | Path) -> Dataset:
    """Reads what `generate` wrote.

    Raises:
        InputError: if the folder holds no annotations, or damaged ones, or misses a video.
    """
    path = Path(folder) / ANNOTATIONS
    if not path.exists():
        raise InputError(f"{path} does not exist; generate the toy set first.")
    with undamaged(path, "generate it again"):
        content = json.loads(path.read_text(encoding="utf-8"))
        rate = Fraction(content["rate"])
        videos = []
        for row in content["videos"]:
            tubes = tuple(Tube(t["label"], 1.0, t["start"], t["boxes"]) for t in row["tubes"])
            file = path.with_name(row["name"] + ".mp4")
            videos.append(Video(row["name"], file, row["frames"], row["width"], row["height"], rate, tubes))
        dataset = Dataset(f"toy {content['recipe']['part']}", tuple(content["classes"]), tuple(videos))
    absent = [video.path.name for video in dataset.videos if not video.path.is_file()]
    if absent:
        raise InputError(f"{folder} misses {len(absent)} toy videos, such as {absent[0]}; remove {path.name} and generate again.")
    return dataset


def compose(rng: Generator, width: int, height: int, frames: int, label: int, others: tuple[int, int] = (1, 2)) -> Scene:
    """Makes up a scene whose first action is `label`."""
    side = min(width, height)
    camera = _camera(rng, frames, side)
    acting = 1 + int(rng.random() < 0.35)
    bases = rng.uniform(*RADIUS, acting + int(rng.integers(others[0], others[1] + 1))) * side
    reach = [1.25 * base + SWING[1] * base + (DRIFT / 2) * side for base in bases]
    anchors = _places(rng, width, height, reach, camera)
    actors = []
    for number, (base, anchor) in enumerate(zip(bases, anchors, strict=True)):
        actions = _actions(rng, frames, label if number == 0 else None) if number < acting else ()
        actors.append(Actor(toy_figures.Look.random(rng), _pose(rng, frames, side, base, anchor, camera, actions), actions))
    order = rng.permutation(len(actors))  # who covers whom says nothing about who acts
    return Scene(int(rng.integers(2**32)), camera, tuple(actors[i] for i in order))


def _camera(rng: Generator, frames: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Its path in x and y, (T,) pixels around 0: a pan, a slow sway and a shake."""
    time = np.linspace(-0.5, 0.5, frames)
    paths = []
    for _ in range(2):
        sway = 0.02 * side * rng.random() * np.sin(2 * np.pi * (rng.random() + np.arange(frames) / rng.uniform(8, 40)))
        shake = np.convolve(rng.normal(0, SHAKE * side * rng.random(), frames + 2), [0.25, 0.5, 0.25], "valid")
        paths.append(rng.uniform(-PAN, PAN) * side * time + sway + np.clip(shake, -0.02 * side, 0.02 * side))
    return paths[0], paths[1]


def _places(rng: Generator, width: int, height: int, reach: list[float], camera: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Anchors (N, 2) in the world from which no figure leaves the frame, whatever it does; the least crowded of 40 tries."""
    reaches = np.array(reach)
    low = np.stack([reaches + path.max() for path in camera], 1)
    high = np.stack([side - reaches + path.min() for side, path in zip((width, height), camera, strict=True)], 1)
    best, widest = None, -np.inf
    for _ in range(40):
        places = rng.uniform(np.minimum(low, high), np.maximum(low, high))
        gaps = np.linalg.norm(places[:, None] - places, axis=2) / (reaches[:, None] + reaches)
        gap = np.min(gaps + 9 * np.eye(len(places)))
        if gap > widest:
            best, widest = places, gap
    assert best is not None
    return best


def _actions(rng: Generator, frames: int, label: int | None) -> tuple[tuple[int, int, int], ...]:
    """One action somewhere in the video, or two different ones, each in its half."""
    halves = 2 if frames >= 3 * LEAST_ACTION and rng.random() < 0.35 else 1
    chosen = int(rng.integers(len(CLASSES))) if label is None else label
    actions = []
    for half in range(halves):
        room = frames // halves
        length = min(room, max(LEAST_ACTION, round(rng.uniform(0.45, 0.75) * room)))
        start = half * room + int(rng.integers(0, room - length + 1))
        actions.append((chosen, start, start + length))
        chosen = (chosen + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    return tuple(actions)


def _pose(
    rng: Generator,
    frames: int,
    side: int,
    base: float,
    anchor: np.ndarray,
    camera: tuple[np.ndarray, np.ndarray],
    actions: tuple[tuple[int, int, int], ...],
) -> toy_figures.Pose:
    """The pose in every frame, on the screen. The same numbers are drawn whether and however the figure acts."""
    swing = rng.uniform(*SWING) * base
    start = rng.uniform(0, 2 * np.pi)  # shared by x and y, so that a circle begins as a circle
    phase = {"x": start, "y": start} | {key: rng.uniform(0, 2 * np.pi) for key in ("turned", "tilt", "size")}
    moves = rng.random() < 0.5
    way, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1) * DRIFT * side * moves
    run = {key: np.zeros(frames) for key in phase}
    for label, begin, stop in actions:
        step = rng.choice([-1, 1]) * 2 * np.pi / rng.uniform(*PERIOD)
        for key in ACTIONS[CLASSES[label]]:
            run[key][begin + 1 : stop] = step  # the first frame of an action is where it starts from
    now = {key: phase[key] + np.cumsum(run[key]) for key in phase}
    drift = length * np.linspace(-0.5, 0.5, frames)
    return toy_figures.Pose(
        x=anchor[0] + np.cos(way) * drift + swing * np.cos(now["x"]) - camera[0],
        y=anchor[1] + np.sin(way) * drift + swing * np.sin(now["y"]) - camera[1],
        radius=base * (1 + 0.25 * np.sin(now["size"])),
        angle=now["turned"] + 0.8 * np.sin(now["tilt"]),
    )


def _rounded(boxes: np.ndarray) -> list[list[float]]:
    return np.round(boxes.astype(float), 2).tolist()


def _recipe(folder: Path) -> dict | None:
    """How the folder's videos were made; None if they are not all there."""
    path = folder / ANNOTATIONS
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        complete = all((folder / f"{row['name']}.mp4").is_file() for row in content["videos"])
        return content["recipe"] if complete else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is cut off or damaged (%s); the toy set is generated again.", path, error)
        return None
