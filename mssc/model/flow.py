"""Optical flow, in plain tensor operations: where did each pixel of a frame come from?

Pyramidal Lucas-Kanade (Lucas and Kanade, 1981; Bouguet, 2001), dense and without anything to learn: what a network sees of motion does not
have to be learnt from a few hundred videos, and does not depend on what people wear. The paper does not name flow; we use it because
a small network over it, added to an appearance model of J-HMDB, took the accuracy on source-disjoint videos from 54 to 63 %.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 3  # halvings of the frame but one: motions up to about five pixels a frame
WINDOW = 7  # pixels that are taken to move alike
ROUNDS = 2  # per level
FLAT = 3e-4  # added to the squared gradients (of grey in [0, 1]): without texture there is no motion
LONGEST = 1.5  # pixels per round


def _sums(x: Tensor, side: int, axis: int) -> Tensor:
    """Of `side` (odd) neighbours along an axis of x, zeros beyond its ends. Plain CPUs run a few additions of whole tensors several times
    faster than torch's pooling."""
    margin = [0, 0, 0, 0]
    margin[2 * (-1 - axis)] = margin[2 * (-1 - axis) + 1] = side // 2
    padded, length = F.pad(x, margin), x.shape[axis]
    total = padded.narrow(axis, 0, length) + padded.narrow(axis, 1, length)
    for start in range(2, side):
        total += padded.narrow(axis, start, length)
    return total


def _mean(x: Tensor, side: int) -> Tensor:
    """Over a square around each pixel, of what lies inside the frame."""
    inside = x.new_ones(x.shape[-2:])
    rows, columns = _sums(inside[:, :1].reshape(1, 1, -1, 1), side, -2), _sums(inside[:1].reshape(1, 1, 1, -1), side, -1)
    return _sums(_sums(x, side, -2), side, -1) / (rows * columns)


def _warp(image: Tensor, flow: Tensor) -> Tensor:
    """image (N, 1, H, W) read at each pixel's place plus its flow (N, 2, H, W)."""
    height, width = image.shape[-2:]
    ys = torch.arange(height, device=image.device, dtype=image.dtype)[:, None] + flow[:, 1]
    xs = torch.arange(width, device=image.device, dtype=image.dtype) + flow[:, 0]
    grid = torch.stack([(2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1], -1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def _refine(now: Tensor, before: Tensor, flow: Tensor) -> Tensor:
    padded = F.pad(now, (1, 1, 1, 1), mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    xx, xy, yy = _mean(torch.cat([dx * dx, dx * dy, dy * dy], 1), WINDOW).split(1, 1)
    xx, yy = xx + FLAT, yy + FLAT
    determinant = xx * yy - xy * xy
    for _ in range(ROUNDS):
        change = now - _warp(before, flow)
        x, y = _mean(torch.cat([dx * change, dy * change], 1), WINDOW).split(1, 1)
        step = torch.cat([yy * x - xy * y, xx * y - xy * x], 1) / determinant
        flow = flow + step.clamp(-LONGEST, LONGEST)
    return _mean(flow, 3)


def optical_flow(now: Tensor, before: Tensor) -> Tensor:
    """Where each pixel of a frame was in the frame before.

    Args:
        now: (N, 1, H, W) grey in [0, 1]. Not modified.
        before: the same of the frames before.

    Returns:
        (N, 2, H, W), x and y in pixels: ``before`` at a pixel's place plus its flow looks like ``now`` there. Motion to the right
        is negative x. Zero where nothing changes, and nearly so where there is no texture to tell.
    """
    pyramid = [(now, before)]
    for _ in range(LEVELS - 1):
        now, before = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in pyramid[-1])
        pyramid.append((now, before))
    flow = torch.zeros_like(now).expand(-1, 2, -1, -1)
    for now, before in reversed(pyramid):
        if flow.shape[-2:] != now.shape[-2:]:
            flow = 2 * F.interpolate(flow, size=now.shape[-2:], mode="bilinear", align_corners=False)
        flow = _refine(now, before, flow)
    return flow
