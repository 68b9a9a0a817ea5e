"""Pictures of one key frame: to look around in, from tap to tap and from stage to stage."""

from collections.abc import Sequence

import numpy as np

from ..analysis.cells import ACTION, BACKGROUND, cell_kinds, enough
from ..analysis.distances import scale_free_distance
from ..analysis.keyframes import KeyFrame
from ..analysis.maps import norm_map
from ..analysis.projection import Projection
from ..analysis.swap import Swap, turned
from ..structures import InputError
from . import words
from .paper import (
    BACKGROUND_GREY,
    WIDTHS,
    Columns,
    Plot,
    canvas,
    class_paint,
    colour_bar,
    draw_map,
    frame_axes,
    frame_name,
    styled,
)


@styled
def tap_plot(
    key: KeyFrame, tap: str, projection: Projection, classes: Sequence[str], label: int | None = None, columns: Columns = 2
) -> Plot:
    """A key frame at one tap: how far each cell lies from the map's average, and where the video's cells lie among all others.

    Args:
        key: the frame.
        tap: a name of `TAPS`.
        projection: of the tap's cells, of many videos.
        classes: their names.
        label: the class whose cells are coloured; None for all.
        columns: of the page.

    Raises:
        InputError: for a tap that the model does not have, or a projection of another one.
    """
    if tap not in key.taps or projection.tap != tap:
        raise InputError(
            f"the tap {tap!r} is not both in the key frame ({', '.join(key.taps)}) and projected ({projection.tap})."
        )
    features = key.taps[tap]
    x = features.reshape(-1, features.shape[2]).astype(float)
    distance = np.linalg.norm(x - x.mean(0), axis=1).reshape(features.shape[:2])
    kinds = cell_kinds(key.boxes, features.shape[:2], (key.size, key.size))
    euclidean = words.MEASURES["d_euc"].symbol
    told = "too few cells"
    if enough(kinds):
        told = f"{euclidean} {scale_free_distance(x, (kinds == ACTION).ravel(), (kinds == BACKGROUND).ravel()):.2f}"
    figure = canvas(columns, WIDTHS[columns] / 3 / max(key.aspect, 0.75) + 0.55)
    frame, response, points = figure.subplots(1, 3)
    paint = class_paint(classes)
    frame.imshow(key.image)
    frame.set_title(frame_name(key.video, key.frame), fontsize=6)
    shown = draw_map(response, key.image, distance, float(distance.max()))
    colour_bar(figure, shown, response, "distance from the average")
    response.set_title(f"{words.TAPS[tap]}\n{told} in this frame", fontsize=6)
    for axes in (frame, response):
        frame_axes(axes, key.size, key.boxes, key.labels, paint, key.aspect)
    _cells(points, projection, key.video, label, paint)
    name = "all classes" if label is None else classes[label]
    points.set_title(f"{projection.method}, {name}; rings: this video\nAUROC {projection.auroc.text(2)}", fontsize=6)
    rows = [(key.video, key.frame, tap, *place, float(distance[place])) for place in np.ndindex(*distance.shape)]
    caption = (
        f"A key frame {words.TAPS[tap]}. Left: the frame and its true boxes. Middle: how far the features of each place lie from the map's "
        f"average. Right: places of many videos in two dimensions ({projection.method}), grey in the background, those of this video "
        "ringed."
    )
    return Plot(figure, ("video", "frame", "tap", "row", "column", "distance"), rows, caption=caption)


def _cells(axes, one: Projection, video: str, label: int | None, paint: Sequence[str]) -> None:
    labels, here = one.cells.labels, one.cells.videos == video
    shown = (labels >= 0) & ((labels == label) if label is not None else True)
    axes.scatter(*one.points[labels < 0].T, s=4, color=BACKGROUND_GREY, marker="s", linewidths=0)
    axes.scatter(*one.points[(labels >= 0) & ~shown].T, s=5, facecolors="none", edgecolors=BACKGROUND_GREY, linewidths=0.4)
    axes.scatter(*one.points[shown].T, s=7, color=[paint[i] for i in labels[shown]], linewidths=0)
    axes.scatter(*one.points[here].T, s=22, facecolors="none", edgecolors="black", linewidths=0.6)
    axes.set(xticks=[], yticks=[])


@styled
def stage_plot(key: KeyFrame, level: int, classes: Sequence[str], swap: Swap | None = None, columns: Columns = 2) -> Plot:
    """What each stage of SFM makes of a key frame at one level: both inputs, what stage 1 turns, what of it depends on the clip, and what
    stage 2 puts out. Each map has a colour bar of its own.

    Args:
        key: the frame.
        level: 0, 1 or 2, of strides 8, 16 and 32.
        classes: their names.
        swap: the same frame with another clip; None leaves its map out.
        columns: of the page.

    Raises:
        InputError: for a level that is not there, or a fusion without stage 1.
    """
    if not 0 <= level < len(key.levels) or not key.levels[level].corrected:
        raise InputError(f"level {level}: there is no stage 1 to show; use 0 to {len(key.levels) - 1} of a model with SFM.")
    at = key.levels[level]
    spatial, motion = at.spatial[0], at.motion[0]
    maps = {
        "in: |A|, key frame": norm_map(spatial),
        "stage 1 turns A": turned(spatial, at.corrected[0]),
        "in: |M|, clip": norm_map(motion),
        "stage 1 turns M": turned(motion, at.corrected[1]),
        "stage 2 out: |OUT|": norm_map(at.fused),
    }
    if swap is not None:
        maps["another clip changes A'"] = swap.changes[level][0]
        maps["another clip changes M'"] = swap.changes[level][1]
    across = 4
    figure = canvas(columns, 2 * WIDTHS[columns] / across / key.aspect + 1.0)
    panels = figure.subplots(2, across).ravel()
    places = {"in: |A|, key frame": 1, "stage 1 turns A": 2, "another clip changes A'": 3, "stage 2 out: |OUT|": 4}
    places |= {"in: |M|, clip": 5, "stage 1 turns M": 6, "another clip changes M'": 7}
    paint, rows = class_paint(classes), []
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(key.image)
    panels[0].set_title(frame_name(key.video, key.frame), fontsize=6)
    frame_axes(panels[0], key.size, key.boxes, key.labels, paint)
    for name, found in maps.items():
        axes = panels[places[name]]
        shown = draw_map(axes, key.image, found, max(float(found.max()), 1e-9))
        colour_bar(figure, shown, axes, digits=3)
        axes.set_title(words.MAPS[name], fontsize=6)
        frame_axes(axes, key.size, key.boxes, key.labels, paint, key.aspect)
        rows += [(key.video, key.frame, name, *place, float(found[place])) for place in np.ndindex(*found.shape)]
    caption = (
        f"SFM at stride {(8, 16, 32)[level]} on one key frame: both paths as they enter, how far stage 1 turns each (1 - cosine), "
        + ("how much that depends on the clip (the same frame with another video's clip), " if swap is not None else "")
        + "and what comes out. Colour bars begin at 0."
    )
    return Plot(figure, ("video", "frame", "map", "row", "column", "value"), rows, caption=caption)
