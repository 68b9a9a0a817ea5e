"""Looking inside, on a visitor's own video: what MSM and SFM do at a moment of it, and whether MSM moves action away from background.

Nobody has labelled the video, so the tubes that were found in it serve as action boxes, and the page says so. Of each key frame a model
sees its window alone, and around the moment a few seconds, so that the work does not grow with the video.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..analysis import (
    ACTION,
    BACKGROUND,
    Cells,
    KeyFrame,
    area_under_roc,
    attention_rows,
    cell_kinds,
    collect,
    context_entropy,
    coverage,
    embed,
    exchange_strength,
    map_measures,
    norm_map,
    probe_scores,
    separability,
)
from ..analysis.cells import enough
from ..config import ModelConfig
from ..data.dataset import Video
from ..detection.detector import Detector
from ..detection.pipeline import detect_steps
from ..structures import InputError
from .detection import Seen, packed
from .limits import check_length
from .offer import ready
from .pictures import jpeg_address

KEY_FRAMES = 16  # of the video, beside the chosen moment: for distances and embedding
PER_FRAME = 10  # cells of either kind that a key frame gives to the embedding
PARTS = 5  # of the video: the probe is tested on a part that it was not fitted on
AROUND = 1.5  # seconds before and after the moment of which maps are shown as the video plays
TAPS = ("MSM in", "MSM out")
MEASURES = ("d_euc", "Fisher J", "silhouette")
CHANGE = 0.005  # relative, below which it is none


class Inside(NamedTuple):
    """What one model does in one video.

    Attributes:
        model: its name.
        kind: what it has and has not, in words.
        sense: whether it has an MSM.
        key: the key frame nearest to the chosen moment.
        around: maps by name of the frames around it, see `maps_of`, and the numbers of these frames.
        cells: by tap of `TAPS`, some of all key frames, and where t-SNE puts them; none if the actors are too small for the maps.
        distances: by tap and measure of `MEASURES`, mean over key frames.
        lifts: likewise, how many times farther than the average the features inside the boxes are.
        frames: key frames with enough cells.
        exchange: what SFM does at each level, see `_exchange`.
    """

    model: str
    kind: str
    sense: bool
    key: KeyFrame
    around: tuple[list[int], dict[str, np.ndarray]]
    cells: dict[str, tuple[Cells, np.ndarray]]
    distances: dict[str, dict[str, float]]
    lifts: dict[str, float]
    frames: int
    exchange: list[dict[str, Any]]


class Progress(NamedTuple):
    """How far it is."""

    text: str
    done: int = 0
    total: int | None = None


def find(path: str, model: str, threshold: float) -> Iterator[Progress | Seen]:
    """The tubes of a checked video, for those who come without: progress, and last what was found.

    Raises:
        InputError: see `mssc.detection.pipeline.detect_video`.
    """
    step = None
    for step in detect_steps(path, ready(model), threshold):
        check_length(path, step.result.times[-1], len(step.result.times))
        yield Progress("Finding the actors first", step.done, step.total)
    assert step is not None
    found = step.result
    size = (found.info.width, found.info.height)
    yield Seen(path, model, found.tubes, [], found.classes, size, found.info.rate, found.times, threshold)


def look(seen: Seen, models: Sequence[str], moment: float) -> Iterator[Progress | list[Inside]]:
    """Look into models while they watch a video.

    Args:
        seen: what was found in it.
        models: names of one or two.
        moment: seconds; the nearest frame with an action is looked at.

    Yields:
        Progress, and last what was seen, one per model.

    Raises:
        InputError: if nobody was found in the video.
    """
    video, near, frame = annotated(seen, moment)
    found = []
    for name in dict.fromkeys(models):
        detector = Detector(copy.deepcopy(ready(name).model), name)  # hooks come and go: nobody else's run shall pass them
        keys, around = [], []
        total = len(video.labelled or ()) + len(near.labelled or ())
        for key in collect(detector, video, 1, "clip"):
            keys.append(key)
            yield Progress(f"Looking into {name}: key frames", len(keys), total)
        for key in collect(detector, near, 1, "stream", max(0, min(near.labelled or (0,)) - detector.config.window)):
            around.append((key.frame, maps_of(key)))
            yield Progress(f"Looking into {name}: around the moment", len(keys) + len(around), total)
        yield Progress(f"Arranging the features of {name}")
        found.append(_inside(name, detector, keys, around, frame))
    yield found


def annotated(seen: Seen, moment: float) -> tuple[Video, Video, int]:
    """The video with its tubes as if they were ground truth: with key frames spread over them; with those around the moment; and the
    frame of the moment. Where no action is sure, everybody's box is taken.

    Raises:
        InputError: if there is nobody.
    """
    tubes = seen.tubes or [person.tube for person in seen.people]
    acting = np.zeros(len(seen.times), bool)
    for tube in tubes:
        acting[tube.start : tube.stop] = True
    frames = np.flatnonzero(acting)
    if not len(frames):
        raise InputError("nobody was found in this video, so there is nothing to tell from the background; try another one.")
    times = np.array(seen.times)
    frame = int(frames[np.abs(times[frames] - moment).argmin()])
    spread = frames[np.linspace(0, len(frames) - 1, min(KEY_FRAMES, len(frames))).round().astype(int)]
    near = frames[np.abs(times[frames] - times[frame]) <= AROUND]
    width, height = seen.size

    def labelled(chosen: set[int]) -> Video:
        return Video("video", Path(seen.path), len(times), width, height, seen.rate, tuple(tubes), tuple(sorted(chosen)))

    return labelled({*spread.tolist(), frame}), labelled(set(near.tolist())), frame


def maps_of(key: KeyFrame) -> dict[str, np.ndarray]:
    """Maps of a key frame, as far as the model has them, each in units of its own average: 1 is the average of the frame."""
    maps = {}
    for tap, name in zip(TAPS, ("before", "after"), strict=True):
        if tap in key.taps:
            x = key.taps[tap]
            away = np.linalg.norm(x - x.mean((0, 1)), axis=2)
            maps[name] = away / max(away.mean(), 1e-9)
    level = key.levels[0]
    others = {"spatial": level.spatial[0], "motion": level.motion[0], "fused": level.fused}
    if level.exchanged:
        others |= {"spatial takes": level.exchanged[0], "motion takes": level.exchanged[1]}
    maps |= {name: norm_map(x) * x[0].numel() for name, x in others.items()}
    if level.attention is not None:
        shape = level.fused.shape[1:]
        cells = cell_kinds(key.boxes, shape, (key.size, key.size)) == ACTION
        if cells.any():
            maps["attention"] = attention_rows(level.attention[0], cells).mean(0) * cells.size
    return maps


def _inside(name: str, detector: Detector, keys: list[KeyFrame], around: list[tuple[int, dict]], frame: int) -> Inside:
    nearest = min(keys, key=lambda key: abs(key.frame - frame))
    cells, distances, frames = {}, {}, 0
    for tap in TAPS:
        parts, values = [], []
        for number, key in enumerate(keys):
            if tap in key.taps:
                _gather(key, tap, number * PARTS // len(keys), parts, values)
        frames = max(frames, len(values))
        distances[tap] = {measure: float(np.nanmean([one[measure] for one in values])) for measure in MEASURES} if values else {}
        if len(values) >= 2:
            some = Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            # Parts of one video are much alike: the number is told without an interval, which would look too sure.
            distances[tap]["AUROC"] = float(area_under_roc(probe_scores(some.features, some.action, some.videos), some.action))
            cells[tap] = (some, embed(some.features))
    maps = [maps_of(key) for key in keys]
    lifts = {}
    for which in ("before", "after"):
        known = [
            value for key, one in zip(keys, maps, strict=True) if which in one and (value := lift(key, one[which])) is not None
        ]
        if known:
            lifts[which] = float(np.mean(known))
    shown = {
        which: np.stack([one[which] for _, one in around]) for which in (around[0][1] if around else ()) if which != "attention"
    }
    far = max(keys, key=lambda key: abs(key.frame - nearest.frame))
    kind, sense = kind_of(detector.config), detector.config.motion == "msm" and "MSM in" in nearest.taps
    exchange = _exchange(detector, nearest, far)
    return Inside(name, kind, sense, nearest, ([n for n, _ in around], shown), cells, distances, lifts, frames, exchange)


def _gather(key: KeyFrame, tap: str, part: int, parts: list[tuple], values: list[dict[str, float]]) -> None:
    """Distances and some cells of a key frame, if enough of its cells show an action."""
    features, frame = key.taps[tap], (key.size, key.size)
    kinds = cell_kinds(key.boxes, features.shape[:2], frame)
    if not enough(kinds):
        return
    x = features.reshape(-1, features.shape[2]).astype(float)
    action, background = (kinds == ACTION).ravel(), (kinds == BACKGROUND).ravel()
    values.append(separability(x, action, background))
    rng = np.random.default_rng(key.frame)  # the same cells for every model with maps of this size
    chosen = np.concatenate([rng.permutation(np.flatnonzero(mask))[:PER_FRAME] for mask in (action, background)])
    owners = key.labels[coverage(key.boxes, features.shape[:2], frame).argmax(0).ravel()]
    labels = np.where(action, owners, -1)[chosen]
    rows, columns = np.unravel_index(chosen, kinds.shape)
    places = np.stack([columns, rows, columns + 1, rows + 1], 1) / np.tile(kinds.shape[::-1], 2)
    name = np.repeat(f"part {part + 1}", len(chosen))
    parts.append((x[chosen], action[chosen], labels, name, np.repeat(key.frame, len(chosen)), places))


def _exchange(detector: Detector, key: KeyFrame, other: KeyFrame) -> list[dict[str, Any]]:
    """SFM's first stage, by level: the contexts that each path is given and how even they are, and how much each path's features change
    when the other path's come from another frame, or are zero; nothing where there is no such stage."""
    told = []
    for level, far, fusion, stride in zip(key.levels, other.levels, detector.model.fusion.levels, (8, 16, 32), strict=True):
        if not level.exchanged:
            return []
        strength = exchange_strength(fusion, (level.spatial, level.motion), (far.spatial, far.motion))
        one: dict[str, Any] = {"stride": stride, "change": {name: round(value, 4) for name, value in strength._asdict().items()}}
        if level.context is not None:
            one["entropy"] = [round(float(value), 3) for value in context_entropy(level.context)]
            one["context"] = [_bytes(context[0].cpu().numpy()) for context in level.context]
        told.append(one)
    return told


def kind_of(config: ModelConfig) -> str:
    """What a model has of the paper's two modules, in words."""
    if config.paths != "both":
        return f"the {config.paths} path alone"
    motion = {"msm": "with MSM", "none": "without MSM"}.get(config.motion, f"without MSM ({config.motion})")
    fusion = "with SFM" if config.fusion == "sfm" else f"{'with' if 'sfm' in config.fusion else 'without'} SFM ({config.fusion})"
    return f"{motion}, {fusion}"


# -------------------------------------------------------------------- what is told


def lift(key: KeyFrame, response: np.ndarray) -> float | None:
    """How many times its average a map is inside the boxes; None where no box touches the frame."""
    value = map_measures(response, key.boxes, (key.size, key.size))["lift"]
    return round(value, 3) if np.isfinite(value) else None


def verdict(one: Inside) -> str:
    """What MSM did, in a sentence."""
    if not one.sense:
        return "No MSM here: this model has nothing that could move action away from the average."
    if len(one.lifts) < 2:
        return "Whether MSM moves action away from the average cannot be told: no box lies in the frames that were looked at."
    before, after = one.lifts["before"], one.lifts["after"]
    change = after / before - 1
    says = (
        f"raises the distance inside the boxes by {100 * change:.1f} %" if change > 0 else f"lowers it by {-100 * change:.1f} %"
    )
    if abs(change) < CHANGE:
        says = "does not change the distance inside the boxes"
    return f"MSM {says}: from {before:.3f} to {after:.3f} times the average of the frame, mean of the key frames."


def numbers(found: Sequence[Inside], seen: Seen) -> dict[str, Any]:
    """What was seen as plain values: by model the moment's gain and lifts, and the video's distances before and after MSM."""
    models = []
    for one in found:
        key = one.key
        gain = None if key.gain is None else {"mean": float(key.gain.mean()), "share_above_1": float((key.gain > 1).mean())}
        lifts = {name: lift(key, response) for name, response in maps_of(key).items()}
        told = {"model": one.model, "kind": one.kind, "verdict": verdict(one), "gain": gain, "lift": lifts}
        levels = [{name: value for name, value in level.items() if name != "context"} for level in one.exchange]
        models.append(told | {"separability": one.distances, "exchange": levels})
    what = "tubes" if seen.tubes else "people, for no action was sure,"
    return {
        "frame": found[0].key.frame,
        "seconds": seen.times[found[0].key.frame],
        "boxes_are": f"{what} that {seen.model} found with a score of at least {seen.threshold:g}; nobody labelled this video",
        "key_frames": found[0].frames,
        "models": models,
    }


def pictures(found: Sequence[Inside], seen: Seen) -> dict[str, Any]:
    """`numbers`, and all that the page draws: maps, contexts, gains, and where t-SNE puts the cells."""
    told = numbers(found, seen)
    key = found[0].key
    told["picture"] = jpeg_address(key.image, 88)
    told["size"] = list(seen.size)
    told["boxes"] = [[*(box / key.size).tolist(), int(label)] for box, label in zip(key.boxes, key.labels, strict=True)]
    for one, model in zip(found, told["models"], strict=True):
        frames, around = one.around
        model["sense"] = one.sense
        model["maps"] = _grids(maps_of(one.key))
        model["around"] = _grids(around)
        model["times"] = [seen.times[frame] for frame in frames]
        model["channels"] = None if one.key.gain is None else np.sort(one.key.gain)[::-1].round(4).tolist()
        model["contexts"] = [level.get("context") for level in one.exchange]
        model["points"] = {
            tap: {"labels": cells.labels.tolist(), "places": points.round(2).tolist()}
            for tap, (cells, points) in one.cells.items()
        }
    return told


def _grids(maps: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Maps, or one for each frame, and what MSM changes: the last two sides, the lowest and largest value, bytes between these."""
    told = {name: (values, 0.0, float(values.max())) for name, values in maps.items()}
    if "before" in maps and "after" in maps:
        change = maps["after"] - maps["before"]
        most = max(float(np.abs(change).max()), 1e-6)
        told["change"] = (change, -most, most)
    return {
        name: {"sides": list(values.shape[-2:]), "least": low, "most": most, "values": _bytes(values - low, most - low)}
        for name, (values, low, most) in told.items()
    }


def _bytes(values: np.ndarray, most: float | None = None) -> str:
    return packed((255 * values / max(float(values.max()) if most is None else most, 1e-12)).round().astype(np.uint8))
