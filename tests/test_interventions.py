"""Interventions: what takes a part's place is what it should be, and what it costs is counted as everywhere else."""

import copy
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from random_weights import random_network

from mssc.ablate.scores import score_model
from mssc.analysis import interventions as found_by
from mssc.analysis import stand_ins
from mssc.analysis.interventions import METRICS, Interventions, back_and_forth, chosen_rows, intervene, partners
from mssc.analysis.stand_ins import EXCHANGE, IDENTITY, MOTION_INPUT, MSM, OTHER, UNIFORM, ZERO, interventions_of, parts_of
from mssc.config import ModelConfig
from mssc.data.cache import FrameCache
from mssc.detection.detector import Detector
from mssc.model.mssc import MSSC
from mssc.structures import InputError

LOOK = ModelConfig(
    key_size=64,
    clip_size=64,
    width=16,
    hidden=16,
    window=4,
    kept=4,
    fusion_head_width=8,
    backbone3d="causal_cspdarknet_nano",
    fusion_position="stems",
)
FUSED = ["motion into fusion", "image into fusion"]
LEVELS = [f"fusion at stride {stride}" for stride in (8, 16, 32)]
VIDEO = ["3D path", "RGB of the clip", "flow stream"]
SENSE = ["MSM", "MSM perceptual branch", "MSM spacetime branch"]
STAGES = ["SFM stage 1", "SFM stage 2, motion", "SFM stage 2, skip"]


network = partial(random_network, LOOK)


@pytest.fixture(scope="module")
def few(toy_videos):
    return toy_videos.subset([video.name for video in toy_videos.videos[:4]])


@pytest.fixture(scope="module")
def model(few):
    return network(few.classes)


@pytest.fixture(scope="module")
def clips():
    """Two clips of six frames, and their key frames."""
    torch.manual_seed(1)
    own, other = (torch.rand(1, 3, 6, LOOK.key_size, LOOK.key_size) * 255 for _ in range(2))
    return own, other, torch.tensor([[2, 5]])


def looked(model, clips):
    """What is recorded of both clips, and their features."""
    found = []
    for clip in clips[:2]:
        with stand_ins.recorded(model) as seen:
            found.append((seen, model.features(clip, model.initial_state(1), clips[2])[0]))
    return found


def under(model, row, clips, both):
    """The features of the first clip under a row."""
    (own, _), (other, _) = both
    state = model.initial_state(1)
    with stand_ins.standing_in(model, row.stand_ins(model, own, other)):
        return model.features(clips[0], state, clips[2])[0]


def changed(model, part, kind, clips):
    """The features of the first clip under a row, and those of both clips without it."""
    both = looked(model, clips)
    (row,) = (row for row in interventions_of(model) if (row.part, row.kind) == (part, kind))
    return under(model, row, clips, both), both[0][1], both[1][1]


def same(first, second):
    return all(torch.allclose(x, y, atol=1e-5) for x, y in zip(first, second, strict=True))


# -------------------------------------------------------------------- what takes a part's place


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ["image path", *VIDEO, *SENSE, *FUSED, *STAGES, *LEVELS]),
        ({"motion": "none", "fusion": "concat"}, ["image path", *VIDEO, *FUSED, *LEVELS]),
        ({"motion": "se", "fusion": "sfm1"}, ["image path", *VIDEO, "se (MSM's slot)", *FUSED, *STAGES[:2], *LEVELS]),
        ({"paths": "key"}, ["image path"]),
        ({"paths": "clip"}, [*VIDEO, *SENSE]),
        ({"backbone3d": "causal_flow"}, ["image path", "3D path", *SENSE, *FUSED, *STAGES, *LEVELS]),
        ({"backbone3d": "causal_cspdarknet_nano_rgb"}, ["image path", "3D path", *SENSE, *FUSED, *STAGES, *LEVELS]),
        ({"motion_branches": "spacetime", "fusion_skip": "none"}, None),
        ({"fusion": "frm+sfm"}, ["image path", *VIDEO, *SENSE, *FUSED, *STAGES, "rectification", *LEVELS]),
        ({"fusion": "sfm_attention", "motion_perceptual": "product"}, None),
        ({"fusion_position": "levels"}, ["image path", *VIDEO, *SENSE, *FUSED, *STAGES, *LEVELS]),
        ({"fusion_branch": "task", "motion_memory": "video", "classifier": "two-stream"}, None),
        ({"motion_average": "none", "motion_scale": "one", "classifier": "anchor"}, None),
        ({"motion_average": "t", "motion_perceptual": "centred", "classifier": "loose"}, None),
        ({"backbone3d": "torchvision/r3d_18"}, ["image path", "3D path", *SENSE, *FUSED, *STAGES, *LEVELS]),
    ],
)
def test_every_row_of_every_kind_of_network_runs(changes, parts, few, clips):
    model = network(few.classes, **changes)
    rows = interventions_of(model)
    if parts is not None:
        assert parts_of(rows) == parts
    silent, both = [], looked(model, clips)
    before = both[0][1]
    for row in rows:
        after = under(model, row, clips, both)
        assert all(torch.isfinite(x).all() for x in after.fused)
        moved = (
            x for a, b in ((after.fused, before.fused), (after.image.maps, before.image.maps)) for x in zip(a, b, strict=True)
        )
        video = (after.video.map, before.video.map)
        if all(torch.equal(x, y) for x, y in (*moved, video)):
            silent.append((row.part, row.kind))
    assert not silent, "with random weights every row changes something"
    again, _ = model.features(clips[0], model.initial_state(1), clips[2])
    assert all(torch.equal(x, y) for x, y in zip(before.fused, again.fused, strict=True)), "nothing is left behind"


def test_another_class_is_what_the_network_makes_of_the_other_clip(model, clips):
    after, own, other = changed(model, "3D path", OTHER, clips)
    assert same([after.video.map, *after.video.bypass], [other.video.map, *other.video.bypass])
    assert same(after.fused, model.fusion(own.image, other.video))
    after, own, other = changed(model, "image path", OTHER, clips)
    assert same(after.fused, model.fusion(other.image, own.video)) and same(after.image.levels, other.image.levels)


def test_what_goes_into_fusion_is_changed_there_alone(model, clips):
    after, own, other = changed(model, MOTION_INPUT, OTHER, clips)
    assert same(after.fused, model.fusion(own.image, other.video))
    assert torch.equal(after.video.map, own.video.map) and same(after.video.bypass, own.video.bypass)
    after, own, _ = changed(model, "image into fusion", ZERO, clips)
    nothing = own.image._replace(maps=tuple(torch.zeros_like(x) for x in own.image.maps))
    assert same(after.fused, model.fusion(nothing, own.video)) and same(after.image.levels, own.image.levels)


def test_both_streams_together_are_the_path(model, clips):
    flow = model.video.flow_dims
    own, other, keys = clips
    states = model.initial_state(1)
    maps = [model.video.backbone(model.video.prepare(clip), states.backbone, states.age)[0] for clip in (own, other)]

    class Mixed(torch.nn.Module):
        def forward(self, *_):
            return torch.cat([maps[0][:, :-flow], maps[1][:, -flow:]], 1), states.backbone

    after, _, _ = changed(model, "flow stream", OTHER, clips)
    with stand_ins.standing_in(model, {"video.backbone": Mixed()}):
        wanted, _ = model.features(own, states, keys)
    assert same([after.video.map], [wanted.video.map])
    maps.reverse()
    after, _, _ = changed(model, "RGB of the clip", OTHER, clips)
    with stand_ins.standing_in(model, {"video.backbone": Mixed()}):
        wanted, _ = model.features(own, states, keys)
    assert same([after.video.map], [wanted.video.map])


def test_a_level_is_changed_by_itself(model, clips):
    after, own, other = changed(model, "fusion at stride 16", OTHER, clips)
    wanted = model.fusion(own.image, other.video)
    assert same(after.fused, [own.fused[0], wanted[1], own.fused[2]])


@pytest.mark.parametrize(
    ("part", "kind", "changes"),
    [
        (MSM, IDENTITY, {"motion": "none"}),
        ("MSM perceptual branch", ZERO, {"motion_branches": "spacetime"}),
        ("MSM spacetime branch", ZERO, {"motion_branches": "perceptual"}),
        ("SFM stage 2, skip", ZERO, {"fusion_skip": "none"}),
        (EXCHANGE, IDENTITY, {"fusion": "sfm2"}),
    ],
)
def test_a_part_left_out_is_a_network_without_it(part, kind, changes, model, clips):
    without = MSSC(replace(model.config, **changes)).eval()
    weights = {name.replace("merge.", "") if "fusion" in changes else name: x for name, x in model.state_dict().items()}
    without.load_state_dict({name: weights[name] for name in without.state_dict()})
    after, before, _ = changed(model, part, kind, clips)
    wanted, _ = without.features(clips[0], without.initial_state(1), clips[2])
    assert same(after.fused, wanted.fused) and not same(after.fused, before.fused)


@pytest.mark.parametrize("fusion", ["sfm", "sfm_attention"])
def test_an_even_exchange_mixes_everything_alike(fusion, few, clips):
    model = network(few.classes, fusion=fusion)
    name, seen = "fusion.levels.1.exchange", {}
    for kind in (ZERO, UNIFORM):
        (row,) = (row for row in interventions_of(model) if (row.part, row.kind) == (EXCHANGE, kind))
        with stand_ins.recorded(model) as own:
            model.features(clips[0], model.initial_state(1), clips[2])
        standing = stand_ins.standing_in(model, row.stand_ins(model, own, own))
        with standing, stand_ins.capture(model, inputs=[f"{name}.leave.0"]) as captured:
            model.features(clips[0], model.initial_state(1), clips[2])
        seen[kind] = captured.inputs[f"{name}.leave.0"][0]
    queries, _, values, _ = own.inputs[f"{name}.take.0"]
    # channels: each of a head is the mean of its queries; places: each gets the mean of the other path's values
    wanted = queries.mean(-1, keepdim=True) if fusion == "sfm" else values.mean(-2, keepdim=True)
    wanted = wanted.expand_as(queries).transpose(1, 2).flatten(2)
    inner = seen[UNIFORM].shape[-1] - wanted.shape[-1]  # a part of its own comes first, where there is one
    assert torch.allclose(seen[UNIFORM][..., inner:], wanted, atol=1e-5)
    assert not seen[ZERO][..., inner:].any() and torch.equal(seen[ZERO][..., :inner], seen[UNIFORM][..., :inner])


def test_even_gains_have_one_value_a_frame(model, clips):
    gain = model.video.motion.perceptual.gain
    x = torch.randn(2, 3, 4, 4, 5)
    out = stand_ins.Even(gain)(x)
    assert out.shape == x.shape and torch.allclose(out, gain(x).mean((2, 3, 4), keepdim=True).expand_as(x))


# -------------------------------------------------------------------- videos


def test_partners_cross_classes_and_repeat(toy_videos):
    found = partners(toy_videos.videos)
    assert found == partners(toy_videos.videos) and found != partners(toy_videos.videos, 1)
    for video in toy_videos.videos:
        mine, theirs = ({tube.label for tube in one.tubes} for one in (video, found[video.name]))
        assert not mine & theirs
        others = [one for one in toy_videos.videos if not {tube.label for tube in one.tubes} & mine]
        assert found[video.name].frames >= min(video.frames, max(one.frames for one in others))


def test_a_short_video_goes_back_and_forth():
    frames = back_and_forth(iter([torch.tensor(i) for i in range(3)]))
    assert [int(next(frames)) for _ in range(9)] == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    still = back_and_forth(iter([torch.tensor(7)]))
    assert [int(next(still)) for _ in range(3)] == [7, 7, 7]


# -------------------------------------------------------------------- scores


@pytest.fixture(scope="module")
def scored(model, few):
    return intervene(Detector(model), few, "tiny", step=2, rounds=30)


def test_without_intervention_the_scores_are_those_of_an_ablation(model, few, tmp_path):
    cache = FrameCache.build(few, tmp_path, progress=False)
    known = score_model(Detector(model), few, cache, rounds=2)
    found = intervene(Detector(model), few, step=1, parts=[MSM], rounds=2).rows[0].scores
    assert found["frame-mAP@0.5"].value == pytest.approx(known.scores["frame-mAP@0.5 unlinked"], abs=1e-6)
    assert found["actor AP@0.5"].value == pytest.approx(known.scores["actor AP@0.5"], abs=1e-6)
    assert found["box accuracy"].value == sum(known.right) / sum(known.boxes)


def test_changes_are_paired_differences(scored, few):
    first = scored.rows[0]
    assert (first.part, first.kind) == found_by.NONE and scored.videos == len(few) and scored.boxes >= scored.frames
    assert all(first.changes[name][:3] == (0, 0, 0) for name in METRICS)
    assert [(row.part, row.kind) for row in scored.rows[1:]] == [(r.part, r.kind) for r in interventions_of(network(few.classes))]
    for row in scored.rows:
        for name in METRICS:
            assert row.changes[name].value == pytest.approx(row.scores[name].value - first.scores[name].value)
            assert row.changes[name].low <= row.changes[name].high


def test_frames_at_once_do_not_matter_and_the_model_stays(model, few, monkeypatch):
    before, two = copy.deepcopy(model.state_dict()), few.subset([few.videos[0].name, few.videos[1].name])
    asked = {"dataset": two, "step": 2, "rounds": 30, "parts": ["flow stream", MSM, "MSM perceptual branch", MOTION_INPUT]}
    once = intervene(Detector(model), **asked)
    monkeypatch.setattr(found_by, "AT_ONCE", 5)
    assert intervene(Detector(model), **asked).record() == once.record()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert not any(isinstance(part, stand_ins.StandIn) for part in model.modules())


def effect(found, part, kind):
    return next(row for row in found.rows if (row.part, row.kind) == (part, kind))


def test_a_part_that_says_nothing_costs_nothing(few):
    model = network(few.classes)
    sense = model.video.motion
    torch.nn.init.zeros_(sense.gamma1)
    torch.nn.init.zeros_(sense.gamma2)
    found = intervene(Detector(model), few, parts=[MSM, "3D path"], rounds=5)
    assert all(effect(found, MSM, IDENTITY).changes[name][:3] == (0, 0, 0) for name in METRICS)


def test_videos_labelled_in_some_frames_are_seen_by_windows(model, few):
    some = few.subset([video.name for video in few.videos])
    labelled = [replace(v, labelled=tuple(range(v.tubes[0].start, v.tubes[0].stop, 3))) for v in some.videos]
    found = intervene(Detector(model), replace(some, videos=tuple(labelled)), step=1, parts=[MSM], rounds=5)
    assert found.frames == sum(len(video.labelled) for video in labelled)
    assert np.isfinite(effect(found, MSM, IDENTITY).scores["frame-mAP@0.5"].value)


def test_a_record_comes_back(scored):
    again = Interventions.of(json.loads(json.dumps(scored.record())))
    assert again.record() == scored.record() and effect(again, MSM, IDENTITY).changes["box accuracy"].videos == scored.videos


# -------------------------------------------------------------------- what is refused


def test_what_cannot_be_answered(model, few):
    detector = Detector(model)
    with pytest.raises(InputError, match="there is 1 video with ground truth"):
        intervene(detector, few.subset([few.videos[0].name]))
    label = few.videos[0].tubes[0].label
    alike = [replace(v, tubes=tuple(replace(tube, label=label) for tube in v.tubes)) for v in few.videos]
    with pytest.raises(InputError, match="two classes"):
        intervene(detector, replace(few, videos=tuple(alike)))
    with pytest.raises(InputError, match="c0"):
        intervene(detector, replace(few, classes=tuple(f"c{i}" for i in range(len(few.classes)))))
    with pytest.raises(InputError, match="step is 0"):
        intervene(detector, few, step=0)


@pytest.mark.parametrize(("changes", "part"), [({"motion": "none"}, MSM), ({"fusion": "concat"}, EXCHANGE)])
def test_a_part_that_is_not_there(changes, part, few):
    model = network(few.classes, **changes)
    with pytest.raises(InputError, match=f"there is no {part} in plain; it has image path"):
        chosen_rows(model, [part], "plain")


def test_nan_in_a_state_is_told(few):
    model = network(few.classes)
    model.video.backbone.temporal[0].weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=f"state behind .* {few.videos[0].name} holds NaN"):
        intervene(Detector(model), few, parts=[MSM])


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds(model, few, scored):
    found = intervene(Detector(copy.deepcopy(model).cuda()), few, "tiny", step=2, rounds=30)
    for mine, theirs in zip(found.rows, scored.rows, strict=True):
        assert mine.scores["box accuracy"].value == pytest.approx(theirs.scores["box accuracy"].value, abs=0.05)
