"""What MSM and SFM do at a moment of a video that nobody has labelled: the tubes that were found in it serve as action boxes.

    watched(...)          which frames to look at
    look(watched, ...)    what each model does there, step by step
    look_at(result, ...)  both, for a result of `mssc.detect_video`

Of each key frame a model sees its window alone, and around the moment a few seconds, so that the work does not grow with the video.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..config import ModelConfig
from ..data.dataset import Video
from ..detection.detector import Detector, shared_detector
from ..model.fusion import context_entropy
from ..structures import InputError
from .cells import ACTION, cell_kinds
from .distances import separability
from .embedding import embed
from .exchange import exchange_strength
from .keyframes import KeyFrame, collect
from .maps import attention_rows, map_measures, norm_map
from .probes import area_under_roc, probe_scores
from .study import Cells, cells_of

if TYPE_CHECKING:  # needs the video library, which training does without
    from ..detection.result import VideoResult

KEY_FRAMES = 16  # of the video, beside the chosen moment: for distances and embedding
PARTS = 5  # of the video: the probe is tested on a part that it was not fitted on
AROUND = 1.5  # seconds before and after the moment of which maps are shown as the video plays
TAPS = ("MSM in", "MSM out")
MEASURES = ("d_euc", "Fisher J", "silhouette")


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
        lifts: likewise, how many times farther than the average the features inside the boxes are; mean over `boxed` key frames.
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
    boxed: int
    frames: int
    exchange: list[dict[str, Any]]


class Progress(NamedTuple):
    """How far it is."""

    text: str
    done: int = 0
    total: int | None = None


class Watched(NamedTuple):
    """Which frames of a video to look at; its tubes stand for ground truth.

    Attributes:
        spread: with key frames all over it.
        near: with key frames around the moment.
        frame: of the moment.
    """

    spread: Video
    near: Video
    frame: int


def watched(result: "VideoResult", moment: float) -> Watched:
    """Choose the frames. Where no action is sure, everybody's box is taken.

    Args:
        result: of the video.
        moment: seconds; the nearest frame with a tube is looked at.

    Raises:
        InputError: if nobody is there.
    """
    info, times = result.info, result.times
    tubes = result.tubes or [person.tube for person in result.people]
    acting = np.zeros(len(times), bool)
    for tube in tubes:
        acting[tube.start : tube.stop] = True
    frames = np.flatnonzero(acting)
    if not len(frames):
        raise InputError("nobody was found in this video, so there is nothing to tell from the background; try another one.")
    clock = np.array(times)
    frame = int(frames[np.abs(clock[frames] - moment).argmin()])
    spread = frames[np.linspace(0, len(frames) - 1, min(KEY_FRAMES, len(frames))).round().astype(int)]
    near = frames[np.abs(clock[frames] - clock[frame]) <= AROUND]

    def labelled(chosen: set[int]) -> Video:
        return Video("video", info.path, len(times), info.width, info.height, info.rate, tuple(tubes), tuple(sorted(chosen)))

    return Watched(labelled({*spread.tolist(), frame}), labelled(set(near.tolist())), frame)


def look(chosen: Watched, detectors: Mapping[str, Detector]) -> Iterator[Progress | list[Inside]]:
    """Look into models while they watch a video.

    Args:
        chosen: see `watched`.
        detectors: by name; copies are looked into.

    Yields:
        Progress, and last what was seen, one per model.
    """
    spread, near, frame = chosen
    found = []
    for name, shared in detectors.items():
        detector = Detector(copy.deepcopy(shared.model), name)  # hooks come and go: nobody else's run shall pass them
        keys, around = [], []
        total = len(spread.labelled or ()) + len(near.labelled or ())
        for key in collect(detector, spread, 1, "clip"):
            keys.append(key)
            yield Progress(f"Looking into {name}: key frames", len(keys), total)
        for key in collect(detector, near, 1, "stream", max(0, min(near.labelled or (0,)) - detector.config.window)):
            around.append((key.frame, maps_of(key)))
            yield Progress(f"Looking into {name}: around the moment", len(keys) + len(around), total)
        yield Progress(f"Arranging the features of {name}")
        found.append(_inside(name, detector, keys, around, frame))
    yield found


def look_at(result: "VideoResult", models: Sequence[str | Path], moment: float) -> list[Inside]:
    """Look into models at a moment of a video whose tubes are known; where no action was sure, at who is seen.

    Args:
        result: of `mssc.detect_video`.
        models: names of models that ship, or folders of models.
        moment: seconds; the nearest frame with a tube is looked at.

    Raises:
        InputError: for a video in which nobody is seen, or a model that cannot be read.
    """
    *_, found = look(watched(result, moment), {one.name: one for one in map(shared_detector, models)})
    assert isinstance(found, list)
    return found


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
    lifts, boxed = {}, 0
    for which in ("before", "after"):
        known = [
            value for key, one in zip(keys, maps, strict=True) if which in one and (value := lift(key, one[which])) is not None
        ]
        if known:
            lifts[which], boxed = float(np.mean(known)), len(known)
    shown = {
        which: np.stack([one[which] for _, one in around]) for which in (around[0][1] if around else ()) if which != "attention"
    }
    far = max(keys, key=lambda key: abs(key.frame - nearest.frame))
    kind, sense = kind_of(detector.config), detector.config.motion == "msm" and "MSM in" in nearest.taps
    exchange = _exchange(detector, nearest, far)
    return Inside(name, kind, sense, nearest, ([n for n, _ in around], shown), cells, distances, lifts, boxed, frames, exchange)


def _gather(key: KeyFrame, tap: str, part: int, parts: list[tuple], values: list[dict[str, float]]) -> None:
    """Distances and some cells of a key frame, if enough of its cells show an action."""
    found = cells_of(key, tap, f"part {part + 1}", key.frame)
    if found is not None:
        values.append(separability(*found[0]))
        parts.append(found[1])


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
            one["context"] = [context[0].float().cpu().numpy() for context in level.context]  # of the first head
        told.append(one)
    return told


def kind_of(config: ModelConfig) -> str:
    """What a model has of the paper's two modules, in words."""
    if config.paths != "both":
        return f"the {config.paths} path alone"
    motion = {"msm": "with MSM", "none": "without MSM"}.get(config.motion, f"without MSM ({config.motion})")
    fusion = "with SFM" if config.fusion == "sfm" else f"{'with' if 'sfm' in config.fusion else 'without'} SFM ({config.fusion})"
    return f"{motion}, {fusion}"


def lift(key: KeyFrame, response: np.ndarray) -> float | None:
    """How many times its average a map is inside the boxes; None where no box touches the frame."""
    value = map_measures(response, key.boxes, (key.size, key.size))["lift"]
    return round(value, 3) if np.isfinite(value) else None
