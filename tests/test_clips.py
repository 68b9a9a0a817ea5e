"""Training clips: what is drawn, mixed and augmented."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from mssc.config import TrainConfig
from mssc.data.augment import GREY, VISIBLE, View, _colour, draw_view, move_boxes, recolour, render
from mssc.data.cache import DeviceFrames
from mssc.data.clips import BatchOrder, ClipDataset, _one_row_per_box, collate
from mssc.data.dataset import Video
from mssc.detection.detector import prepare
from mssc.structures import Tube
from mssc.training.step import mix

TRAIN = TrainConfig(clip_length=8, keys=2, batch=2)


def batch_of(toy_videos, toy_cache, tiny_config, train=TRAIN):
    clips = ClipDataset(toy_videos, toy_cache, tiny_config, train)
    return collate([clips[item] for item in next(iter(BatchOrder(len(toy_videos), 2, 0)))], toy_cache, tiny_config.key_size)


def test_a_batch_has_the_documented_shapes(toy_videos, toy_cache, tiny_config):
    batch = batch_of(toy_videos, toy_cache, tiny_config)
    assert batch.clip.shape == (2, 3, 8, 64, 64) and batch.clip.dtype == torch.uint8
    assert batch.keys.shape == (2, 2) and (batch.keys[0] == batch.keys[1]).all()
    assert batch.boxes.shape[0] == batch.actions.shape[0] == 4
    assert batch.actions.shape[2] == len(toy_videos.classes)
    assert (batch.boxes >= 0).all() and (batch.boxes <= 64).all()


def test_a_batch_depends_on_its_seeds_alone(toy_videos, toy_cache, tiny_config):
    clips = ClipDataset(toy_videos, toy_cache, tiny_config, TRAIN)

    def drawn(seed):
        return collate([clips[(0, seed, 3)]], toy_cache, 64)

    torch.manual_seed(1)
    first = drawn(7)
    torch.manual_seed(2)
    again, other = drawn(7), drawn(8)
    assert torch.equal(first.clip, again.clip) and torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.clip, other.clip)


def test_frames_on_a_device_give_the_batch_that_frames_on_disk_give(toy_videos, toy_cache, tiny_config):
    clips = ClipDataset(toy_videos, toy_cache, tiny_config, TRAIN)
    samples = [clips[item] for item in next(iter(BatchOrder(len(toy_videos), 4, 0)))]
    on_disk = collate(samples, toy_cache, 64)
    for names in ([video.name for video in toy_videos.videos], []):  # all held, none held
        other = collate(samples, DeviceFrames(toy_cache, names, torch.device("cpu")), 64)
        assert torch.equal(on_disk.clip, other.clip) and torch.equal(on_disk.boxes, other.boxes)


def test_the_order_is_a_permutation_and_goes_on_after_a_skip():
    order = BatchOrder(7, 2, seed=3)
    whole = list(order)
    assert len(whole) == 3 and len({video for batch in whole for video, _, _ in batch}) == 6
    order.skip = 2
    assert list(order) == whole[2:] and len(order) == 1
    order.skip, order.epoch = 0, 1
    assert list(order) != whole


def test_fewer_videos_than_a_batch_make_one_small_batch():
    assert [len(batch) for batch in BatchOrder(3, 8, 0)] == [3]


def test_background_frames_come_as_often_as_asked(toy_videos, toy_cache, tiny_config):
    video = next(v for v in toy_videos.videos if any(not len(v.boxes_at(f)[0]) for f in range(v.frames)))
    share = {}
    for wanted in (0.0, 1.0):
        train = replace(TRAIN, background=wanted, clip_length=1, keys=1)
        clips, rng = ClipDataset(toy_videos, toy_cache, tiny_config, train), np.random.default_rng(0)
        frames = [int(clips._frames(video, video.frames, np.array([0]), rng)[0]) for _ in range(60)]
        share[wanted] = np.mean([len(video.boxes_at(frame)[0]) == 0 for frame in frames])
    assert share[0.0] == 0 and share[1.0] == 1


def test_without_background_no_key_frame_is_without_action(toy_videos, toy_cache, tiny_config):
    video = Video("v", Path("v.mp4"), 90, 64, 48, Fraction(25), (Tube(0, 1, 40, np.tile([4, 4, 40, 40], (30, 1))),))
    idle = {}
    for background in (0.0, 0.25):
        train = replace(TRAIN, background=background, clip_length=16, keys=3)
        clips, rng = ClipDataset(toy_videos, toy_cache, tiny_config, train), np.random.default_rng(0)
        idle[background] = []
        for _ in range(100):
            keys = np.sort(rng.choice(16, 3, replace=False))
            frames = clips._frames(video, video.frames, keys, rng)
            assert frames.shape == (16,) and frames[0] >= 0 and frames[-1] < 90 and (np.diff(frames) >= 0).all()
            idle[background] += [not len(video.boxes_at(int(frame))[0]) for frame in frames[keys]]
    assert not any(idle[0.0]) and 0.25 < np.mean(idle[0.25]) < 0.6


def test_some_actions_are_played_backwards_as_others(toy_videos, toy_cache, tiny_config):
    names = toy_videos.classes
    both = replace(toy_videos, backwards=((names[0], names[1]), (names[1], names[0])))
    train = replace(TRAIN, clip_length=4, keys=4, stride_jitter=(1.0, 1.0), background=0.0)
    clips, plain = (ClipDataset(d, toy_cache, tiny_config, train) for d in (both, toy_videos))
    for index, video in enumerate(toy_videos.videos):
        labels, turned = {tube.label for tube in video.tubes}, 0
        for seed in range(40):
            found, wanted = clips[(index, seed, 0)].targets, plain[(index, seed, 0)].targets
            seen, real = ([set(actions.nonzero()[1].tolist()) for _, actions in targets] for targets in (found, wanted))
            if seen != real:
                turned += 1
                assert seen == [{1 - label for label in row} for row in real[::-1]]
        assert turned == 0 if labels - {0, 1} else 10 <= turned <= 30, (labels, turned)


def test_boxes_with_two_actions_become_one_row():
    boxes = np.array([[0.0, 0, 4, 4], [1, 1, 5, 5], [0, 0, 4, 4]])
    unique, actions = _one_row_per_box(boxes, np.array([0, 1, 2]), 3)
    assert unique.shape == (2, 4)
    assert actions[(unique == boxes[0]).all(1)].tolist() == [[1, 0, 1]]


def cropped(frames, view):
    top, left, height, width = view.crop
    return frames[:, top : top + height, left : left + width]


def test_augmentation_moves_boxes_with_the_picture():
    # a white rectangle on black: wherever it goes, its box must still be its bounding box
    frames, boxes = torch.zeros(1, 120, 160, 3, dtype=torch.uint8), np.array([[60.0, 40, 120, 80]])
    frames[:, 40:80, 60:120] = 255
    moved = 0
    for seed in range(20):
        view = replace(draw_view(120, 160, boxes, 0.4, np.random.default_rng(seed)), colour=None, blur=0.0)
        out, box = render([cropped(frames, view)], [view], 96)[0], move_boxes(boxes, view, 96)
        ys, xs = (out[0, 0] > 127).nonzero(as_tuple=True)
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(box[0] - found).max() <= 1.6, (seed, box, found)
        moved += int(np.abs(box[0] - np.array([36.0, 32, 72, 64])).max() > 2)
    assert moved > 10


def test_a_crop_keeps_most_of_every_box():
    boxes, rng = np.array([[5.0, 5, 40, 60], [90, 20, 150, 110]]), np.random.default_rng(0)
    for _ in range(30):
        top, left, height, width = draw_view(120, 160, boxes, 0.3, rng).crop
        low, high = np.maximum(boxes[:, :2], [left, top]), np.minimum(boxes[:, 2:], [left + width, top + height])
        share = (high - low).clip(min=0).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert (share >= VISIBLE - 0.05).all()  # crops end on whole pixels


def test_views_are_drawn_as_often_as_said():
    rng, boxes = np.random.default_rng(0), np.zeros((0, 4))
    views = [draw_view(100, 100, boxes, 0.5, rng) for _ in range(2000)]
    shares = [np.mean([f(view) for view in views]) for f in (lambda v: v.flip, lambda v: v.colour is None, lambda v: v.blur > 0)]
    assert np.abs(np.array(shares) - [0.5, 0.2 * 0.9, 0.1]).max() < 0.03
    areas = np.array([view.crop[2] * view.crop[3] for view in views]) / 100**2
    assert 0.45 < areas.min() < 0.55 and areas.max() <= 1 and 0.68 < areas.mean() < 0.78


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "grey"])
@pytest.mark.parametrize("amount", [0.6, 1.3])
def test_colours_change_as_torchvision_changes_them(kind, amount):
    frames = torch.randint(60, 150, (2, 3, 3, 32, 32), dtype=torch.uint8)  # nothing is cut at 0 or 255
    frames[:, :, 0] += 30
    change = _colour([] if kind == "grey" else [(kind, amount)], kind == "grey")
    found = recolour(frames, torch.from_numpy(np.stack([change, np.eye(3, 6, dtype=np.float32)])))
    wanted = F.rgb_to_grayscale(frames[0], 3) if kind == "grey" else getattr(F, f"adjust_{kind}")(frames[0], amount)
    assert (found[0].int() - wanted.int()).abs().max() <= 1
    assert torch.equal(found[1], frames[1])


def test_colours_change_one_after_the_other():
    colour, mean = np.array([100.0, 60, 30]), np.array([80.0, 90, 120])
    wanted, middle = 1.2 * colour, 1.2 * mean
    wanted = 0.8 * wanted + 0.2 * (GREY @ middle)
    wanted = 1.3 * wanted - 0.3 * (GREY @ wanted)
    found = _colour([("brightness", 1.2), ("contrast", 0.8), ("saturation", 1.3)], False) @ np.concatenate([colour, mean])
    assert np.allclose(found, wanted, rtol=1e-3)


def test_all_frames_of_a_clip_are_seen_alike_and_clips_by_themselves():
    frames = [torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)[:1].expand(3, -1, -1, -1) for _ in range(2)]
    views = [View((0, 0, 40, 50), True, _colour([("contrast", 0.7)], False), 1.0), View((0, 0, 40, 50), False, None, 0.0)]
    out = render(frames, views, 32)
    assert out.shape == (2, 3, 3, 32, 32) and torch.equal(out[0, 0], out[0, 2])
    apart = (out[1].int() - prepare(frames[1].numpy(), 32).int()).abs()
    assert apart.max() <= 15 and apart.float().mean() < 0.6, "as detection has it, of noise"
    assert torch.equal(out, torch.cat([render([one], [view], 32) for one, view in zip(frames, views, strict=True)]))


@pytest.mark.parametrize("seed", range(4))
def test_mixing_blends_pictures_and_labels_alike(toy_videos, toy_cache, tiny_config, seed):
    batch = batch_of(toy_videos, toy_cache, tiny_config)
    before = batch.clip.clone()
    mixed = mix(batch, 1.0, np.random.default_rng(seed))
    assert torch.equal(batch.clip, before)
    rows = mixed.actions.any(2)
    assert rows.sum() >= batch.actions.any(2).sum()
    shares = mixed.actions[rows].sum(1)
    assert (shares > 0).all() and (shares <= 1 + 1e-6).all()
    difference = (mixed.clip[0] - batch.clip[0].float()).abs().sum() / (batch.clip[1].float() - batch.clip[0].float()).abs().sum()
    assert 0 <= difference <= 0.5 + 1e-6


def test_nothing_is_mixed_when_not_asked(toy_videos, toy_cache, tiny_config):
    batch = batch_of(toy_videos, toy_cache, tiny_config)
    assert mix(batch, 0.0, np.random.default_rng(0)) is batch
