"""MS-SC: the paper's figure as one network, for clips and for streams."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from ..structures import Features, InputError, Predictions
from .backbone2d import build_backbone2d
from .backbone3d import CausalDarknet, build_backbone3d
from .convert import CocoDetector
from .fusion import build_fusion
from .head import Head, TemporalStatistics, rois_of, take
from .hub import HubMixin
from .layers import ConvBlock, DecoupledTower
from .motion import Memory, build_motion, causal_window_mean
from .neck import PAFPN

State = tuple[Tensor, Memory, Memory, Memory, Memory, Memory]
"""What a stream remembers: its age in frames (B,), and the memories of 3D path, MSM, collapse, motion context and movement."""


def _channels_last(frames: Tensor) -> Tensor:
    """(B, C, T, H, W) to (B, T, H, W, C)."""
    return frames.permute(0, 2, 3, 4, 1)


class MSSC(nn.Module, HubMixin):
    """The network.

    ::

        key frames --> 2D backbone, PAFPN --> stems -----------------+
                                                                     +--> SFM --> head: boxes, objectness, actions
        clip -----> 3D path --> P3 (1x1) --> MSM --> collapse time --+

    Args:
        config: what it is made of.
        pretrained: whether backbones of timm and torchvision load their published weights.
    """

    def __init__(self, config: ModelConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        levels, width, window = 3, config.width, config.window
        self.backbone2d = self.neck = self.stems = None
        self.backbone3d = self.project = self.motion = self.collapse = None
        key_dims: tuple[int, ...] = ()
        clip_dims: tuple[int, ...] = ()
        self.moving_dim = 0
        tower = DecoupledTower(width=width)
        if config.paths != "clip":
            self.backbone2d = build_backbone2d(config.backbone2d, pretrained)
            self.neck = PAFPN(self.backbone2d.dims)
            tower = DecoupledTower(self.neck.dims, width)
            self.stems, key_dims = tower.stems, tuple(self.neck.dims)
            self._register_norm("key", self.backbone2d.mean, self.backbone2d.std)
        if config.paths != "key":
            self.backbone3d = build_backbone3d(config.backbone3d, pretrained)
            dims = int(self.backbone3d.dims)  # type: ignore[arg-type]
            native = config.motion_position == "native"
            self.project = nn.Linear(dims, width)  # a 1x1x1 convolution, channels last
            self.motion = build_motion(dims if native else width, config)
            self.collapse_map = TemporalStatistics(width, window, pooled=False)
            self.collapse = nn.Linear({"mixed": 3 * width}.get(config.collapse, width), width)
            self.motion_statistics = TemporalStatistics(width, window, pooled=True)
            clip_dims = (3 * width,)
            self.moving_dim = int(self.backbone3d.motion_dims)  # type: ignore[arg-type]
            self._register_norm("clip", self.backbone3d.mean, self.backbone3d.std)  # type: ignore[arg-type]
        fusions = levels * (2 if config.fusion_branch == "task" and config.paths == "both" else 1)
        self.fusion = nn.ModuleList(build_fusion(width, config) for _ in range(fusions))
        self.head = Head(tower, key_dims, clip_dims, width if clip_dims else 0, self.moving_dim, config)

    def _register_norm(self, path: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.register_buffer(f"{path}_mean", torch.tensor(mean))
        self.register_buffer(f"{path}_std", torch.tensor(std))

    @property
    def causal(self) -> bool:
        """Whether a stream costs one frame a frame; without a 3D path it does."""
        return self.backbone3d is None or bool(self.backbone3d.causal)

    def initialise_from(self, detector: CocoDetector) -> list[nn.Parameter]:
        """Start from a COCO detector's weights, both paths.

        Returns:
            The parameters that were set, for a gentler learning rate.
        """
        pairs: list[tuple[nn.Module, nn.Module]] = []
        if self.backbone2d is not None and self.config.backbone2d == "cspdarknet_nano":
            assert self.neck is not None and self.stems is not None
            pairs += [(self.backbone2d, detector.backbone), (self.neck, detector.neck), (self.stems, detector.tower.stems)]
        pairs += [(self.head.cls_convs, detector.tower.cls_convs), (self.head.reg_convs, detector.tower.reg_convs)]
        pairs += [(self.head.boxes.reg_preds, detector.reg_preds), (self.head.boxes.obj_preds, detector.obj_preds)]
        for ours, theirs in pairs:
            ours.load_state_dict(theirs.state_dict())
        started = [p for ours, _ in pairs for p in ours.parameters()]
        if isinstance(self.backbone3d, CausalDarknet):
            self.backbone3d.inflate(detector.backbone)
            started += list(self.backbone3d.net.parameters())
        return started

    def stem_modules(self) -> Iterator[nn.Module]:
        """Stem and first stage of both darknets: training may keep them as COCO left them."""
        for net in (self.backbone2d, getattr(self.backbone3d, "net", None)):
            if hasattr(net, "dark2"):
                yield from (net.stem, net.dark2)  # type: ignore[union-attr,misc]

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first frame of `batch` videos."""
        like = next(self.parameters())
        age = torch.zeros(batch, dtype=torch.int64, device=like.device)
        if self.backbone3d is None or not self.backbone3d.causal:
            return age, (), (), (), (), ()
        size = self.config.clip_size
        side = -(-size // int(self.backbone3d.stride))  # type: ignore[call-overload]
        return (
            age,
            self.backbone3d.initial(batch, size, like),  # type: ignore[operator]
            self.motion.initial(batch, side, side, like),  # type: ignore[union-attr,operator]
            self.collapse_map.initial(batch, side, side, like),
            self.motion_statistics.initial(batch, side, side, like),
            self._still(batch, side, side, like),
        )

    def _still(self, batch: int, height: int, width: int, like: Tensor) -> Memory:
        """The memory of the mean map of motion alone."""
        return (like.new_zeros(batch, self.config.window - 1, self.moving_dim, height, width),)

    def key_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) RGB 0..255 to the 2D path's levels, before the stems; () without a 2D path."""
        if self.backbone2d is None or self.neck is None:
            return ()
        mean, std = self.get_buffer("key_mean"), self.get_buffer("key_std")
        images = (images.to(mean.dtype) - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
        return self.neck(self.backbone2d(images.contiguous(memory_format=torch.channels_last)))

    def clip_features(self, clip: Tensor, memory: tuple[Tensor, ...], age: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, 3, T, S, S) RGB 0..255, brought to `clip_size`, to the 3D path's map (B, C3, T', h, w)."""
        return self.backbone3d(self._clip_input(clip), memory, age)  # type: ignore[misc]

    def _clip_input(self, clip: Tensor) -> Tensor:
        """(B, 3, T, S, S) RGB 0..255 to the 3D path's input (B, 3, T, s, s), s = `clip_size`, normalised as it wants it."""
        batch, _, steps = clip.shape[:3]
        mean, std = self.get_buffer("clip_mean"), self.get_buffer("clip_std")
        frames = clip.transpose(1, 2).flatten(0, 1).to(mean.dtype)
        factor = self.config.key_size // self.config.clip_size
        if factor > 1:  # the mean of each square; some additions of whole tensors are faster than torch's pooling
            corners = [frames[..., y::factor, x::factor] for y in range(factor) for x in range(factor)]
            frames = sum(corners[1:], corners[0]) / factor**2
        frames = (frames - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
        return frames.unflatten(0, (batch, steps)).transpose(1, 2)

    def motion_features(self, clip_map: Tensor, memory: tuple[Tensor, ...], age: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """P3 and MSM: (B, C3, T', h, w) to (B, D, T', h, w)."""
        assert self.project is not None and self.motion is not None
        x = _channels_last(clip_map)
        if self.config.motion_position == "native":
            moved, memory = self.motion(x, memory, age)
            moved = self.project(moved)
        else:
            moved, memory = self.motion(self.project(x), memory, age)
        return moved.permute(0, 4, 1, 2, 3), memory

    def movements(self, clip_map: Tensor, memory: Memory, age: Tensor) -> tuple[list[Tensor], Memory]:
        """The channels of the 3D path's map that know motion alone, now and on average over the window: (B, T, C, h, w) each."""
        if not self.moving_dim:
            return [], memory
        now = clip_map[:, -self.moving_dim :].transpose(1, 2)
        (past,) = memory
        mean, past = causal_window_mean(now, past, age)
        return [now, mean], (past,)

    def movement_logits(self, clip: Tensor, keys: Tensor, boxes: Tensor) -> Tensor:
        """What motion alone says of boxes; nothing else is computed. Arguments as of `forward`; logits (B * K, R, A).

        Raises:
            InputError: if the network has no motion stream, or no classifier on it.
        """
        pooled = self.head.pooled
        if not self.moving_dim or pooled is None or pooled.movement is None:
            raise InputError(
                f"a network with backbone3d {self.config.backbone3d!r}, paths {self.config.paths!r} and classifier "
                f"{self.config.classifier!r} has no motion stream of its own to learn; use the causal 3D path and pooled logits."
            )
        self.check(clip)
        now = self.backbone3d.motion_map(self._clip_input(clip))  # type: ignore[union-attr,operator]
        age = torch.zeros(len(clip), dtype=torch.int64, device=clip.device)
        (past,) = self._still(len(clip), now.shape[-2], now.shape[-1], now)
        mean, _ = causal_window_mean(now, past, age)
        moving = [take(x, keys).flatten(0, 1) for x in (now, mean)]
        return pooled.movement(
            moving, [x.mean((2, 3)) for x in moving], rois_of(boxes, self.config.key_size), self.config.key_size
        )

    def motion_modules(self) -> tuple[nn.Module, ...]:
        """The motion stream and the branch of the classifier that judges by it; () where there are none."""
        pooled = self.head.pooled
        if not self.moving_dim or pooled is None or pooled.movement is None:
            return ()
        return self.backbone3d.movement, pooled.movement  # type: ignore[union-attr,return-value]

    def fuse(self, key: tuple[Tensor, ...], motion: Tensor | None) -> tuple[Tensor, ...]:
        """Stems, nearest upsampling and SFM. `motion` (B, D, h, w) is None without a 3D path."""
        if self.stems is not None:
            stems = [stem(x) for stem, x in zip(self.stems, key, strict=True)]
        else:
            assert motion is not None
            size = self.config.key_size
            stems = [motion.new_zeros(len(motion), motion.shape[1], size // s, size // s) for s in (8, 16, 32)]
        fused = []
        for i, fusion in enumerate(self.fusion):
            spatial = stems[i % len(stems)]
            moved = spatial if motion is None else F.interpolate(motion, size=spatial.shape[-2:], mode="nearest")
            fused.append(fusion(spatial, moved))
        return tuple(fused)

    def advance(
        self, clip: Tensor, state: State, keys: Tensor, boxes: Tensor | None = None
    ) -> tuple[Predictions, Features, State]:
        """Go on through a video.

        Args:
            clip: (B, 3, T, S, S) RGB, 0..255, the T frames after those that `state` has seen. Not modified.
            state: of `initial_state` or an earlier call. Not modified.
            keys: (B, K) indices of the key frames among the T.
            boxes: (B * K, R, 4), see `Head.forward`.

        Returns:
            Predictions and features of the B * K key frames, the new state. The features' `clip` and `motion` are of all T frames;
            with a 3D path that is not causal they are of each key frame's window, and frames before the clip are not known.
        """
        batch, count = keys.shape
        seen_frames = state[0] + clip.shape[2]
        age, video_memory, motion_memory, collapse_memory, context_memory, movement_memory = state
        images = take(clip.transpose(1, 2), keys).flatten(0, 1)
        key = self.key_features(images)
        if self.backbone3d is None:
            fused = self.fuse(key, None)
            nothing = clip.new_zeros(batch, 0, 0, 0, 0)
            predictions = self.head(fused, key, None, [], [], boxes)
            return predictions, Features(key, nothing, nothing, fused), (seen_frames, (), (), (), (), ())
        if not self.causal:
            clip, keys = self._windows(clip, keys)
            age = age.new_zeros(batch * count)
            motion_memory, collapse_memory, context_memory = (), (), ()
        clip_map, video_memory = self.clip_features(clip, video_memory, age)
        if not self.causal:
            windows, height, width = len(clip_map), *clip_map.shape[-2:]
            motion_memory = self.motion.initial(windows, height, width, clip_map)  # type: ignore[union-attr,operator]
            collapse_memory = self.collapse_map.initial(windows, height, width, clip_map)
            context_memory = self.motion_statistics.initial(windows, height, width, clip_map)
            movement_memory = self._still(windows, height, width, clip_map)
            keys = torch.full_like(keys, clip_map.shape[2] - 1)
        motion, motion_memory = self.motion_features(clip_map, motion_memory, age)
        statistics, collapse_memory = self.collapse_map(_channels_last(motion), collapse_memory, age)
        moved, context_memory = self.motion_statistics(_channels_last(motion), context_memory, age)
        at_keys = take(statistics, keys).flatten(0, 1)
        depth = self.config.width
        part = {"mixed": slice(None), "current": slice(0, depth), "mean": slice(depth, 2 * depth)}[self.config.collapse]
        collapsed = self.collapse(at_keys[..., part]).permute(0, 3, 1, 2)  # type: ignore[misc]
        context = [take(moved, keys).flatten(0, 3)]
        movements, movement_memory = self.movements(clip_map, movement_memory, age)
        fused = self.fuse(key, collapsed)
        predictions = self.head(fused, key, collapsed, context, [take(x, keys).flatten(0, 1) for x in movements], boxes)
        after: State = (seen_frames, (), (), (), (), ())
        if self.causal:
            after = (seen_frames, video_memory, motion_memory, collapse_memory, context_memory, movement_memory)
        return predictions, Features(key, clip_map, motion, fused), after

    def step(
        self, clip: Tensor, state: State, keys: Tensor | None = None, boxes: Tensor | None = None
    ) -> tuple[Predictions, State]:
        """Go on through a video; see `advance`. The state of a network that is not causal holds the frames before."""
        keys = self._keys(clip, keys)
        if self.causal:
            predictions, _, after = self.advance(clip, state, keys, boxes)
            return predictions, after
        whole = torch.cat([*state[1], clip], 2)
        predictions = self.advance(whole, self.initial_state(len(clip)), keys + whole.shape[2] - clip.shape[2], boxes)[0]
        before = whole[:, :, max(whole.shape[2] - self.config.window + 1, 0) :]
        return predictions, (state[0] + clip.shape[2], (before,), (), (), (), ())

    def _windows(self, clip: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The `window` frames that end at each key frame, the first one repeated where there are fewer: (B * K, 3, window, S, S)."""
        offsets = torch.arange(1 - self.config.window, 1, device=keys.device)
        index = (keys[:, :, None] + offsets).clamp(min=0)
        windows = take(clip.transpose(1, 2), index.flatten(1)).unflatten(1, index.shape[1:])
        return windows.flatten(0, 1).transpose(1, 2), keys.reshape(-1, 1)

    def forward_features(self, clip: Tensor, keys: Tensor | None = None) -> Features:
        """What both paths, MSM and SFM make of a clip from its true start; see `forward`."""
        return self.advance(clip, self.initial_state(len(clip)), self._keys(clip, keys))[1]

    def forward(self, clip: Tensor, keys: Tensor | None = None, boxes: Tensor | None = None) -> Predictions:
        """Detect in the key frames of clips.

        Args:
            clip: (B, 3, T, S, S) RGB, uint8 or float in 0..255, S = `config.key_size`, oldest frame first. Not modified.
            keys: (B, K) indices of the key frames; the last frame if None.
            boxes: (B * K, R, 4) to classify, in pixels of the input, instead of the strongest ones found.

        Returns:
            Predictions of B * K key frames.

        Raises:
            ValueError: for another shape.
        """
        return self.advance(clip, self.initial_state(len(clip)), self._keys(clip, keys), boxes)[0]

    def check(self, clip: Tensor) -> None:
        """Refuse a clip that the network would misread.

        Raises:
            ValueError: if it is not (B, 3, T, S, S) with T >= 1 and S = `config.key_size`.
        """
        size = self.config.key_size
        if clip.ndim != 5 or clip.shape[1] != 3 or clip.shape[2] < 1 or clip.shape[-2:] != (size, size):
            raise ValueError(f"clip has shape {tuple(clip.shape)}; it must be (B, 3, T, {size}, {size}) with T >= 1.")

    def _keys(self, clip: Tensor, keys: Tensor | None) -> Tensor:
        self.check(clip)
        if keys is None:
            return torch.full((len(clip), 1), clip.shape[2] - 1, device=clip.device)
        return keys

    def stream(self) -> "Stream":
        """A new, empty stream through this network."""
        return Stream(self)


@contextmanager
def half_of_the_cores() -> Iterator[None]:
    """Let torch use half of the cores: maps of a few frames are too small to gain from more, on two cores one is 2.5 times as fast as two
    for a single frame; and decoder and encoder want the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, max(1, (os.cpu_count() or 2) // 2)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Stream:
    """A video, fed to a network a few frames at a time. Its memory does not grow, and its numbers are those of the whole video as one
    clip (to float rounding).

    Args:
        model: in eval mode.
    """

    def __init__(self, model: MSSC) -> None:
        self.model = model
        self.state = model.initial_state(1)
        self.before: Tensor | None = None  # the last frames, for a 3D path that is not causal

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Predictions:
        """Predictions for each of the next frames.

        Args:
            frames: (T, 3, S, S), or (3, S, S) for one; RGB, uint8 or float in 0..255.

        Returns:
            Predictions with B = T.

        Raises:
            ValueError: for another shape.
        """
        frames = frames[None] if frames.ndim == 3 else frames
        clip = frames.transpose(0, 1)[None].to(self.state[0].device)
        self.model.check(clip)
        skip = 0
        if not self.model.causal:
            if self.before is not None:
                clip, skip = torch.cat([self.before, clip], 2), self.before.shape[2]
            self.before = clip[:, :, max(clip.shape[2] - self.model.config.window + 1, 0) :]
        keys = torch.arange(skip, clip.shape[2], device=clip.device)[None]
        with half_of_the_cores():
            predictions, _, after = self.model.advance(clip, self.state, keys)
        self.state = (self.state[0] + len(frames), *after[1:])  # the frames that came before are no new ones
        return predictions


def fold_batch_norms(model: MSSC) -> MSSC:
    """Put every BatchNorm of a `ConvBlock` into its convolution, in place: the same function in eval mode, faster."""
    for block in model.modules():
        if isinstance(block, ConvBlock) and isinstance(block.bn, nn.BatchNorm2d):
            block.conv = torch.nn.utils.fuse_conv_bn_eval(block.conv, block.bn)
            block.bn = nn.Identity()  # type: ignore[assignment]
    return model
