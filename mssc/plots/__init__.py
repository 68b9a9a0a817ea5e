"""Pictures and tables for papers: each a function from studies to a `Plot`, which holds the figure and the numbers behind it."""

from .ablation import ablation_csv, ablation_markdown, ablation_plot, ablation_rows, studies_markdown
from .fusion import exchange_plot, pointing_plot, probe_plot, response_plot
from .hover import HoverFigure
from .inside import stage_plot, tap_plot
from .motion import gain_plot, projection_plot, projection_twin, separability_plot, taps_of
from .paper import STYLE, WIDTHS, Plot, csv_text
from .robustness import corruption_plot
from .strip import tube_plot
from .tables import separability_csv, separability_markdown, separability_rows, verdict

__all__ = [
    "STYLE",
    "WIDTHS",
    "HoverFigure",
    "Plot",
    "ablation_csv",
    "ablation_markdown",
    "ablation_plot",
    "ablation_rows",
    "corruption_plot",
    "csv_text",
    "exchange_plot",
    "gain_plot",
    "pointing_plot",
    "probe_plot",
    "projection_plot",
    "projection_twin",
    "response_plot",
    "separability_csv",
    "separability_markdown",
    "separability_plot",
    "separability_rows",
    "stage_plot",
    "studies_markdown",
    "tap_plot",
    "taps_of",
    "tube_plot",
    "verdict",
]
