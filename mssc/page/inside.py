"""Looking inside, on a visitor's own video: what MSM and SFM do at a moment of it, and whether MSM moves action away from background.

Nobody has labelled the video, so the tubes that were found in it serve as action boxes, and the page says so. Of each key frame a model
sees its window alone, so that the work does not grow with the video.
"""

import copy
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..analysis import (
    ACTION,
    BACKGROUND,
    Cells,
    Interval,
    KeyFrame,
    Projection,
    area_under_roc,
    cell_kinds,
    collect,
    coverage,
    embed,
    map_measures,
    norm_map,
    probe_scores,
    separability,
)
from ..analysis.cells import enough
from ..config import ModelConfig
from ..data.dataset import Video
from ..detection.pipeline import detect_steps
from ..structures import InputError
from .detection import Seen
from .limits import check_length
from .offer import ready
from .pictures import card, frame_picture, gain_bars, heat_picture

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

KEY_FRAMES = 16  # of the video, beside the chosen moment: for distances and embedding
PER_FRAME = 10  # cells of either kind that a key frame gives to the embedding
PARTS = 5  # of the video: the probe is tested on a part that it was not fitted on
TAPS = ("MSM in", "MSM out")
MEASURES = ("silhouette", "Fisher J", "d_euc")


class Inside(NamedTuple):
    """What one model does in one video.

    Attributes:
        model: its name.
        kind: what it has and has not, in words.
        key: the key frame nearest to the chosen moment.
        projections: of the cells at `TAPS`; empty if the actors are too small for the maps.
        distances: by tap and measure of `MEASURES`, mean over key frames.
        frames: key frames with enough cells.
    """

    model: str
    kind: str
    key: KeyFrame
    projections: list[Projection]
    distances: dict[str, dict[str, float]]
    frames: int


def find(path: str, model: str, threshold: float) -> Iterator[str | Seen]:
    """The tubes of a checked video, for those who come without: progress as HTML, and last what was found.

    Raises:
        InputError: see `mssc.detection.pipeline.detect_video`.
    """
    step = None
    for step in detect_steps(path, ready(model), threshold):
        check_length(path, step.result.times[-1], len(step.result.times))
        yield progress_bar("Finding the actors first", step.done, step.total, 0)
    assert step is not None
    found = step.result
    size = (found.info.width, found.info.height)
    yield Seen(path, model, found.tubes, [], found.classes, size, found.info.rate, found.times, threshold)


def look(seen: Seen, models: Sequence[str], moment: float) -> Iterator[str | list[Inside]]:
    """Look into models while they watch a video.

    Args:
        seen: what was found in it.
        models: names of one or two.
        moment: seconds; the nearest frame with an action is looked at.

    Yields:
        Progress as HTML, and last what was seen, one per model.

    Raises:
        InputError: if nothing was found in the video.
    """
    video, frame = annotated(seen, moment)
    found = []
    for name in dict.fromkeys(models):
        yield progress_bar(f"Looking into {name}", 0, None, 0)
        detector = copy.deepcopy(ready(name))  # hooks come and go: nobody else's run shall pass them
        keys = []
        for key in collect(detector, video, 1, "clip"):
            keys.append(key)
            total = len(video.labelled or ())
            said = f"Looking into {html.escape(name)}: key frame {len(keys)} of {total}"
            yield f"<p>{said}</p><progress value={len(keys)} max={total}></progress>"
        yield progress_bar("Arranging the features", 0, None, 0)
        found.append(_inside(name, detector.config, keys, frame))
    yield found


def annotated(seen: Seen, moment: float) -> tuple[Video, int]:
    """The video with its tubes as if they were ground truth, key frames spread over them, and the one that was asked for.

    Raises:
        InputError: if there is no tube.
    """
    count = len(seen.times)
    acting = np.zeros(count, bool)
    for tube in seen.tubes:
        acting[tube.start : tube.stop] = True
    frames = np.flatnonzero(acting)
    if not len(frames):
        raise InputError(
            f"no action was found at threshold {seen.threshold:.2f}, so there is nothing to tell from the background; "
            "lower the threshold on the first tab and find actions again."
        )
    times = np.array(seen.times)
    frame = int(frames[np.abs(times[frames] - moment).argmin()])
    spread = frames[np.linspace(0, len(frames) - 1, min(KEY_FRAMES, len(frames))).round().astype(int)]
    chosen = tuple({*spread.tolist(), frame})
    width, height = seen.size
    return Video("video", Path(seen.path), count, width, height, seen.rate, tuple(seen.tubes), chosen), frame


def _inside(name: str, config: ModelConfig, keys: list[KeyFrame], frame: int) -> Inside:
    nearest = min(keys, key=lambda key: abs(key.frame - frame))
    projections, distances, frames = [], {}, 0
    for tap in TAPS:
        parts, values = [], []
        for number, key in enumerate(keys):
            if tap in key.taps:
                _gather(key, tap, number * PARTS // len(keys), parts, values)
        frames = max(frames, len(values))
        distances[tap] = {measure: float(np.nanmean([one[measure] for one in values])) for measure in MEASURES} if values else {}
        if len(values) >= 2:
            cells = Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            # Parts of one video are much alike: the number is told without an interval, which would look too sure.
            auroc = area_under_roc(probe_scores(cells.features, cells.action, cells.videos), cells.action)
            distances[tap]["AUROC"] = float(auroc)
            points = embed(cells.features)
            projections.append(Projection(name, tap, "tsne", points, cells, _alone(auroc), _alone(distances[tap]["silhouette"])))
    return Inside(name, kind_of(config), nearest, projections, distances, frames)


def _alone(value: float) -> Interval:
    return Interval(value, float("nan"), float("nan"), 1)


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


def kind_of(config: ModelConfig) -> str:
    """What a model has of the paper's two modules, in words."""
    if config.paths != "both":
        return f"the {config.paths} path alone"
    motion = {"msm": "with MSM", "none": "without MSM"}.get(config.motion, f"without MSM ({config.motion})")
    fusion = "with SFM" if config.fusion == "sfm" else f"{'with' if 'sfm' in config.fusion else 'without'} SFM ({config.fusion})"
    return f"{motion}, {fusion}"


# -------------------------------------------------------------------- what is shown


def progress_bar(text: str, done: int, total: int | None, seconds: float) -> str:
    """How far something is, as HTML."""
    value = f' value="{done}" max="{total}"' if total and total >= done > 0 else ""
    return f"<p>{html.escape(text)} …</p><progress{value}></progress>"


def failed(sentence: str) -> str:
    """Why there is no result, as HTML."""
    return f'<div role="alert" class="failed"><h3>That did not work</h3><p>{html.escape(sentence, quote=False)}</p></div>'


def responses(key: KeyFrame) -> dict[str, tuple[str, np.ndarray]]:
    """Maps of a key frame by title, each with a sentence; those that the model has."""
    maps = {}
    idle = "MSM out" in key.taps and np.array_equal(key.taps["MSM in"], key.taps["MSM out"])
    sense = "This model has no MSM that could change it." if idle else "MSM shall raise it where somebody acts."
    for tap, what in (("MSM in", "before MSM"), ("MSM out", "after MSM")):
        if tap in key.taps:
            x = key.taps[tap]
            away = np.linalg.norm(x - x.mean((0, 1)), axis=2)
            maps[f"Distance from the average {what}"] = (sense, away / max(away.sum(), 1e-9))
    level = key.levels[0]
    if level.taken:
        maps["SFM: the spatial path takes"] = ("What the motion path tells it.", norm_map(level.taken[0]))
        maps["SFM: the motion path takes"] = ("What the spatial path tells it.", norm_map(level.taken[1]))
    else:
        maps["Spatial path"] = ("What enters fusion.", norm_map(level.spatial[0]))
        maps["Motion path"] = ("What enters fusion.", norm_map(level.motion[0]))
    maps["After fusion"] = ("What boxes and actions are read from.", norm_map(level.fused))
    return maps


def numbers(found: Sequence[Inside], seen: Seen) -> dict[str, Any]:
    """The same as plain values: by model the moment's gain and lifts, and the video's distances before and after MSM."""
    models = []
    for one in found:
        key = one.key
        lifts = {name: _lift(key, response) for name, (_, response) in responses(key).items()}
        gain = None if key.gain is None else {"mean": float(key.gain.mean()), "share_above_1": float((key.gain > 1).mean())}
        models.append({"model": one.model, "kind": one.kind, "gain": gain, "lift": lifts, "separability": one.distances})
    return {
        "frame": found[0].key.frame,
        "seconds": seen.times[found[0].key.frame],
        "boxes_are": f"tubes that {seen.model} found with a score of at least {seen.threshold:g}; nobody labelled this video",
        "key_frames": found[0].frames,
        "models": models,
    }


def _lift(key: KeyFrame, response: np.ndarray) -> float | None:
    value = map_measures(response, key.boxes, (key.size, key.size))["lift"]
    return round(value, 3) if np.isfinite(value) else None


def page_of(found: Sequence[Inside], seen: Seen) -> str:
    """The moment, a column per model, as HTML that holds its pictures."""
    seconds = seen.times[found[0].key.frame]
    said = (
        f"<p>Frame {found[0].key.frame}, at {seconds:.2f} s. Nobody labelled your video: the boxes are the tubes that "
        f"<b>{html.escape(seen.model)}</b> found with a score of at least {seen.threshold:.2f}, and may be wrong. The number under a map "
        "says how much stronger it is inside the boxes than a map that prefers no place (1.0).</p>"
    )
    columns = []
    for one in found:
        key, aspect = one.key, seen.size[0] / seen.size[1]
        cards = [
            card("The moment", "Boxes that were found.", frame_picture(key.image, key.boxes, key.labels, seen.classes, aspect))
        ]
        for name, (sentence, response) in responses(key).items():
            lift = _lift(key, response)
            number = "" if lift is None else f"<b>{lift:.2f}&times;</b> inside the boxes. "
            cards.append(card(name, number + sentence, heat_picture(key.image, response, key.boxes, aspect)))
        gain = "<p>This model has no gain per channel.</p>" if key.gain is None else gain_bars(key.gain)
        columns.append(
            f'<section><h4>{html.escape(one.model)} <small>({html.escape(one.kind)})</small></h4><div class="cards">{"".join(cards)}'
            f"</div>{gain}{_table(one)}</section>"
        )
    return f'<div class="inside">{said}<div class="columns">{"".join(columns)}</div></div>'


def _table(one: Inside) -> str:
    """How far action is from background in the whole video, before and after MSM."""
    if not any(one.distances.values()):
        why = "this model has no motion path" if not set(TAPS) & set(one.key.taps) else "the actors are too small for its maps"
        return f"<p>No distances, and no picture of the features: {why}.</p>"
    rows = []
    for measure in ("AUROC", *MEASURES):
        before, after = (one.distances[tap].get(measure, float("nan")) for tap in TAPS)
        if np.isfinite(before) and np.isfinite(after):
            change = after - before
            rows.append(f"<tr><th scope=row>{measure}</th><td>{before:.3f}</td><td>{after:.3f}</td><td>{change:+.3f}</td></tr>")
    return (
        f"<table><caption>Action against background, {one.frames} key frames of this video</caption><thead><tr><th scope=col>measure</th>"
        "<th scope=col>before MSM</th><th scope=col>after MSM</th><th scope=col>change</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def embedding_of(found: Sequence[Inside], seen: Seen) -> "Figure | None":
    """t-SNE of the video's cells before and after MSM, a row per model; None if there is none."""
    from ..plots import projection_twin

    projections = [projection for one in found for projection in one.projections]
    if not projections:
        return None
    figure = projection_twin(projections, seen.classes).figure
    clear = "rgba(0, 0, 0, 0)"  # the page behind it may be light or dark
    figure.update_layout(paper_bgcolor=clear, plot_bgcolor=clear, font_color="#808080", legend={"orientation": "h", "y": -0.02})
    return figure
