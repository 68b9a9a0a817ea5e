"""The network: contracts over every ablation, streams that are their clips, and torchvision's networks in the 3D path."""

import dataclasses
from functools import partial

import pytest
import torch
import torch.utils._pytree as pytree
import torchvision
from random_weights import randomise, settle
from test_backbone3d import small_mvit
from torch import nn

from mssc.config import ABLATIONS, ModelConfig
from mssc.model.backbone3d import TORCHVISION_VIDEO, MotionStream
from mssc.model.convert import CocoDetector
from mssc.model.layers import ConvBlock
from mssc.model.mssc import MSSC, fold_batch_norms
from mssc.structures import InputError

TINY = ModelConfig(classes=("a", "b", "c"), key_size=64, clip_size=32, window=4, kept=4, hidden=16)
ODD = dataclasses.replace(TINY, key_size=96, clip_size=48)  # 12, 6 and 3 cells; a clip map of 6 x 6
ROWS = {f"{table}: {name}": changes for table, rows in ABLATIONS.items() for name, changes in rows.items()}
ROWS = {name: changes for i, (name, changes) in enumerate(ROWS.items()) if changes not in list(ROWS.values())[:i]}  # each once
ROWS |= {f"collapse {how}": {"collapse": how} for how in ("mean", "current")} | {"multilabel": {"actions": "multilabel"}}
DENSE = ("anchor_boxes", "anchor_objectness", "logits")

# Parameters that no output depends on, with the reason.
IDLE = {"T-B: centred": {"motion.perceptual.map.bias"}}  # it cancels in map(z) - map(mu)


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
        predictions, _, state = model.advance(part, state, torch.arange(steps)[None], here)
        start += steps
        found.append(predictions)
        shapes.append([x.shape for x in pytree.tree_leaves(state)])
    return {name: torch.cat([getattr(p, name) for p in found]) for name in DENSE}, shapes, state


def _assert_close(got, wanted, tolerance=1e-4):
    """Every value to `tolerance` of itself, of 1 (logits) or of 64 pixels (boxes), whatever is the largest."""
    for name in DENSE:
        a, b = (x[name] if isinstance(x, dict) else getattr(x, name) for x in (got, wanted))
        assert a.shape == b.shape
        scale = b.abs().clamp(min=64 if name == "anchor_boxes" else 1)
        assert ((a - b).abs() <= tolerance * scale).all(), (name, (a - b).abs().max())


# ------------------------------------------------------------------------------------------------------ every ablation's contract


@pytest.mark.parametrize("name", ROWS)
def test_shapes_inputs_and_gradients_are_as_documented(name):
    config = dataclasses.replace(TINY, **ROWS[name])
    torch.manual_seed(0)
    model, clip, keys = MSSC(config).eval(), _clip(config, 5, 2), torch.tensor([[1, 4], [0, 3]])
    kept = clip.clone(), keys.clone()
    with torch.no_grad():
        out, features, _ = model.advance(clip, model.initial_state(2), keys)
    assert [tuple(x.shape) for x in out] == [(4, 84, 4), (4, 84), (4, 4, 4), (4, 4), (4, 4, 3)]
    assert all(x.isfinite().all() for x in out)
    levels = 6 if config.fusion_branch == "task" else 3
    assert [tuple(x.shape) for x in features.fused] == [(4, 64, s, s) for s in (8, 4, 2) * 2][:levels]
    assert [x.shape[1] for x in features.key] == ([] if config.paths == "clip" else [64, 128, 256])
    dims = 384 if config.backbone3d.endswith("_rgb") else 384 + MotionStream.dims
    clip_shape, motion_shape = ((2, dims, 5, 4, 4), (2, 64, 5, 4, 4)) if config.paths != "key" else ((2, 0, 0, 0, 0),) * 2
    assert (tuple(features.clip.shape), tuple(features.motion.shape)) == (clip_shape, motion_shape)

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
    assert state[0].tolist() == [9]


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
                _assert_close({name: streamed[name][here] for name in DENSE}, whole, 1e-4 if dtype == torch.float32 else 1e-9)
        assert all(shape == shapes[0] for shape in shapes)


def test_the_stream_object_is_advance_frame_by_frame():
    model, clip = _model(TINY), _clip(TINY, 7)
    frames = clip[0].transpose(0, 1)
    stream = model.stream()
    out = [stream(frames[0]), stream(frames[1:4]), stream(frames[4:].float())]  # one frame, several, floats
    with torch.no_grad():
        whole = model(clip, torch.arange(7)[None])
    _assert_close({name: torch.cat([getattr(p, name) for p in out]) for name in DENSE}, whole)
    assert [len(p.logits) for p in out] == [1, 3, 3] and not out[0].logits.requires_grad
    assert stream.state[0].tolist() == [7] and model.stream().state[0].tolist() == [0]  # a new stream starts anew


def test_the_past_matters_and_the_future_does_not():
    model, clip = _model(TINY), _clip(TINY, 8)
    future, past = clip.clone(), clip.clone()
    future[:, :, 5:], past[:, :, :3] = 0, 0
    keys, boxes = torch.tensor([[3, 4]]), _boxes(TINY, 2)
    with torch.no_grad():
        out = model(clip, keys, boxes)
        _assert_close(model(future, keys, boxes), out)
        assert (model(past, keys, boxes).logits - out.logits).abs().max() > 1e-2


def test_advance_leaves_state_and_clip_alone():
    model, clip = _model(TINY), _clip(TINY, 3)
    with torch.no_grad():
        _, _, state = model.advance(clip, model.initial_state(), torch.tensor([[0]]))
        before = [x.clone() for x in pytree.tree_leaves(state)]
        first = model.advance(clip, state, torch.tensor([[2]]))[0]
        again = model.advance(clip, state, torch.tensor([[2]]))[0]
    assert all(map(torch.equal, pytree.tree_leaves(state), before))
    assert torch.equal(first.logits, again.logits)


class Step(nn.Module):
    """One frame further: tensors in, tensors out."""

    def __init__(self, model: MSSC) -> None:
        super().__init__()
        self.model = model
        self.layout = pytree.tree_structure(model.initial_state())

    def forward(self, frame, *state):
        keys = torch.zeros(1, 1, dtype=torch.int64)
        predictions, _, after = self.model.advance(frame, pytree.tree_unflatten(list(state), self.layout), keys)
        return *predictions, *pytree.tree_leaves(after)


def test_the_streaming_step_can_be_exported():
    model, clip = _model(TINY), _clip(TINY, 6)
    step, state = Step(model), pytree.tree_leaves(model.initial_state())
    with torch.no_grad():
        exported = torch.export.export(step, (clip[:, :, :1], *state)).module()
        for t in range(6):  # longer than the window
            wanted, got = step(clip[:, :, t : t + 1], *state), exported(clip[:, :, t : t + 1], *state)
            assert all(torch.allclose(a, b, atol=1e-5, rtol=1e-5) for a, b in zip(wanted, got, strict=True)), t
            state = got[5:]
            assert [x.shape for x in state] == [x.shape for x in pytree.tree_leaves(model.initial_state())]


# ---------------------------------------------------------------------------------------- a 3D path that is not causal


def _noncausal(name, window, clip_size, monkeypatch):
    if name == "mvit_v2_s":  # the real one takes 16 frames of 224 pixels
        monkeypatch.setattr(torchvision.models, "get_model", small_mvit)
        monkeypatch.setitem(TORCHVISION_VIDEO, name, (TORCHVISION_VIDEO[name][0], 32, 8, *TORCHVISION_VIDEO[name][3:]))
    config = dataclasses.replace(TINY, backbone3d=f"torchvision/{name}", window=window, clip_size=clip_size)
    torch.manual_seed(0)
    model = MSSC(config)
    return config, settle(model, lambda: model(_clip(config, window, 2, seed=99)))


@pytest.mark.parametrize(
    ("name", "window", "clip_size"), [("s3d", 16, 64), ("r3d_18", 4, 32), ("swin3d_t", 4, 32), ("mvit_v2_s", 4, 32)]
)
def test_a_stream_of_a_video_network_is_the_clip_of_its_last_window(name, window, clip_size, monkeypatch):
    config, model = _noncausal(name, window, clip_size, monkeypatch)
    clip, stream, boxes = _clip(config, window + 3), model.stream(), _boxes(config, 1)
    assert not model.causal
    with torch.no_grad():
        out = [stream(part) for part in clip[0].transpose(0, 1).split([window - 1, 1, 3])]
        for key in (0, window - 2, window - 1, window + 2):
            last = model(clip[:, :, max(key - window + 1, 0) : key + 1])
            _assert_close({name: torch.cat([getattr(p, name) for p in out])[key : key + 1] for name in DENSE}, last)
        seen = model(last_frames := clip[:, :, 3:], boxes=boxes)
        forgotten = model(torch.cat([clip[:, :, :1], last_frames[:, :, 1:]], 2), boxes=boxes)
        assert (seen.logits - forgotten.logits).abs().max() > 3e-4  # the oldest frame of the window counts
    assert stream.before.shape[2] == window - 1 and stream.state[0].tolist() == [window + 3]
    assert pytree.tree_leaves(stream.state)[1:] == []  # no memory but the frames


def test_short_clips_repeat_their_first_frame_for_a_video_network(monkeypatch):
    config, model = _noncausal("r3d_18", 4, 32, monkeypatch)
    clip = _clip(config, 3)
    padded = torch.cat([clip[:, :, :1], clip], 2)
    with torch.no_grad():
        _assert_close(model(padded, boxes=_boxes(config, 1)), model(clip, boxes=_boxes(config, 1)))
        features = model.forward_features(clip, torch.tensor([[0, 2]]))
    assert features.motion.shape[:3] == (2, 64, 1)  # of each key frame's window


def test_backward_reaches_every_parameter_of_a_video_network(monkeypatch):
    config, model = _noncausal("swin3d_t", 4, 64, monkeypatch)
    out = model(_clip(config, 4), boxes=_boxes(config, 1))
    (out.logits.square().sum() + out.anchor_boxes.square().sum() + out.anchor_objectness.square().sum()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


# ------------------------------------------------------------------------------------------------ the rest of the reconstruction


def test_8_motion_off_and_cfam_is_the_baseline():
    def parts(**changes):
        return {name: p.numel() for name, p in MSSC(dataclasses.replace(ModelConfig(), **changes)).named_parameters()}

    off, none, full = parts(motion_mode="off", fusion="cfam"), parts(motion="none", fusion="cfam"), parts()
    assert off == none and not any(name.startswith("motion.") for name in off)
    shared = {name: n for name, n in full.items() if not name.startswith(("motion.", "fusion."))}
    assert {name: n for name, n in off.items() if not name.startswith("fusion.")} == shared
    assert sum(full.values()) - sum(shared.values()) == 21_888 + 2 * 64 + 3 * 71_296  # MSM and LayerScale, SFM per level
    assert sum(off.values()) - sum(shared.values()) == 3 * 86_465  # CFAM behind P3


def test_one_path_has_nothing_of_the_other():
    key, clip = (MSSC(dataclasses.replace(TINY, paths=paths)) for paths in ("key", "clip"))
    assert not [n for n, _ in key.named_parameters() if n.startswith(("backbone3d", "project", "motion", "collapse", "fusion"))]
    assert not [n for n, _ in clip.named_parameters() if n.startswith(("backbone2d", "neck", "stems", "fusion"))]
    video = _clip(TINY, 4)
    other = video.clone()
    other[:, :, :3] = 0  # without a video path the frames before do not matter
    key = randomise(key)
    with torch.no_grad():
        _assert_close(key(other, boxes=_boxes(TINY, 1)), key(video, boxes=_boxes(TINY, 1)), 1e-5)


def test_motion_alone_is_what_the_whole_network_adds():
    model, clip = _model(TINY), _clip(TINY, 7, 2)
    keys, boxes, seen = torch.tensor([[0, 5], [3, 6]]), _boxes(TINY, 4), []
    model.head.pooled.movement.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        model(clip, keys, boxes)
        alone = model.movement_logits(clip, keys, boxes)
    assert alone.shape == (4, 2, 3) and torch.allclose(alone, seen[0], atol=1e-5)


@pytest.mark.parametrize("changes", [{"paths": "key"}, {"classifier": "anchor"}, {"backbone3d": "torchvision/r3d_18"}])
def test_without_a_motion_stream_there_is_no_motion_alone(changes):
    model = MSSC(dataclasses.replace(TINY, **changes)).eval()
    assert model.motion_modules() == ()
    with pytest.raises(InputError, match="has no motion stream of its own"):
        model.movement_logits(_clip(TINY, 4), torch.tensor([[3]]), _boxes(TINY, 1))


def test_folding_batch_norms_keeps_the_function():
    model, clip = _model(TINY), _clip(TINY, 5)
    keys, boxes = torch.tensor([[0, 4]]), _boxes(TINY, 2)
    with torch.no_grad():
        wanted = model(clip, keys, boxes)
        assert fold_batch_norms(model) is model
        _assert_close(model(clip, keys, boxes), wanted)
        assert not [m for m in model.modules() if isinstance(m, ConvBlock) and isinstance(m.bn, nn.BatchNorm2d)]
        fold_batch_norms(model)  # twice is once
        _assert_close(model(clip, keys, boxes), wanted)


@pytest.mark.parametrize("paths", ["both", "key", "clip"])
def test_it_starts_from_a_detectors_weights(paths):
    detector = randomise(CocoDetector(), seed=3)
    model = MSSC(dataclasses.replace(TINY, paths=paths))
    started = model.initialise_from(detector)
    assert len({id(p) for p in started}) == len(started) and {id(p) for p in started} <= {id(p) for p in model.parameters()}
    pairs = [(model.head.boxes.obj_preds, detector.obj_preds), (model.head.cls_convs, detector.tower.cls_convs)]
    if paths != "clip":
        pairs += [(model.backbone2d, detector.backbone), (model.stems, detector.tower.stems), (model.neck, detector.neck)]
    if paths != "key":
        pairs += [(model.backbone3d.net.dark5, detector.backbone.dark5)]
    for ours, theirs in pairs:
        state = theirs.state_dict()
        assert all(torch.equal(x, state[name]) for name, x in ours.state_dict().items())
    detector.backbone.dark5[0].pointwise.conv.weight.data.zero_()  # a copy, not the same tensor
    assert all(p.any() for p in started if p.ndim > 1)


def test_without_fusion_it_is_the_detector_it_started_from():
    # One path, no fusion: boxes and objectness are those of the COCO detector.
    torch.manual_seed(0)
    detector = CocoDetector()
    settle(detector, lambda: detector(255 * torch.rand(4, 3, 64, 64))).double()
    model = MSSC(dataclasses.replace(TINY, paths="key")).double().eval()
    model.initialise_from(detector)
    for conv in (*model.head.boxes.reg_preds, *detector.reg_preds):
        conv.weight.data *= 0.01  # sizes that are not cut off
    clip = _clip(TINY, 1)
    with torch.no_grad():
        rows, out = detector(clip[:, :, 0].double()), model(clip)
    assert torch.allclose(out.anchor_objectness.sigmoid(), rows[..., 4], atol=1e-9)
    side = torch.cat([torch.full((n,), float(s)) for s, n in ((8, 64), (16, 16), (32, 4))])
    wide = (out.anchor_boxes[..., 2:] - out.anchor_boxes[..., :2]) / side[:, None]
    assert torch.allclose(wide.log(), rows[..., 2:4].clamp(max=8), atol=1e-9)


@pytest.mark.parametrize(("paths", "count"), [("both", 4), ("key", 2), ("clip", 2)])
def test_stem_modules_are_stem_and_first_stage_of_each_path(paths, count):
    model = MSSC(dataclasses.replace(TINY, paths=paths))
    modules = list(model.stem_modules())
    nets = [net for net in (model.backbone2d, getattr(model.backbone3d, "net", None)) if net is not None]
    assert modules == [part for net in nets for part in (net.stem, net.dark2)] and len(modules) == count


def test_the_clip_path_sees_the_average_of_pixels():
    model, clip = MSSC(TINY), _clip(TINY, 2)
    seen = []
    model.backbone3d.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(clip)
    means = clip[0, :, 1].float().reshape(3, 32, 2, 32, 2).mean((2, 4))
    assert torch.allclose(seen[0][0, :, 1], means, atol=1e-3)


def test_normalisation_is_the_backbones():
    config = dataclasses.replace(TINY, backbone2d="timm/mobilenetv3_small_050", paths="key")
    model, seen = MSSC(config).eval(), []
    model.backbone2d.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    clip = _clip(config, 1)
    model(clip)
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (model.backbone2d.mean, model.backbone2d.std))
    assert torch.allclose(seen[0][0], (clip[0, :, 0] - mean) / std, atol=1e-5)
    assert {"key_mean", "key_std"} <= set(model.state_dict())  # they travel with the weights


@pytest.mark.parametrize("shape", [(3, 4, 64, 64), (1, 4, 4, 64, 64), (1, 3, 0, 64, 64), (1, 3, 4, 64, 32), (1, 3, 4, 96, 96)])
def test_clips_of_another_shape_are_refused(shape):
    model = MSSC(TINY)
    with pytest.raises(ValueError, match=r"clip has shape .*; it must be \(B, 3, T, 64, 64\)"):
        model(torch.zeros(shape))
    if len(shape) == 5:
        with pytest.raises(ValueError, match="clip has shape"):
            model.stream()(torch.zeros(shape)[0].transpose(0, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite(dtype):
    model, clip = _model(TINY), _clip(TINY, 3)
    if dtype == torch.float16:
        model = model.half()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = model(clip)
    assert all(x.isfinite().all() for x in out)
