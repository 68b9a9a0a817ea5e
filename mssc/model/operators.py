"""RoIAlign of torchvision, without the import of all of torchvision where its operators alone will do: that takes seconds, as it brings
torch's compiler along."""

import sys
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

FAR = 1e6  # pixels


def roi_align(maps: Tensor, rois: Tensor, side: int, scale: float) -> Tensor:
    """One sample in each of `side` x `side` cells of boxes: (B, C, H, W) and (N, 5) to (N, C, side, side).

    Args:
        maps: to sample.
        rois: the place in the batch, and the box, of each. torchvision reads anywhere in memory for a box that is no number, as a network's
            that diverges; here it lies at 0.
        scale: of the maps' pixels, over those of the boxes.
    """
    if not torch.jit.is_tracing() and not torch.compiler.is_compiling():
        rois = torch.nan_to_num(rois, 0.0, FAR, -FAR).clamp(-FAR, FAR)
    whole = "torchvision" in sys.modules or torch.is_grad_enabled() or torch.compiler.is_compiling()
    if not whole and _loaded():  # gradients, and shapes for tracing, are told in torchvision's Python
        return torch.ops.torchvision.roi_align(maps, rois, scale, side, side, 1, True)
    from torchvision.ops import roi_align

    return roi_align(maps, rois, side, scale, sampling_ratio=1, aligned=True)


@cache
def _loaded() -> bool:
    """Whether the library of operators is found and fits."""
    spec = find_spec("torchvision")
    for library in Path(str(spec and spec.origin)).parent.glob("_C*.so"):
        with suppress(OSError):
            torch.ops.load_library(library)
    return hasattr(torch.ops.torchvision, "roi_align")
