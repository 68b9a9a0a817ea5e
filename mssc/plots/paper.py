"""What all pictures for papers share: sizes, letters, colours, and files.

Widths are those of IEEE's two-column pages. PDFs are vectors with their fonts embedded as TrueType, which IEEE's checks accept and which
stay text that can be searched. Colours are apart for colour-blind viewers; what differs in colour differs in its mark as well.
"""

import csv
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np

from ..analysis.bootstrap import Interval
from ..files import write_whole
from ..structures import InputError
from ..video import fonts
from ..video.drawing import class_colours, hex_colour
from .hover import HoverFigure

if TYPE_CHECKING:  # both are slow to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Columns = Literal[1, 2]
WIDTHS = {1: 3.5, 2: 7.16}
"""Inches, by columns of the page."""
STYLE: Any = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
MODELS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
GREY, BACKGROUND_GREY = "#767676", "#bdbdbd"
DPI, SCREEN_DPI = 200, 110

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(eq=False, repr=False)
class Plot:
    """A picture and the numbers behind it.

    Attributes:
        figure: matplotlib's.
        columns: names of the columns of the numbers.
        rows: the numbers, one sequence per row.
        twin: the same to look around in, where that helps.
    """

    figure: "Figure"
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    twin: HoverFigure | None = None

    def __repr__(self) -> str:
        return f"Plot with {len(self.rows)} rows of {', '.join(self.columns)}"

    def png(self, dpi: int = SCREEN_DPI) -> bytes:
        """The picture as PNG."""
        import matplotlib

        out = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            fonts.fit(self.figure).savefig(out, format="png", dpi=dpi)
        return out.getvalue()

    def _repr_png_(self) -> bytes:
        """What notebooks show and keep: 256 colours, chosen so that rare ones stay, in a third of the bytes."""
        from PIL import Image

        out = io.BytesIO()
        image = Image.open(io.BytesIO(self.png())).convert("RGB")
        image.quantize(256, Image.Quantize.MAXCOVERAGE).save(out, "PNG", optimize=True)
        return out.getvalue()

    def save(self, folder: str | Path, name: str) -> list[Path]:
        """Write ``name.pdf``, ``name.png``, ``name.csv`` and, with a twin, ``name.html``, which needs no network.

        Returns:
            The files.

        Raises:
            InputError: if one cannot be written.
        """
        import matplotlib

        contents: dict[str, bytes] = {}
        with matplotlib.rc_context(STYLE):
            fonts.fit(self.figure).draw_without_rendering()
            self.figure.set_layout_engine("none")  # it is laid out now, and would be again for each file
        options: dict[str, dict[str, Any]] = {"pdf": {"metadata": {"CreationDate": None}}, "png": {"dpi": DPI}}
        for kind in options:
            out = io.BytesIO()
            with matplotlib.rc_context(STYLE):
                self.figure.savefig(out, format=kind, **options[kind])
            contents[kind] = out.getvalue()
        contents["csv"] = csv_text(self.columns, self.rows).encode()
        if self.twin is not None:
            contents["html"] = self.twin.to_html().encode()
        files = []
        for kind, content in contents.items():
            files.append(Path(folder) / f"{name}.{kind}")
            write_whole(files[-1], content)
        return files


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as csv; numbers in full precision, NaN as an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if isinstance(cell, float) and np.isnan(cell) else cell for cell in row])
    return out.getvalue()


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the style of papers, and leave the caller's own settings as they are."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inner


def canvas(columns: Columns, height: float) -> "Figure":
    """An empty figure as wide as one or two columns, `height` inches high.

    Raises:
        InputError: for another number of columns.
    """
    from matplotlib.figure import Figure

    if columns not in WIDTHS:
        raise InputError(f"a picture over {columns} columns; pages have 1 or 2.")
    return Figure(figsize=(WIDTHS[columns], height), layout="constrained")


def class_paint(classes: Sequence[str]) -> list[str]:
    """The colour of each class, as everywhere in the project, as #rrggbb."""
    return [hex_colour(colour) for colour in class_colours(classes)]


def model_paint(index: int) -> dict[str, Any]:
    """Colour and mark of the model of this number."""
    return {"color": MODELS[index % len(MODELS)], "marker": MARKS[index % len(MARKS)]}


def draw_intervals(axes: "Axes", groups: Sequence[str], series: Mapping[str, Sequence[Interval]], join: bool = False) -> None:
    """A mark and its interval per model and group; marks of one group stand side by side. Hollow marks have no interval: they rest on a
    single video.

    Args:
        axes: to draw on.
        groups: names along x.
        series: by model, one interval per group; those without a value are left out.
        join: whether to join a model's marks by a line.
    """
    for index, (model, intervals) in enumerate(series.items()):
        x = np.arange(len(groups)) + (index - (len(series) - 1) / 2) * min(0.16, 0.7 / max(len(series), 1))
        values = np.array([one.value for one in intervals], float)
        bounds = np.array([(one.low, one.high) for one in intervals], float).reshape(-1, 2)
        known = np.isfinite(values)
        paint = model_paint(index)
        sure = known & np.isfinite(bounds).all(1)
        axes.plot(x[known], values[known], linestyle="-" if join else "none", alpha=0.9, markersize=3.5, label=model, **paint)
        axes.plot(x[known & ~sure], values[known & ~sure], linestyle="none", markersize=3.5, markerfacecolor="white", **paint)
        axes.vlines(x[sure], bounds[sure, 0], bounds[sure, 1], color=paint["color"], linewidth=0.9)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)


def draw_map(axes: "Axes", image: np.ndarray, response: np.ndarray, most: float | None = None) -> None:
    """A map (h, w) over a grey or RGB image (S, S) or (S, S, 3), from 0 to `most`, which is the map's own maximum unless told."""
    size = len(image)
    axes.imshow(image.mean(2) if image.ndim == 3 else image, cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        response, cmap="inferno", alpha=0.65, vmin=0, vmax=most, extent=(0, size, size, 0), interpolation="nearest", zorder=2
    )


def frame_axes(axes: "Axes", size: int, boxes: np.ndarray, labels: np.ndarray, paint: Sequence[str]) -> None:
    """Boxes (N, 4) in the colours of their classes over an image of `size` pixels a side, and no axes."""
    from matplotlib.patches import Rectangle

    for box, label in zip(boxes, labels, strict=True):
        corner, width, height = (float(box[0]), float(box[1])), float(box[2] - box[0]), float(box[3] - box[1])
        for ink, line in (("white", 1.8), (paint[label], 1.0)):  # the white edge shows on any map
            axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=ink, linewidth=line, zorder=3))
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_axis_off()


def frame_name(video: str, frame: int, most: int = 26) -> str:
    """What to write above a frame, the middle of a long name left out: J-HMDB's have sixty letters."""
    name = video if len(video) <= most else f"{video[: most // 2]}…{video[-(most - most // 2 - 1) :]}"
    return f"{name}\nframe {frame}"


def shared_legend(figure: "Figure", axes: "Axes", most: int = 4) -> None:
    """One legend for all panels, below them, if there is more than one entry."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), most))


NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)
"""Where a model has no such quantity."""
INTERVAL_COLUMNS = ("value", "low", "high", "videos")


def interval_cells(one: Interval) -> tuple[float, float, float, int]:
    """What a row of a csv says of an interval."""
    return one.value, one.low, one.high, one.videos


def one_name_each(names: Sequence[str]) -> None:
    """Refuse pictures in which two models could not be told apart, or with none.

    Raises:
        InputError: naming them.
    """
    if not names:
        raise InputError("there is nothing to draw; examine at least one model.")
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise InputError(f"two models are called {twice[0]!r}; give them different names.")
