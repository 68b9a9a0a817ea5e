"""What the notebooks share: which data they look at, a place for what is not kept, and controls above a picture."""

import atexit
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from ..analysis import intervene, stored
from ..data import toy
from ..data.catalogue import load_dataset
from ..data.dataset import Dataset
from ..detection.detector import Detector
from ..model.shipped import model_folder
from ..structures import InputError
from .interventions import interventions_plot
from .paper import Plot

HOME = Path(__file__).resolve().parents[2]
"""Of the project: data/ and outputs/ in it are ignored by git."""
OUTPUTS = HOME / "outputs" / "notebooks"
DATA, STATIC, VIDEO = "MSSC_DATA", "MSSC_WIDGETS", "MSSC_VIDEO"
EXAMPLE = HOME / "assets" / "examples" / "toy-two.mp4"


def material(videos: int = 24, part: str = "val") -> tuple[str, Dataset]:
    """The model and the videos of the notebooks: the toy set, generated where it is not there, or J-HMDB if MSSC_DATA names its folder.

    Args:
        videos: at most, spread evenly over the part.
        part: "train" or "val".

    Returns:
        The name of a model that ships and the data set that it knows.

    Raises:
        InputError: for data that cannot be read, or fewer than one video.
    """
    if videos < 1:
        raise InputError(f"{videos} videos; ask for at least 1.")
    folder = os.environ.get(DATA)
    if not folder:  # a toy video does not depend on how many there are, so as many as asked for are made
        return "toy", toy.generate(HOME / "data" / "notebooks" / f"{part}-{videos}", videos, part=part)
    dataset = load_dataset("jhmdb", folder, part)
    acting = [video.name for video in dataset.videos if video.tubes]
    chosen = np.linspace(0, len(acting) - 1, min(videos, len(acting))).round().astype(int)
    return "jhmdb", dataset.subset([acting[i] for i in chosen])


def parts_worth(*models: str, dataset: Dataset | None = None, parts: Sequence[str] | None = None) -> Plot:
    """What each part of models is worth: as it was measured when they were made, or else anew.

    Args:
        models: names of models that ship, or folders.
        dataset: to measure on; None takes what is kept beside a model, and measures on `material` where nothing is.
        parts: of the networks, where it is measured; None for all.

    Returns:
        `interventions_plot` of them.

    Raises:
        InputError: as `mssc.analysis.intervene`.
    """
    found = []
    for model in models:
        kept = stored(model_folder(model)) if dataset is None else None
        if kept is None:
            videos = material()[1] if dataset is None else dataset
            kept = intervene(Detector.load(model), videos, Path(model).name, parts=parts)
        found.append(kept)
    return interventions_plot(found)


def own_video() -> tuple[Path, list[str]]:
    """The video of notebook 06: one that MSSC_VIDEO names, or a generated example.

    Returns:
        Its path and the names of the models to look into, the one that finds the tubes first.

    Raises:
        InputError: if there is no such file.
    """
    path = os.environ.get(VIDEO)
    if not path:
        return EXAMPLE, ["toy"]
    if not Path(path).is_file():
        raise InputError(f"{VIDEO} is {path}, which is no file; let it name a video.")
    return Path(path), ["jhmdb", "jhmdb-plain"]


def scratch() -> Path:
    """A new empty folder, which goes when the notebook's kernel ends."""
    folder = tempfile.TemporaryDirectory(prefix="mssc-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


class Panel(widgets.VBox):
    """Controls above a picture, which is drawn anew when one of them is moved.

    Where no widget can run (GitHub, a PDF) the picture of the first values stands for it. With MSSC_WIDGETS=static it does so everywhere,
    which is how the committed notebooks were executed.

    Args:
        draw: is called with a value per control, by name; what it refuses with an `InputError` is shown as text.
        controls: widgets with a value, by name of the argument.
    """

    def __init__(self, draw: Callable[..., Plot], **controls: Any) -> None:
        self.draw, self.controls = draw, controls
        self.plot: Plot | None = None
        self.picture, self.note = widgets.Image(format="png"), widgets.HTML()
        self.picture.layout.max_width = "100%"
        row = widgets.HBox(list(controls.values()), layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([row, self.note, self.picture])
        for control in controls.values():
            control.observe(self._redraw, "value")
        self._redraw()

    def _redraw(self, _change: object = None) -> None:
        try:
            self.plot = self.draw(**{name: control.value for name, control in self.controls.items()})
            self.picture.value, self.note.value = self.plot.png(), ""
        except InputError as error:
            self.note.value = f"<p>{error}</p>"

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        values = ", ".join(f"{name} = {control.value}" for name, control in self.controls.items())
        still = {**(self.plot._repr_mimebundle_() if self.plot is not None else {}), "text/plain": f"Panel: {values}"}
        if os.environ.get(STATIC) == "static":
            return still
        return {**still, **(super()._repr_mimebundle_(**kwargs) or {})}
