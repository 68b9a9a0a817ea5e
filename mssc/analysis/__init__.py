"""Looking inside: does MSM push action away from background, what does SFM exchange, where does the network respond?

    hooks         what named submodules put out
    cells         which cells of a map show an action
    distances     of action and background features
    bootstrap     how sure a mean over videos is
    probes        what a linear classifier can read from features
    motion        MSM's gain per channel
    exchange      SFM's first stage
    maps          response maps, and how well they point
    embedding     t-SNE and PCA
    keyframes     a model over annotated videos
    study         all of it for one model
    projection    its cells in two dimensions
    swap          a key frame with another video's clip
    corruption    the same with one input spoilt

"Reconstruction, section n" in these files is the project's own reconstruction of the paper, which does not define its quantities.
"""

from .bootstrap import Interval, by_video, interval, mean_interval, paired_interval
from .cells import ACTION, BACKGROUND, IGNORED, cell_kinds, coverage
from .corruption import CORRUPTIONS, Robustness, corrupted, robustness
from .distances import MEASURES, channel_fisher, separability
from .embedding import embed
from .exchange import context_entropy, corrected, exchange_strength, linear_cka
from .hooks import Captured, capture
from .keyframes import TAPS, KeyFrame, Level, collect, key_frames
from .maps import MAP_MEASURES, attention_rows, class_activation, map_entropy, map_measures, norm_map, normalised
from .motion import channel_gain, has_channel_gain, rank_correlation, without_motion_sense
from .probes import area_under_roc, class_probe, probe_auroc, probe_scores
from .projection import Projection, project
from .study import Cells, Example, Study, examine
from .swap import Swap, swap_clip, turned

__all__ = [
    "ACTION",
    "BACKGROUND",
    "CORRUPTIONS",
    "IGNORED",
    "MAP_MEASURES",
    "MEASURES",
    "TAPS",
    "Captured",
    "Cells",
    "Example",
    "Interval",
    "KeyFrame",
    "Level",
    "Projection",
    "Robustness",
    "Study",
    "Swap",
    "area_under_roc",
    "attention_rows",
    "by_video",
    "capture",
    "cell_kinds",
    "channel_fisher",
    "channel_gain",
    "class_activation",
    "class_probe",
    "collect",
    "context_entropy",
    "corrected",
    "corrupted",
    "coverage",
    "embed",
    "examine",
    "exchange_strength",
    "has_channel_gain",
    "interval",
    "key_frames",
    "linear_cka",
    "map_entropy",
    "map_measures",
    "mean_interval",
    "norm_map",
    "normalised",
    "paired_interval",
    "probe_auroc",
    "probe_scores",
    "project",
    "rank_correlation",
    "robustness",
    "separability",
    "swap_clip",
    "turned",
    "without_motion_sense",
]
