"""Training heads: what they ask, whom, and that nobody else hears of them."""

from dataclasses import replace

import torch

from mssc.model.checkpoint import load_model
from mssc.model.mssc import MSSC
from mssc.training.heads import Asked, DistanceHead, TrainingHeads, cells_inside
from mssc.training.loop import Trainer


def test_cells_inside_by_hand():
    boxes = torch.tensor([[[0.0, 0, 32, 16], [40, 40, 64, 64]], [[0, 0, 64, 64], [0, 0, 0, 0]]])
    real = torch.tensor([[True, True], [False, False]])
    inside = cells_inside(boxes, real, 4, 4, 64)  # cells of 16 pixels, centres at 8, 24, 40, 56
    assert inside[0].int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert not inside[1].any()


def test_the_distance_head_wants_action_far_from_the_average():
    inside = torch.zeros(1, 4, 4, dtype=torch.bool)
    inside[0, :2, :2] = True
    far, near = torch.full((1, 8, 4, 4), 0.1), torch.full((1, 8, 4, 4), 0.1)
    far[:, 0, :2, :2], near[:, 0, 2:, 2:] = 5.0, 5.0
    head = DistanceHead()
    assert head(far, inside) < 0.7 * head(near, inside)
    assert torch.allclose(head(far, inside), head(100 * far, inside))  # scale says nothing


def _asked(config, frames):
    boxes = torch.tensor([4.0, 4, 40, 50]).expand(frames, 1, 4)
    actions = torch.eye(len(config.classes))[0].expand(frames, 1, -1)
    real = torch.ones(frames, 1, dtype=torch.bool)
    return Asked(boxes, actions, real, boxes, real, 0.1)


def test_heads_of_what_is_left_out_ask_nothing(tiny_config):
    names = ("image", "motion", "distance")
    for changes, wanted in [
        ({}, {"image_head", "motion_head", "distance_head"}),
        ({"paths": "key"}, {"image_head"}),
        ({"paths": "clip"}, {"motion_head", "distance_head"}),
        ({"motion": "none"}, {"image_head", "motion_head"}),
    ]:
        config = replace(tiny_config, **changes)
        model, heads = MSSC(config).eval(), TrainingHeads(config, names, (config.width,) * 3)
        keys = torch.tensor([[1, 2], [1, 2]])
        features, _ = model.features(torch.randint(0, 255, (2, 3, 3, 64, 64)), model.initial_state(2), keys)
        losses = heads(features, keys, _asked(config, 4))
        assert set(losses) == wanted and all(loss.isfinite() and loss > 0 for loss in losses.values()), changes


def _run(config, train, folder, videos, cache, **more):
    return Trainer(config, train, folder, videos, cache, videos, progress=False, cpu=True, **more)


def test_msm_leaves_its_start_and_the_heads_stay_behind(toy_videos, toy_cache, tiny_config, tmp_path):
    from test_train import SHORT

    run = _run(tiny_config, replace(SHORT, epochs=1, batch=2, learning_rate=3e-3), tmp_path, toy_videos, toy_cache)
    start = {name: p.detach().clone() for name, p in run.network.video.motion.named_parameters()}
    run.run()
    moved = {name: (p - start[name]).abs().max().item() for name, p in run.network.video.motion.named_parameters()}
    assert min(moved.values()) > 1e-4, moved
    assert not [name for name in load_model(tmp_path / "model").state_dict() if "heads" in name]


def test_the_video_path_can_be_trained_alone(toy_videos, toy_cache, tiny_config, tmp_path):
    from test_train import SHORT

    run = _run(tiny_config, replace(SHORT, epochs=1, phase="video"), tmp_path, toy_videos, toy_cache)
    image = [p.detach().clone() for p in run.network.image.parameters()]
    video = [p.detach().clone() for p in run.network.video.parameters()]
    run.run()
    assert all(torch.equal(a, b) for a, b in zip(image, run.network.image.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(video, run.network.video.parameters(), strict=True))
    assert '"box_accuracy"' in (tmp_path / "metrics.jsonl").read_text()
