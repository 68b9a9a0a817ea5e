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

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig

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
    total = frames.unfold(1, window, 1).sum(-1)
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

    def forward(self, frames: Tensor) -> Tensor:
        """(B, t - 1 + T, H, W, D), the first t - 1 being the past, to (B, T, H, W, D)."""
        batch, length, height, width, depth = frames.shape
        taps, kh, kw = self.kernel
        steps = length - taps + 1
        total = None
        for tap in range(taps):
            maps = frames[:, tap : tap + steps].reshape(batch * steps, height, width, depth).permute(0, 3, 1, 2)
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


class VideoAverage(nn.Module):
    """The video-level average of features, up to each frame.

    Args:
        axes: it is taken over: t, hw, or thw.
        window: frames, of the average over t.
    """

    def __init__(self, axes: str, window: int) -> None:
        super().__init__()
        self.axes, self.window = axes, window if "t" in axes else 1

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """The averages of the frames before the first: none."""
        place = (height, width) if self.axes == "t" else (1, 1)
        return like.new_zeros(batch, self.window - 1, *place, depth)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, H, W, D) to its average, broadcastable to it, and the new past."""
        return causal_window_mean(z.mean((2, 3), keepdim=True) if "hw" in self.axes else z, past, age)


class LearnedAverage(nn.Module):
    """A learned vector in the place of the average: does the video's own one matter?"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width))

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """Nothing to remember."""
        return like.new_zeros(batch, 0, 1, 1, depth)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """The vector, broadcastable to z."""
        return self.vector.expand(1, 1, 1, 1, -1), past


class PerceptualBranch(nn.Module):
    """phi(mu) * (a * Z + b_a): a gain per channel that the clip's average decides.

    With depthwise maps, the deviation from the average is rescaled channel by channel by exactly 1 + a * phi(mu) once Z is added.

    Args:
        width: D.
        average: axes of the video-level average; "none" for a learned vector.
        window: frames of the average.
        fc: "depthwise", as TriDet's code, or "full", as its wording.
        form: "gain", or "centred", which leaves the mean where it is.
    """

    def __init__(self, width: int, average: str, window: int, fc: str, form: str) -> None:
        super().__init__()
        self.average = LearnedAverage(width) if average == "none" else VideoAverage(average, window)
        self.form = form
        self.gate = _fc(fc, width)
        self.map = _fc(fc, width)

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """The averages before the first frame."""
        return self.average.initial(batch, height, width, depth, like)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, H, W, D) gives p, of its shape, and the new past averages."""
        mu, past = self.average(z, past, age)
        phi = F.relu(self.gate(mu))
        content = self.map(z) - self.map(mu) if self.form == "centred" else self.map(z)
        return phi * content, past


class NoBranch(nn.Module):
    """A branch left out: nothing is added."""

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """Nothing to remember."""
        return like.new_zeros(batch, 0, height, width, depth)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros that broadcast to z."""
        return z.new_zeros(1), past


class SpacetimeBranch(nn.Module):
    """psi(Z) * (DW_w(Z) + DW_kw(Z)): a wider receptive field, and a gate that chooses where it counts.

    Args:
        width: D.
        wide: side of the wide kernel; 0 leaves it out.
        scale: "conv" for the gate psi, "one" for none.
        dims: "3d" kernels (3, w, w), "2d" ones (1, w, w), or "1d" ones (w, 1, 1), TriDet's.
    """

    def __init__(self, width: int, wide: int, scale: str, dims: str) -> None:
        super().__init__()
        shapes = {
            "3d": ((3, 3, 3), (3, wide, wide)),
            "2d": ((1, 3, 3), (1, wide, wide)),
            "1d": ((3, 1, 1), (wide, 1, 1)),
        }
        narrow_kernel, wide_kernel = shapes[dims]
        self.narrow = CausalDepthwise3d(width, narrow_kernel)
        self.wide = CausalDepthwise3d(width, wide_kernel) if wide else None
        self.scale = CausalDepthwise3d(width, narrow_kernel) if scale == "conv" else None
        self.past_frames = max(narrow_kernel[0], wide_kernel[0] if wide else 1) - 1

    def initial(self, batch: int, height: int, width: int, depth: int, like: Tensor) -> Tensor:
        """The frames before the first: zeros."""
        return like.new_zeros(batch, self.past_frames, height, width, depth)

    def forward(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, T, H, W, D) and its last frames before; returns s and the new past."""
        frames = torch.cat([past, z], 1)

        def run(conv: CausalDepthwise3d) -> Tensor:
            return conv(frames[:, self.past_frames - (conv.kernel[0] - 1) :])

        content = run(self.narrow)
        if self.wide is not None:
            content = content + run(self.wide)
        if self.scale is not None:
            content = content * run(self.scale)
        return content, frames[:, frames.shape[1] - self.past_frames :]


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


class MotionSense(nn.Module):
    """MSM; see the module's equations.

    Args:
        width: D, channels in and out.
        perceptual: the perceptual branch, or `NoBranch`.
        spacetime: the spacetime branch, or `NoBranch`.
        ffn_ratio: width of the FFN over D; 0 leaves the FFN out.
    """

    def __init__(self, width: int, perceptual: nn.Module, spacetime: nn.Module, ffn_ratio: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.norm = nn.LayerNorm(width)
        self.perceptual, self.spacetime = perceptual, spacetime
        self.gamma1 = nn.Parameter(torch.full((width,), 0.1))
        inner = round(width * ffn_ratio)
        self.ffn = FeedForward(width, inner) if inner else None
        self.gamma2 = nn.Parameter(torch.full((width,), 0.1))

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> MotionState:
        """Before the first frame."""
        place = (batch, height, width, self.width, like)
        return MotionState(self.perceptual.initial(*place), self.spacetime.initial(*place))  # type: ignore[operator]

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x (B, T, H, W, D) to OUT."""
        z = self.norm(x)
        p, averages = self.perceptual(z, state.averages, age)
        s, frames = self.spacetime(z, state.frames, age)
        y = x + self.gamma1 * (p + s + z)
        if self.ffn is not None:
            y = y + self.gamma2 * self.ffn(y)
        return y, MotionState(averages, frames)


class _Slot(nn.Module):
    """What may stand in MSM's place."""

    def __init__(self, width: int, past_averages: int = 0, past_frames: int = 0) -> None:
        super().__init__()
        self.width, self.past_averages, self.past_frames = width, past_averages, past_frames

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> MotionState:
        """Before the first frame: zeros."""
        return MotionState(
            like.new_zeros(batch, self.past_averages, 1, 1, self.width),
            like.new_zeros(batch, self.past_frames, height, width, self.width),
        )


class NoMotionSense(_Slot):
    """The slot left empty."""

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x as it is."""
        return x, state


class SqueezeExcitation(_Slot):
    """SE (Hu et al., CVPR 2018) on the video-level average: a sigmoid gain per channel, without MSM's distance to the average."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__(width, past_averages=window - 1)
        inner = max(width // 4, 1)
        self.gate = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Sigmoid())

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x (B, T, H, W, D), scaled per channel."""
        mu, averages = causal_window_mean(x.mean((2, 3), keepdim=True), state.averages, age)
        return x * self.gate(mu), state._replace(averages=averages)


class SimAM(_Slot):
    """SimAM (Yang et al., ICML 2021): a parameter-free gate by the squared distance to the frame's average, lambda 1e-4 as there."""

    def forward(self, x: Tensor, state: MotionState, age: Tensor) -> tuple[Tensor, MotionState]:
        """x (B, T, H, W, D), each value gated by how far it lies from its channel's average."""
        distance = (x - x.mean((2, 3), keepdim=True)).square()
        variance = distance.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
        return x * torch.sigmoid(distance / (4 * (variance + 1e-4)) + 0.5), state


class DepthwiseControl(_Slot):
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
        return x + self.gamma * self.ffn(self.conv(frames)), state._replace(frames=frames[:, frames.shape[1] - 2 :])


def _build_msm(width: int, config: ModelConfig) -> MotionSense:
    perceptual: nn.Module = NoBranch()
    spacetime: nn.Module = NoBranch()
    if config.motion_branches in ("both", "perceptual"):
        perceptual = PerceptualBranch(width, config.motion_average, config.window, config.motion_fc, config.motion_perceptual)
    if config.motion_branches in ("both", "spacetime"):
        spacetime = SpacetimeBranch(width, config.motion_wide, config.motion_scale, config.motion_dims)
    return MotionSense(width, perceptual, spacetime, config.motion_ffn_ratio)


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


def build_motion(width: int, config: ModelConfig) -> nn.Module:
    """The module that `config.motion` names, for D = width channels."""
    return MOTION[config.motion](width, config)
