"""What all pictures for papers share: sizes, letters, colours, and files.

Widths are those of IEEE's two-column pages. PDFs are vectors with their fonts embedded as TrueType, which IEEE's checks accept and which
stay text that can be searched. Colours are apart for colour-blind viewers; what differs in colour differs in its mark as well.
"""

import base64
import csv
import functools
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    from matplotlib.figure import Figure, FigureBase
    from matplotlib.image import AxesImage

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
DPI, SCREEN_DPI, PRINT_DPI = 200, 110, 300

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
        caption: what is shown, of which model and data; symbols are LaTeX between dollars.
    """

    figure: "Figure"
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    twin: HoverFigure | None = None
    caption: str = ""

    def __repr__(self) -> str:
        return f"Plot with {len(self.rows)} rows of {', '.join(self.columns)}"

    def png(self, dpi: int = SCREEN_DPI) -> bytes:
        """The picture as PNG."""
        import matplotlib

        out = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            fonts.fit(self.figure).savefig(out, format="png", dpi=dpi)
        return out.getvalue()

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """What notebooks show and keep: a drawing in 256 colours, chosen so that rare ones stay, in a third of the bytes; with a
        photograph in it as a JPEG, which has all colours in less than that."""
        from PIL import Image

        image = Image.open(io.BytesIO(self.png())).convert("RGB")
        out, few = io.BytesIO(), image.quantize(256, Image.Quantize.MAXCOVERAGE)
        far = np.abs(np.asarray(few.convert("RGB"), np.int16) - np.asarray(image, np.int16)).max(2)
        drawing = np.mean(far > 12) < 0.002
        if drawing:
            few.save(out, "PNG", optimize=True)
        else:
            image.save(out, "JPEG", quality=85, subsampling=0, optimize=True)
        picture = {"image/png" if drawing else "image/jpeg": base64.b64encode(out.getvalue()).decode()}
        return {"text/plain": repr(self)} | picture

    def save(self, folder: str | Path, name: str) -> list[Path]:
        """Write ``name.pdf``, ``name.png``, ``name.csv``; with a caption ``name.tex``, a figure that takes the PDF in, and ``name.md``;
        with a twin ``name.html``, which needs no network.

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
        options: dict[str, dict[str, Any]] = {"pdf": {"metadata": {"CreationDate": None}, "dpi": PRINT_DPI}, "png": {"dpi": DPI}}
        for kind in options:
            out = io.BytesIO()
            with matplotlib.rc_context(STYLE):
                self.figure.savefig(out, format=kind, **options[kind])
            contents[kind] = out.getvalue()
        contents["csv"] = csv_text(self.columns, self.rows).encode()
        if self.caption:
            contents["tex"] = latex_figure(self.caption, name, self.figure.get_size_inches()[0]).encode()
            contents["md"] = f"![{name}]({name}.png)\n\n{self.caption}\n".encode()
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


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "±": r"$\pm$",
    "“": "``",
    "”": "''",
    "–": "--",
    "…": r"\ldots{}",
} | {sign: f"\\{sign}" for sign in "&%#_{}"}


def latex(text: str) -> str:
    """Text for LaTeX; what stands between dollars is LaTeX already, see `mssc.plots.words.literal`."""
    parts = re.split(r"(?<!\\)\$", text)
    signs = [
        part if place % 2 else re.sub(r"\\\$|.", lambda sign: LATEX.get(sign[0], sign[0]), part)
        for place, part in enumerate(parts)
    ]
    return "$".join(signs)


def latex_figure(caption: str, name: str, width: float) -> str:
    """A figure environment with ``name.pdf``, over both columns if it is wider than one; `width` in inches."""
    kind = "figure*" if width > WIDTHS[1] else "figure"
    return (
        f"\\begin{{{kind}}}[t]\n  \\centering\n  \\includegraphics{{{name}.pdf}}\n"
        f"  \\caption{{{latex(caption)}}}\n  \\label{{fig:{name}}}\n\\end{{{kind}}}\n"
    )


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


def draw_map(axes: "Axes", image: np.ndarray, response: np.ndarray, most: float | None = None, least: float = 0) -> "AxesImage":
    """A map (h, w) over a grey or RGB image (S, S) or (S, S, 3), from `least` to `most`, which is the map's own maximum unless told; blue
    and red on both sides of zero where `least` is below. Returned is what a colour bar wants to know."""
    size = len(image)
    axes.imshow(image.mean(2) if image.ndim == 3 else image, cmap="gray", vmin=0, vmax=255)
    return axes.imshow(
        response,
        cmap="inferno" if least >= 0 else "RdBu_r",
        alpha=0.65,
        vmin=least,
        vmax=most,
        extent=(0, size, size, 0),
        interpolation="nearest",
        zorder=2,
    )


def colour_bar(
    figure: "FigureBase", shown: "AxesImage", axes: "Axes | Sequence[Axes]", label: str = "", digits: int = 2, empty: bool = False
) -> None:
    """What the colours of a map say, below its axes: the ends of the scale, with so many digits, and what is measured. An empty one keeps
    a picture without a scale as high as the maps beside it."""
    bar = figure.colorbar(shown, ax=axes, location="bottom", fraction=0.05, pad=0.02, aspect=25)
    if empty:
        bar.ax.axis("off")
        for part in bar.ax.get_children():
            part.set_visible(False)
        return
    low, high = shown.get_clim()
    bar.set_ticks([low, high], labels=[f"{low:.{digits}f}" if low else "0", f"{high:.{digits}f}"])
    bar.ax.tick_params(labelsize=6, length=2, pad=1)
    bar.set_label(label, fontsize=6, labelpad=-5)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.ax.spines["outline"].set_linewidth(0.4)


def frame_axes(axes: "Axes", size: int, boxes: np.ndarray, labels: np.ndarray, paint: Sequence[str], aspect: float = 1.0) -> None:
    """Boxes (N, 4) in the colours of their classes over an image of `size` pixels a side, shown as `aspect` times as wide as high; no
    axes."""
    from matplotlib.patches import Rectangle

    for box, label in zip(boxes, labels, strict=True):
        corner, width, height = (float(box[0]), float(box[1])), float(box[2] - box[0]), float(box[3] - box[1])
        for ink, line in (("white", 1.8), (paint[label], 1.0)):  # the white edge shows on any map
            axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=ink, linewidth=line, zorder=3))
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.set_aspect(1 / aspect)
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


INTERVAL_COLUMNS = ("value", "low", "high", "videos")


def interval_cells(one: Interval) -> tuple[float, float, float, int]:
    """What a row of a csv says of an interval."""
    return one.value, one.low, one.high, one.videos


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, without a line's end.

    Args:
        head: what stands above each column.
        rows: cells, as many.
    """
    first, *lines = ("| " + " | ".join(cells) + " |" for cells in (head, *rows))
    return "\n".join([first, "|---" * len(head) + "|", *lines])


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
