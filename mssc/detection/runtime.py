"""What computes the network's step of a stream: torch, or ONNX Runtime where the model has graphs for it (`mssc export`)."""

import logging
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..model.export import FRAMES, graph_name, open_session, output_names, state_names
from ..model.mssc import MSSC
from ..model.shipped import weights_hash
from ..model.video import State
from ..structures import InputError, Predictions
from .resources import network_threads

log = logging.getLogger(__name__)

RUNTIMES = ("torch", "onnx")


class OnnxStep:
    """A model's streaming step in ONNX Runtime. Anchors that were not classified are not given.

    Args:
        model: whose state it goes on from.
        folder: of the model, with its graphs.

    Raises:
        InputError: if a graph is missing, cannot be read, or was made of other weights.
    """

    def __init__(self, model: MSSC, folder: Path) -> None:
        digest = weights_hash(folder)
        self.sessions = {}
        for frames in FRAMES:
            path = folder / graph_name(frames)
            if not path.is_file():
                raise InputError(f"{folder} has no {path.name}; make it with: mssc export {folder}")
            session = open_session(path, threads=network_threads())
            if session.get_modelmeta().custom_metadata_map.get("weights") != digest:
                raise InputError(f"{path} was made of other weights; make it again with: mssc export {folder}")
            self.sessions[frames] = session
        self.names, self.outputs = state_names(model), output_names(model)
        _, self.layout = pytree.tree_flatten(model.initial_state(1))

    def __call__(self, clip: Tensor, state: State) -> tuple[Predictions, State]:
        """The next frames (1, 3, T, S, S) uint8 of one stream, all of them key frames: `MSSC.step`."""
        leaves = [leaf.numpy() for leaf in pytree.tree_leaves(state)]
        found, start = [], 0
        while start < clip.shape[2]:
            count = max(frames for frames in FRAMES if frames <= clip.shape[2] - start)
            part = clip[:, :, start : start + count].contiguous().numpy()
            out = self.sessions[count].run(None, {"frames": part, **dict(zip(self.names, leaves, strict=True))})
            found.append([torch.from_numpy(value) for value in out[: len(self.outputs)]])
            leaves, start = out[len(self.outputs) :], start + count
        values = dict(zip(self.outputs, map(torch.cat, zip(*found, strict=True)), strict=True))
        none = values["boxes"][:, :0], values["objectness"][:, :0]
        after = pytree.tree_unflatten([torch.from_numpy(leaf) for leaf in leaves], self.layout)
        rest = dict(zip(("people", "person"), none, strict=True)) | values
        return Predictions(*none, **rest), after


def stream_step(model: MSSC, folder: Path, runtime: str, device: torch.device) -> OnnxStep | None:
    """ONNX Runtime's step if it is asked for, or, with "auto", if it can be had on the CPU; None for torch.

    Raises:
        InputError: for an unknown runtime, or one that was asked for and cannot be had.
    """
    if runtime not in ("auto", *RUNTIMES):
        raise InputError(f"the runtime is {runtime!r}; use auto, {' or '.join(RUNTIMES)}.")
    if runtime == "torch" or (runtime == "auto" and device.type != "cpu"):
        return None
    if device.type != "cpu":
        raise InputError(f"the runtime onnx computes on the CPU, and the device is {device}; use --device cpu.")
    if runtime == "auto" and (find_spec("onnxruntime") is None or not any((folder / graph_name(n)).exists() for n in FRAMES)):
        return None
    try:
        return OnnxStep(model, folder)
    except InputError as error:
        if runtime == "onnx":
            raise
        log.warning("%s Until then torch computes the network.", error)
        return None
