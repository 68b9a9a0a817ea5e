"""The video path by itself: the map of each key frame, streams that are their clips, the window for networks that are not causal, and
the null module of a network without it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
import torchvision
from conftest import TINY
from random_weights import randomise, settle
from test_backbone3d import small_mvit

from mssc.model.backbone3d import TORCHVISION_VIDEO
from mssc.model.features import VideoFeatures
from mssc.model.flow import FlowStream
from mssc.model.motion import MotionSense
from mssc.model.video import NoVideo, TemporalStatistics, VideoPath, WindowedVideoPath, build_video_path, take

SIZE = TINY.key_size


def _clip(length, batch=1, size=SIZE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, length, size, size), dtype=torch.uint8, generator=generator)


def _path(seed=0, **changes):
    """A causal path in double precision, with weights so wild that single precision would not do."""
    path = build_video_path(replace(TINY, **changes))
    return randomise(path, lambda: path(_clip(6, 4, seed=99), path.initial_state(4), torch.tensor([[0, 5]] * 4)), seed).double()


def _feed(path, clip, chunks, keys=None):
    """Features of key frames (or all) of a video that comes in chunks of these lengths, chunk by chunk, and the states between them."""
    state, start, found, states = path.initial_state(), 0, [], []
    for part in clip.split(chunks, 2):
        steps = range(start, start + part.shape[2])
        here = [t - start for t in steps if keys is None or t in keys]
        features, state = path(part, state, torch.tensor([here]))
        start = steps.stop
        found.append(features)
        states.append(state)
    return found, states


def _assert_close(got: VideoFeatures, wanted: VideoFeatures, tolerance=1e-9):
    """Every value to `tolerance` of itself or of 1, whatever is larger."""
    for name in VideoFeatures._fields:
        for a, b in zip(pytree.tree_leaves(getattr(got, name)), pytree.tree_leaves(getattr(wanted, name)), strict=True):
            assert a.shape == b.shape and ((a - b).abs() <= tolerance * b.abs().clamp(min=1)).all(), name


def _joined(found):
    """Those of B = 1, after each other."""
    bypass = tuple(torch.cat(parts) for parts in zip(*(f.bypass for f in found), strict=True))
    return VideoFeatures(torch.cat([f.motion for f in found], 2), torch.cat([f.map for f in found]), bypass)


# ------------------------------------------------------------------------------------------------------------- the path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"motion_position": "native"},
        {"collapse": "mean"},
        {"collapse": "current"},
        {"classifier": "two-stream"},
        {"classifier": "two-stream", "backbone3d": "causal_cspdarknet_nano_rgb"},
    ],
)
def test_a_stream_is_its_clip(changes):
    path, clip, keys = _path(**changes), _clip(9), torch.arange(9)[None]
    flow = 0 if changes.get("backbone3d") else FlowStream.dims
    bypass = [(9, 48), *[(9, flow, 4, 4)] * 2] if changes.get("classifier") else []
    kept = clip.clone()
    with torch.no_grad():
        whole, after = path(clip, path.initial_state(), keys)
        assert [tuple(x.shape) for x in whole[:2]] == [(1, 16, 9, 4, 4), (9, 16, 4, 4)] and path.flow_dims == flow
        assert [tuple(x.shape) for x in whole.bypass] == bypass and bool(after.bypass) == bool(bypass)
        found, states = _feed(path, clip, [1, 3, 5])
        _assert_close(_joined(found), whole)
        for state in states:  # it does not grow
            assert [x.shape for x in pytree.tree_leaves(state)] == [x.shape for x in pytree.tree_leaves(after)]
        assert states[-1].age.tolist() == [9]
        fresh = path(clip[:, :, 6:], path.initial_state(), torch.tensor([[2]]))[0]
        assert (fresh.map - whole.map[-1:]).abs().max() > 1e-3  # the test can fail: a stream that forgot would differ
    assert torch.equal(clip, kept)


def test_key_frames_are_picked_and_videos_share_a_batch():
    path, clip = _path(), _clip(7, 2)
    with torch.no_grad():
        both, _ = path(clip, path.initial_state(2), torch.tensor([[1, 6], [4, 0]]))
        for video, keys in enumerate(([1, 6], [4, 0])):
            alone, _ = path(clip[video : video + 1], path.initial_state(), torch.tensor([keys]))
            rows = slice(2 * video, 2 * video + 2)
            mine = VideoFeatures(both.motion[video : video + 1], both.map[rows], tuple(x[rows] for x in both.bypass))
            _assert_close(mine, alone)
            for row, key in enumerate(keys):  # no frame sees its future
                _assert_close(
                    path(clip[video : video + 1, :, : key + 1], path.initial_state(), torch.tensor([[key]]))[0],
                    VideoFeatures(
                        alone.motion[:, :, : key + 1], alone.map[row : row + 1], tuple(x[row : row + 1] for x in alone.bypass)
                    ),
                )


def test_what_it_says_is_made_of_its_parts():
    path, clip, seen = _path(classifier="two-stream"), _clip(6), {}
    for name in ("backbone", "before", "motion"):
        getattr(path, name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        features, _ = path(clip, path.initial_state(), torch.tensor([[5]]))
        frames = path.prepare(clip)
        maps = path.backbone(frames, path.backbone.initial(1, 32, frames), torch.zeros(1, dtype=torch.int64))[0].permute(
            0, 2, 3, 4, 1
        )
    assert torch.allclose(seen["before"], F.linear(maps, path.before.weight, path.before.bias))
    motion = seen["motion"][0]
    assert torch.equal(features.motion, motion.permute(0, 4, 1, 2, 3)) and isinstance(path.motion, MotionSense)
    window = motion[:, -TINY.window :]
    change = (motion[:, 1:] - motion[:, :-1]).abs()[:, -TINY.window :]
    mixed = torch.cat([motion[:, -1], window.mean(1), change.mean(1)], -1)
    wanted = F.linear(mixed, path.collapse.weight, path.collapse.bias).permute(0, 3, 1, 2)
    assert torch.allclose(features.map, wanted, atol=1e-9)
    flow = maps[..., -FlowStream.dims :].permute(0, 1, 4, 2, 3)
    _, now, average = features.bypass
    assert torch.allclose(now, flow[:, -1]) and torch.allclose(average, flow[:, -TINY.window :].mean(1))


def test_its_input_is_the_average_of_pixels():
    path, clip, seen = build_video_path(TINY), _clip(2), []
    path.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    path(clip, path.initial_state(), torch.tensor([[1]]))
    means = clip[0, :, 1].float().reshape(3, 32, 2, 32, 2).mean((2, 4))
    assert torch.allclose(seen[0][0, :, 1], means, atol=1e-3)


def test_gradient_reaches_every_parameter():
    path = _path()
    features, _ = path(_clip(6, 2), path.initial_state(2), torch.tensor([[2, 5], [4, 3]]))
    features.map.square().sum().backward()
    assert [n for n, p in path.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


# ------------------------------------------------------------------------------------------------------------- the window


def _windowed(name, window, clip_size, monkeypatch):
    if name == "mvit_v2_s":  # the real one takes 16 frames of 224 pixels
        monkeypatch.setattr(torchvision.models, "get_model", small_mvit)
        monkeypatch.setitem(TORCHVISION_VIDEO, name, (TORCHVISION_VIDEO[name][0], 32, 8, *TORCHVISION_VIDEO[name][3:]))
    torch.manual_seed(0)
    path = build_video_path(replace(TINY, backbone3d=f"torchvision/{name}", window=window, clip_size=clip_size))
    assert isinstance(path, WindowedVideoPath) and path.flow_dims == 0
    last = torch.tensor([[window - 1]] * 2)
    return settle(path, lambda: path(_clip(window, 2, seed=99), path.initial_state(2), last)).double()


@pytest.mark.parametrize(
    ("name", "window", "clip_size"), [("s3d", 16, 64), ("r3d_18", 4, 32), ("swin3d_t", 4, 32), ("mvit_v2_s", 4, 32)]
)
def test_a_windowed_stream_is_its_clip(name, window, clip_size, monkeypatch):
    path = _windowed(name, window, clip_size, monkeypatch)
    clip, keys = _clip(window + 3), torch.tensor([0, window - 2, window - 1, window + 2])
    with torch.no_grad():
        whole, _ = path(clip, path.initial_state(), keys[None])
        found, states = _feed(path, clip, [window - 1, 1, 3], keys.tolist())
        bypass = tuple(torch.cat(parts) for parts in zip(*(f.bypass for f in found), strict=True))
        every = VideoFeatures(torch.cat([f.motion for f in found]), torch.cat([f.map for f in found]), bypass)
        _assert_close(every, whole)
        for row, key in enumerate(keys.tolist()):  # a frame sees its window alone, whatever it is part of
            part = clip[:, :, max(key - window + 1, 0) : key + 1]
            alone, _ = path(part, path.initial_state(), torch.tensor([[part.shape[2] - 1]]))
            assert torch.allclose(alone.map[0], whole.map[row], atol=1e-9)
            assert all(torch.allclose(a[0], b[row], atol=1e-9) for a, b in zip(alone.bypass, whole.bypass, strict=True))
        spoilt = clip.clone()
        spoilt[:, :, 3] = clip[:, :, 0]
        assert (
            path(spoilt, path.initial_state(), keys[None, -1:])[0].map - whole.map[-1]
        ).abs().max() > 1e-4  # its oldest frame counts
    assert whole.motion.shape[:2] == (4, 16) and whole.motion.shape[3:] == whole.map.shape[2:]
    for state in states:  # nothing but the frames is remembered
        assert [tuple(x.shape) for x in state] == [(1,), (1, window - 1, 3, SIZE, SIZE)]
    assert states[-1].age.tolist() == [window + 3] and torch.equal(states[-1].frames, clip[:, :, 4:].transpose(1, 2).double())


def test_short_clips_repeat_their_first_frame(monkeypatch):
    path = _windowed("r3d_18", 4, 32, monkeypatch)
    clip = _clip(3)
    padded = torch.cat([clip[:, :, :1], clip], 2)
    with torch.no_grad():
        short, _ = path(clip, path.initial_state(), torch.tensor([[2]]))
        _assert_close(path(padded, path.initial_state(), torch.tensor([[3]]))[0], short)
    assert short.motion.shape[:3] == (1, 16, 1)  # of the key frame's window


def test_the_window_keeps_fractions_of_grey_levels(monkeypatch):
    path = _windowed("r3d_18", 4, 32, monkeypatch)
    clip = _clip(4).float() + 0.5
    last = clip[:, :, 3:].to(torch.uint8)
    with torch.no_grad():
        wanted, _ = path(torch.cat([clip[:, :, :3], last.float()], 2), path.initial_state(), torch.tensor([[3]]))
        _, state = path(clip[:, :, :3], path.initial_state(), torch.tensor([[2]]))
        got, after = path(last, state, torch.tensor([[0]]))
    _assert_close(got, wanted)
    assert after.frames.dtype == state.frames.dtype


# ------------------------------------------------------------------------------------------------------------- without it


def test_without_it_its_maps_are_zeros_and_only_frames_are_counted():
    path = build_video_path(replace(TINY, paths="key"))
    assert isinstance(path, NoVideo) and not list(path.parameters()) and not path.state_dict()
    assert path.motion is None and path.backbone is None and path.flow_dims == 0
    for dtype in (torch.float32, torch.float64):
        features, state = path.to(dtype)(_clip(5, 2), path.initial_state(2), torch.tensor([[0, 1, 4]] * 2))
        assert [tuple(x.shape) for x in features[:2]] == [(2, 0, 5, 1, 1), (6, TINY.width, 1, 1)] and features.bypass == ()
        assert not features.map.any() and features.map.dtype == dtype and state.age.tolist() == [5, 5]
    assert path(_clip(2, 2), state, torch.tensor([[0]] * 2))[1].age.tolist() == [7, 7]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, VideoPath),
        ({"paths": "clip"}, VideoPath),
        ({"paths": "key"}, NoVideo),
        ({"backbone3d": "torchvision/r3d_18"}, WindowedVideoPath),
    ],
)
def test_a_config_has_its_path(changes, kind):
    assert type(build_video_path(replace(TINY, **changes))) is kind


# ------------------------------------------------------------------------------------------------------------- time


def test_take_picks_rows_per_image():
    values = torch.arange(24).reshape(2, 4, 3)
    assert take(values, torch.tensor([[3, 0], [1, 1]])).tolist() == [[[9, 10, 11], [0, 1, 2]], [[15, 16, 17], [15, 16, 17]]]
    assert take(values[..., 0], torch.tensor([[2], [0]])).tolist() == [[6], [12]]


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("chunks", [1, 3, 9])
def test_temporal_statistics_are_the_windows(pooled, chunks):
    module, x = TemporalStatistics(2, 4, pooled), torch.randn(2, 9, 3, 5, 2)
    memory, age, out = module.initial(2, 3, 5, x), torch.zeros(2, dtype=torch.int64), []
    shapes = [part.shape for part in memory]
    for part in x.split(chunks, 1):
        y, memory = module(part, memory, age)
        age, out = age + part.shape[1], [*out, y]
        assert [part.shape for part in memory] == shapes
    if pooled:  # means of 2x2 cells
        cells = F.avg_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False)
        x = cells.permute(0, 2, 3, 1).unflatten(0, (2, 9))
    change = torch.cat([torch.zeros_like(x[:, :1]), (x[:, 1:] - x[:, :-1]).abs()], 1)  # the first frame has not changed
    if pooled:
        x, change = x.mean((2, 3), keepdim=True), change.mean((2, 3), keepdim=True)
    windows = [slice(max(t - 3, 0), t + 1) for t in range(9)]
    wanted = [torch.cat([x[:, t], x[:, w].mean(1), change[:, w].mean(1)], -1) for t, w in enumerate(windows)]
    assert torch.allclose(torch.cat(out, 1), torch.stack(wanted, 1), atol=1e-5)
