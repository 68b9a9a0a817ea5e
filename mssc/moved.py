"""Names under which modules were known before they moved: scripts that import them work on, with a `DeprecationWarning`."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NOW = {
    "mssc.container": "mssc.video.container",
    "mssc.data.coco": "mssc.data.annotations.coco",
    "mssc.data.cvat": "mssc.data.annotations.cvat",
    "mssc.data.table": "mssc.data.annotations.table",
    "mssc.detect": "mssc.detection.pipeline",
    "mssc.result": "mssc.detection.result",
    "mssc.visualise": "mssc.video.drawing",
}


class OldNames(MetaPathFinder, Loader):
    """Finds the modules of `NOW` under their old names."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Only for names that nothing else is found under."""
        return ModuleSpec(fullname, self) if fullname in NOW else None

    def exec_module(self, module: ModuleType) -> None:
        """Take every name from where the module is now."""
        now = importlib.import_module(NOW[module.__name__])
        warnings.warn(f"{module.__name__} is now {now.__name__}; import that.", DeprecationWarning, stacklevel=2)
        module.__getattr__ = lambda name: getattr(now, name)


def accept() -> None:
    """Let old names be imported; asked last."""
    sys.meta_path.append(OldNames())
