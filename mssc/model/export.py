"""A model as graphs: the streaming step with fixed shapes, for one frame and for sixteen a call, state in and out as named tensors.

The ONNX graphs hold no weights: they point into the model's own ``model.safetensors`` (ONNX external data), beside which they lie, and
remember its SHA-256. They run in plain onnxruntime or openvino, without this package.
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

from ..config import LOOK_EVERY
from ..files import claim, explained, whole_file, write_whole
from ..structures import InputError
from .checkpoint import load_model
from .engines import installed, locale_kept, open_graph
from .graph import for_graphs
from .mssc import MSSC
from .person import looks_from
from .shipped import ABOUT, CONFIG, INTERVENTIONS, WEIGHTS, weights_hash
from .video import State

log = logging.getLogger(__name__)

FORMATS = ("onnx", "openvino")
FRAMES = (1, 16)
"""Frames that a graph takes in one call."""
OUTPUTS = ("boxes", "objectness", "logits", "people", "person")
"""Predictions that a graph gives; the last two if the network has a person head."""
OPSET = 18
TOLERANCE = 1e-4


def graph_name(frames: int, looks: bool = True) -> str:
    """Of the file whose graph takes so many frames, and looks for people in every `LOOK_EVERY`-th of them, or in none."""
    return f"step-{frames}{'' if looks else '-actors'}.onnx"


def graphs_of(model: MSSC) -> dict[tuple[int, bool], str]:
    """The graphs of a model: how many frames each takes, whether it looks for people (True where the model cannot), and its file."""
    kinds = [(frames, True) for frames in FRAMES] + [(1, False)] * (model.person is not None)
    return {kind: graph_name(*kind) for kind in kinds}


def fits(path: Path, digest: str) -> bool:
    """Whether an ONNX file is whole, and of the weights with this SHA-256: they are the last that is written in it."""
    return path.read_bytes().endswith(digest.encode())


def output_names(model: MSSC, looks: bool = True) -> tuple[str, ...]:
    """Of `OUTPUTS`, those that a graph of this network has."""
    return OUTPUTS if model.person is not None and looks else OUTPUTS[:3]


def state_names(model: MSSC) -> list[str]:
    """Names of the state's tensors, in order, such as ``state.backbone.frame``."""
    places, _ = pytree.tree_flatten_with_path(model.initial_state(1))
    return ["state" + pytree.keystr(place) for place, _ in places]


class _Step(nn.Module):
    """`MSSC.step` of one stream, every frame a key frame, on a flat state."""

    def __init__(self, model: MSSC, looks: bool) -> None:
        super().__init__()
        self.m = for_graphs(model)
        if not looks:
            self.m.person = None
        self.names = output_names(model, looks)
        _, self.layout = pytree.tree_flatten(model.initial_state(1))

    def forward(self, frames: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        state: State = pytree.tree_unflatten(list(leaves), self.layout)
        clip = frames.to(torch.float32).permute(3, 0, 1, 2)[None]  # in this order: floats are cheaper to turn
        predictions, after = self.m.step(clip, state, slice(None), looks=looks_from(0))
        found = [getattr(predictions, name) for name in self.names]
        return (*found, *(leaf.clone() for leaf in pytree.tree_leaves(after)))  # an output of its own where nothing changed


def export_model(folder: Path, output: Path, kind: str = "onnx") -> dict[str, float]:
    """Write a model's graphs, and what else a folder with them needs.

    Args:
        folder: of the model.
        output: folder for the graphs; if it is another one, the model is copied there.
        kind: one of `FORMATS`; "openvino" writes each graph as OpenVINO's own files, with the weights in them, beside its ONNX.

    Returns:
        By graph, the largest deviation from torch over a stream of random frames, relative to the largest value (at least 1).

    Raises:
        InputError: for a model or a folder that cannot be used, or a network of which there is no such graph.
    """
    if kind not in FORMATS:
        raise InputError(f"the format is {kind!r}; use {' or '.join(FORMATS)}.")
    if kind == "openvino" and not installed(kind):
        raise InputError("openvino is not installed; run: pip install openvino, or export as onnx.")
    model, digest = load_model(folder).requires_grad_(False), weights_hash(folder)
    graphs = graphs_of(model)
    more = [f"{Path(name).stem}.{part}" for name in graphs.values() for part in ("xml", "bin") if kind == "openvino"]
    if folder.resolve() != output.resolve():
        claim(output, "key_size", CONFIG, WEIGHTS, ABOUT, INTERVENTIONS, "step.md", *graphs.values(), *more)
        if (output / WEIGHTS).exists() and weights_hash(output) != digest:
            raise InputError(f"{output} holds another model; name another folder with -o.")
        for name in (CONFIG, WEIGHTS, ABOUT, INTERVENTIONS):
            if (folder / name).exists():
                with whole_file(output / name) as part:
                    shutil.copyfile(folder / name, part)
    found = {}
    for (frames, looks), name in graphs.items():
        log.info("tracing %s, %d frame(s) a call; this takes up to a minute", name, frames)
        path = output / name
        _write_graph(model, frames, looks, output, path, digest)
        found[name] = _checked(model, path, frames, looks)
        if kind == "openvino":
            found[f"{path.stem}.xml"] = _write_ir(model, path, frames, looks)
    write_whole(output / "step.md", _description(model, found))
    return found


def _checked(model: MSSC, path: Path, frames: int, looks: bool, runtime: str = "onnx") -> float:
    """A graph's `deviation`; the file goes if that is too much."""
    found = deviation(model, path, frames, looks=looks, runtime=runtime)
    if found <= TOLERANCE:
        return found
    path.unlink()
    raise InputError(f"{path.name} deviates from torch by {found:.1e}, more than {TOLERANCE:g}; it was not kept. Use torch.")


def _write_ir(model: MSSC, path: Path, frames: int, looks: bool) -> float:
    """A graph as OpenVINO's IR beside its ONNX: its deviation from torch."""
    import openvino

    made = path.with_suffix(".xml")
    with explained(made, RuntimeError), locale_kept():
        openvino.save_model(openvino.Core().read_model(path), made, compress_to_fp16=False)
    return _checked(model, made, frames, looks, "openvino")


def _write_graph(model: MSSC, frames: int, looks: bool, output: Path, path: Path, digest: str) -> None:
    import onnx
    import torchvision  # noqa: F401  # its operators must be known before tracing

    step, leaves, size = _Step(model, looks).eval(), pytree.tree_leaves(model.initial_state(1)), model.config.key_size
    names, clip = state_names(model), torch.zeros(frames, size, size, 3, dtype=torch.uint8)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                step,
                (clip, *leaves),
                input_names=["frames", *names],
                output_names=[*step.names, *(f"next_{name}" for name in names)],
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
    # The weights come last: `fits` reads there whether a file is whole.
    onnx.helper.set_model_props(graph, {"classes": json.dumps(model.config.classes), "weights": digest})
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


def deviation(model: MSSC, path: Path, frames: int, calls: int = 3, looks: bool = True, runtime: str = "onnx") -> float:
    """How far a graph is from torch on a stream of random frames: every output and every state, see `export_model`."""
    run, outputs = open_graph(path, runtime), output_names(model, looks)
    names, generator, size = state_names(model), torch.Generator().manual_seed(0), model.config.key_size
    state, worst = model.initial_state(1), 0.0
    leaves = [leaf.numpy() for leaf in pytree.tree_leaves(state)]
    for _ in range(calls):
        clip = torch.randint(0, 256, (1, 3, frames, size, size), dtype=torch.uint8, generator=generator)
        feed = {"frames": clip[0].permute(1, 2, 3, 0).contiguous().numpy(), **dict(zip(names, leaves, strict=True))}
        found = run(feed)
        with torch.inference_mode():
            predictions, state = model.step(clip, state, slice(None), looks=looks_from(0))
        wanted = [*(getattr(predictions, name) for name in outputs), *pytree.tree_leaves(state)]
        for ours, theirs in zip(found, wanted, strict=True):
            scale = max(float(theirs.abs().max()) if theirs.numel() else 0.0, 1.0)
            worst = max(worst, float(np.abs(ours - theirs.numpy()).max(initial=0)) / scale)
        leaves = found[len(outputs) :]
    return worst


def _description(model: MSSC, found: dict[str, float]) -> str:
    size, rows = model.config.key_size, []
    for name, leaf in zip(state_names(model), pytree.tree_leaves(model.initial_state(1)), strict=True):
        rows.append(f"| `{name}` | {tuple(leaf.shape)} | {str(leaf.dtype).removeprefix('torch.')} |")
    deviations = "\n".join(f"- `{name}`: {value:.1e}" for name, value in found.items())
    people = more = ""
    if model.person is not None:
        people = " `people` (n, P, 4) and `person` (n, P), boxes and logits of everybody, whatever they do,"
        more = (
            f"\n`step-N.onnx` looks for people in every {LOOK_EVERY}th of its frames from the first on, n = ceil(N / {LOOK_EVERY}); "
            "`step-1-actors.onnx` is\n`step-1.onnx` without `people` and `person`, for the frames in between.\n"
        )
    return f"""# The streaming step as a graph

`step-N.onnx` takes the next N frames of a video and the state, and gives N frames' boxes, objectness and logits, and the next state.
Its weights are those of `{WEIGHTS}`, beside which it must lie. `step-N.xml` with its `.bin`, where they are,
are the same for OpenVINO, with the weights in them.

| input | shape | type |
|---|---|---|
| `frames` | (N, {size}, {size}, 3), RGB 0..255, each frame squeezed to a square | uint8 |
{chr(10).join(rows)}

The state before the first frame is all zeros. Outputs: `boxes` (N, K, 4) in pixels of the square, `objectness` (N, K) logits, `logits`
(N, K, {len(model.config.classes)}) of the actions ({model.config.actions}),{people} and `next_...` for every part of the state.
{more}
Largest deviation from torch over a stream of random frames, relative to the largest value (at least 1):

{deviations}
"""
