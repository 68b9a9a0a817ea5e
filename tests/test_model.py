"""The network: contracts over every ablation, streams that are their clips, what its parts add up to."""

import dataclasses
from functools import partial

import pytest
import torch
import torch.utils._pytree as pytree
from random_weights import randomise, settle
from torch import nn

from mssc.ablate.tables import ABLATIONS, CMX, PUBLISHED
from mssc.config import ModelConfig
from mssc.model.flow import FlowStream
from mssc.model.layers import ConvBlock, fold_batch_norms
from mssc.model.mssc import MSSC

TINY = ModelConfig(classes=("a", "b", "c"), key_size=64, clip_size=32, window=4, kept=4, hidden=16)
ODD = dataclasses.replace(TINY, key_size=96, clip_size=48)  # 12, 6 and 3 cells; a clip map of 6 x 6
ROWS = {f"{table}: {name}": changes for table, rows in ABLATIONS.items() for name, changes in rows.items()}
ROWS = {name: changes for i, (name, changes) in enumerate(ROWS.items()) if changes not in list(ROWS.values())[:i]}  # each once
ROWS |= {f"collapse {how}": {"collapse": how} for how in ("mean", "current")} | {"multilabel": {"actions": "multilabel"}}
DENSE = ("anchor_boxes", "anchor_objectness", "logits")

# Parameters that no output depends on, with the reason.
IDLE = {"T-B: product, centred": {"video.motion.perceptual.map.bias"}}  # it cancels in map(z) - map(mu)


def _clip(config, length, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, length, config.key_size, config.key_size), dtype=torch.uint8, generator=generator)


def _boxes(config, count, seed=0):
    corners = config.key_size * torch.rand(count, 2, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([corners.amin(2), corners.amax(2)], 2)


def _model(config, seed=0, prepare=settle):
    torch.manual_seed(seed)
    model = MSSC(config)
    return prepare(model, lambda: model(_clip(config, 4, 4, seed=99), torch.tensor([[0, 3]] * 4)))


def _exact(config, seed=0):
    """Weights so wild that single precision would round to 1e-2, in double precision."""
    return _model(config, prepare=partial(randomise, seed=seed)).double()


def _feed(model, clip, chunks, boxes=None):
    """Every frame's predictions, the clip coming in chunks of these lengths; and the shapes of the state after each."""
    state, start, found, shapes = model.initial_state(len(clip)), 0, [], []
    while start < clip.shape[2]:
        part = clip[:, :, start : start + chunks[len(found) % len(chunks)]]
        steps = part.shape[2]
        here = None if boxes is None else boxes[start : start + steps]
        predictions, state = model.step(part, state, torch.arange(steps)[None], here)
        start += steps
        found.append(predictions)
        shapes.append([x.shape for x in pytree.tree_leaves(state)])
    return {name: torch.cat([getattr(p, name) for p in found]) for name in DENSE}, shapes, state


def _assert_close(got, wanted, tolerance=1e-4):
    """Every value to `tolerance` of itself, of 1 (logits), of 64 pixels or its box's farthest edge (boxes), whatever is the largest."""
    for name in DENSE:
        a, b = (x[name] if isinstance(x, dict) else getattr(x, name) for x in (got, wanted))
        assert a.shape == b.shape
        boxes = name == "anchor_boxes"
        scale = (b.abs().amax(-1, keepdim=True) if boxes else b.abs()).clamp(min=64 if boxes else 1)
        assert ((a - b).abs() <= tolerance * scale).all(), (name, (a - b).abs().max())


# ------------------------------------------------------------------------------------------------------ every ablation's contract


@pytest.mark.parametrize("name", ROWS)
def test_shapes_inputs_and_gradients_are_as_documented(name):
    config = dataclasses.replace(TINY, **ROWS[name])
    torch.manual_seed(0)
    model, clip, keys = MSSC(config).eval(), _clip(config, 5, 2), torch.tensor([[1, 4], [0, 3]])
    kept = clip.clone(), keys.clone()
    maps = []
    if model.video.backbone is not None:
        model.video.backbone.register_forward_hook(lambda *args: maps.append(tuple(args[2][0].shape)))
    with torch.no_grad():
        out, _ = model.step(clip, model.initial_state(2), keys)
        features, _ = model.features(clip, model.initial_state(2), keys)
    assert [tuple(x.shape) for x in out] == [(4, 84, 4), (4, 84), (4, 4, 4), (4, 4), (4, 4, 3)]
    assert all(x.isfinite().all() for x in out)
    levels = 6 if config.fusion_branch == "task" else 3
    widths = (64, 64, 64) if config.paths == "clip" or config.fusion_position == "stems" else (64, 128, 256)
    wanted = [(4, width, side, side) for width, side in zip(widths, (8, 4, 2), strict=True)]
    assert [tuple(x.shape) for x in features.fused] == (wanted * 2)[:levels]
    assert [tuple(x.shape) for x in features.image.maps] == wanted
    levels = [] if config.paths == "clip" else [(4, 64, 8, 8), (4, 128, 4, 4), (4, 256, 2, 2)]
    assert [tuple(x.shape) for x in features.image.levels] == levels
    video, flow = features.video, 0 if config.paths == "key" or config.backbone3d.endswith("_rgb") else FlowStream.dims
    side, dims = (1, 0) if config.paths == "key" else (4, 64)
    assert tuple(video.motion.shape) == (2, dims, 5, side, side) and tuple(video.map.shape) == (4, 64, side, side)
    bypass = [(4, 3 * 64), *[(4, flow, side, side)] * 2] if config.classifier == "two-stream" and config.paths != "key" else []
    assert [tuple(x.shape) for x in video.bypass] == bypass
    frames = 0 if config.backbone3d == "causal_flow" else 384
    assert maps == ([] if config.paths == "key" else [(2, frames + flow, 5, 4, 4)] * 2)

    out = model(clip, keys, out.anchor_boxes[:, [5, 70, 82]])  # boxes of each level: all logits per anchor are asked for
    (out.anchor_boxes.square().mean() + out.anchor_objectness.square().mean() + out.logits.square().mean()).backward()
    unreached = {n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)}
    assert unreached - IDLE.get(name, set()) == set()
    assert torch.equal(clip, kept[0]) and torch.equal(keys, kept[1])


@pytest.mark.parametrize("name", ROWS)
def test_a_stream_is_its_clip_alone_or_in_a_batch(name):
    config = dataclasses.replace(TINY, **ROWS[name])
    model, clip, boxes = _exact(config), _clip(config, 9, 2), _boxes(config, 6).double()
    keys = torch.tensor([0, 4, 8])
    with torch.no_grad():
        both = model(clip, keys.repeat(2, 1), boxes)
        whole = {name: getattr(both, name)[:3] for name in DENSE}
        every = torch.zeros(9, 2, 4, dtype=torch.float64).index_copy(0, keys, boxes[:3])
        streamed, shapes, state = _feed(model, clip[:1], (1, 3, 5), every)  # its first frame is a clip of one frame
        _assert_close({name: streamed[name][keys] for name in DENSE}, whole, 1e-9)
        if config.paths != "key":  # the test can fail: a stream that forgot would say something else
            fresh = model(clip[:1, :, 6:], torch.tensor([[2]]), boxes[2:3])
            assert (fresh.logits - whole["logits"][2:]).abs().max() > 1e-3
    assert all(shape == [x.shape for x in pytree.tree_leaves(model.initial_state())] for shape in shapes)
    assert state.age.tolist() == [9]


# ------------------------------------------------------------------------------------------------------------------- streams


SIZES = {
    "both 64/32": TINY,
    "both 160/40": dataclasses.replace(TINY, key_size=160, clip_size=40),
    "key 96": dataclasses.replace(ODD, paths="key"),
    "clip 96/48": dataclasses.replace(ODD, paths="clip"),
}


@pytest.mark.parametrize(
    ("size", "dtype"),  # without SFM's LayerNorm random weights amplify rounding: one path only in double precision
    [*((size, torch.float64) for size in SIZES), ("both 64/32", torch.float32), ("both 160/40", torch.float32)],
)
def test_streams_of_every_length_and_chunk(size, dtype):
    config = SIZES[size]
    keys = torch.tensor([0, 1, 4, 16, 20, 33, 39])
    for seed, chunk in enumerate((1, 3, 8)) if (size, dtype) == ("both 64/32", torch.float32) else [(0, 3)]:
        model = _model(config, seed) if dtype == torch.float32 else _exact(config, seed)
        clip, boxes = _clip(config, 40, seed=seed), _boxes(config, 40).to(dtype)
        with torch.no_grad():
            streamed, shapes, _ = _feed(model, clip, (chunk,), boxes)
            for length in (1, 2, 17, 40):  # each a prefix of the others: no frame sees its future
                here = keys[keys < length]
                whole = model(clip[:, :, :length], here[None], boxes[here])
                _assert_close({name: streamed[name][here] for name in DENSE}, whole, 1e-3 if dtype == torch.float32 else 1e-9)
        assert all(shape == shapes[0] for shape in shapes)


def test_the_past_matters_and_the_future_does_not():
    model, clip = _model(TINY), _clip(TINY, 8)
    future, past = clip.clone(), clip.clone()
    future[:, :, 5:], past[:, :, :3] = 0, 0
    keys, boxes = torch.tensor([[3, 4]]), _boxes(TINY, 2)
    with torch.no_grad():
        out = model(clip, keys, boxes)
        _assert_close(model(future, keys, boxes), out)
        assert (model(past, keys, boxes).logits - out.logits).abs().max() > 1e-2


def test_a_step_leaves_its_state_alone():
    model, clip = _model(TINY), _clip(TINY, 3)
    with torch.no_grad():
        _, state = model.step(clip, model.initial_state(), torch.tensor([[0]]))
        before = [x.clone() for x in pytree.tree_leaves(state)]
        first = model.step(clip, state, torch.tensor([[2]]))[0]
        again = model.step(clip, state, torch.tensor([[2]]))[0]
    assert all(map(torch.equal, pytree.tree_leaves(state), before))
    assert torch.equal(first.logits, again.logits)


# ---------------------------------------------------------------------------------------- a 3D path that is not causal


def _noncausal(name, clip_size):
    config = dataclasses.replace(TINY, backbone3d=f"torchvision/{name}", clip_size=clip_size)
    torch.manual_seed(0)
    model = MSSC(config)
    return config, settle(model, lambda: model(_clip(config, 4, 2, seed=99)))


def test_a_stream_of_a_video_network_is_the_clip_of_its_last_window():
    config, model = _noncausal("r3d_18", 32)
    model, clip, boxes = model.double(), _clip(config, 7).double(), _boxes(config, 7).double()
    with torch.no_grad():
        streamed, _, state = _feed(model, clip, (3, 1), boxes)
        for key in (0, 2, 3, 6):
            last = model(clip[:, :, max(key - 3, 0) : key + 1], boxes=boxes[key : key + 1])
            _assert_close({name: streamed[name][key : key + 1] for name in DENSE}, last)
        seen = model(last_frames := clip[:, :, 3:], boxes=boxes[:1])
        forgotten = model(torch.cat([clip[:, :, :1], last_frames[:, :, 1:]], 2), boxes=boxes[:1])
        assert (seen.logits - forgotten.logits).abs().max() > 3e-4  # the oldest frame of the window counts
    assert state.age.tolist() == [7]


def test_backward_reaches_every_parameter_of_a_video_network():
    config, model = _noncausal("swin3d_t", 64)
    out = model(_clip(config, 4), boxes=_boxes(config, 1))
    (out.logits.square().sum() + out.anchor_boxes.square().sum() + out.anchor_objectness.square().sum()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


# ------------------------------------------------------------------------------------------------ the rest of the reconstruction


def test_8_motion_off_and_cfam_is_the_baseline():
    def parts(**changes):
        config = dataclasses.replace(ModelConfig(fusion_position="stems"), **changes)
        return {name: p.numel() for name, p in MSSC(config).named_parameters()}

    off, full = parts(motion="none", fusion="cfam"), parts(**PUBLISHED, **CMX)
    assert not any(name.startswith("video.motion.") for name in off)
    shared = {name: n for name, n in full.items() if not name.startswith(("video.motion.", "fusion."))}
    assert {name: n for name, n in off.items() if not name.startswith("fusion.")} == shared
    assert sum(full.values()) - sum(shared.values()) == 21_888 + 2 * 64 + 3 * 71_296  # MSM and LayerScale, SFM per level
    assert sum(off.values()) - sum(shared.values()) == 3 * 86_465  # CFAM behind P3


def test_one_path_has_nothing_of_the_other():
    key, clip = (MSSC(dataclasses.replace(TINY, paths=paths)) for paths in ("key", "clip"))
    assert not [n for n, _ in key.named_parameters() if n.startswith(("video.", "fusion."))]
    assert not [n for n, _ in clip.named_parameters() if n.startswith(("image.", "fusion."))]
    video = _clip(TINY, 4)
    other = video.clone()
    other[:, :, :3] = 0  # without a video path the frames before do not matter
    key = randomise(key)
    with torch.no_grad():
        _assert_close(key(other, boxes=_boxes(TINY, 1)), key(video, boxes=_boxes(TINY, 1)), 1e-5)


def test_folding_batch_norms_keeps_the_function():
    model, clip = _model(TINY).double(), _clip(TINY, 5).double()
    keys, boxes = torch.tensor([[0, 4]]), _boxes(TINY, 2).double()
    with torch.no_grad():
        wanted = model(clip, keys, boxes)
        assert fold_batch_norms(model) is model
        _assert_close(model(clip, keys, boxes), wanted)
        assert not [m for m in model.modules() if isinstance(m, ConvBlock) and isinstance(m.bn, nn.BatchNorm2d)]
        fold_batch_norms(model)  # twice is once
        _assert_close(model(clip, keys, boxes), wanted)


@pytest.mark.parametrize("shape", [(3, 4, 64, 64), (1, 4, 4, 64, 64), (1, 3, 0, 64, 64), (1, 3, 4, 64, 32), (1, 3, 4, 96, 96)])
def test_clips_of_another_shape_are_refused(shape):
    model = MSSC(TINY)
    with pytest.raises(ValueError, match=r"clip has shape .*; it must be \(B, 3, T, 64, 64\)"):
        model(torch.zeros(shape))
    with pytest.raises(ValueError, match="clip has shape"):
        model.step(torch.zeros(shape), model.initial_state(len(torch.zeros(shape))))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite(dtype):
    model, clip = _model(TINY), _clip(TINY, 3)
    if dtype == torch.float16:
        model = model.half()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = model(clip)
    assert all(x.isfinite().all() for x in out)
