"""Looking inside, on a visitor's own video: what MSM and SFM do at a moment of it, and whether MSM moves action away from background.

Nobody has labelled the video, so the tubes that were found in it serve as action boxes, and the page says so.
"""

import base64
import io
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..detection.result import VideoResult
from ..model.shipped import model_folder
from ..structures import InputError, counted
from .detection import packed
from .offer import folder_of, ready

if TYPE_CHECKING:  # needs torch, which a page that only detects does without
    from ..analysis.moment import Inside, Progress

log = logging.getLogger(__name__)

CHANGE = 0.005  # relative, below which it is none


def look(seen: VideoResult, models: Sequence[str], moment: float) -> "Iterator[Progress | list[Inside]]":
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
    from ..analysis.moment import look as look_into
    from ..analysis.moment import watched

    yield from look_into(watched(seen, moment), {name: ready(name) for name in dict.fromkeys(models)})


# -------------------------------------------------------------------- what is told


def verdict(one: "Inside") -> str:
    """What MSM did, in a sentence."""
    if not one.sense:
        return "No MSM here: this model has nothing that could move action away from the average."
    if len(one.lifts) < 2:
        return "Whether MSM moves action away from the average cannot be told: no box lies in the frames that were looked at."
    before, after = one.lifts["before"], one.lifts["after"]
    change = after / before - 1
    says = f"{'raises' if change > 0 else 'lowers'} the distance inside the boxes by {100 * abs(change):.1f} %"
    if abs(change) < CHANGE:
        says = "does not change the distance inside the boxes"
    said = f"Over {counted(one.boxed, 'key frame')} of this video, MSM {says}: from {before:.3f} to {after:.3f}, "
    return f"{said}where 1 is the average of a frame.{_told_apart(one)}"


def _told_apart(one: "Inside") -> str:
    """Whether that helps to tell action from background: farther out is not yet farther apart."""
    before, after = (one.distances.get(tap, {}).get("AUROC") for tap in ("MSM in", "MSM out"))
    if before is None or after is None:
        return ""
    how = "as well as before" if abs(after - before) < CHANGE else "better" if after > before else "less well"
    said = (
        f" Behind it, action is told from background {how}: {before:.3f} to {after:.3f}, where 1 is always right and 0.5 a guess"
    )
    means, then = (one.distances[tap].get("d_euc", 0.0) for tap in ("MSM in", "MSM out"))
    if (after - before) * (then - means) < 0:
        said += f"; yet their averages lie {'farther apart' if then > means else 'closer together'}, {means:.2f} to {then:.2f}"
    return said + "."


def worth(model: str) -> str:
    """What the model's parts are worth, in a sentence; "" where nobody has measured that for its weights."""
    from ..analysis.kept import in_words, stored

    try:
        found = stored(model_folder(folder_of(model)))
    except InputError as error:
        log.warning("%s", error)  # a visitor can do nothing about it
        return ""
    if found is None or not (said := in_words(found)):
        return ""
    where = f"Measured on {found.videos} other videos, of {found.dataset}"
    return f"{where}: {said[0].lower()}{said[1:]} Box accuracy is the share of boxes whose action is named right."


def numbers(found: "Sequence[Inside]", seen: VideoResult) -> dict[str, Any]:
    """What was seen as plain values: by model the moment's gain and lifts, and the video's distances before and after MSM."""
    from ..analysis.moment import lift, maps_of

    models = []
    for one in found:
        key = one.key
        gain = None if key.gain is None else {"mean": float(key.gain.mean()), "share_above_1": float((key.gain > 1).mean())}
        lifts = {name: lift(key, response) for name, response in maps_of(key).items()}
        told = {
            "model": one.model,
            "kind": one.kind,
            "verdict": verdict(one),
            "worth": worth(one.model),
            "gain": gain,
            "lift": lifts,
        }
        levels = [{name: value for name, value in level.items() if name != "context"} for level in one.exchange]
        models.append(told | {"separability": one.distances, "exchange": levels})
    what = f"tubes that {seen.model} found with a score of at least {seen.threshold:g}"
    if not seen.tubes:
        what = f"people that {seen.model} saw, for no action was sure"
    return {
        "frame": found[0].key.frame,
        "seconds": seen.times[found[0].key.frame],
        "boxes_are": f"{what}; nobody labelled this video",
        "key_frames": found[0].frames,
        "models": models,
    }


def pictures(found: "Sequence[Inside]", seen: VideoResult) -> dict[str, Any]:
    """`numbers`, and all that the page draws: maps, contexts, gains, and where t-SNE puts the cells."""
    from ..analysis.moment import maps_of

    told = numbers(found, seen)
    key = found[0].key
    told["picture"] = _jpeg_address(key.image)
    told["size"] = [seen.info.width, seen.info.height]
    told["boxes"] = [[*(box / key.size).tolist(), int(label)] for box, label in zip(key.boxes, key.labels, strict=True)]
    for one, model in zip(found, told["models"], strict=True):
        frames, around = one.around
        model["sense"] = one.sense
        model["maps"] = _grids(maps_of(one.key))
        model["around"] = _grids(around)
        model["times"] = [seen.times[frame] for frame in frames]
        model["channels"] = None if one.key.gain is None else np.sort(one.key.gain)[::-1].round(4).tolist()
        model["contexts"] = [[_bytes(context) for context in level.get("context", ())] for level in one.exchange]
        model["points"] = {
            tap: {"labels": cells.labels.tolist(), "places": points.round(2).tolist()}
            for tap, (cells, points) in one.cells.items()
        }
    return told


def _jpeg_address(image: np.ndarray) -> str:
    """The address of a JPEG that holds an image (H, W, 3), uint8 RGB, so that an answer has it in itself."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


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
