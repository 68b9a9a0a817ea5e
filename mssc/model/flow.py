"""Optical flow, in plain tensor operations: where did each pixel of a frame come from?

Pyramidal Lucas-Kanade (Lucas and Kanade, 1981; Bouguet, 2001), dense and without anything to learn: what a network sees of motion does not
have to be learnt from a few hundred videos, and does not depend on what people wear. The paper does not name flow; we use it because
a small network over it, added to an appearance model of J-HMDB, took the accuracy on source-disjoint videos from 54 to 63 %.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvBlock

LEVELS = 3  # halvings of the frame but one: motions up to about five pixels a frame
WINDOW = 7  # pixels that are taken to move alike
ROUNDS = 2  # per level
FLAT = 3e-4  # added to the squared gradients (of grey in [0, 1]): without texture there is no motion
LONGEST = 1.5  # pixels per round


# What is done along an axis is a matrix: plain CPUs and graphs multiply matrices several times faster than they add shifted copies.


def _along(x: Tensor, matrix: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The matrix for the height of maps (..., H, W), and that for their width."""
    height, width = x.shape[-2:]
    down = matrix(height, x)
    return down, down if width == height else matrix(width, x)


def _both(matrices: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    """Maps with a matrix applied along either axis."""
    return matrices[0] @ x @ matrices[1].T


def _mean(side: int) -> Callable[[int, Tensor], Tensor]:
    """Of so many neighbours, an odd number, of those that lie inside the frame."""

    def matrix(length: int, like: Tensor) -> Tensor:
        place = torch.arange(length, device=like.device)
        near = ((place[:, None] - place).abs() <= side // 2).to(like.dtype)
        return near / near.sum(1, keepdim=True)

    return matrix


def _halving(length: int, like: Tensor) -> Tensor:
    """Means of pairs; an odd last one stays."""
    place = torch.arange(length, device=like.device)
    pairs = (place[: (length + 1) // 2, None] == place // 2).to(like.dtype)
    return pairs / pairs.sum(1, keepdim=True)


def _shifted(length: int, like: Tensor, shift: int) -> Tensor:
    """The neighbour that lies so much further on; beyond the ends lie copies of the last place."""
    place = torch.arange(length, device=like.device)
    return ((place + shift).clamp(0, length - 1)[:, None] == place).to(like.dtype)


def _smoothing(length: int, like: Tensor) -> Tensor:
    """Means of three."""
    return (_shifted(length, like, -1) + _shifted(length, like, 0) + _shifted(length, like, 1)) / 3


def _slope(length: int, like: Tensor) -> Tensor:
    """Half of what the next place has more than the one before."""
    return (_shifted(length, like, 1) - _shifted(length, like, -1)) / 2


def _places(image: Tensor) -> Tensor:
    """Each pixel's x and y (H, W, 2) as `F.grid_sample` counts them: from -1 to 1 between the frame's edges."""
    height, width = image.shape[-2:]
    ys = torch.arange(height, device=image.device, dtype=image.dtype)[:, None]
    xs = torch.arange(width, device=image.device, dtype=image.dtype)
    x, y = (2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1
    return torch.stack([x.expand(height, width), y.expand(height, width)], -1)


def _warp(image: Tensor, flow: Tensor, places: Tensor) -> Tensor:
    """image (N, 1, H, W) read at each pixel's place plus its flow (N, 2, H, W)."""
    height, width = image.shape[-2:]
    grid = places + flow.permute(0, 2, 3, 1) * torch.tensor([2 / width, 2 / height], dtype=flow.dtype, device=flow.device)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def _between(cells: int, length: int, like: Tensor) -> Tensor:
    """(length, cells): linear interpolation of so many cells along an axis, as a matrix."""
    place = (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) * (cells / length) - 0.5
    cell = torch.arange(cells, device=like.device, dtype=like.dtype)
    return (1 - (place.clamp(0, cells - 1)[:, None] - cell).abs()).clamp(min=0)


def _refine(now: Tensor, before: Tensor, flow: Tensor) -> Tensor:
    places, window, (down, across) = _places(now), _along(now, _mean(WINDOW)), _along(now, _slope)
    dx, dy = now @ across.T, down @ now
    slope = torch.cat([dx, dy], 1)
    xx, xy, yy = _both(window, torch.cat([dx * slope, dy * dy], 1)).split(1, 1)
    xx, yy = xx + FLAT, yy + FLAT
    determinant = xx * yy - xy * xy
    for _ in range(ROUNDS):
        change = now - _warp(before, flow, places)
        x, y = _both(window, slope * change).split(1, 1)
        step = torch.cat([yy * x - xy * y, xx * y - xy * x], 1) / determinant
        flow = flow + step.clamp(-LONGEST, LONGEST)
    return _both(_along(flow, _mean(3)), flow)


def optical_flow(now: Tensor, before: Tensor) -> Tensor:
    """Where each pixel of a frame was in the frame before.

    Args:
        now: (N, 1, H, W) grey in [0, 1]. Not modified.
        before: the same of the frames before.

    Returns:
        (N, 2, H, W), x and y in pixels: ``before`` at a pixel's place plus its flow looks like ``now`` there. Motion to the right
        is negative x. Zero where nothing changes, and nearly so where there is no texture to tell.
    """
    pyramid = [torch.cat([now, before], 1)]
    for _ in range(LEVELS - 1):
        pyramid.append(_both(_along(pyramid[-1], _halving), pyramid[-1]))
    flow = torch.zeros_like(pyramid[-1])
    for pair in reversed(pyramid):
        if flow.shape[-2:] != pair.shape[-2:]:
            down, across = (_between(a, b, pair) for a, b in zip(flow.shape[-2:], pair.shape[-2:], strict=True))
            flow = 2 * _both((down, across), flow)
        flow = _refine(pair[:, :1], pair[:, 1:], flow)
    return flow


class FlowStream(nn.Module):
    """What moved in the last frames, and nothing of what it looks like: convolutions over a stack of optical flow and brightness changes.

    Each frame's flow is taken relative to its median, which is the camera's. What came before the first frame did not move. The two-stream
    networks of Simonyan and Zisserman (2014) stack flow in the same way.
    """

    frames = 10  # in the stack, a third of a second
    channels = 3  # of each: flow x and y, change of brightness
    dims = 96
    stride = 8
    longest = 6.0  # pixels of flow
    usual_change = 15 / 255

    def __init__(self) -> None:
        super().__init__()
        stack = self.frames * self.channels
        self.norm = nn.BatchNorm2d(stack)
        self.body = nn.Sequential(
            ConvBlock(stack, 32, 3, 2), ConvBlock(32, 64, 3), ConvBlock(64, self.dims, 3, 2), ConvBlock(self.dims, self.dims, 3)
        )

    def initial(self, batch: int, size: int, like: Tensor) -> Tensor:
        """The motions of the frames before the first: none. At half the size of the frames."""
        side = (size + 1) // 2
        return like.new_zeros(batch, self.frames - 1, self.channels, side, side)

    @torch.autocast("cuda", enabled=False)
    @torch.autocast("cpu", enabled=False)
    def _flows(self, frames: Tensor, before: Tensor) -> Tensor:
        """(B, T, channels, H / 2, W / 2) from frames (B, T, 3, H, W) and the one before them (B, 1, 3, H, W), RGB 0..255. Half precision
        is not enough for it."""
        grey = torch.cat([before.mean(2), frames.mean(2)], 1) / 255
        smoothed = _both(_along(grey, _smoothing), grey)
        pairs = ((x[:, 1:].flatten(0, 1)[:, None], x[:, :-1].flatten(0, 1)[:, None]) for x in (grey, smoothed))
        (now, then), smooth = pairs
        flow = optical_flow(*smooth)
        few = flow[..., ::4, ::4].flatten(2)
        camera = few.topk((few.shape[2] + 1) // 2, 2, largest=False).values[..., -1, None, None]  # the median, which ONNX has not
        flow = (flow - camera).clamp(-self.longest, self.longest)
        flows = torch.cat([flow, (now - then) / self.usual_change], 1)
        return _both(_along(flows, _halving), flows).unflatten(0, frames.shape[:2])

    def forward(self, frames: Tensor, before: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 3, H, W) RGB 0..255, the frame before them, and the motions before: (B * T, dims, H / 8, W / 8), and the new past."""
        steps = frames.shape[1]
        everything = torch.cat([past, self._flows(frames, before)], 1)
        places = torch.arange(steps, device=frames.device)[:, None] + torch.arange(self.frames, device=frames.device)
        stacks = everything.index_select(1, places.flatten()).reshape(-1, self.frames * self.channels, *everything.shape[3:])
        return self.body(self.norm(stacks).contiguous(memory_format=torch.channels_last)), everything[:, steps:]
