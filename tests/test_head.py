"""The head: boxes from cells, which of them are classified, and from what."""

import dataclasses
import math

import pytest
import torch
from random_weights import randomise

from mssc.config import ModelConfig
from mssc.model.features import Features, ImageFeatures, VideoFeatures
from mssc.model.head import STRIDES, AnchorClassifier, BoxHead, PooledBranch, build_head, rois_of, strongest_anchors
from mssc.training.losses import anchor_centres

C, SIZE = 8, 64
CONFIG = ModelConfig(
    classes=("a", "b", "c"), key_size=SIZE, clip_size=32, width=C, hidden=16, kept=5, dropout=0.0, classifier="two-stream",
    image_dropout=1 / 3, motion_dropout=1 / 3,
)  # fmt: skip
DIMS = (4, 6, 10)
FLOW = 5


def _levels(channels, batch=2, size=SIZE):
    widths = [channels] * 3 if isinstance(channels, int) else channels
    return tuple(torch.randn(batch, c, size // s, size // s) for c, s in zip(widths, STRIDES, strict=True))


def _head(config=CONFIG, seed=0):
    head = build_head(config, (config.width,) * 3, DIMS, FLOW)
    features = _features()
    return randomise(head, lambda: head(features), seed)


def _features(batch=2, own=False):
    """Of `batch` key frames; with maps for the box branch of its own."""
    image = ImageFeatures(_levels(DIMS, batch), _levels(C, batch))
    flow = (torch.randn(batch, FLOW, 4, 4), torch.randn(batch, FLOW, 4, 4))
    video = VideoFeatures(torch.randn(batch, C, 3, 2, 2), torch.randn(batch, C, 2, 2), (torch.randn(batch, 3 * C), *flow))
    return Features(image, video, _levels(C, batch) + (_levels(C, batch) if own else ()))


# --------------------------------------------------------------------------------------------------------------------- boxes


def test_boxes_are_decoded_around_their_cells():
    head = BoxHead(C)
    for conv in head.reg_preds:
        torch.nn.init.zeros_(conv.weight)
        conv.bias.data = torch.tensor([0.5, 0.25, math.log(2), 0.0])  # centre at (cell + t) strides; 2 strides wide, 1 high
    boxes, _ = head(list(_levels(C, 1)))
    assert boxes.shape == (1, 64 + 16 + 4, 4)
    fine, middle = boxes[0, 8 * 2 + 3], boxes[0, 64 + 4 * 1 + 2]  # rows before columns: row 2, column 3; row 1, column 2
    assert fine.tolist() == pytest.approx([28 - 8, 18 - 4, 28 + 8, 18 + 4])
    assert middle.tolist() == pytest.approx([40 - 16, 20 - 8, 40 + 16, 20 + 8])


def test_anchors_stand_where_the_losses_think():
    head = BoxHead(C)
    for conv in head.reg_preds:
        torch.nn.init.zeros_(conv.weight)
        conv.bias.data = torch.tensor([0.5, 0.5, 0.0, 0.0])
    boxes, _ = head(list(_levels(C, 1)))
    centres, strides = anchor_centres(SIZE, torch.device("cpu"))
    assert torch.allclose((boxes[0, :, :2] + boxes[0, :, 2:]) / 2, centres)
    assert torch.allclose(boxes[0, :, 2] - boxes[0, :, 0], strides)


def test_objectness_starts_at_one_in_a_hundred_and_sizes_stay_finite():
    head = BoxHead(C)
    _, objectness = head([torch.zeros_like(x) for x in _levels(C)])
    assert all(torch.allclose(level.sigmoid(), torch.tensor(0.01)) for level in objectness)
    boxes, _ = head([1e6 * x for x in _levels(C)])
    assert boxes.isfinite().all()


# ------------------------------------------------------------------------------------------------------------- which of them


def _strongest(levels, kept):
    """Brute force: local maxima by score, then the others by score."""
    peaks, others, start = [], [], 0
    for level in levels:
        _, height, width = level.shape
        for y in range(height):
            for x in range(width):
                around = level[0, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                score = level[0, y, x].item()
                (peaks if score == around.max() else others).append((-score, start + y * width + x))
        start += height * width
    return sorted(index for _, index in (sorted(peaks) + sorted(others))[:kept])


@pytest.mark.parametrize("kept", [1, 5, 40, 84, 500])  # 500: more than there are
def test_strongest_anchors_are_peaks_first(kept):
    levels = [torch.randn(3, 1, SIZE // s, SIZE // s) for s in STRIDES]
    found = strongest_anchors(levels, kept)
    assert found.shape == (3, min(kept, 84))
    for image in range(3):
        assert found[image].tolist() == _strongest([level[image] for level in levels], kept)


def test_a_plateau_or_certain_absence_still_gives_k_anchors():
    for value in (-200.0, 0.0, 200.0):
        found = strongest_anchors([torch.full((1, 1, 4, 4), value)], 5)
        assert found.shape == (1, 5) and len(found.unique()) == 5


def test_own_boxes_carry_no_gradient_and_given_boxes_are_returned():
    head = _head()
    own = head(_features())
    assert own.anchor_boxes.requires_grad and not own.boxes.requires_grad
    assert [x.shape for x in own] == [(2, 84, 4), (2, 84), (2, 5, 4), (2, 5), (2, 5, 3)]
    given = torch.tensor([[[1.0, 2, 30, 40]], [[0, 0, 64, 64]]])
    assert head(_features(), given).boxes is given


def test_a_given_box_has_the_objectness_of_the_anchor_that_fits_it_best():
    head, features = _head(), _features()
    own = head(features)
    again = head(features, own.boxes + 0.01)
    assert torch.equal(again.objectness, own.objectness)
    assert torch.allclose(again.logits, own.logits, atol=0.05)


def test_no_box_to_classify_is_allowed():
    for classifier in ("fused", "loose", "two-stream", "anchor"):
        out = _head(dataclasses.replace(CONFIG, classifier=classifier))(_features(), torch.zeros(2, 0, 4))
        assert out.logits.shape == (2, 0, 3) and out.objectness.shape == (2, 0) and out.anchor_boxes.shape == (2, 84, 4)


# ------------------------------------------------------------------------------------------------------------- classification


def _pooled_from(x, boxes, rows=False):
    """What the classifier pools from one map: (K, 2C), means then maxima."""
    branch, seen = PooledBranch([x.shape[1]], [3], 3, 16, 0.0, rows).eval(), []
    branch.roi_norm[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    branch([x], [torch.zeros(len(x), 3)], rois_of(boxes, SIZE), SIZE)
    return seen[0]


def test_a_box_is_pooled_from_its_own_place():
    # A ramp: the value of a map of 8 x 8 cells is the x (or y) of the cell's centre in pixels. Bilinear sampling is exact on it.
    line = (torch.arange(8) + 0.5) * 8
    ramp = torch.stack([line.expand(8, 8), line[:, None].expand(8, 8)])[None].repeat(2, 1, 1, 1)
    ramp[1] += 100
    boxes = torch.tensor([[[8.0, 16, 40, 32], [20, 20, 28, 60]], [[4, 4, 60, 60], [10, 30, 50, 50]]])
    pooled = _pooled_from(ramp, boxes).reshape(2, 2, 4)
    centre, side = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    centre[1] += 100
    assert torch.allclose(pooled[..., :2], centre, atol=1e-4)
    assert torch.allclose(pooled[..., 2:], centre + side * 3 / 8, atol=1e-4)  # the last of four samples


def test_rows_of_a_box_are_pooled_one_by_one():
    line = (torch.arange(8) + 0.5) * 8
    ramp = torch.stack([line.expand(8, 8), line[:, None].expand(8, 8)])[None]  # x and y of each cell's centre
    pooled = _pooled_from(ramp, torch.tensor([[[8.0, 16, 40, 48]]]), rows=True)
    x, y = pooled[0, :8].reshape(2, 4)  # channel by channel, four rows each
    assert x.tolist() == pytest.approx([24] * 4) and y.tolist() == pytest.approx([20, 28, 36, 44])
    assert pooled[0, 8:].tolist() == pytest.approx([36, 44])  # the maxima


def test_training_judges_some_boxes_by_one_branch_alone():
    head, features = _head(), _features(1)
    boxes = torch.tensor([[[4.0, 4, 50, 60]]]).expand(1, 300, 4)
    parts = []
    for branch in (head.classifier.fused, head.classifier.flow):
        branch.register_forward_hook(lambda *args: parts.append(args[2]))
    together = head(features, boxes).logits[0]
    fused, moved = (x[0] for x in parts)
    assert torch.allclose(together, fused + moved)
    head.classifier.train()
    torch.manual_seed(0)
    trained = head(features, boxes).logits[0]  # dropout is 0 here
    counts = [torch.isclose(trained, wanted).all(1).sum().item() for wanted in (fused, moved, fused + moved)]
    assert sum(counts) == 300 and all(70 < n < 130 for n in counts), counts
    assert not torch.isclose(fused, moved).all()


def test_pooling_equals_onnx_runtimes_roi_align():
    onnxruntime, helper = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx").helper
    node = helper.make_node(
        "RoiAlign", ["x", "rois", "index"], ["y"], output_height=4, output_width=4, sampling_ratio=1, spatial_scale=1 / 8,
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    kinds = {"x": 1, "rois": 1, "index": 7, "y": 1}
    values = {name: helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()}
    graph = helper.make_graph([node], "pool", [values[n] for n in ("x", "rois", "index")], [values["y"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x, corners = torch.randn(2, 3, 8, 8), 70 * torch.rand(2, 6, 2, 2) - 3  # some reach over the frame's edge
    boxes = torch.cat([corners.amin(2), corners.amax(2)], 2)
    index = torch.arange(2).repeat_interleave(6)
    feed = {"x": x.numpy(), "rois": boxes.reshape(-1, 4).clamp(0, SIZE).numpy(), "index": index.numpy()}
    cells = torch.from_numpy(session.run(None, feed)[0])
    assert torch.allclose(_pooled_from(x, boxes), torch.cat([cells.mean((2, 3)), cells.amax((2, 3))], 1), atol=1e-5)


def test_boxes_of_one_frame_do_not_disturb_each_other():
    head, features = _head(), _features(1)
    boxes = torch.tensor([[[0.0, 0, 30, 60], [34, 4, 60, 60], [5, 5, 6, 6]]])
    together = head(features, boxes).logits
    alone = torch.cat([head(features, boxes[:, i : i + 1]).logits for i in range(3)], 1)
    assert torch.allclose(together, alone, atol=1e-5)
    assert (together[0, 0] - together[0, 1]).abs().max() > 0.01  # two people get their own actions


def test_boxes_that_reach_out_of_the_frame_are_cut():
    head, features = _head(), _features(1)
    logits = head(features, torch.tensor([[[-500.0, 8, 20, 900], [0, 8, 20, 64], [90, 90, 99, 99]]])).logits[0]
    assert torch.allclose(logits[0], logits[1], atol=1e-6) and logits.isfinite().all()


def test_context_is_global_and_where_objects_are():
    head, features, seen = _head(), _features(1), {}
    for branch in ("fused", "flow"):
        getattr(head.classifier, branch).register_forward_pre_hook(lambda _, args, branch=branch: seen.update({branch: args}))
    out = head(features)
    maps, context, _, size = seen["fused"]
    start = 0
    for level, x in enumerate(features.image.levels):
        cells = x[0, 0].numel()
        weight = out.anchor_objectness[0, start : start + cells].sigmoid()
        start += cells
        assert torch.allclose(context[level], x.mean((2, 3)))
        assert torch.allclose(context[3 + level][0], (x[0].flatten(1) * weight / weight.sum()).sum(1), atol=1e-5)
    assert context[6] is features.video.bypass[0] and len(context) == 7 and size == SIZE
    assert maps[3] is features.video.map and len(maps) == 4
    maps, context, _, _ = seen["flow"]
    assert all(a is b for a, b in zip(maps, features.video.bypass[1:], strict=True))
    assert all(torch.allclose(a, b.mean((2, 3))) for a, b in zip(context, features.video.bypass[1:], strict=True))


@pytest.mark.parametrize("classifier", ["fused", "loose", "two-stream", "anchor"])
def test_what_a_classifier_reads(classifier):
    head, features = _head(dataclasses.replace(CONFIG, classifier=classifier)), _features()
    boxes = torch.tensor([[[4.0, 4, 50, 60]]]).repeat(2, 1, 1)
    own, other = head(features, boxes).logits, _features()
    around = head(features._replace(image=other.image, video=other.video), boxes).logits
    assert torch.equal(own, around) == (classifier in ("fused", "anchor"))  # there is no way past fusion
    assert not torch.equal(own, head(other._replace(image=features.image, video=features.video), boxes).logits)


def test_boxes_stay_exact_where_half_precision_is_computed_with():
    head, features = _head(), _features()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(features)
    assert out.anchor_boxes.dtype == torch.float32 and (out.anchor_boxes != out.anchor_boxes.bfloat16().float()).any()


@pytest.mark.parametrize(("changes", "dims", "flow"), [({"paths": "key"}, DIMS, 0), ({"paths": "clip"}, (), FLOW), ({}, DIMS, 0)])
def test_what_is_missing_is_not_asked_for(changes, dims, flow):
    head, full = build_head(dataclasses.replace(CONFIG, **changes), (C,) * 3, dims, flow).eval(), _features()
    image, video = full.image, full.video
    if not dims:
        image = image._replace(levels=())
    if not flow:
        video = video._replace(bypass=(video.bypass[0], *[video.bypass[1][:, :0]] * 2))
    if changes.get("paths") == "key":
        video = video._replace(map=torch.zeros(2, C, 1, 1), bypass=())
    assert head(Features(image, video, full.fused)).logits.shape == (2, 5, 3)
    assert (head.classifier.flow is None) == (not flow)


@pytest.mark.parametrize("logit", [-110.0, -1000.0, 100.0])  # sigmoid(-110) is 0 in single precision
def test_a_frame_that_surely_holds_nothing_is_no_nan(logit):
    head = _head()
    for conv in head.boxes.obj_preds:
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.constant_(conv.bias, logit)
    out = head(_features())
    assert all(x.isfinite().all() for x in out)


def test_task_branches_feed_their_own_towers():
    head, features = _head(), _features(own=True)
    boxes = torch.tensor([[[3.0, 3, 40, 50]]]).repeat(2, 1, 1)
    shared, split = head(features._replace(fused=features.fused[:3]), boxes), head(features, boxes)
    for_box = head(features._replace(fused=features.fused[3:]), boxes)
    assert torch.equal(split.anchor_boxes, for_box.anchor_boxes)
    assert torch.equal(split.anchor_objectness, for_box.anchor_objectness)
    assert not torch.equal(split.anchor_boxes, shared.anchor_boxes)
    assert not torch.allclose(split.logits, for_box.logits, atol=1e-3)


def test_logits_per_anchor_are_those_of_the_cell():
    head, features = _head(dataclasses.replace(CONFIG, classifier="anchor")), _features()
    out = head(features)
    maps = [conv(x) for conv, x in zip(head.cls_convs, features.fused, strict=True)]
    preds = head.classifier.cls_preds
    every = torch.cat([pred(x).flatten(2).transpose(1, 2) for pred, x in zip(preds, maps, strict=True)], 1)
    for image in range(2):
        for box, logits in zip(out.boxes[image], out.logits[image], strict=True):
            anchor = (out.anchor_boxes[image] == box).all(1)
            assert torch.equal(logits, every[image][anchor][0])
    assert isinstance(head.classifier, AnchorClassifier)
