"""What quantities, places and maps are called: the same words on the page, in the notebooks and in figures for papers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..analysis.study import Study


class Term(NamedTuple):
    """A quantity.

    Attributes:
        words: its name.
        symbol: as LaTeX between dollars; "" where it has none.
        sentence: what it is, for somebody who has not met it.
    """

    words: str
    symbol: str
    sentence: str

    @property
    def label(self) -> str:
        """Words and symbol, for a figure."""
        return f"{self.words} {self.symbol}".strip()


MEASURES: dict[str, Term] = {
    "AUROC": Term(
        "AUROC of a linear probe",
        "",
        "How well a straight line tells action from background, in videos or parts of one that it was not fitted on: 0.5 is guessing, 1 "
        "is perfect.",
    ),
    "d_cos": Term("cosine distance", r"$d_\mathrm{cos}$", "One minus the cosine between the means of action and of background."),
    "d_cos centred": Term("centred cosine distance", r"$d_\mathrm{cos}^\mathrm{c}$", "The same after the average is taken away."),
    "d_euc": Term(
        "distance of the means",
        r"$d_\mathrm{euc}$",
        "How far the mean of action lies from that of the background, in units of the map's own spread: it does not grow with a mere gain.",
    ),
    "d_raw": Term(
        "raw distance of the means", r"$d_\mathrm{raw}$", "The same in the features' own units: it grows with any gain."
    ),
    "Fisher J": Term(
        "Fisher criterion", "$J$", "The squared distance of the means over the scatter around them: larger is better told apart."
    ),
    "silhouette": Term("silhouette", "$s$", "How much closer places are to their own kind than to the other, from -1 to 1."),
    "sim2avg": Term(
        "similarity to the average", r"$c_\mu$", "Mean cosine between the features of a place and the map's average."
    ),
    "sim2avg action": Term("the same of action", r"$c_\mu^\mathrm{A}$", "Mean cosine between action and the map's average."),
    "sim2avg background": Term(
        "the same of background", r"$c_\mu^\mathrm{B}$", "Mean cosine between background and the average."
    ),
    "D_A/D_B": Term(
        "distance ratio",
        r"$D_\mathrm{A}/D_\mathrm{B}$",
        "How far action lies from the map's average, over how far background does: above 1, action lies further out.",
    ),
    "effective rank": Term("effective rank", "", "How many directions the features of a map really use."),
    "spread": Term(
        "spread", r"$\sigma$", "How far features lie from their average, relative to their length: 0 where all are equal."
    ),
}
"""By their keys in tables of numbers."""

TAPS = {
    "MSM in": "before MSM",
    "MSM out": "after MSM",
    "SFM in": "before SFM",
    "SFM out 8": "after SFM, stride 8",
    "SFM out 16": "after SFM, stride 16",
    "SFM out 32": "after SFM, stride 32",
}
"""Where features are taken."""

MAPS = {
    "T spatial": "2D path takes $T_A$",
    "T motion": "3D path takes $T_M$",
    "OUT": "after SFM",
    "Grad-CAM": "Grad-CAM",
    "attention": "attention",
    "in: |A|, key frame": "2D path $|A|$",
    "in: |M|, clip": "3D path $|M|$",
    "stage 1 turns A": "stage 1 turns $A$ by",
    "stage 1 turns M": "stage 1 turns $M$ by",
    "another clip changes A'": "another clip changes $A'$ by",
    "another clip changes M'": "another clip changes $M'$ by",
    "stage 2 out: |OUT|": "after SFM",
}
"""Maps over a frame."""

PROTOCOL = "Intervals: 95 %, bootstrap over videos."


def literal(name: str) -> str:
    """A name that others chose, for a caption: a dollar in it begins no formula."""
    return name.replace("$", r"\$")


def seen(studies: "Sequence[Study]") -> str:
    """Which models, on what: the end of a caption."""
    models = dict.fromkeys(study.model for study in studies)
    first = studies[0]
    return f"{literal(', '.join(models))}; {first.frames} key frames of {len(first.videos)} videos of {literal(first.dataset)}."
