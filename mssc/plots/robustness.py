"""Pictures of detections in spoilt videos."""

from collections.abc import Sequence

import numpy as np

from ..analysis.corruption import CORRUPTIONS, Robustness
from . import words
from .paper import INTERVAL_COLUMNS, Columns, Plot, canvas, interval_cells, model_paint, one_name_each, shared_legend, styled


@styled
def corruption_plot(found: Sequence[Robustness], columns: Columns = 2) -> Plot:
    """Frame-mAP against how strongly an input is spoilt: the key frame alone above, the clip alone below. Bands are 95 % intervals over
    videos. The csv also has what each corruption costs, paired by video.

    Raises:
        InputError: for no model, or two of one name.
    """
    one_name_each([one.model for one in found])
    kinds = [kind for kind in CORRUPTIONS if any(key[0] == kind for one in found for key in one.hits)]
    across = 3 if columns == 2 else 2
    down = -(-max(len(kinds), 1) // across)
    figure = canvas(columns, 1.6 * down + 0.3)
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    rows: list[tuple] = []
    clean = {one.model: one.frame_map() for one in found}
    rows += [(model, "none", 0.0, "frame-mAP", *interval_cells(value)) for model, value in clean.items()]
    for axes, kind in zip(panels, kinds, strict=False):
        for index, one in enumerate(found):
            amounts = sorted(amount for name, amount in one.hits if name == kind)
            curve = [clean[one.model], *(one.frame_map(kind, amount) for amount in amounts)]
            x, paint = [0.0, *amounts], model_paint(index)
            axes.plot(x, [point.value for point in curve], label=one.model, markersize=3, **paint)
            low, high = (np.array([getattr(point, name) for point in curve]) for name in ("low", "high"))
            axes.fill_between(x, low, high, color=paint["color"], alpha=0.15, linewidth=0)
            rows += [(one.model, kind, a, "frame-mAP", *interval_cells(v)) for a, v in zip(amounts, curve[1:], strict=True)]
            rows += [(one.model, kind, a, "loss", *interval_cells(one.loss(kind, a))) for a in amounts]
        axes.set_title(f"{'key frame' if CORRUPTIONS[kind].path == 'key' else 'clip'}: {kind}")
        axes.set_xlabel(CORRUPTIONS[kind].unit, fontsize=7)
        axes.grid(alpha=0.25, linewidth=0.5)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    for axes in panels[::across]:
        axes.set_ylabel("frame-mAP@0.5")
    panels[0].set_ylim(bottom=0)
    shared_legend(figure, panels[0])
    caption = (
        "Frame-mAP@0.5 against how strongly one input is spoilt: the key frame alone, or the clip alone. "
        f"{words.PROTOCOL} {', '.join(clean)}; {max([value.videos for value in clean.values()], default=0)} videos."
    )
    return Plot(figure, ("model", "corruption", "amount", "quantity", *INTERVAL_COLUMNS), rows, caption=caption)
