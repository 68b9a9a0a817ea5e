"""MSM, the Motion Sense Module, and what it is compared with in the same slot.

The paper says: the *perceptual branch* enlarges the distance of action features from the video-level average feature, the *spacetime
branch* adds content of a wider receptive field so that the network can focus dynamically on a scale. It gives no equations; both
sentences match the two branches of TriDet's SGP layer (Shi et al., CVPR 2023), lifted here from time to space-time::

    Z   = LN(X)
    mu  = mean of Z over the video                  video-level average
    phi = ReLU(g * mu + b_g)                        gate
    p   = phi * (a * Z + b_a)                       perceptual branch
    s   = psi(Z) * (DW_w(Z) + DW_kw(Z))             spacetime branch, psi = DW_w as well
    Y   = X + gamma1 * (p + s + Z)
    OUT = Y + gamma2 * FFN(GN(Y))

Time is causal (ours, so that a video can be streamed): mu averages the last `window` frames, kernels look back only, and GN normalises
each frame by itself. Every module here maps ``(x, state, age)`` to ``(y, state)`` with x of shape (B, T, H, W, D), channels last; age
(B,) counts the frames before x.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig

Kernel = tuple[int, int, int]

BRANCH_STD = 0.1
"""Both branches are products of two maps: zero weights would never learn, std 1 would drown the identity (method, section 2)."""


class MotionState(NamedTuple):
    """What MSM, or a module in its place, remembers; tensors without an element where it does not.

    Attributes:
        averages: (B, n, h, w, D), averages of the frames before.
        frames: (B, n, H, W, D), the frames before.
    """

    averages: Tensor
    frames: Tensor


def causal_window_mean(x: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the last W frames, or over all there were so far.

    Args:
        x: (B, T, ...), new frames.
        past: (B, W - 1, ...), the frames before them, zeros where there were none.
        age: (B,), how many frames came before x.

    Returns:
        (B, T, ...) means, and the new past.
    """
    window, steps = past.shape[1] + 1, x.shape[1]
    frames = torch.cat([past, x], 1)
    ahead = torch.arange(window + steps - 1, device=x.device) - torch.arange(steps, device=x.device)[:, None]
    band = ((ahead >= 0) & (ahead < window)).to(x.dtype)
    total = (band @ frames.flatten(2)).unflatten(2, x.shape[2:])
    count = (age[:, None] + torch.arange(1, steps + 1, device=x.device)).clamp(max=window)
    mean = total / count.reshape(count.shape + (1,) * (x.ndim - 2)).to(x.dtype)
    return mean, frames[:, steps:]


class CausalDepthwise3d(nn.Module):
    """Depthwise 3D convolution that looks back in time only: zero padding before the first frame and around each frame.

    It is computed as one 2D depthwise convolution per temporal tap, which plain CPUs run several times faster than a 3D one.

    Args:
        width: channels.
        kernel: (t, h, w), h and w odd.
    """

    def __init__(self, width: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(width, 1, *kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.weight, std=BRANCH_STD)

    def forward(self, frames: Tensor, steps: int) -> Tensor:
        """(B, n + T, H, W, D), the first n being the past, at least t - 1, to (B, T, H, W, D); `steps` is T."""
        batch, length, height, width, depth = frames.shape
        taps, kh, kw = self.kernel
        first = length - steps - taps + 1
        total = None
        for tap in range(taps):
            maps = frames[:, first + tap : first + tap + steps].reshape(batch * steps, height, width, depth).permute(0, 3, 1, 2)
            bias = self.bias if tap == taps - 1 else None
            part = F.conv2d(maps, self.weight[:, :, tap], bias, padding=(kh // 2, kw // 2), groups=depth)
            total = part if total is None else total + part
        assert total is not None
        return total.permute(0, 2, 3, 1).reshape(batch, steps, height, width, depth)


class ChannelGain(nn.Module):
    """x * weight + bias per channel: TriDet's code has this where its text says fully connected."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width) * BRANCH_STD)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return x * self.weight + self.bias


def _fc(kind: str, width: int) -> nn.Module:
    if kind == "depthwise":
        return ChannelGain(width)
    layer = nn.Linear(width, width)
    nn.init.normal_(layer.weight, std=BRANCH_STD)
    nn.init.zeros_(layer.bias)
    return layer


class Branch(nn.Module):
    """A part of MSM that may remember: ``(z, past, age)`` to ``(y, past)``, z of shape (B, T, H, W, D)."""

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """The past before the first frame, zeros; this one remembers nothing."""
        return like.new_zeros(batch, 0, height, width, depth)


class VideoAverage(Branch):
    """The video-level average of features, up to each frame.

    Args:
        axes: it is taken over: t, hw, or thw.
        window: frames, of the average over t.
    """

    def __init__(self, axes: str, window: int) -> None:
        super().__init__()
        self.axes, self.window = axes, window if "t" in axes else 1

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """The averages of the frames before the first."""
        place = (height, width) if self.axes == "t" else (1, 1)
        return like.new_zeros(batch, self.window - 1, *place, depth)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, H, W, D) to its average, broadcastable to it, and the new past."""
        return causal_window_mean(z.mean((2, 3), keepdim=True) if "hw" in self.axes else z, past, age)


class RunningAverage(VideoAverage):
    """The same over all frames so far; what is remembered is the average of those before."""

    def __init__(self, axes: str) -> None:
        super().__init__(axes, 2)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """As `VideoAverage.forward`."""
        source = z.mean((2, 3), keepdim=True) if "hw" in self.axes else z
        before = age.reshape(-1, 1, 1, 1, 1).to(z.dtype)
        count = before + torch.arange(1, z.shape[1] + 1, device=z.device, dtype=z.dtype).reshape(1, -1, 1, 1, 1)
        mean = (past * before + source.cumsum(1)) / count
        return mean, mean[:, -1:]


class LearnedAverage(Branch):
    """A learned vector in the place of the average: does the video's own one matter?"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width))

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """The vector, broadcastable to z."""
        return self.vector.expand(1, 1, 1, 1, -1), past


class PerceptualBranch(Branch):
    """What MSM adds of each cell's deviation from the video-level average, whose past it remembers.

    Args:
        average: the video-level average.
    """

    def __init__(self, average: Branch) -> None:
        super().__init__()
        self.average = average

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """The averages before the first frame."""
        return self.average.initial(batch, height, width, depth, like)


class DistanceBranch(PerceptualBranch):
    """gain * (Z - mu), gain = softplus(W_d |Z - mu| + W_mu mu + b): moves every cell away from the video-level average, the further the
    more its deviation looks like one that matters.

    The form is ours. The published product starts between two small maps and stays there (its gains were 0.98 to 1.02 after training); this
    gain is above 0 by construction, so that with Z added the distance to the average grows in every channel, by 1 + gain.

    Args:
        average: the video-level average.
        width: D.
    """

    def __init__(self, average: Branch, width: int) -> None:
        super().__init__(average)
        self.by_deviation = nn.Linear(width, width)
        self.by_average = nn.Linear(width, width, bias=False)
        self.gain = nn.Softplus()

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, H, W, D) gives p, of its shape, and the new past averages."""
        mu, past = self.average(z, past, age)
        deviation = z - mu
        return self.gain(self.by_deviation(deviation.abs()) + self.by_average(mu)) * deviation, past


class ProductBranch(PerceptualBranch):
    """phi(mu) * (a * Z + b_a), TriDet's: a gain per channel that the clip's average decides.

    With depthwise maps, the deviation from the average is rescaled channel by channel by exactly 1 + a * phi(mu) once Z is added.

    Args:
        average: the video-level average.
        width: D.
        fc: "depthwise", as TriDet's code, or "full", as its wording.
        centred: leave the mean where it is.
    """

    def __init__(self, average: Branch, width: int, fc: str, centred: bool) -> None:
        super().__init__(average)
        self.centred = centred
        self.gate = _fc(fc, width)
        self.gain = nn.ReLU()
        self.map = _fc(fc, width)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, H, W, D) gives p, of its shape, and the new past averages."""
        mu, past = self.average(z, past, age)
        phi = self.gain(self.gate(mu))
        content = self.map(z) - self.map(mu) if self.centred else self.map(z)
        return phi * content, past


class NoBranch(Branch):
    """A branch left out: nothing is added."""

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros that broadcast to z."""
        return z.new_zeros(1), past


class SpacetimeBranch(Branch):
    """psi(Z) * (DW_w(Z) + DW_kw(Z)): a wider receptive field, and a gate that chooses where it counts.

    Args:
        width: D.
        kernels: of the content, summed: TriDet's two, or three where the wide one is separable.
        gate: kernel of psi; None for no gate.
        squash: what psi goes through: nothing (TriDet's), or a sigmoid.
    """

    def __init__(
        self, width: int, kernels: Sequence[Kernel], gate: Kernel | None, squash: Callable[[Tensor], Tensor] = torch.sigmoid
    ) -> None:
        super().__init__()
        self.content = nn.ModuleList(CausalDepthwise3d(width, kernel) for kernel in kernels)
        self.scale = CausalDepthwise3d(width, gate) if gate else None
        self.squash = squash
        self.past_frames = max(kernel[0] for kernel in (*kernels, gate or (1, 1, 1))) - 1

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """The frames before the first."""
        return like.new_zeros(batch, self.past_frames, height, width, depth)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, H, W, D) and its last frames before; returns s and the new past."""
        frames, steps = torch.cat([past, z], 1), z.shape[1]
        content = self.content[0](frames, steps)
        for conv in self.content[1:]:
            content = content + conv(frames, steps)
        if self.scale is not None:
            content = content * self.squash(self.scale(frames, steps))
        return content, frames[:, frames.shape[1] - self.past_frames :]


def kernels_of(wide: int, dims: str, reach: str) -> tuple[list[Kernel], Kernel]:
    """Kernels of the spacetime branch's content, and of its gate.

    Args:
        wide: side of the wide kernel; 0 for none.
        dims: "3d", "2d" (no time), or "1d" (time alone, TriDet's).
        reach: "short", the wide kernel has three frames; "wide", it has as many as its side, as a kernel of space and one of time.
    """
    if dims == "1d":
        return [(3, 1, 1)] + [(wide, 1, 1)] * bool(wide), (3, 1, 1)
    narrow: Kernel = (3, 3, 3) if dims == "3d" else (1, 3, 3)
    if not wide:
        return [narrow], narrow
    if dims == "3d" and reach == "wide":
        return [narrow, (1, wide, wide), (wide, 1, 1)], narrow
    return [narrow, (narrow[0], wide, wide)], narrow


class FeedForward(nn.Module):
    """FFN(GN(Y)), every frame by itself.

    Args:
        width: D.
        inner: width of its hidden layer.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(16 if width % 16 == 0 else 1, width)
        self.layers = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, y: Tensor) -> Tensor:
        """(B, T, H, W, D) to the same."""
        normed = self.norm(y.flatten(0, 1).permute(0, 3, 1, 2))
        return self.layers(normed.permute(0, 2, 3, 1).reshape(y.shape))


class MotionSlot(nn.Module):
    """MSM, or what may stand in its place.

    Args:
        width: D, channels in and out.
        past_averages: that it remembers, of a frame each.
        past_frames: that it remembers.
    """

    def __init__(self, width: int, past_averages: int = 0, past_frames: int = 0) -> None:
        super().__init__()
        self.width, self.past_averages, self.past_frames = width, past_averages, past_frames

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> MotionState:
        """Before the first frame: zeros."""
        return MotionState(
            like.new_zeros(batch, self.past_averages, 1, 1, self.width),
            like.new_zeros(batch, self.past_frames, height, width, self.width),
        )


class MotionSense(MotionSlot):
    """MSM; see the module's equations.

    Args:
        width: D, channels in and out.
        perceptual: the perceptual branch, or `NoBranch`.
        spacetime: the spacetime branch, or `NoBranch`.
        ffn_ratio: width of the FFN over D; 0 leaves the FFN out.
        residual: what gamma1 and gamma2 start from.
    """

    def __init__(self, width: int, perceptual: Branch, spacetime: Branch, ffn_ratio: float = 1.0, residual: float = 1.0) -> None:
        super().__init__(width)
        self.norm = nn.LayerNorm(width)
        self.perceptual, self.spacetime = perceptual, spacetime
        self.gamma1 = nn.Parameter(torch.full((width,), residual))
        inner = round(width * ffn_ratio)
        self.ffn = FeedForward(width, inner) if inner else None
        self.gamma2 = nn.Parameter(torch.full((width,), residual))

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> MotionState:
        """Before the first frame."""
        place = (batch, height, width, self.width, like)
        return MotionState(self.perceptual.initial(*place), self.spacetime.initial(*place))

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x (B, T, H, W, D) to OUT."""
        z = self.norm(x)
        p, averages = self.perceptual(z, state.averages, age)
        s, frames = self.spacetime(z, state.frames, age)
        y = x + self.gamma1 * (p + s + z)
        if self.ffn is not None:
            y = y + self.gamma2 * self.ffn(y)
        return y, MotionState(averages, frames)


class NoMotionSense(MotionSlot):
    """The slot left empty."""

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x as it is."""
        return x, state


class SqueezeExcitation(MotionSlot):
    """SE (Hu et al., CVPR 2018) on the video-level average: a sigmoid gain per channel, without MSM's distance to the average."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__(width, past_averages=window - 1)
        inner = max(width // 4, 1)
        self.gate = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Sigmoid())

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x (B, T, H, W, D), scaled per channel."""
        mu, averages = causal_window_mean(x.mean((2, 3), keepdim=True), state.averages, age)
        return x * self.gate(mu), state._replace(averages=averages)


class SimAM(MotionSlot):
    """SimAM (Yang et al., ICML 2021): a parameter-free gate by the squared distance to the frame's average, lambda 1e-4 as there."""

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x (B, T, H, W, D), each value gated by how far it lies from its channel's average."""
        distance = (x - x.mean((2, 3), keepdim=True)).square()
        variance = distance.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
        return x * torch.sigmoid(distance / (4 * (variance + 1e-4)) + 0.5), state


class DepthwiseControl(MotionSlot):
    """A residual 3x3x3 depthwise convolution and FFN of a given size: is it MSM's size or its idea?

    Args:
        width: D.
        parameters: to have, within 2 %.
    """

    def __init__(self, width: int, parameters: int) -> None:
        super().__init__(width, past_frames=2)
        self.norm = nn.LayerNorm(width)
        self.conv = CausalDepthwise3d(width, (3, 3, 3))
        fixed = 2 * width + 28 * width + width + width
        inner = max(round((parameters - fixed) / (2 * width + 1)), 1)
        self.ffn = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x (B, T, H, W, D) plus what the block adds."""
        frames = torch.cat([state.frames, self.norm(x)], 1)
        return x + self.gamma * self.ffn(self.conv(frames, x.shape[1])), state._replace(frames=frames[:, frames.shape[1] - 2 :])


def _build_msm(width: int, config: ModelConfig) -> MotionSense:
    perceptual: Branch = NoBranch()
    spacetime: Branch = NoBranch()
    if config.motion_branches in ("both", "perceptual"):
        average: Branch = VideoAverage(config.motion_average, config.window)
        if config.motion_average == "none":
            average = LearnedAverage(width)
        elif config.motion_memory == "video" and "t" in config.motion_average:
            average = RunningAverage(config.motion_average)
        if config.motion_perceptual == "distance":
            perceptual = DistanceBranch(average, width)
        else:
            perceptual = ProductBranch(average, width, config.motion_fc, config.motion_perceptual == "centred")
    if config.motion_branches in ("both", "spacetime"):
        kernels, gate = kernels_of(config.motion_wide, config.motion_dims, config.motion_reach)
        squash = torch.sigmoid if config.motion_gate == "sigmoid" else nn.Identity()
        spacetime = SpacetimeBranch(width, kernels, gate if config.motion_scale == "conv" else None, squash)
    return MotionSense(width, perceptual, spacetime, config.motion_ffn_ratio, config.motion_residual)


def _build_control(width: int, config: ModelConfig) -> DepthwiseControl:
    return DepthwiseControl(width, sum(p.numel() for p in _build_msm(width, config).parameters()))


MOTION = {
    "msm": _build_msm,
    "none": lambda width, config: NoMotionSense(width),
    "se": lambda width, config: SqueezeExcitation(width, config.window),
    "simam": lambda width, config: SimAM(width),
    "dwconv": _build_control,
}
"""What may stand in MSM's place, by name, as functions of its width and the config."""


def build_motion(width: int, config: ModelConfig) -> MotionSlot:
    """The module that `config.motion` names, for D = width channels."""
    return MOTION[config.motion](width, config)
