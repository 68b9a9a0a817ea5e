"""Looking inside: does MSM push action away from background, what does SFM exchange, where does the network respond?

    hooks          what named submodules put out
    cells          which cells of a map show an action
    distances      of action and background features
    bootstrap      how sure a mean over videos is
    probes         what a linear classifier can read from features
    msm            MSM's gain per channel
    exchange       SFM's first stage
    maps           response maps, and how well they point
    embedding      t-SNE and PCA
    keyframes      a model over annotated videos
    study          all of it for one model
    projection     its cells in two dimensions
    moment         one moment of a video that nobody has labelled
    swap           a key frame with another video's clip
    corruption     the same with one input spoilt
    stand_ins      what may take the place of a part of a network
    interventions  what each part is worth
    vitals         gains, entropies, how far parameters moved
    kept           both beside a model, and in a sentence

"Reconstruction, section n" in these files is the project's own reconstruction of the paper, which does not define its quantities.
"""

from typing import TYPE_CHECKING

from .. import lazy

if TYPE_CHECKING:
    from ..model.fusion import context_entropy
    from .bootstrap import Interval, paired_interval
    from .cells import ACTION, BACKGROUND, IGNORED, cell_kinds, coverage
    from .corruption import CORRUPTIONS, Robustness, corrupted, robustness
    from .distances import MEASURES, separability
    from .embedding import embed
    from .exchange import corrected, exchange_strength
    from .hooks import Captured, capture
    from .interventions import METRICS, Effect, Interventions, intervene
    from .kept import in_words, store, stored
    from .keyframes import TAPS, KeyFrame, Level, collect
    from .maps import MAP_MEASURES, attention_rows, class_activation, map_measures, norm_map
    from .moment import Inside, look_at
    from .msm import channel_gain, has_channel_gain, without_motion_sense
    from .probes import area_under_roc, class_probe, probe_auroc, probe_scores
    from .projection import Projection, project
    from .study import Cells, Example, Study, examine
    from .swap import Swap, swap_clip, turned
    from .vitals import Vitals, moved, vital_signs

__getattr__, __dir__ = lazy(
    __name__,
    {
        "..model.fusion": "context_entropy",
        ".bootstrap": "Interval paired_interval",
        ".cells": "ACTION BACKGROUND IGNORED cell_kinds coverage",
        ".corruption": "CORRUPTIONS Robustness corrupted robustness",
        ".distances": "MEASURES separability",
        ".embedding": "embed",
        ".exchange": "corrected exchange_strength",
        ".hooks": "Captured capture",
        ".interventions": "METRICS Effect Interventions intervene",
        ".kept": "in_words store stored",
        ".keyframes": "TAPS KeyFrame Level collect",
        ".maps": "MAP_MEASURES attention_rows class_activation map_measures norm_map",
        ".moment": "Inside look_at",
        ".msm": "channel_gain has_channel_gain without_motion_sense",
        ".probes": "area_under_roc class_probe probe_auroc probe_scores",
        ".projection": "Projection project",
        ".study": "Cells Example Study examine",
        ".swap": "Swap swap_clip turned",
        ".vitals": "Vitals moved vital_signs",
    },
)
