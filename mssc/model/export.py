"""A model as graphs: the streaming step with fixed shapes, for one frame and for sixteen a call, state in and out as named tensors; and the
search for people in one frame.

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

from ..files import claim, explained, whole_file, write_whole
from ..structures import InputError
from .backbone2d import STRIDES
from .checkpoint import load_model
from .engines import OUTPUTS, PEOPLE, graphs_of, installed, locale_kept, open_graph
from .features import Features
from .graph import for_graphs, parts_of
from .mssc import MSSC
from .shipped import ABOUT, CONFIG, INTERVENTIONS, WEIGHTS, weights_hash
from .video import State

log = logging.getLogger(__name__)

FORMATS = ("onnx", "openvino")
PEOPLE_SHAPE = (64, 96)
"""Of the frame that stands for all that people are looked for in while their graph is made and tried."""
EVERYBODY = ("people", "person")
"""What the graph of `PEOPLE` gives."""
OPSET = 18
TOLERANCE = 1e-4


def state_names(model: MSSC) -> list[str]:
    """Names of the state's tensors, in order, such as ``state.backbone.frame``."""
    places, _ = pytree.tree_flatten_with_path(model.initial_state(1))
    return ["state" + pytree.keystr(place) for place, _ in places]


class _Step(nn.Module):
    """`MSSC.step` of one stream, every frame a key frame, on a flat state."""

    def __init__(self, model: MSSC) -> None:
        super().__init__()
        self.m = parts_of(for_graphs(model), "image", "video", "fusion", "head")
        _, self.layout = pytree.tree_flatten(model.initial_state(1))

    def forward(self, frames: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        state: State = pytree.tree_unflatten(list(leaves), self.layout)
        floats = frames.to(torch.float32)  # which are cheaper to turn; each path turns its own, as runtimes like them
        image = self.m.image(floats.permute(0, 3, 1, 2))
        video, after = self.m.video(floats.permute(3, 0, 1, 2)[None], state, slice(None))
        predictions = self.m.head(Features(image, video, self.m.fusion(image, video)))
        found = [getattr(predictions, name) for name in OUTPUTS]
        return (*found, *(leaf.clone() for leaf in pytree.tree_leaves(after)))  # an output of its own where nothing changed


class _People(nn.Module):
    """`MSSC.people`."""

    def __init__(self, model: MSSC) -> None:
        super().__init__()
        self.m = parts_of(for_graphs(model), "person")

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self.m.people(frames.to(torch.float32).permute(0, 3, 1, 2))


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
    graphs = graphs_of(model.config)
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
    for frames, name in graphs.items():
        log.info("tracing %s; this takes up to a minute", name)
        path = output / name
        _write_graph(model, frames, output, path, digest)
        found[name] = _checked(model, path, frames)
        if kind == "openvino":
            found[f"{path.stem}.xml"] = _write_ir(model, path, frames)
    write_whole(output / "step.md", _description(model, found))
    return found


def _checked(model: MSSC, path: Path, frames: int, runtime: str = "onnx") -> float:
    """A graph's `deviation`; the file goes if that is too much."""
    found = deviation(model, path, frames, runtime=runtime)
    if found <= TOLERANCE:
        return found
    path.unlink()
    raise InputError(f"{path.name} deviates from torch by {found:.1e}, more than {TOLERANCE:g}; it was not kept. Use torch.")


def _write_ir(model: MSSC, path: Path, frames: int) -> float:
    """A graph as OpenVINO's IR beside its ONNX: its deviation from torch."""
    import openvino

    made = path.with_suffix(".xml")
    with explained(made, RuntimeError), locale_kept():
        openvino.save_model(openvino.Core().read_model(path), made, compress_to_fp16=False)
    return _checked(model, made, frames, "openvino")


def _write_graph(model: MSSC, frames: int, output: Path, path: Path, digest: str) -> None:
    import onnx
    import torchvision  # noqa: F401  # its operators must be known before tracing

    sides = None
    if frames == PEOPLE:
        coarsest = STRIDES[-1]
        sides = ({1: coarsest * torch.export.Dim("rows"), 2: coarsest * torch.export.Dim("columns")},)
        graph_of, shown, names, leaves, outputs = _People(model), _frames(model, PEOPLE), [], [], EVERYBODY
    else:
        graph_of, shown, names, outputs = _Step(model), _frames(model, frames), state_names(model), OUTPUTS
        leaves = pytree.tree_leaves(model.initial_state(1))
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                graph_of.eval(),
                (shown, *leaves),
                input_names=["frames", *names],
                output_names=[*outputs, *(f"next_{name}" for name in names)],
                opset_version=OPSET,
                dynamic_shapes=sides,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except (RuntimeError, ImportError) as error:
        raise InputError(f"this network has no ONNX graph: {str(error).splitlines()[0]}; use torch.") from error
    assert program is not None  # dynamo=True gives one
    graph = program.model_proto
    _name_types(graph)
    _point_to_weights(graph, output / WEIGHTS, "m.")
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
    del graph.graph.value_info[:]
    del graph.graph.metadata_props[:]
    # The weights come last: `mssc.model.engines.fits` reads there whether a file is whole.
    onnx.helper.set_model_props(graph, {"classes": json.dumps(model.config.classes), "weights": digest})
    with whole_file(path) as part:
        part.write_bytes(graph.SerializeToString())


def _name_types(graph) -> None:
    """Say to which type constants are cast, not like what: such casts ONNX Runtime computes once, without a warning at each start."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(graph).graph
    types = {one.name: one.type.tensor_type.elem_type for one in (*inferred.value_info, *inferred.input, *inferred.output)}
    types |= {one.name: one.data_type for one in inferred.initializer}
    for node in graph.graph.node:
        if node.op_type == "CastLike" and types.get(node.input[1]):
            kind = types[node.input.pop()]
            node.op_type = "Cast"
            node.attribute.append(onnx.helper.make_attribute("to", kind))


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


def _frames(model: MSSC, frames: int, generator: torch.Generator | None = None) -> Tensor:
    """What a graph takes: that many random frames (T, S, S, 3) uint8, or one for the people in it, all zeros without a generator."""
    size = model.config.key_size
    shape = (1, *PEOPLE_SHAPE, 3) if frames == PEOPLE else (frames, size, size, 3)
    if generator is None:
        return torch.zeros(shape, dtype=torch.uint8)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def deviation(model: MSSC, path: Path, frames: int, runtime: str = "onnx") -> float:
    """How far a graph is from torch on a stream of random frames: every output and every state, see `export_model`."""
    run, names, generator = open_graph(path, runtime), state_names(model), torch.Generator().manual_seed(0)
    state, worst = model.initial_state(1), 0.0
    leaves = [leaf.numpy() for leaf in pytree.tree_leaves(state)]
    for _ in range(3):  # calls, one after the other
        shown = _frames(model, frames, generator)
        found = run({"frames": shown.numpy()} | ({} if frames == PEOPLE else dict(zip(names, leaves, strict=True))))
        with torch.inference_mode():
            if frames == PEOPLE:
                wanted = model.people(shown.permute(0, 3, 1, 2))
            else:
                predictions, state = model.step(shown.permute(3, 0, 1, 2)[None], state, slice(None))
                wanted = [*(getattr(predictions, name) for name in OUTPUTS), *pytree.tree_leaves(state)]
        for ours, theirs in zip(found, wanted, strict=True):
            scale = max(float(theirs.abs().max()) if theirs.numel() else 0.0, 1.0)
            worst = max(worst, float(np.abs(ours - theirs.numpy()).max(initial=0)) / scale)
        leaves = found[len(OUTPUTS) :]
    return worst


def _description(model: MSSC, found: dict[str, float]) -> str:
    size, rows = model.config.key_size, []
    for name, leaf in zip(state_names(model), pytree.tree_leaves(model.initial_state(1)), strict=True):
        rows.append(f"| `{name}` | {tuple(leaf.shape)} | {str(leaf.dtype).removeprefix('torch.')} |")
    deviations = "\n".join(f"- `{name}`: {value:.1e}" for name, value in found.items())
    probability = "the softmax" if model.config.actions == "exclusive" else "the sigmoid"
    people = ""
    if model.person is not None:
        people = (
            "\n`people.onnx` looks for everybody in one frame: `frames` (1, H, W, 3), RGB 0..255, uint8, of about its own shape\n"
            f"(multiples of {STRIDES[-1]}, {model.config.person_size} at most), to `people` (1, P, 4), boxes in pixels of that frame,\n"
            "and `person` (1, P), their logits.\n"
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
(N, K, {len(model.config.classes)}) of the actions ({model.config.actions}), and `next_...` for every part of the state.

From these to detections: an action's score is the sigmoid of objectness times {probability} of the logits; boxes are scaled from the square
to the frame's size, and of boxes that overlap the one with most objectness stays. `mssc.detection.postprocess` is that in numpy, with its
numbers. Frames are made small by a bilinear filter that is as wide as pixels shrink.

```python
import numpy as np, onnxruntime

step = onnxruntime.InferenceSession("step-1.onnx")
types = {{"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int64)": np.int64}}
given = {{one.name: np.zeros(one.shape, types[one.type]) for one in step.get_inputs()}}
for frame in frames:  # each ({size}, {size}, 3), RGB, uint8
    found = dict(zip([one.name for one in step.get_outputs()], step.run(None, given | {{"frames": frame[None]}})))
    given = {{name: found.get(f"next_{{name}}", value) for name, value in given.items()}}
```
{people}
Largest deviation from torch over a stream of random frames, relative to the largest value (at least 1):

{deviations}
"""
