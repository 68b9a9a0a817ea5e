"""Hooks, key frames, and what a study finds in tiny networks with random weights."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from random_weights import random_network, randomise
from torch import nn

from mssc import analysis, evaluate
from mssc.analysis import capture, corruption, exchange, keyframes, maps
from mssc.analysis.msm import channel_gain
from mssc.analysis.study import examine
from mssc.config import ModelConfig
from mssc.data.decoding import decode
from mssc.detection.detector import Detector, prepare
from mssc.model.features import Features
from mssc.model.fusion import build_level
from mssc.model.motion import build_motion
from mssc.model.video import WindowedVideoPath
from mssc.structures import Detections, InputError, Tube

LOOK = ModelConfig(
    key_size=96,
    clip_size=96,
    width=16,
    hidden=16,
    window=4,
    kept=4,
    fusion_head_width=8,
    backbone3d="causal_cspdarknet_nano",  # both streams, and one width: the network with the most parts
    fusion_position="stems",
)


network = partial(random_network, LOOK)


@pytest.fixture(scope="module")
def few(toy_videos):
    return toy_videos.subset([video.name for video in toy_videos.videos[:3]])


@pytest.fixture(scope="module")
def model(few):
    return network(few.classes)


def features(model, clip, keys=None) -> Features:
    return model.features(clip, model.initial_state(len(clip)), keys)[0]


def whole(video, size):
    return prepare(decode(video.path), size).transpose(0, 1)[None]


# -------------------------------------------------------------------- capture


def small():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))


def test_capture_records_outputs_and_inputs():
    net, x = small(), torch.randn(5, 3)
    with capture(net, "0", "2", inputs=["2"]) as seen:
        y = net(x)
    assert torch.equal(seen["0"], net[0](x)), "the ReLU behind it works in place; the record must not change with it"
    assert (seen["0"] < 0).any() and torch.equal(seen["2"], y) and torch.equal(seen.inputs["2"][0], net[0](x).relu())
    assert not seen["2"].requires_grad
    net(x + 1)
    assert torch.equal(seen["2"], y), "nothing is recorded after the block"


def test_capture_keeps_the_graph_if_asked():
    net = small()
    with capture(net, "0", detach=False) as seen:
        net(torch.randn(1, 3)).sum().backward()
    assert seen["0"].grad_fn is not None


def test_capture_refuses_what_would_record_nothing():
    net = small()
    with pytest.raises(InputError, match="no submodule 'first'"), capture(net, "first"):
        net(torch.randn(1, 3))
    with pytest.raises(InputError, match="'1' did not run"), capture(net, "1"):
        pass
    with pytest.raises(ZeroDivisionError), capture(net, "1"):  # the block's own error is not hidden
        _ = 1 / 0
    compiled = small()
    compiled.compile()
    for one in (torch.compile(small()), compiled, torch.jit.script(small())):
        with pytest.raises(InputError, match="compiled"), capture(one, "0"):
            pass
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


# -------------------------------------------------------------------- key frames


def test_key_frames_are_labelled_ones_with_truth(few):
    video = few.videos[0]
    acting = [f for f in range(video.frames) if len(video.boxes_at(f)[0])]
    assert keyframes.key_frames(video, 1) == acting and keyframes.key_frames(video, 3) == acting[::3]
    assert keyframes.key_frames(replace(video, labelled=(0, acting[2])), 1) == [f for f in (0, acting[2]) if f in acting]
    assert keyframes.key_frames(replace(video, tubes=()), 1) == []
    with pytest.raises(InputError, match="step is 0"):
        keyframes.key_frames(video, 0)


def test_fast_videos_are_looked_at_as_in_detection(model, few):
    video = replace(few.videos[0], rate=few.videos[0].rate * 2)
    shown: dict[int, int] = {}
    for frame in keyframes.key_frames(video, 1):
        shown.setdefault(frame // 2, frame)
    found = list(keyframes.collect(Detector(model), video, 1))
    assert [key.frame for key in found] == list(shown.values())
    assert [key.frame for key in keyframes.collect(Detector(model), video, 1, "clip")] == list(shown.values())
    np.testing.assert_array_equal(found[0].image, whole(video, 96)[0, :, 2 * (found[0].frame // 2)].permute(1, 2, 0).numpy())


def test_a_stream_sees_what_the_whole_video_shows(few, monkeypatch):
    model = network(few.classes).double()  # random weights amplify rounding
    monkeypatch.setattr(keyframes, "FRAMES_AT_ONCE", 5)
    video = few.videos[0]
    found = list(keyframes.collect(Detector(model), video, 3))
    keys = torch.tensor([[key.frame for key in found]])
    with torch.no_grad():
        seen = features(model, whole(video, 96), keys)
    for row, key in enumerate(found):
        wanted = seen.video.motion[0, :, key.frame].permute(1, 2, 0).float()
        torch.testing.assert_close(torch.from_numpy(key.taps["MSM out"]), wanted, rtol=1e-5, atol=1e-5)
        for level, stride, maps_ in zip(key.levels, (8, 16, 32), seen.fused, strict=True):
            torch.testing.assert_close(level.fused, maps_[row], rtol=1e-5, atol=1e-5)
            assert key.taps[f"SFM out {stride}"].shape == (96 // stride, 96 // stride, 16)
        boxes, labels = video.boxes_at(key.frame)
        np.testing.assert_allclose(key.boxes, boxes * np.array([96 / 64, 96 / 48] * 2), rtol=1e-6)
        assert key.labels.tolist() == labels.tolist() and key.image.shape == (96, 96, 3)


@pytest.mark.parametrize("backbone", ["causal_cspdarknet_nano", "torchvision/swin3d_t"])
def test_clip_mode_sees_the_window_alone(few, backbone):
    model = network(few.classes, backbone3d=backbone, clip_size=96 if backbone.startswith("causal") else 48).double()
    video, mode = few.videos[1], "clip"
    images = whole(video, 96)
    for key in list(keyframes.collect(Detector(model), video, 6, mode))[:2]:
        window = images[:, :, max(0, key.frame - 3) : key.frame + 1]
        with torch.no_grad():
            seen = features(model, window)
        fused, at_end = seen.fused, seen.video.motion[0, :, -1]
        torch.testing.assert_close(key.levels[0].fused, fused[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(key.taps["MSM out"]), at_end.permute(1, 2, 0).float(), rtol=1e-5, atol=1e-5)
        if isinstance(model.video, WindowedVideoPath) and key.frame >= 3:  # it sees no more in a stream
            other = next(k for k in keyframes.collect(Detector(model), video, 6) if k.frame == key.frame)
            torch.testing.assert_close(other.levels[0].fused, fused[0][0], rtol=1e-5, atol=1e-5)


def test_an_unknown_mode_is_refused(model, few):
    with pytest.raises(InputError, match="'live'"):
        next(keyframes.collect(Detector(model), few.videos[0], 4, "live"))  # type: ignore[arg-type]


def test_what_paths_take_is_queries_times_context(model, few):
    key = next(keyframes.collect(Detector(model), few.videos[0]))
    for level, fusion in zip(key.levels, model.fusion.levels, strict=True):
        assert level.context is not None and level.attention is None
        torch.testing.assert_close(level.context.sum(-2), torch.ones_like(level.context.sum(-2)))
        for path, x in enumerate((level.spatial, level.motion)):
            tokens = x.flatten(2).transpose(1, 2)
            query = fusion.exchange.project[path](tokens).relu().chunk(fusion.exchange.parts, -1)[-1]
            taken = (
                (query.unflatten(-1, (fusion.exchange.heads, -1)).transpose(1, 2) @ level.context[path])
                .transpose(1, 2)
                .flatten(2)
            )
            torch.testing.assert_close(level.exchanged[path].flatten(1).T, taken[0], rtol=1e-4, atol=1e-4)
        for ours, theirs in zip(level.corrected, exchange.corrected(fusion, level.spatial, level.motion), strict=True):
            torch.testing.assert_close(ours, theirs[0], rtol=1e-5, atol=1e-5)  # rounding of values near 60


# -------------------------------------------------------------------- MSM and SFM by themselves


@pytest.mark.parametrize("form", ["distance", "product", "centred"])
def test_the_gain_is_what_happens_to_deviations(form):
    module = randomise(build_motion(16, replace(LOOK, motion_average="hw", motion_perceptual=form)))
    seen = []
    module.perceptual.gain.register_forward_hook(lambda _, __, out: seen.append(out))
    z, branch = torch.randn(2, 3, 4, 5, 16), module.perceptual
    start = branch.initial(2, 4, 5, 16, z), torch.zeros(2)
    mu, _ = branch.average(z, *start)
    out = z + branch(z, *start)[0]
    gain = channel_gain(module, seen[0])
    centre = (
        mu if form == "distance" else out.mean((2, 3), keepdim=True)
    )  # of ours, whose gain differs from place to place, the old one
    torch.testing.assert_close(out - centre, gain * (z - mu), rtol=1e-4, atol=1e-4)
    assert (gain != 1).any()


def test_modules_without_a_gain_are_known():
    for changes in ({"motion_perceptual": "product", "motion_fc": "full"}, {"motion_branches": "spacetime"}):
        module = build_motion(16, replace(LOOK, **changes))
        assert not analysis.has_channel_gain(module)


def test_stage_one_carries_no_place():
    fusion = randomise(build_level(LOOK))
    own = torch.randn(2, 1, 16, 6, 7)
    order = torch.randperm(42)
    moved = own.flatten(3)[..., order].reshape(own.shape)
    found = exchange.exchange_strength(fusion, (own[0], own[1]), (moved[0], moved[1]))
    assert found.spatial_other < 1e-5 and found.motion_other < 1e-5, "the other path's order does not matter"
    assert found.spatial_zero > 1e-3 and found.motion_zero > 1e-3
    by_place = randomise(build_level(replace(LOOK, fusion="sfm_attention")))
    assert (
        exchange.exchange_strength(by_place, (own[0], own[1]), (moved[0], moved[1])).spatial_other < 1e-5
    )  # a softmax sums, too
    with pytest.raises(InputError, match="no stage 1"):
        exchange.corrected(build_level(replace(LOOK, fusion="concat")), own[0], own[1])


def test_class_activation_asks_for_the_boxes_own_action(model, few):
    key = next(keyframes.collect(Detector(model), few.videos[0]))
    boxes = np.concatenate([key.boxes[:1], key.boxes[:1], [[0, 0, 20, 20]]])
    found = maps.class_activation(model.head, key.features, boxes, np.array([0, 1, 0]))
    for one in found:
        assert [x.shape for x in one] == [(12, 12), (6, 6), (3, 3)]
        assert [x.sum() for x in one] == pytest.approx([1, 1, 1])
    assert not np.allclose(found[0][0], found[1][0]) and not np.allclose(found[0][0], found[2][0])
    assert all(p.grad is None for p in model.parameters())


# -------------------------------------------------------------------- corruptions


def test_corruptions_by_hand():
    g = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 40, 40) * 255
    before = images.clone()
    flat = torch.full((1, 3, 40, 40), 77.0)
    torch.testing.assert_close(corruption.blur(flat, 0.04, g), flat, rtol=1e-4, atol=1e-2)
    assert corruption.blur(images, 0.04, g).var() < images.var()
    assert corruption.noise(images, 0.4, g).min() >= 0 and corruption.noise(flat, 0.1, g).std() == pytest.approx(25.5, rel=0.1)
    covered = (corruption.occlude(images, 0.25, g) == corruption.GREY).all(1)
    assert covered.sum((1, 2)).tolist() == [400, 400]
    clips = torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(2, 3, 6, 2, 2)
    shuffled = corruption.shuffle(clips, 1.0, g)
    assert (shuffled[:, :, -1] == 5).all() and not torch.equal(shuffled, clips)
    assert torch.equal(shuffled.sort(2).values, clips)
    assert (corruption.freeze(clips, 1.0, g) == 5).all()
    assert corruption.freeze(clips, 0.5, g)[0, 0, :, 0, 0].tolist() == [3, 3, 3, 3, 4, 5]
    assert corruption.drop(clips, 1.0, g)[0, 0, :, 0, 0].tolist() == [0, 0, 0, 0, 0, 5]
    assert torch.equal(images, before)
    alone = torch.rand(1, 3, 1, 4, 4)  # a window of one frame
    for change in (corruption.shuffle, corruption.freeze, corruption.drop):
        assert torch.equal(change(alone, 0.5, g), alone)


@pytest.mark.parametrize("name", corruption.CORRUPTIONS)
def test_one_path_is_spoilt_the_other_is_not(model, name):
    kind, clip = corruption.CORRUPTIONS[name], torch.rand(1, 3, 6, 96, 96) * 255
    with torch.no_grad():
        plain = features(model, clip)
        with corruption.corrupted(model, name, kind.amounts[-1], torch.Generator().manual_seed(1)):
            spoilt = features(model, clip)
        again = features(model, clip)
    assert torch.equal(plain.image.levels[0], spoilt.image.levels[0]) == (kind.path == "clip")
    assert torch.equal(plain.video.motion, spoilt.video.motion) == (kind.path == "key")
    assert torch.equal(plain.fused[0], again.fused[0]), "nothing stays behind"


def test_robustness_is_frame_map_over_resampled_videos():
    rng = np.random.default_rng(0)
    truth, found, fewer = {}, {}, {}
    for video in "abcd":
        boxes = rng.uniform(0, 40, (12, 4))
        boxes[:, 2:] = boxes[:, :2] + rng.uniform(10, 30, (12, 2))
        labels = rng.integers(0, 3, 12)
        truth[video] = evaluate.Truth(
            tuple(Tube(k, 1, i % 6, box[None]) for i, (k, box) in enumerate(zip(labels, boxes, strict=True))), 6
        )
        said = np.where(rng.random(12) < 0.7, labels, 0)
        rows = Detections(boxes + rng.normal(0, 3, (12, 4)), said, rng.random(12))
        found[video] = [rows[np.arange(12) % 6 == frame] for frame in range(6)]
        fewer[video] = [rows[(np.arange(12) % 6 == frame) & (np.arange(12) < 6)] for frame in range(6)]
    hits = {("none", 0.0): evaluate.frame_hits(found, truth, 3), ("blur", 0.01): evaluate.frame_hits(fewer, truth, 3)}
    robust = analysis.Robustness("m", hits)
    score = evaluate.frame_map(found, truth, 3).map
    whole, loss = robust.frame_map(), robust.loss("blur", 0.01)
    assert whole.value == pytest.approx(score) and 0 < whole.low < score < whole.high < 1
    assert loss.value == pytest.approx(score - robust.frame_map("blur", 0.01).value) and loss.low > 0


def test_robustness_of_a_network(model, few, monkeypatch):
    monkeypatch.setattr(corruption, "CORRUPTIONS", {kind: corruption.CORRUPTIONS[kind] for kind in ("noise", "frozen")})
    found = analysis.robustness(Detector(model), few, "m", step=9)
    assert set(found.hits) == {("none", 0.0), *(("noise", a) for a in (0.1, 0.2, 0.4)), ("frozen", 0.5), ("frozen", 1.0)}
    assert found.hits["none", 0.0].positives.sum() >= 3 and 0 <= found.frame_map().value <= 1
    with pytest.raises(InputError, match="'fog'"), corruption.corrupted(model, "fog", 0.5, torch.Generator()):
        pass


# -------------------------------------------------------------------- studies

BOTH = {"MSM in", "MSM out", "SFM in", "SFM out 8"}


@pytest.mark.parametrize(
    ("changes", "taps", "gain", "exchanged", "kinds"),
    [
        ({}, BOTH, True, True, {"T spatial 8", "T motion 8", "OUT 8", "Grad-CAM 8"}),
        ({"fusion": "sfm_attention", "motion_average": "none"}, BOTH, True, True, {"attention 8", "T spatial 32"}),
        ({"motion": "none", "fusion": "concat"}, BOTH, False, False, {"OUT 8", "Grad-CAM 16"}),
        ({"paths": "key"}, {"SFM out 8"}, False, False, {"OUT 8"}),
        ({"paths": "clip", "motion_position": "native"}, BOTH, True, False, {"OUT 8"}),
        ({"fusion": "frm+sfm", "fusion_branch": "task", "classifier": "anchor"}, BOTH, True, True, {"T motion 8"}),
    ],
)
def test_a_study_of_every_kind_of_network(few, changes, taps, gain, exchanged, kinds):
    ticks = []
    study = examine(Detector(network(few.classes, **changes)), few, "net", step=8, examples=2, tick=ticks.append)
    assert ticks == [video.name for video in few.videos] == study.videos
    assert taps <= set(study.cells) and kinds <= set(study.maps)
    assert bool(len(study.gain)) == gain and bool(study.strength) == exchanged
    assert len(study.examples) == 2 and study.examples[0].video != study.examples[1].video
    for tap in taps:
        one = study.distance(tap, "Fisher J")
        assert np.isfinite(one.value) and one.videos <= 3
        assert study.cells[tap].labels[study.cells[tap].action].min() >= 0
    if gain:
        assert study.gain.shape == study.fisher.shape and 0 <= study.gain_facts()["share above 1"].value <= 1
    if exchanged:
        assert study.exchange(8, "spatial_zero").value > 0 and 0 <= study.cka(8, "after").value <= 1
    if changes.get("motion") == "none":
        assert study.change("MSM in", "MSM out", "d_euc")[:3] == (0, 0, 0), "an empty slot changes nothing"


def test_a_study_repeats_and_leaves_the_model_alone(model, few):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (examine(Detector(model), few, step=10, examples=0) for _ in range(2))
    assert first.distance("SFM in", "d_euc") == second.distance("SFM in", "d_euc")
    assert np.array_equal(first.cells["MSM out"].features, second.cells["MSM out"].features)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_what_cannot_be_studied(model, few):
    with pytest.raises(InputError, match="knows circle"):
        examine(Detector(model), replace(few, classes=(*few.classes, "other")))
    nothing = replace(few, videos=tuple(replace(video, tubes=()) for video in few.videos))
    with pytest.raises(InputError, match="no.* ground truth"):
        examine(Detector(model), nothing)
    with pytest.raises(InputError, match="no.* ground truth"):
        analysis.robustness(Detector(model), nothing)


@pytest.mark.gpu
def test_a_gpu_sees_what_the_cpu_sees(few):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    here = Detector(network(few.classes, fusion="sfm_attention"))
    there = Detector(copy.deepcopy(here.model).cuda())
    studies = [examine(one, few, step=8, examples=1) for one in (here, there)]
    for tap in BOTH:
        first, second = (study.distance(tap, "d_euc").value for study in studies)
        assert first == pytest.approx(second, rel=1e-3)
    for kind in ("OUT 8", "attention 8", "Grad-CAM 8"):
        first, second = (study.response(kind, "EIB").value for study in studies)
        assert first == pytest.approx(second, rel=1e-2)
    maps_ = [analysis.robustness(one, few, "m", step=9).frame_map("frozen", 1.0).value for one in (here, there)]
    assert maps_[0] == pytest.approx(maps_[1], abs=1e-3)
