"""The commands of ``mssc``: what each takes is a dataclass, what it does is its `run`."""

from .ablate import Ablate
from .data import CheckData, ImportAnnotations
from .detect import Detect
from .evaluate import Evaluate
from .export import Export
from .figures import Figures
from .train import Train

COMMANDS = {
    "detect": Detect,
    "check-data": CheckData,
    "import-annotations": ImportAnnotations,
    "train": Train,
    "evaluate": Evaluate,
    "figures": Figures,
    "ablate": Ablate,
    "export": Export,
}
"""By name, in the order in which one meets them."""

__all__ = ["COMMANDS", "Ablate", "CheckData", "Detect", "Evaluate", "Export", "Figures", "ImportAnnotations", "Train"]
