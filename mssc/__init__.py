"""MS-SC: spatio-temporal action detection with motion sense and semantic correction. A video in, action tubes out.

    from mssc import detect_video
    for tube in detect_video("video.mp4").tubes: ...

The axis legend and the types are in `mssc.structures`. Names are loaded when first used, so that ``import mssc`` costs nothing.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: a busy neighbour must not stall two threads

if TYPE_CHECKING:
    from .ablate.tables import ABLATIONS
    from .config import ModelConfig, TrainConfig
    from .detection.detector import Detector
    from .detection.pipeline import detect_video
    from .detection.result import VideoResult
    from .linking import LinkConfig, OnlineLinker
    from .model.checkpoint import load_model, save_model
    from .model.features import Features
    from .model.mssc import MSSC
    from .model.shipped import available_models
    from .structures import Detections, InputError, Predictions, Tube

_HOME = {
    ".ablate.tables": "ABLATIONS",
    ".config": "ModelConfig TrainConfig",
    ".detection.detector": "Detector",
    ".detection.pipeline": "detect_video",
    ".linking": "LinkConfig OnlineLinker",
    ".model.checkpoint": "load_model save_model",
    ".model.mssc": "MSSC",
    ".model.shipped": "available_models",
    ".detection.result": "VideoResult",
    ".model.features": "Features",
    ".structures": "Detections InputError Predictions Tube",
}

__all__ = [
    "ABLATIONS",
    "MSSC",
    "Detections",
    "Detector",
    "Features",
    "InputError",
    "LinkConfig",
    "ModelConfig",
    "OnlineLinker",
    "Predictions",
    "TrainConfig",
    "Tube",
    "VideoResult",
    "available_models",
    "detect_video",
    "load_model",
    "save_model",
]
__version__ = "0.1.0"


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`: a name is loaded when it is first asked for, and who needs one waits for no other.

    Args:
        package: its `__name__`.
        homes: by module, relative to it, the names that live there.
    """
    modules = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> object:
        if name in modules:
            return getattr(importlib.import_module(modules[name], package), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: [*vars(sys.modules[package]), *modules]


__getattr__, __dir__ = lazy(__name__, _HOME)


MOVED = {
    "mssc.container": "mssc.video.container",
    "mssc.data.coco": "mssc.data.annotations.coco",
    "mssc.data.cvat": "mssc.data.annotations.cvat",
    "mssc.data.table": "mssc.data.annotations.table",
    "mssc.detect": "mssc.detection.pipeline",
    "mssc.result": "mssc.detection.result",
    "mssc.visualise": "mssc.video.drawing",
}
"""Names that modules had before, under which scripts may still import them, and where they are now."""


class _OldNames(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module) -> None:
        now = importlib.import_module(MOVED[module.__name__])
        warnings.warn(f"{module.__name__} is now {now.__name__}; import that.", DeprecationWarning, stacklevel=2)
        module.__getattr__ = lambda name: getattr(now, name)


sys.meta_path.append(_OldNames())  # asked last
