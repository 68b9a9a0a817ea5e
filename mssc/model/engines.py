"""A model's graphs, see `mssc.model.export`, and how a runtime on the CPU opens them. Without torch."""

import hashlib
import locale
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..config import ModelConfig
from ..structures import InputError

log = logging.getLogger(__name__)

# OpenVINO tells a server of each start, from a process that it forks, which may wait for ever. It does without where this is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

FRAMES = (1, 16)
"""Frames of a stream that a graph takes in one call."""
PEOPLE = 0
"""Stands for the graph that looks for people in one frame, whatever came before."""
OUTPUTS = ("boxes", "objectness", "logits")
"""Predictions that a graph of the step gives."""
PACKAGES = {"openvino": "openvino", "openvino-bf16": "openvino", "onnx": "onnxruntime"}
"""The package that each runtime of graphs needs; "openvino-bf16" rounds to bfloat16 where the processor has it."""
_OPENING = threading.Lock()
_ENGINES: "dict[str, Engine]" = {}
"""OpenVINO's, for as long as the process lives: a graph is compiled once, and none is taken apart by Python's garbage collector."""
_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(uint8)": "uint8"}
"""As ONNX Runtime writes them."""
MOST_CACHED = 24
"""Compiled graphs that are kept in the user's cache folder, those that were last used, some 10 to 30 MB each."""


@dataclass(frozen=True)
class Engine:
    """A graph, ready to be called with named arrays; it gives its outputs in their order.

    Attributes:
        run: computes it.
        inputs: shape and type of each input by name; (), where its shape is not fixed.
        outputs: shape of each output by name, likewise.
    """

    run: Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]
    inputs: Mapping[str, tuple[tuple[int, ...], np.dtype]]
    outputs: Mapping[str, tuple[int, ...]]

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return self.run(feed)


def graphs_of(config: ModelConfig) -> dict[int, str]:
    """The graphs of a model: how many frames of a stream each takes, or `PEOPLE` where the model can look for them, and its file."""
    return {frames: f"step-{frames}.onnx" for frames in FRAMES} | ({} if config.person == "none" else {PEOPLE: "people.onnx"})


def fits(path: Path, digest: str) -> bool:
    """Whether an ONNX file is whole, and of the weights with this SHA-256: they are the last that is written in it."""
    return path.read_bytes().endswith(digest.encode())


def installed(runtime: str) -> bool:
    """Whether the package of a runtime is there."""
    return find_spec(PACKAGES[runtime]) is not None


def open_graph(path: Path, runtime: str = "onnx", threads: int = 1) -> Engine:
    """A graph, ready to be called.

    Args:
        path: of the ONNX file.
        runtime: one of `PACKAGES`.
        threads: that it may use.

    Raises:
        InputError: if the runtime is not installed, or the file cannot be read.
    """
    package = PACKAGES[runtime]
    if not installed(runtime):
        raise InputError(f"{package} is not installed; run: pip install {package}, or use the runtime torch.")
    try:
        return _in_onnxruntime(path, threads) if runtime == "onnx" else _in_openvino(path, threads, runtime)
    except Exception as error:  # the runtimes' errors have no common base
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read as ONNX ({reason}); make it again with mssc export.") from None


def _in_onnxruntime(path: Path, threads: int) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {one.name: (_fixed(one.shape), np.dtype(_TYPES[one.type])) for one in session.get_inputs()}
    outputs = {one.name: _fixed(one.shape) for one in session.get_outputs()}
    return Engine(lambda feed: [np.asarray(value) for value in session.run(None, dict(feed))], inputs, outputs)


def _fixed(shape: Iterable) -> tuple[int, ...]:
    """As ONNX Runtime writes shapes: sides that are not fixed have names."""
    sides = tuple(shape)
    return sides if all(isinstance(side, int) for side in sides) else ()


def _in_openvino(path: Path, threads: int, runtime: str) -> Engine:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if runtime == "openvino-bf16" else "f32",
        "ENABLE_CPU_PINNING": False,
    }
    if runtime == "openvino-bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        log.warning("this processor cannot compute in bfloat16; openvino-bf16 is slower here than openvino.")
    key = hashlib.sha256(repr([path.resolve(), openvino.__version__, sorted(options.items())]).encode() + path.read_bytes())
    name = key.hexdigest()[:32]
    with locale_kept():
        if name not in _ENGINES:
            _ENGINES[name] = _engine(_compiled(path, options, name))
        return _ENGINES[name]


def _engine(compiled) -> Engine:
    """The graph reads its inputs where they lie, and writes its outputs into arrays that are the caller's; only those whose shapes it does
    not know before are copied."""
    import openvino

    request, one = compiled.create_infer_request(), threading.Lock()
    fixed = not any(port.partial_shape.is_dynamic for port in compiled.outputs)
    places = [(list(port.shape), port.element_type.to_dtype()) for port in compiled.outputs] if fixed else []
    count = len(compiled.outputs)

    def run(feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with one:  # several streams may share a detector
            found = [np.empty(shape, kind) for shape, kind in places]
            for place, array in enumerate(found):
                request.set_output_tensor(place, openvino.Tensor(array, shared_memory=True))
            request.infer(dict(feed), share_inputs=True)
            return found or [request.get_output_tensor(place).data.copy() for place in range(count)]

    inputs = {port.any_name: (_static(port), np.dtype(port.element_type.to_dtype())) for port in compiled.inputs}
    return Engine(run, inputs, {port.any_name: _static(port) for port in compiled.outputs})


def _static(port) -> tuple[int, ...]:
    return () if port.partial_shape.is_dynamic else tuple(port.shape)


def _compiled(path: Path, options: dict, name: str):
    import openvino

    compiled = None
    try:
        place = _cache_folder() / name
        place.mkdir(parents=True, exist_ok=True)
        written = list(place.iterdir())
        compiled = openvino.Core().compile_model(str(path), "CPU", options | {"CACHE_DIR": str(place)})
        if written and not compiled.get_property("LOADED_FROM_CACHE"):
            shutil.rmtree(place)  # cut, or of another processor: to be written again
        elif written:
            os.utime(place)
        _forget_the_oldest(place.parent)
    except (OSError, RuntimeError):  # a cache that cannot be written to, or used
        compiled = compiled or openvino.Core().compile_model(str(path), "CPU", options)
    return compiled


@contextmanager
def locale_kept() -> Iterator[None]:
    """One graph at a time, and the process's locale as it was: OpenVINO changes it while it reads, and several threads at once would leave
    it changed, so that Python would take files for ASCII."""
    with _OPENING:
        before = locale.setlocale(locale.LC_ALL)
        try:
            yield
        finally:
            locale.setlocale(locale.LC_ALL, before)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mssc" / "openvino"


def _forget_the_oldest(folder: Path) -> None:
    by_age = sorted(folder.iterdir(), key=lambda place: place.stat().st_mtime)
    for place in by_age[:-MOST_CACHED]:
        shutil.rmtree(place, ignore_errors=True)
