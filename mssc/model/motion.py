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
each frame by itself. Every module here maps ``(x, memory, age)`` to ``(y, memory)`` with x of shape (B, T, H, W, D), channels last.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig

Memory = tuple[Tensor, ...]

BRANCH_STD = 0.1
"""Both branches are products of two maps: zero weights would never learn, std 1 would drown the identity (method, section 2)."""


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


class PerceptualBranch(nn.Module):
    """phi(mu) * (a * Z + b_a): a gain per channel that the clip's average decides.

    With depthwise maps, the deviation from the average is rescaled channel by channel by exactly 1 + a * phi(mu) once Z is added.
    """

    def __init__(self, width: int, fc: str, average: str, form: str) -> None:
        super().__init__()
        self.average, self.form = average, form
        self.gate = _fc(fc, width)
        self.map = _fc(fc, width)
        self.learned_average = nn.Parameter(torch.randn(width)) if average == "none" else None

    def video_average(self, z: Tensor, past: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """The average that `average` asks for, broadcastable to z, and the new past."""
        if self.learned_average is not None:
            return self.learned_average.expand(1, 1, 1, 1, -1), past
        source = z.mean((2, 3), keepdim=True) if "hw" in self.average else z
        return (source, past) if self.average == "hw" else causal_window_mean(source, past, age)

    def gain(self, mu: Tensor) -> Tensor:
        """phi, the gate: mu's shape, not negative."""
        return F.relu(self.gate(mu))

    def forward(self, z: Tensor, mu: Tensor) -> Tensor:
        """z (B, T, H, W, D) and mu broadcastable to it give p, of z's shape."""
        phi = self.gain(mu)
        if self.form == "centred":
            return phi * (self.map(z) - self.map(mu))
        return phi * self.map(z)


class SpacetimeBranch(nn.Module):
    """psi(Z) * (DW_w(Z) + DW_kw(Z)): a wider receptive field, and a gate that chooses where it counts."""

    def __init__(self, width: int, wide: str, scale: str, dims: str) -> None:
        super().__init__()
        side = 0 if wide == "none" else int(wide)
        shapes = {
            "3d": ((3, 3, 3), (3, side, side)),
            "2d": ((1, 3, 3), (1, side, side)),
            "1d": ((3, 1, 1), (side, 1, 1)),
        }
        narrow_kernel, wide_kernel = shapes[dims]
        self.narrow = CausalDepthwise3d(width, narrow_kernel)
        self.wide = CausalDepthwise3d(width, wide_kernel) if side else None
        self.scale = CausalDepthwise3d(width, narrow_kernel) if scale == "conv" else None
        self.past_frames = max(narrow_kernel[0], wide_kernel[0] if side else 1) - 1

    def forward(self, z: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
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


class MotionSense(nn.Module):
    """MSM.

    Args:
        width: D, channels in and out.
        config: its ``motion_*`` switches and `window`.
    """

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.width, self.window, mode = width, config.window, config.motion_mode
        self.norm = nn.LayerNorm(width)
        self.perceptual = self.spacetime = self.ffn = None
        if mode in ("both", "perceptual"):
            self.perceptual = PerceptualBranch(width, config.motion_fc, config.motion_average, config.motion_perceptual)
        if mode in ("both", "spacetime"):
            self.spacetime = SpacetimeBranch(width, config.motion_wide, config.motion_scale, config.motion_dims)
        self.gamma1 = nn.Parameter(torch.full((width,), 0.1))
        self.frame_norm = nn.GroupNorm(16 if width % 16 == 0 else 1, width)
        inner = round(width * config.motion_ffn_ratio)
        if inner:
            self.ffn = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.gamma2 = nn.Parameter(torch.full((width,), 0.1))

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> Memory:
        """Empty memory: the past averages, and the past normalised frames."""
        taps = self.spacetime.past_frames if self.spacetime is not None else 0
        wide = self.perceptual is not None and self.perceptual.average == "t"
        place = (height, width) if wide else (1, 1)
        window = self.window if self.perceptual is not None and "t" in self.perceptual.average else 1
        return (
            like.new_zeros(batch, window - 1, *place, self.width),
            like.new_zeros(batch, taps, height, width, self.width),
        )

    def forward(self, x: Tensor, memory: Memory, age: Tensor) -> tuple[Tensor, Memory]:
        """x (B, T, H, W, D); see the module's equations."""
        averages, frames = memory
        z = self.norm(x)
        branches = z
        if self.perceptual is not None:
            mu, averages = self.perceptual.video_average(z, averages, age)
            branches = branches + self.perceptual(z, mu)
        if self.spacetime is not None:
            s, frames = self.spacetime(z, frames)
            branches = branches + s
        y = x + self.gamma1 * branches
        if self.ffn is not None:
            flat = y.flatten(0, 1).permute(0, 3, 1, 2)
            normed = self.frame_norm(flat).permute(0, 2, 3, 1).reshape(y.shape)
            y = y + self.gamma2 * self.ffn(normed)
        return y, (averages, frames)


class NoMotion(nn.Module):
    """The slot left empty."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> Memory:
        """No memory."""
        return ()

    def forward(self, x: Tensor, memory: Memory, age: Tensor) -> tuple[Tensor, Memory]:
        """x as it is."""
        return x, memory


class SqueezeExcitation(nn.Module):
    """SE (Hu et al., CVPR 2018) on the video-level average: a sigmoid gain per channel, without MSM's distance to the average."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.width, self.window = width, config.window
        inner = max(width // 4, 1)
        self.gate = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width), nn.Sigmoid())

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> Memory:
        """The past frames' averages."""
        return (like.new_zeros(batch, self.window - 1, 1, 1, self.width),)

    def forward(self, x: Tensor, memory: Memory, age: Tensor) -> tuple[Tensor, Memory]:
        """x (B, T, H, W, D), scaled per channel."""
        mu, past = causal_window_mean(x.mean((2, 3), keepdim=True), memory[0], age)
        return x * self.gate(mu), (past,)


class SimAM(nn.Module):
    """SimAM (Yang et al., ICML 2021): a parameter-free gate by the squared distance to the frame's average, lambda 1e-4 as there."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> Memory:
        """No memory."""
        return ()

    def forward(self, x: Tensor, memory: Memory, age: Tensor) -> tuple[Tensor, Memory]:
        """x (B, T, H, W, D), each value gated by how far it lies from its channel's average."""
        distance = (x - x.mean((2, 3), keepdim=True)).square()
        variance = distance.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
        return x * torch.sigmoid(distance / (4 * (variance + 1e-4)) + 0.5), memory


class DepthwiseControl(nn.Module):
    """A residual 3x3x3 depthwise convolution and FFN with MSM's parameter count within 2 %: is it the size or the idea?"""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.width = width
        target = sum(p.numel() for p in MotionSense(width, config).parameters())
        self.norm = nn.LayerNorm(width)
        self.conv = CausalDepthwise3d(width, (3, 3, 3))
        fixed = 2 * width + 28 * width + width + width
        inner = max(round((target - fixed) / (2 * width + 1)), 1)
        self.ffn = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> Memory:
        """The two frames before."""
        return (like.new_zeros(batch, 2, height, width, self.width),)

    def forward(self, x: Tensor, memory: Memory, age: Tensor) -> tuple[Tensor, Memory]:
        """x (B, T, H, W, D) plus what the block adds."""
        frames = torch.cat([memory[0], self.norm(x)], 1)
        return x + self.gamma * self.ffn(self.conv(frames)), (frames[:, frames.shape[1] - 2 :],)


MOTION = {"msm": MotionSense, "none": NoMotion, "se": SqueezeExcitation, "simam": SimAM, "dwconv": DepthwiseControl}


def build_motion(width: int, config: ModelConfig) -> nn.Module:
    """The module that `config.motion` names, for D = width channels."""
    if config.motion == "msm" and config.motion_mode == "off":
        return NoMotion(width, config)
    return MOTION[config.motion](width, config)
