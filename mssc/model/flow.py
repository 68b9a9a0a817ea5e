"""Optical flow, in plain tensor operations: where did each pixel of a frame come from?

Pyramidal Lucas-Kanade (Lucas and Kanade, 1981; Bouguet, 2001), dense and without anything to learn: what a network sees of motion does not
have to be learnt from a few hundred videos, and does not depend on what people wear. The paper does not name flow; we use it because
a small network over it, added to an appearance model of J-HMDB, took the accuracy on source-disjoint videos from 54 to 63 %.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ConvBlock

LEVELS = 3  # halvings of the frame but one: motions up to about five pixels a frame
WINDOW = 7  # pixels that are taken to move alike
ROUNDS = 2  # per level
FLAT = 3e-4  # added to the squared gradients (of grey in [0, 1]): without texture there is no motion
LONGEST = 1.5  # pixels per round


def _filter(weights: Sequence[float], length: int, like: Tensor, repeat: bool) -> Tensor:
    """(length, length): an odd number of weights, centred on each place of an axis. Beyond its ends lie copies of the last place, or
    nothing, and then the weights of those inside sum to one.

    A matrix, because plain CPUs and graphs multiply matrices several times faster than they add shifted copies, or pool.
    """
    place, reach = torch.arange(length, device=like.device), len(weights) // 2
    found = like.new_zeros(length, length)
    for shift, weight in enumerate(weights, -reach):
        at = (place + shift).clamp(0, length - 1)
        counts = torch.ones_like(place) if repeat else at == place + shift
        found = found + weight * (counts[:, None] * (at[:, None] == place)).to(like.dtype)
    return found if repeat else found / found.sum(1, keepdim=True)


def _halving(length: int, like: Tensor) -> Tensor:
    """(ceil(length / 2), length): means of pairs along an axis; an odd last one stays."""
    place = torch.arange(length, device=like.device)
    pairs = (torch.arange((length + 1) // 2, device=like.device)[:, None] == place // 2).to(like.dtype)
    return pairs / pairs.sum(1, keepdim=True)


def _along_both(x: Tensor, matrix: Callable[[int], Tensor]) -> Tensor:
    """x (..., H, W) with the matrix for its height applied to columns, and that for its width to rows."""
    return matrix(x.shape[-2]) @ x @ matrix(x.shape[-1]).T


def _mean(x: Tensor, side: int) -> Tensor:
    """Over a square around each pixel, of what lies inside the frame."""
    return _along_both(x, lambda length: _filter([1.0] * side, length, x, repeat=False))


def _halved(x: Tensor) -> Tensor:
    """Means of 2x2 pixels."""
    return _along_both(x, lambda length: _halving(length, x))


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
    places = _places(now)
    down, across = (_filter([-0.5, 0.0, 0.5], length, now, repeat=True) for length in now.shape[-2:])
    dx, dy = now @ across.T, down @ now
    slope = torch.cat([dx, dy], 1)
    xx, xy, yy = _mean(torch.cat([dx * slope, dy * dy], 1), WINDOW).split(1, 1)
    xx, yy = xx + FLAT, yy + FLAT
    determinant = xx * yy - xy * xy
    for _ in range(ROUNDS):
        change = now - _warp(before, flow, places)
        x, y = _mean(slope * change, WINDOW).split(1, 1)
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
        pyramid.append((_halved(pyramid[-1][0]), _halved(pyramid[-1][1])))
    flow = torch.zeros_like(pyramid[-1][0]).expand(-1, 2, -1, -1)
    for now, before in reversed(pyramid):
        if flow.shape[-2:] != now.shape[-2:]:
            down, across = (_between(a, b, now) for a, b in zip(flow.shape[-2:], now.shape[-2:], strict=True))
            flow = 2 * down @ flow @ across.T
        flow = _refine(now, before, flow)
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
        pairs = ((x[:, 1:].flatten(0, 1)[:, None], x[:, :-1].flatten(0, 1)[:, None]) for x in (grey, _smooth(grey)))
        (now, then), smooth = pairs
        flow = optical_flow(*smooth)
        few = flow[..., ::4, ::4].flatten(2)
        camera = few.topk((few.shape[2] + 1) // 2, 2, largest=False).values[..., -1, None, None]  # the median, which ONNX has not
        flow = (flow - camera).clamp(-self.longest, self.longest)
        flows = torch.cat([flow, (now - then) / self.usual_change], 1)
        return _halved(flows).unflatten(0, frames.shape[:2])

    def forward(self, frames: Tensor, before: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 3, H, W) RGB 0..255, the frame before them, and the motions before: (B * T, dims, H / 8, W / 8), and the new past."""
        steps = frames.shape[1]
        everything = torch.cat([past, self._flows(frames, before)], 1)
        places = torch.arange(steps, device=frames.device)[:, None] + torch.arange(self.frames, device=frames.device)
        stacks = everything.index_select(1, places.flatten()).reshape(-1, self.frames * self.channels, *everything.shape[3:])
        return self.body(self.norm(stacks).contiguous(memory_format=torch.channels_last)), everything[:, steps:]


def _smooth(grey: Tensor) -> Tensor:
    return _along_both(grey, lambda length: _filter([1 / 3] * 3, length, grey, repeat=True))
