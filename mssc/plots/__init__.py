"""Pictures and tables for papers: each a function from studies to a `Plot`, which holds the figure and the numbers behind it."""

from typing import TYPE_CHECKING

from .. import lazy

if TYPE_CHECKING:
    from .ablation import ablation_markdown, ablation_plot, ablation_rows, studies_markdown
    from .hover import HoverFigure
    from .interventions import card_table, interventions_markdown, interventions_plot, vitals_markdown, write_card
    from .keyframe import stage_plot, tap_plot
    from .moment import moment_plot
    from .msm import change_plot, gain_plot, separability_csv, separability_markdown, separability_plot, taps_of, verdict
    from .paper import Plot
    from .projection import projection_plot, projection_twin
    from .robustness import corruption_plot
    from .sfm import context_plot, exchange_plot, pointing_plot, probe_plot, response_plot
    from .strip import tube_plot

__getattr__, __dir__ = lazy(
    __name__,
    {
        ".ablation": "ablation_markdown ablation_plot ablation_rows studies_markdown",
        ".hover": "HoverFigure",
        ".interventions": "card_table interventions_markdown interventions_plot vitals_markdown write_card",
        ".keyframe": "stage_plot tap_plot",
        ".moment": "moment_plot",
        ".msm": "change_plot gain_plot separability_csv separability_markdown separability_plot taps_of verdict",
        ".paper": "Plot",
        ".projection": "projection_plot projection_twin",
        ".robustness": "corruption_plot",
        ".sfm": "context_plot exchange_plot pointing_plot probe_plot response_plot",
        ".strip": "tube_plot",
    },
)
