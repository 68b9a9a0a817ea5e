"""The video path: a clip to a map of motion for each of its key frames, MSM inside; and the null module of a network without it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from .backbone3d import Backbone3d, build_backbone3d
from .features import VideoFeatures
from .motion import MotionSlot, MotionState, VideoAverage, build_motion, causal_window_mean

Keys = Tensor | slice
"""The key frames of a clip: (B, K) indices, or a slice of its frames, which are not copied."""


def take(values: Tensor, index: Keys) -> Tensor:
    """values (B, N, ...) at index (B, K), or in a slice of N: (B, K, ...)."""
    if isinstance(index, slice):
        return values[:, index]
    return values.gather(1, index.reshape(index.shape + (1,) * (values.ndim - 2)).expand(*index.shape, *values.shape[2:]))


def indices(keys: Keys, clip: Tensor) -> Tensor:
    """The key frames of a clip (B, 3, T, S, S) as indices (B, K)."""
    if isinstance(keys, slice):
        return torch.arange(clip.shape[2], device=clip.device)[keys].expand(len(clip), -1)
    return keys


class StatisticsState(NamedTuple):
    """The last map, (B, 1, ...), and the maps and changes of the frames before, (B, W - 1, ...)."""

    last: Tensor
    maps: Tensor
    changes: Tensor


class VideoState(NamedTuple):
    """What the video path remembers of a stream.

    Attributes:
        age: (B,) frames seen so far.
        backbone: of the 3D network.
        motion: of MSM.
        collapse: of the temporal statistics at each place.
        bypass: of the `Bypass`; () where there is none.
    """

    age: Tensor
    backbone: tuple
    motion: MotionState
    collapse: StatisticsState
    bypass: tuple


class BypassState(NamedTuple):
    """What a `Bypass` remembers: of the pooled statistics, and the flow stream's maps before, (B, W - 1, h, w, C)."""

    context: StatisticsState
    flow: Tensor


class TemporalStatistics(nn.Module):
    """What a window of maps says: the current one, their mean, and the mean of how much each differs from the one before.

    Args:
        width: channels.
        window: frames.
        pooled: whether places are averaged out, (..., 1, 1, C) instead of (..., H, W, C); differences are taken before that, of
            means of 2x2 cells.
    """

    def __init__(self, width: int, window: int, pooled: bool) -> None:
        super().__init__()
        self.width, self.window, self.pooled = width, window, pooled

    def initial(self, batch: int, height: int, width: int, like: Tensor) -> StatisticsState:
        """Before the first frame."""
        if self.pooled:
            height, width = (height + 1) // 2, (width + 1) // 2
        place = (1, 1) if self.pooled else (height, width)
        past = like.new_zeros(batch, self.window - 1, *place, self.width)
        return StatisticsState(like.new_zeros(batch, 1, height, width, self.width), past, past.clone())

    def forward(self, x: Tensor, state: StatisticsState, age: Tensor) -> tuple[Tensor, StatisticsState]:
        """(B, T, H, W, C) to (B, T, H, W, 3C), or (B, T, 1, 1, 3C) when pooled."""
        if self.pooled:
            maps = x.flatten(0, 1).permute(0, 3, 1, 2)
            maps = F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)
            x = maps.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        last = torch.where((age == 0).reshape(-1, 1, 1, 1, 1), x[:, :1], state.last)
        change = (x - torch.cat([last, x[:, :-1]], 1)).abs()
        last = x[:, -1:]
        if self.pooled:
            x, change = x.mean((2, 3), keepdim=True), change.mean((2, 3), keepdim=True)
        mean, maps = causal_window_mean(x, state.maps, age)
        mean_change, changes = causal_window_mean(change, state.changes, age)
        return torch.cat([x, mean, mean_change], -1), StatisticsState(last, maps, changes)


class Bypass(nn.Module):
    """What the two-stream classifier reads past fusion: pooled temporal statistics, and the flow stream's maps, now and on average.

    Args:
        width: D of MSM's output.
        window: frames of the averages.
        flow_dims: C of the flow stream's maps.
    """

    def __init__(self, width: int, window: int, flow_dims: int) -> None:
        super().__init__()
        self.statistics = TemporalStatistics(width, window, pooled=True)
        self.average = VideoAverage("t", window)
        self.flow_dims = flow_dims

    def initial(self, batch: int, side: int, like: Tensor) -> BypassState:
        """Before the first frame."""
        place = (batch, side, side)
        return BypassState(self.statistics.initial(*place, like), self.average.initial(*place, self.flow_dims, like))

    def forward(
        self, motion: Tensor, maps: Tensor, state: BypassState, age: Tensor, places: Keys
    ) -> tuple[tuple[Tensor, ...], BypassState]:
        """MSM's output and the backbone's maps, (B, T, h, w, D or C), to `VideoFeatures.bypass` and the new state."""
        flow = maps[..., maps.shape[-1] - self.flow_dims :]
        pooled, context = self.statistics(motion, state.context, age)
        average, past = self.average(flow, state.flow, age)
        now, mean = (take(x, places).flatten(0, 1).permute(0, 3, 1, 2) for x in (flow, average))
        return (take(pooled, places).flatten(0, 3), now, mean), BypassState(context, past)


class NoBypass(nn.Module):
    """There is no way past fusion."""

    def initial(self, batch: int, side: int, like: Tensor) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def forward(self, motion: Tensor, maps: Tensor, state: tuple[()], age: Tensor, places: Keys) -> tuple[tuple[()], tuple[()]]:
        """As `Bypass.forward`, and nothing passes."""
        return (), ()


class VideoPath(nn.Module):
    """A clip, or the next frames of a stream, to a map per key frame.

    ::

        (B, 3, T, s, s) --> backbone --> P3 (1x1) --> MSM --> temporal statistics --> collapse (1x1) --> (B * K, D, h, w)

    Args:
        backbone: the 3D network.
        config: its `width`, `window`, `motion...`, `collapse` and the sizes of the input.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone3d, config: ModelConfig) -> None:
        super().__init__()
        width, window, native = config.width, config.window, config.motion_position == "native"
        dims, self.backbone = backbone.dims, backbone
        self.size, self.factor = config.clip_size, config.key_size // config.clip_size
        self.before = nn.Identity() if native else nn.Linear(dims, width)  # P3, a 1x1x1 convolution, channels last
        self.motion = build_motion(dims if native else width, config)
        self.after = nn.Linear(dims, width) if native else nn.Identity()
        self.statistics = TemporalStatistics(width, window, pooled=False)
        part = {"mixed": (0, 3), "current": (0, 1), "mean": (1, 2)}[config.collapse]
        self.part = slice(part[0] * width, part[1] * width)
        self.collapse = nn.Linear((part[1] - part[0]) * width, width)
        self.flow_dims = backbone.flow_dims
        self.bypass = Bypass(width, window, self.flow_dims) if config.classifier == "two-stream" else NoBypass()
        self.register_buffer("mean", torch.tensor(backbone.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).reshape(-1, 1, 1))

    def initial_state(self, batch: int = 1) -> VideoState:
        """The state before the first frame of `batch` videos."""
        like = self.collapse.weight
        side = self.backbone.side(self.size)
        place = (batch, side, side, like)
        return VideoState(
            torch.zeros(batch, dtype=torch.int64, device=like.device),
            self.backbone.initial(batch, self.size, like),
            self.motion.initial(*place),
            self.statistics.initial(*place),
            self.bypass.initial(batch, side, like),
        )

    def prepare(self, clip: Tensor) -> Tensor:
        """(B, 3, T, S, S) RGB 0..255 to the network's input (B, 3, T, s, s), normalised; each pixel is the mean of a square."""
        frames, factor = clip.to(self.mean.dtype), self.factor
        for axis in (3, 4):  # to add whole tensors is several times faster than pooling or a convolution
            first, *others = (frames.transpose(axis, 0)[k::factor].transpose(0, axis) for k in range(factor))
            frames = sum(others, first)
        return (frames / factor**2 - self.mean[:, None]) / self.std[:, None]

    def forward(self, clip: Tensor, state: VideoState, keys: Keys) -> tuple[VideoFeatures, VideoState]:
        """Go on through a video.

        Args:
            clip: (B, 3, T, S, S) RGB 0..255, the frames after those that `state` has seen.
            state: of `initial_state` or an earlier call. Not modified.
            keys: (B, K), the key frames among the T; a slice only where the backbone has a map for every frame.
        """
        age = state.age
        x, backbone = self.backbone(self.prepare(clip), state.backbone, age)
        cells = x.permute(0, 2, 3, 4, 1)  # (B, T', h, w, C)
        motion, memory = self.motion(self.before(cells), state.motion, age)
        motion = self.after(motion)
        statistics, collapse = self.statistics(motion, state.collapse, age)
        places = keys if isinstance(keys, slice) else keys * cells.shape[1] // clip.shape[2]  # of the key frames among the T'
        bypass, past = self.bypass(motion, cells, state.bypass, age, places)
        collapsed = self.collapse(take(statistics, places).flatten(0, 1)[..., self.part]).permute(0, 3, 1, 2)
        features = VideoFeatures(motion.permute(0, 4, 1, 2, 3), collapsed, bypass)
        return features, VideoState(age + clip.shape[2], backbone, memory, collapse, past)


class WindowState(NamedTuple):
    """How many frames were seen, (B,), and the last ones, (B, W - 1, 3, S, S)."""

    age: Tensor
    frames: Tensor


class WindowedVideoPath(nn.Module):
    """A video path over a network that is not causal: it sees the window that ends at each key frame, every time anew. The first frame is
    repeated where there are fewer.

    Args:
        path: sees `window` frames at once.
        window: W.
        size: S, of the frames.
    """

    def __init__(self, path: VideoPath, window: int, size: int) -> None:
        super().__init__()
        self.path, self.window, self.input_size = path, window, size
        self.flow_dims = path.flow_dims

    @property
    def motion(self) -> MotionSlot:
        """The module in MSM's place."""
        return self.path.motion

    @property
    def backbone(self) -> Backbone3d:
        """The 3D network."""
        return self.path.backbone

    def initial_state(self, batch: int = 1) -> WindowState:
        """The state before the first frame of `batch` videos."""
        like = self.path.collapse.weight
        age = torch.zeros(batch, dtype=torch.int64, device=like.device)
        return WindowState(age, like.new_zeros(batch, self.window - 1, 3, self.input_size, self.input_size))

    def forward(self, clip: Tensor, state: WindowState, keys: Keys) -> tuple[VideoFeatures, WindowState]:
        """As `VideoPath.forward`; `motion` is of each key frame's window, (B * K, D, T', h, w)."""
        steps, past = clip.shape[2], self.window - 1
        frames = torch.cat([state.frames, clip.transpose(1, 2).to(state.frames.dtype)], 1)
        first = past - state.age.clamp(max=past)  # before it nothing was seen
        keys = indices(keys, clip)
        index = keys[:, :, None] + past + torch.arange(-past, 1, device=keys.device)
        index = torch.maximum(index, first[:, None, None])
        windows = take(frames, index.flatten(1)).unflatten(1, index.shape[1:]).flatten(0, 1).transpose(1, 2)
        last = torch.full((len(windows), 1), past, device=keys.device)
        features, _ = self.path(windows, self.path.initial_state(len(windows)), last)
        return features, WindowState(state.age + steps, frames[:, steps:])


class NoVideoState(NamedTuple):
    """How many frames were seen, (B,)."""

    age: Tensor


class NoVideo(nn.Module):
    """The video path left out (table T-A): its maps are zeros.

    Args:
        width: D.
    """

    motion = backbone = None
    flow_dims = 0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def initial_state(self, batch: int = 1) -> NoVideoState:
        """The state before the first frame of `batch` videos."""
        return NoVideoState(torch.zeros(batch, dtype=torch.int64, device=self.get_buffer("zero").device))

    def forward(self, clip: Tensor, state: NoVideoState, keys: Keys) -> tuple[VideoFeatures, NoVideoState]:
        """As `VideoPath.forward`, of one cell."""
        count, zero = indices(keys, clip).numel(), self.get_buffer("zero")
        nothing = zero.new_zeros(len(clip), 0, clip.shape[2], 1, 1)
        features = VideoFeatures(nothing, zero.new_zeros(count, self.width, 1, 1), ())
        return features, NoVideoState(state.age + clip.shape[2])


State = VideoState | WindowState | NoVideoState
"""What a network remembers of a stream: that of its video path."""


def build_video_path(config: ModelConfig, pretrained: bool = False) -> VideoPath | WindowedVideoPath | NoVideo:
    """The video path that `config` asks for."""
    if config.paths == "key":
        return NoVideo(config.width)
    backbone = build_backbone3d(config.backbone3d, pretrained, config.rgb_dropout)
    path = VideoPath(backbone, config)
    return path if backbone.causal else WindowedVideoPath(path, config.window, config.key_size)
