"""What computes the network's step of a stream: torch, or a runtime of graphs where the model has them (`mssc export`)."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..model.engines import OUTPUTS, PACKAGES, PEOPLE, Engine, fits, graphs_of, installed, open_graph
from ..model.shipped import CONFIG, load_config, weights_hash
from ..structures import InputError
from .postprocess import Classified
from .resources import all_threads, network_threads

log = logging.getLogger(__name__)

RUNTIMES = ("torch", *sorted(PACKAGES))
GraphState = Mapping[str, np.ndarray]
"""The state of a stream as graphs know it, by name."""


class GraphStep:
    """A model's streaming step, computed by graphs, without torch.

    Args:
        folder: of the model, with its graphs.
        runtime: one of `PACKAGES`.

    Raises:
        InputError: if the runtime is not installed, or a graph is missing, cannot be read, or was made of other weights.
    """

    def __init__(self, folder: Path, runtime: str) -> None:
        self.runtime, self.config, digest = runtime, load_config(folder), weights_hash(folder)
        graphs = graphs_of(self.config)
        for path in (folder / name for name in graphs.values()):
            if not path.is_file():
                raise InputError(f"{folder} has no {path.name}; mssc export {folder} makes it.")
            if not fits(path, digest):
                raise InputError(f"{path} is cut off, or was made of other weights; make it again with mssc export.")
        self.graphs, self.threads = {kind: folder / name for kind, name in graphs.items()}, graph_threads(runtime)
        self.engines: dict[int, Engine] = {}
        self.opening = threading.Lock()
        self._engine(max(graphs))  # which videos in files need; others are opened when they are

    def _engine(self, kind: int) -> Engine:
        with self.opening:
            if kind not in self.engines:
                engine = open_graph(self.graphs[kind], self.runtime, self.threads)
                self._check(kind, engine)
                self.engines[kind] = engine
            return self.engines[kind]

    def _check(self, kind: int, engine: Engine) -> None:
        """Refuse a config that was changed since the graph was made."""
        side, path = self.config.key_size, self.graphs[kind]
        wanted = {"frames": (kind, side, side, 3), "logits": (kind, self.config.kept, len(self.config.classes))}
        found = {"frames": engine.inputs["frames"][0], "logits": engine.outputs.get("logits", ())}
        if kind != PEOPLE and found != wanted:
            raise InputError(
                f"{path} gives {found['logits']} for {found['frames']}, and {path.parent / CONFIG} speaks of {wanted['logits']} for "
                f"{wanted['frames']}; undo what was changed there, or make the graphs again with mssc export."
            )

    def initial_state(self) -> GraphState:
        """The state before the first frame: all zeros."""
        inputs = self._engine(max(self.graphs)).inputs
        return {name: np.zeros(shape, kind) for name, (shape, kind) in inputs.items() if name != "frames"}

    def people(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`MSSC.people` of a frame (H, W, 3) uint8: boxes (1, N, 4) and logits (1, N)."""
        boxes, logits = self._engine(PEOPLE)({"frames": np.ascontiguousarray(frame)[None]})
        return boxes, logits

    def __call__(self, frames: np.ndarray, state: GraphState) -> tuple[Classified, GraphState]:
        """The next frames (T, S, S, 3) uint8 of one stream, all of them key frames: `MSSC.step`, of arrays."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in OUTPUTS}
        start = 0
        while start < len(frames):
            count = max(kind for kind in self.graphs if kind <= len(frames) - start)
            out = self._engine(count)({"frames": frames[start : start + count], **state})
            for name, value in zip(OUTPUTS, out, strict=False):
                found[name].append(value)
            state, start = dict(zip(state, out[len(OUTPUTS) :], strict=True)), start + count
        values = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in found.items()}
        return Classified(**values), state


def graph_threads(runtime: str) -> int:
    """How many threads a runtime of graphs uses: half of the cores, as torch; OpenVINO, whose threads wait for work without spinning,
    shares all of them, up to eight, with decoder and encoder."""
    return min(all_threads(), 8) if runtime.startswith("openvino") else network_threads()


def stream_step(folder: Path, runtime: str, device: str) -> GraphStep | None:
    """The step by graphs if a runtime of them is asked for, or, with "auto", if one can be had on the CPU; None for torch.

    Args:
        folder: of the model.
        runtime: as of `Detector.load`.
        device: "cpu", or another one's name.

    Raises:
        InputError: for an unknown runtime, or one that was asked for and cannot be had.
    """
    if runtime not in ("auto", *RUNTIMES):
        raise InputError(f"the runtime is {runtime!r}; use auto, {', '.join(RUNTIMES[:-1])} or {RUNTIMES[-1]}.")
    if runtime == "torch" or (runtime == "auto" and device != "cpu"):
        return None
    if device != "cpu":
        raise InputError(f"the runtime {runtime} computes on the CPU, and the device is {device}; use --device cpu.")
    if runtime != "auto":
        return GraphStep(folder, runtime)
    there = [name for name in ("openvino", "onnx") if installed(name)]
    if not there or not any((folder / name).exists() for name in graphs_of(load_config(folder)).values()):
        return None
    try:
        return GraphStep(folder, there[0])
    except InputError as error:
        log.warning("%s Until then torch computes the network.", error)
        return None
