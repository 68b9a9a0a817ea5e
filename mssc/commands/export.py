"""``mssc export``: a model as graphs."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .options import OUTPUT, default

log = logging.getLogger("mssc")


@dataclass(frozen=True)
class Export:
    """Write a model's streaming step as graphs, which OpenVINO and ONNX Runtime compute on a CPU, faster than torch does.

    For example:
        mssc export runs/mine/model
        mssc export jhmdb -o exported --format openvino
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL", help_behavior_hint="(required)")]
    """Name of a model that ships, or a model's folder."""
    output: Annotated[Path | None, OUTPUT, default("the model's own folder")] = None
    """Folder for the graphs; the model is copied there."""
    format: Literal["onnx", "openvino"] = "onnx"
    """ONNX, whose weights stay in the model's file; or OpenVINO's own files beside that, to be used without this package."""

    def run(self) -> None:
        """Trace, compare with torch, write."""
        from ..model.export import export_model
        from ..model.shipped import model_folder

        folder = model_folder(self.model)
        output = self.output or folder
        for name, deviation in export_model(folder, output, self.format).items():
            log.info("%s: deviates from torch by %.1e at most", output / name, deviation)
