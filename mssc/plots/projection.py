"""Cells in two dimensions, as a picture and as a page to look around in."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..analysis.keyframes import TAPS
from ..analysis.projection import Projection
from ..structures import InputError
from . import words
from .hover import HoverFigure
from .paper import BACKGROUND_GREY, GREY, WIDTHS, Columns, Plot, canvas, class_paint, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 12  # that can be told apart by their colours; of more, all action has one
ACTION_PAINT = "#d55e00"


def _grid(projections: Sequence[Projection]) -> tuple[int, int, dict[tuple[str, str], tuple[int, int]]]:
    """Rows and columns, and where each model and tap goes: a row per model and a column per tap, but models in one row if there is one
    tap."""
    models = list(dict.fromkeys(one.model for one in projections))
    taps = [tap for tap in TAPS if any(one.tap == tap for one in projections)]
    place = {(model, tap): (row, column) for row, model in enumerate(models) for column, tap in enumerate(taps)}
    if len(taps) > 1:
        return len(models), len(taps), place
    return 1, len(models), {key: (column, row) for key, (row, column) in place.items()}


def _caption(one: Projection) -> str:
    return f"AUROC {one.auroc.text(2)}\nsilhouette {one.silhouette.text(2)}"


@styled
def projection_plot(projections: Sequence[Projection], classes: Sequence[str], columns: Columns = 2) -> Plot:
    """Action cells in the colours of their classes (in one, where these are many), background cells in grey: a row per model, a column
    per tap. Above each panel stands what the picture alone does not show: how separable the two are, with 95 % intervals.

    Args:
        projections: of any models and taps.
        classes: their names.
        columns: of the page.

    Raises:
        InputError: for no projection.
    """
    if not projections:
        raise InputError("there is nothing to draw; project the cells of at least one tap.")
    down, across, place = _grid(projections)
    figure = canvas(columns, down * min(WIDTHS.get(columns, 0) / across + 0.45, 2.6) + 0.4)
    panels = figure.subplots(down, across, squeeze=False)
    shown = {int(label) for one in projections for label in one.cells.labels if label >= 0}
    paint = class_paint(classes) if len(shown) <= MOST_CLASSES else [ACTION_PAINT] * len(classes)
    for axes in panels.ravel():
        axes.set_axis_off()
    for (_, tap), where in place.items():
        if tap == "MSM out":
            panels[where].text(0.5, 0.5, "no MSM here", ha="center", va="center", color=GREY, transform=panels[where].transAxes)
    rows: list[tuple] = []
    for one in projections:
        axes = panels[place[one.model, one.tap]]
        axes.set_axis_on()
        for text in list(axes.texts):
            text.remove()
        _scatter(axes, one, paint)
        axes.set_title(
            f"{words.TAPS[one.tap]}\n{_caption(one)}"
            if len({model for model, _ in place}) == 1
            else f"{one.model}: {words.TAPS[one.tap]}\n{_caption(one)}",
            fontsize=6,
        )
        for point, action, label, video, frame in zip(
            one.points, one.cells.action, one.cells.labels, one.cells.videos, one.cells.frames, strict=True
        ):
            kind = classes[label] if action else "background"
            rows.append((one.model, one.tap, one.method, float(point[0]), float(point[1]), kind, str(video), int(frame)))
    _class_legend(figure, sorted(shown), classes, paint)
    names = ("model", "tap", "method", "x", "y", "kind", "video", "frame")
    method = {"tsne": "t-SNE", "pca": "PCA"}.get(projections[0].method, projections[0].method)
    models = ", ".join(dict.fromkeys(one.model for one in projections))
    caption = (
        f"Features in two dimensions ({method}): places where somebody acts, and background. The numbers above are of all places, not only "
        f"those drawn. {words.PROTOCOL} {models}; cells of {projections[0].auroc.videos} videos."
    )
    return Plot(figure, names, rows, projection_twin(projections, classes), caption)


def _scatter(axes: "Axes", one: Projection, paint: Sequence[str]) -> None:
    action = one.cells.action
    style = {"linewidths": 0, "rasterized": len(one.points) > 5000}
    axes.scatter(*one.points[~action].T, s=4, color=BACKGROUND_GREY, marker="s", **style)
    axes.scatter(*one.points[action].T, s=6, color=[paint[label] for label in one.cells.labels[action]], **style)
    axes.set(xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_color(BACKGROUND_GREY)


def _class_legend(figure, shown: Sequence[int], classes: Sequence[str], paint: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    entries = [("background", BACKGROUND_GREY, "s")]
    if len(shown) <= MOST_CLASSES:
        entries += [(str(classes[label]), paint[label], "o") for label in shown]
    else:
        entries += [(f"action, {len(shown)} classes", ACTION_PAINT, "o")]
    handles = [Line2D([], [], color=c, marker=m, linestyle="none", markersize=4, label=name) for name, c, m in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=7)


def projection_twin(projections: Sequence[Projection], classes: Sequence[str]) -> HoverFigure:
    """The same to look around in: a point tells its class, video and frame, and shows the frame with its cell."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    down, across, place = _grid(projections)
    titles = [""] * (down * across)
    for one in projections:
        row, column = place[one.model, one.tap]
        titles[row * across + column] = f"{one.model}: {words.TAPS[one.tap]}<br>{_caption(one)}".replace("\n", "<br>")
    figure = make_subplots(down, across, subplot_titles=titles, horizontal_spacing=0.03)
    paint, named = class_paint(classes), set()
    album: dict[tuple[str, int], int] = {}  # numbers of the frames that points show
    for one in projections:
        for label in sorted(set(one.cells.labels.tolist())):
            name = str(classes[label]) if label >= 0 else "background"
            trace = go.Scattergl(
                **_points(one, one.cells.labels == label, name, album),
                mode="markers",
                marker={
                    "size": 5,
                    "color": paint[label] if label >= 0 else BACKGROUND_GREY,
                    "symbol": "circle" if label >= 0 else "square",
                },
                name=name,
                legendgroup=name,
                showlegend=name not in named,
                hoverinfo="text",
            )
            row, column = place[one.model, one.tap]
            figure.add_trace(trace, row + 1, column + 1)
            named.add(name)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_annotations(font_size=11)
    figure.update_layout(template="none", height=360 * down + 60, margin={"l": 10, "r": 10, "t": 60, "b": 10})
    pictures = {frame: picture for one in projections for frame, picture in one.pictures.items()}
    return HoverFigure(figure, [pictures[frame] for frame in album])


def _points(one: Projection, chosen: np.ndarray, name: str, album: dict[tuple[str, int], int]) -> dict[str, object]:
    """Where the chosen cells stand, what is said of each, and which picture shows it."""
    frames = list(zip(one.cells.videos[chosen].tolist(), one.cells.frames[chosen].tolist(), strict=True))
    return {
        "x": one.points[chosen, 0],
        "y": one.points[chosen, 1],
        "hovertext": [f"{name}<br>{video}, frame {frame}" for video, frame in frames],
        "customdata": [
            [album.setdefault(frame, len(album)) if frame in one.pictures else -1, *place]
            for frame, place in zip(frames, one.cells.places[chosen].tolist(), strict=True)
        ],
    }
