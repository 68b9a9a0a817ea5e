"""A model as ONNX: the streaming step with fixed shapes, for one frame and for sixteen a call, state in and out as named tensors.

The graphs hold no weights: they point into the model's own ``model.safetensors`` (ONNX external data), beside which they lie, and remember
its SHA-256. They run in plain onnxruntime, without this package.
"""

import json
import logging
import shutil
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..files import claim, whole_file, write_whole
from ..structures import InputError
from .checkpoint import load_model
from .mssc import MSSC
from .shipped import ABOUT, CONFIG, INTERVENTIONS, WEIGHTS, weights_hash
from .video import State

log = logging.getLogger(__name__)

FRAMES = (1, 16)
"""Frames that a graph takes in one call."""
OUTPUTS = ("boxes", "objectness", "logits", "people", "person")
"""Predictions that a graph gives; the last two if the network has a person head."""
OPSET = 18
TOLERANCE = 1e-4


def graph_name(frames: int) -> str:
    """Of the file whose graph takes so many frames."""
    return f"step-{frames}.onnx"


def output_names(model: MSSC) -> tuple[str, ...]:
    """Of `OUTPUTS`, those that this network has."""
    return OUTPUTS if model.person is not None else OUTPUTS[:3]


def state_names(model: MSSC) -> list[str]:
    """Names of the state's tensors, in order, such as ``state.backbone.frame``."""
    places, _ = pytree.tree_flatten_with_path(model.initial_state(1))
    return ["state" + pytree.keystr(place) for place, _ in places]


class _Step(nn.Module):
    """`MSSC.step` of one stream, every frame a key frame, on a flat state."""

    def __init__(self, model: MSSC) -> None:
        super().__init__()
        self.m = model
        _, self.layout = pytree.tree_flatten(model.initial_state(1))

    def forward(self, frames: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        state: State = pytree.tree_unflatten(list(leaves), self.layout)
        predictions, after = self.m.step(frames, state, torch.arange(frames.shape[2])[None])
        found = [getattr(predictions, name) for name in output_names(self.m)]
        return (*found, *(leaf.clone() for leaf in pytree.tree_leaves(after)))  # an output of its own where nothing changed


def export_model(folder: Path, output: Path) -> dict[str, float]:
    """Write a model's graphs, and what else a folder with them needs.

    Args:
        folder: of the model.
        output: folder for the graphs; if it is another one, the model is copied there.

    Returns:
        By graph, the largest deviation from torch over a stream of random frames, relative to the largest value (at least 1).

    Raises:
        InputError: for a model or a folder that cannot be used, or a network of which there is no such graph.
    """
    model, digest = load_model(folder).requires_grad_(False), weights_hash(folder)
    if folder.resolve() != output.resolve():
        claim(output, "key_size", CONFIG, WEIGHTS, ABOUT, INTERVENTIONS, "step.md", *map(graph_name, FRAMES))
        if (output / WEIGHTS).exists() and weights_hash(output) != digest:
            raise InputError(f"{output} holds another model; name another folder with -o.")
        for name in (CONFIG, WEIGHTS, ABOUT, INTERVENTIONS):
            if (folder / name).exists():
                with whole_file(output / name) as part:
                    shutil.copyfile(folder / name, part)
    found = {}
    for frames in FRAMES:
        log.info("tracing the step for %d frame(s) a call; this takes about a minute", frames)
        path = output / graph_name(frames)
        _write_graph(model, frames, output, path, digest)
        found[path.name] = deviation(model, path, frames)
        if found[path.name] > TOLERANCE:
            path.unlink()
            raise InputError(
                f"{path.name} deviates from torch by {found[path.name]:.1e}, more than {TOLERANCE:g}; it was not kept. Use torch."
            )
    write_whole(output / "step.md", _description(model, found))
    return found


def _write_graph(model: MSSC, frames: int, output: Path, path: Path, digest: str) -> None:
    import onnx
    import torchvision  # noqa: F401  # its operators must be known before tracing

    step, leaves, size = _Step(model).eval(), pytree.tree_leaves(model.initial_state(1)), model.config.key_size
    names, clip = state_names(model), torch.zeros(1, 3, frames, size, size, dtype=torch.uint8)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                step,
                (clip, *leaves),
                input_names=["frames", *names],
                output_names=[*output_names(model), *(f"next_{name}" for name in names)],
                opset_version=OPSET,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except (RuntimeError, ImportError) as error:
        raise InputError(f"this network has no ONNX graph: {str(error).splitlines()[0]}; use torch.") from error
    assert program is not None  # dynamo=True gives one
    graph = program.model_proto
    _point_to_weights(graph, output / WEIGHTS, "m.")
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
    del graph.graph.value_info[:]
    del graph.graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {"weights": digest, "classes": json.dumps(model.config.classes)})
    with whole_file(path) as part:
        part.write_bytes(graph.SerializeToString())


def _point_to_weights(graph, weights: Path, prefix: str) -> None:
    """Let initialisers be read from a safetensors file beside the graph."""
    import onnx

    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        places = json.loads(file.read(length))
    for tensor in graph.graph.initializer:
        place = places.get(tensor.name.removeprefix(prefix))
        if place is None or place["dtype"] != "F32" or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        start, stop = place["data_offsets"]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", weights.name), ("offset", str(8 + length + start)), ("length", str(stop - start))):
            tensor.external_data.add(key=key, value=value)


def deviation(model: MSSC, path: Path, frames: int, calls: int = 3) -> float:
    """How far a graph is from torch on a stream of random frames: every output and every state, see `export_model`."""
    session = open_session(path)
    names, generator, size = state_names(model), torch.Generator().manual_seed(0), model.config.key_size
    state, worst = model.initial_state(1), 0.0
    leaves = [leaf.numpy() for leaf in pytree.tree_leaves(state)]
    for _ in range(calls):
        clip = torch.randint(0, 256, (1, 3, frames, size, size), dtype=torch.uint8, generator=generator)
        feed = {"frames": clip.numpy(), **dict(zip(names, leaves, strict=True))}
        found = list(map(np.asarray, session.run(None, feed)))
        with torch.inference_mode():
            predictions, state = model.step(clip, state, torch.arange(frames)[None])
        wanted = [*(getattr(predictions, name) for name in output_names(model)), *pytree.tree_leaves(state)]
        for ours, theirs in zip(found, wanted, strict=True):
            scale = max(float(theirs.abs().max()) if theirs.numel() else 0.0, 1.0)
            worst = max(worst, float(np.abs(ours - theirs.numpy()).max(initial=0)) / scale)
        leaves = found[len(output_names(model)) :]
    return worst


def open_session(path: Path, threads: int = 1):
    """An ONNX Runtime session on the CPU, whose threads do not spin.

    Raises:
        InputError: if onnxruntime is not installed, or the file cannot be read.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError("onnxruntime is not installed; run: pip install onnxruntime, or use the runtime torch.") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read as ONNX ({reason}); make it again with mssc export.") from None


def _description(model: MSSC, found: dict[str, float]) -> str:
    size, rows = model.config.key_size, []
    for name, leaf in zip(state_names(model), pytree.tree_leaves(model.initial_state(1)), strict=True):
        rows.append(f"| `{name}` | {tuple(leaf.shape)} | {str(leaf.dtype).removeprefix('torch.')} |")
    deviations = "\n".join(f"- `{name}`: {value:.1e}" for name, value in found.items())
    people = ""
    if model.person is not None:
        people = " `people` (N, P, 4) and `person` (N, P), boxes and logits of everybody, whatever they do,"
    return f"""# The streaming step as ONNX

`step-N.onnx` takes the next N frames of a video and the state, and gives N frames' boxes, objectness and logits, and the next state.
Its weights are those of `{WEIGHTS}`, beside which it must lie.

| input | shape | type |
|---|---|---|
| `frames` | (1, 3, N, {size}, {size}), RGB 0..255, each frame squeezed to a square | uint8 |
{chr(10).join(rows)}

The state before the first frame is all zeros. Outputs: `boxes` (N, K, 4) in pixels of the square, `objectness` (N, K) logits, `logits`
(N, K, {len(model.config.classes)}) of the actions ({model.config.actions}),{people} and `next_...` for every part of the state.

Largest deviation from torch over a stream of random frames, relative to the largest value (at least 1):

{deviations}
"""
