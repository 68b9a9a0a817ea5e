"""COCO weights for the 2D path: reads YOLOX-nano's ONNX export (Megvii, Apache-2.0) into our own modules.

The export has no parameter names, but its convolutions stand in the order in which they run, and ours run in the same order:
they are matched one by one, each checked for shape and stride. Its BatchNorms are folded into the convolutions; `calibrate`
makes them anew, so that training starts from the function that COCO ended with, with statistics that are true.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..structures import InputError
from .backbone2d import CSPDarknet
from .layers import ConvBlock, DecoupledTower
from .neck import PAFPN


class CocoDetector(nn.Module):
    """YOLOX-nano from our own parts, with COCO's head of 80 classes: the donor of initial weights, and the proof that they are right."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = CSPDarknet()
        self.neck = PAFPN(self.backbone.dims)
        self.tower = DecoupledTower(self.neck.dims)
        levels, width = range(len(self.neck.dims)), self.tower.width
        self.cls_preds = nn.ModuleList(nn.Conv2d(width, 80, 1) for _ in levels)
        self.reg_preds = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in levels)
        self.obj_preds = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in levels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..255 -> (B, N, 5 + classes), one row per cell, levels fine to coarse, rows before columns.

        A row is the box as regressed (offset of its centre from the cell's corner and logarithm of its size, both in strides),
        the probability of an object, and those of the classes.
        """
        rows = []
        for level, x in enumerate(self.neck(self.backbone(images))):  # not tower(): the export runs level by level
            x = self.tower.stems[level](x)
            classes = self.cls_preds[level](self.tower.cls_convs[level](x))
            x = self.tower.reg_convs[level](x)
            boxes, objects = self.reg_preds[level](x), self.obj_preds[level](x)
            rows.append(torch.cat((boxes, objects.sigmoid(), classes.sigmoid()), dim=1).flatten(2))
        return torch.cat(rows, dim=2).transpose(1, 2)


class _Folded(NamedTuple):
    """A convolution of the export: its name there, weights (out, in / groups, k, k), bias (out,) and stride."""

    name: str
    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]


def coco_weights(path: str | Path, images: Tensor | None = None) -> CocoDetector:
    """YOLOX-nano with the weights of an ONNX export, in eval mode. The stem is turned from BGR to RGB.

    Args:
        path: of the .onnx file, BatchNorm folded.
        images: (N, 3, H, W), RGB in 0..255, to `calibrate` the BatchNorms with; take some dozens like those to train on, all in
            one batch. Without them, statistics are mean 0 and variance 1, right for inference and for nothing else.

    Raises:
        InputError: if the file is missing, is no ONNX, or does not hold YOLOX-nano with 80 classes; if onnx is not installed.
    """
    detector = CocoDetector().eval()
    theirs, ours = _read(Path(path)), _running_order(detector)
    for (name, conv, norm), folded in zip(ours, theirs, strict=False):
        _check(name, conv, folded, path)
        conv.weight.data.copy_(folded.weight)
        if norm is None:
            assert conv.bias is not None
            conv.bias.data.copy_(folded.bias)
        else:
            norm.weight.data.fill_((1.0 + norm.eps) ** 0.5)
            norm.bias.data.copy_(folded.bias)
    if len(ours) != len(theirs):
        raise InputError(f"{path} has {len(theirs)} convolutions; YOLOX-nano has {len(ours)}. Give its official ONNX export.")
    stem = detector.backbone.stem.conv.conv.weight.data  # 12 inputs: 4 cells of a patch, each with B, G, R
    stem.copy_(stem.unflatten(1, (4, 3)).flip(2).flatten(1, 2))
    if images is not None:
        if images.ndim != 4 or images.shape[0] == 0 or images.shape[1] != 3:
            raise InputError(f"calibration images have shape {tuple(images.shape)}; they must be (N, 3, H, W) with N >= 1.")
        calibrate(detector, images.float())
    return detector


def calibrate(model: nn.Module, *inputs: Any) -> None:
    """Gives every BatchNorm the statistics of what it sees in `model(*inputs)`, without changing what the model computes.

    Scale and shift are re-written so that each BatchNorm, in eval mode, stays the same function; therefore one pass does for
    all of them, whatever their order. In train mode a batch like `inputs` then gives nearly the same result as in eval mode.

    Args:
        model: changed in place. Its mode (train or eval) is kept. A BatchNorm that runs several times keeps the last statistics.
        inputs: what to call it with; maps of one cell and one image have variance 0, which is allowed.
    """

    def renew(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
        x = args[0].double()  # the sum runs over every cell of every image
        axes = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(x, dim=axes, correction=0)
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_(scale * (var + norm.eps).sqrt())
        norm.bias.copy_(shift + mean * scale)

    with ExitStack() as afterwards, torch.no_grad():
        for module in model.modules():
            afterwards.callback(setattr, module, "training", module.training)
            if isinstance(module, _BatchNorm):
                afterwards.enter_context(module.register_forward_pre_hook(renew))
        model.eval()(*inputs)


def _running_order(model: CocoDetector) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d | None]]:
    """Name, convolution and its BatchNorm, if any, in the order in which they run."""
    blocks = (block for block in model.modules() if isinstance(block, ConvBlock))
    norms = {block.conv: block.bn for block in blocks if isinstance(block.bn, nn.BatchNorm2d)}
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    order: list[tuple[str, nn.Conv2d, nn.BatchNorm2d | None]] = []

    def note(conv: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        order.append((names[conv], conv, norms.get(conv)))

    with ExitStack() as hooks, torch.no_grad():
        for conv in names:
            hooks.enter_context(conv.register_forward_hook(note))
        model(torch.zeros(1, 3, 32, 32))
    return order


def _read(path: Path) -> list[_Folded]:
    """The convolutions of an ONNX file, in its order, which is topological and in exports from torch that of execution."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise InputError("reading COCO weights needs the package onnx: pip install onnx") from error
    if not path.is_file():
        raise InputError(f"there is no file {path}; give YOLOX-nano's ONNX export.")
    try:
        graph = onnx.load(path).graph
    except (DecodeError, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path} cannot be read as ONNX ({error}); give YOLOX-nano's ONNX export.") from error
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:  # how exporters share equal tensors
            tensors[node.output[0]] = tensors[node.input[0]]
        if node.op_type != "Conv":
            continue
        name = node.name or node.output[0]
        if len(node.input) != 3 or any(key not in tensors for key in node.input[1:]):
            raise InputError(f"{path}: convolution {name} has no stored weight and bias; export in eval mode (BatchNorm folded).")
        weight, bias = (np.array(onnx.numpy_helper.to_array(tensors[key]), np.float32) for key in node.input[1:])
        stride = next((tuple(a.ints) for a in node.attribute if a.name == "strides"), (1, 1))
        convolutions.append(_Folded(name, torch.from_numpy(weight), torch.from_numpy(bias), stride))
    return convolutions


def _check(name: str, conv: nn.Conv2d, folded: _Folded, path: str | Path) -> None:
    wanted, seen = (tuple(conv.weight.shape), tuple(conv.stride)), (tuple(folded.weight.shape), folded.stride)
    if seen != wanted:
        raise InputError(
            f"{path}: convolution {folded.name} has shape {seen[0]} and stride {seen[1]}, but {name} has {wanted[0]} and "
            f"{wanted[1]}. Only YOLOX-nano with 80 classes fits."
        )
    if not (folded.weight.isfinite().all() and folded.bias.isfinite().all()):
        raise InputError(f"{path}: convolution {folded.name} contains NaN or infinity; get the file again.")
