"""What computes the network's step of a stream: torch, or a runtime of graphs where the model has them (`mssc export`)."""

import logging
import os
import threading
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..model.engines import PACKAGES, Engine, installed, open_graph
from ..model.export import OUTPUTS, PEOPLE, fits, graphs_of, state_names
from ..model.mssc import MSSC
from ..model.shipped import weights_hash
from ..model.video import State
from ..structures import InputError, Predictions
from .resources import network_threads

log = logging.getLogger(__name__)

RUNTIMES = ("torch", *sorted(PACKAGES))


class GraphStep:
    """A model's streaming step, computed by graphs. Anchors that were not classified are not given.

    Args:
        model: whose state it goes on from.
        folder: of the model, with its graphs.
        runtime: one of `PACKAGES`.

    Raises:
        InputError: if the runtime is not installed, or a graph is missing, cannot be read, or was made of other weights.
    """

    def __init__(self, model: MSSC, folder: Path, runtime: str) -> None:
        self.runtime, graphs, digest = runtime, graphs_of(model), weights_hash(folder)
        for path in (folder / name for name in graphs.values()):
            if not path.is_file():
                raise InputError(f"{folder} has no {path.name}; make it with: mssc export {folder}")
            if not fits(path, digest):
                raise InputError(f"{path} is cut off, or was made of other weights; make it again with mssc export.")
        self.graphs, self.threads = {kind: folder / name for kind, name in graphs.items()}, graph_threads(runtime)
        self.engines: dict[int, Engine] = {}
        self.opening = threading.Lock()
        self._engine(max(graphs))  # which videos in files need; others are opened when they are
        self.names = state_names(model)
        _, self.layout = pytree.tree_flatten(model.initial_state(1))

    def _engine(self, kind: int) -> Engine:
        with self.opening:
            if kind not in self.engines:
                self.engines[kind] = open_graph(self.graphs[kind], self.runtime, self.threads)
            return self.engines[kind]

    def people(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """`MSSC.people` of a frame (1, 3, H, W) uint8."""
        boxes, logits = self._engine(PEOPLE)({"frames": frame.permute(0, 2, 3, 1).contiguous().numpy()})
        return torch.from_numpy(boxes), torch.from_numpy(logits)

    def __call__(self, clip: Tensor, state: State) -> tuple[Predictions, State]:
        """The next frames (1, 3, T, S, S) uint8 of one stream, all of them key frames: `MSSC.step`."""
        frames = clip[0].permute(1, 2, 3, 0).contiguous().numpy()
        leaves = [leaf.numpy() for leaf in pytree.tree_leaves(state)]
        found: dict[str, list[Tensor]] = {name: [] for name in OUTPUTS}
        start = 0
        while start < len(frames):
            count = max(kind for kind in self.graphs if kind <= len(frames) - start)
            feed = {"frames": frames[start : start + count], **dict(zip(self.names, leaves, strict=True))}
            out = self._engine(count)(feed)
            for name, value in zip(OUTPUTS, out, strict=False):
                found[name].append(torch.from_numpy(value))
            leaves, start = out[len(OUTPUTS) :], start + count
        values = {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in found.items()}
        after = pytree.tree_unflatten([torch.from_numpy(leaf) for leaf in leaves], self.layout)
        return Predictions(values["boxes"][:, :0], values["objectness"][:, :0], **values), after


def graph_threads(runtime: str) -> int:
    """How many threads a runtime of graphs uses: half of the cores, as torch; OpenVINO, whose threads wait for work without spinning,
    shares all of them, up to eight, with decoder and encoder. None takes more than torch may."""
    if runtime.startswith("openvino"):
        return min(torch.get_num_threads(), os.cpu_count() or 2, 8)
    return network_threads()


def stream_step(model: MSSC, folder: Path, runtime: str, device: torch.device) -> GraphStep | None:
    """The step by graphs if a runtime of them is asked for, or, with "auto", if one can be had on the CPU; None for torch.

    Raises:
        InputError: for an unknown runtime, or one that was asked for and cannot be had.
    """
    if runtime not in ("auto", *RUNTIMES):
        raise InputError(f"the runtime is {runtime!r}; use auto, {', '.join(RUNTIMES[:-1])} or {RUNTIMES[-1]}.")
    if runtime == "torch" or (runtime == "auto" and device.type != "cpu"):
        return None
    if device.type != "cpu":
        raise InputError(f"the runtime {runtime} computes on the CPU, and the device is {device}; use --device cpu.")
    if runtime != "auto":
        return GraphStep(model, folder, runtime)
    there = [name for name in ("openvino", "onnx") if installed(name)]
    if not there or not any((folder / name).exists() for name in graphs_of(model).values()):
        return None
    try:
        return GraphStep(model, folder, there[0])
    except InputError as error:
        log.warning("%s Until then torch computes the network.", error)
        return None
