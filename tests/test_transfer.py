"""Starting from another model: a COCO detector's weights in both paths, and weights carried over to other classes and networks."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from random_weights import randomise, settle

from mssc.model.convert import CocoDetector
from mssc.model.mssc import MSSC
from mssc.model.transfer import carry_over, first_stages, flow_alone, start_from_coco

WIDE = replace(TINY, width=64)  # as wide as the detector's tower


@pytest.mark.parametrize("paths", ["both", "key", "clip"])
def test_it_starts_from_a_detectors_weights(paths):
    detector = randomise(CocoDetector(), seed=3)
    model = MSSC(replace(WIDE, paths=paths))
    started = start_from_coco(model, detector)
    assert len({id(p) for p in started}) == len(started) and {id(p) for p in started} <= {id(p) for p in model.parameters()}
    pairs = [(model.head.boxes.obj_preds, detector.obj_preds), (model.head.boxes.reg_preds, detector.reg_preds)]
    pairs += [(model.head.cls_convs, detector.tower.cls_convs), (model.head.reg_convs, detector.tower.reg_convs)]
    if paths != "clip":
        image = model.image
        pairs += [(image.backbone, detector.backbone), (image.stems, detector.tower.stems), (image.neck, detector.neck)]
    if paths != "key":
        pairs += [(model.video.backbone.net.dark5, detector.backbone.dark5)]
    for ours, theirs in pairs:
        state = theirs.state_dict()
        assert all(torch.equal(x, state[name]) for name, x in ours.state_dict().items())
        assert {id(p) for p in ours.parameters()} <= {id(p) for p in started}
    detector.backbone.dark5[0].pointwise.conv.weight.data.zero_()  # a copy, not the same tensor
    assert all(p.any() for p in started if p.ndim > 1)


def test_without_fusion_it_is_the_detector_it_started_from():
    # One path, no fusion: boxes and objectness are those of the COCO detector.
    torch.manual_seed(0)
    detector = CocoDetector()
    settle(detector, lambda: detector(255 * torch.rand(4, 3, 64, 64))).double()
    model = MSSC(replace(WIDE, paths="key")).double().eval()
    start_from_coco(model, detector)
    for conv in (*model.head.boxes.reg_preds, *detector.reg_preds):
        conv.weight.data *= 0.01  # sizes that are not cut off
    clip = torch.randint(0, 256, (1, 3, 1, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        rows, out = detector(clip[:, :, 0].double()), model(clip)
    assert torch.allclose(out.anchor_objectness.sigmoid(), rows[..., 4], atol=1e-9)
    side = torch.cat([torch.full((n,), float(s)) for s, n in ((8, 64), (16, 16), (32, 4))])
    wide = (out.anchor_boxes[..., 2:] - out.anchor_boxes[..., :2]) / side[:, None]
    assert torch.allclose(wide.log(), rows[..., 2:4].clamp(max=8), atol=1e-9)


@pytest.mark.parametrize(("paths", "count"), [("both", 4), ("key", 2), ("clip", 2)])
def test_first_stages_are_stem_and_first_stage_of_each_path(paths, count):
    model = MSSC(replace(TINY, paths=paths))
    nets = ([] if paths == "clip" else [model.image.backbone]) + ([] if paths == "key" else [model.video.backbone.net])
    modules = list(first_stages(model))
    assert modules == [part for net in nets for part in (net.stem, net.dark2)] and len(modules) == count


@pytest.mark.parametrize("classifier", ["fused", "two-stream", "anchor"])
def test_weights_are_carried_over_to_other_classes(classifier):
    start = MSSC(replace(TINY, classes=("a", "b", "c"), classifier=classifier))
    classes = ("new", "c", "other")
    config = replace(start.config, classes=classes)
    weights, again = carry_over(start, config), carry_over(start, config)
    model = MSSC(config)
    model.load_state_dict(weights)  # strict
    old = start.state_dict()
    changed = [name for name, value in weights.items() if value.shape != old[name].shape or not torch.equal(value, old[name])]
    wanted = {
        "fused": ("head.classifier.branch.logits.",),
        "two-stream": ("head.classifier.fused.logits.", "head.classifier.flow.logits."),
        "anchor": ("head.classifier.cls_preds.",),
    }[classifier]
    assert all(any(name.startswith(beginning) for name in changed) for beginning in wanted)
    assert all(name.startswith(wanted) for name in changed)
    for name in changed:
        assert torch.equal(weights[name][1], old[name][2]) and torch.equal(weights[name], again[name])
    same = carry_over(start, start.config)
    assert all(torch.equal(same[name], old[name]) for name in old)


def test_weights_are_carried_over_to_another_network(caplog):
    start, config = MSSC(TINY), replace(TINY, motion="none", fusion="concat")
    with caplog.at_level("INFO"):
        weights = carry_over(start, config)
    model, old = MSSC(config), start.state_dict()
    model.load_state_dict(weights)  # strict
    kept = {name for name, value in weights.items() if name in old and torch.equal(value, old[name])}
    assert {name for name in weights if name.startswith(("image.", "video.backbone.", "head.boxes"))} <= kept
    assert "have no place" in caplog.text
    assert any(name.startswith("fusion") for name in weights.keys() - kept)


def test_a_network_without_frames_sees_their_average(monkeypatch):
    clip = torch.randint(0, 256, (1, 3, 6, 64, 64), dtype=torch.uint8)
    model = MSSC(TINY)
    randomise(model, lambda: model(clip))
    average = torch.randn(model.video.backbone.dims - model.video.flow_dims)
    shorter = flow_alone(model, average)
    monkeypatch.setattr(model.video.backbone, "_hidden", lambda rgb, batch: average[:, None, None].expand_as(rgb))
    with torch.no_grad():
        wanted, got = model.eval()(clip), shorter(clip)
    assert torch.allclose(got.logits, wanted.logits, atol=1e-4) and wanted.logits.std() > 0.1
    assert not hasattr(shorter.video.backbone, "net") and shorter.config.backbone3d == "causal_flow"


def test_levels_keep_their_width_up_to_the_heads_stems():
    detector, model = randomise(CocoDetector(), seed=3), MSSC(replace(WIDE, fusion_position="levels"))
    start_from_coco(model, detector)
    state = detector.tower.stems.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in model.head.stems.state_dict().items())
    clip = torch.randint(0, 256, (1, 3, 4, 64, 64), dtype=torch.uint8)
    features, _ = model.eval().features(clip, model.initial_state())
    assert [x.shape[1] for x in features.fused] == [x.shape[1] for x in features.image.levels] == list(model.image.dims)
