"""Training clips: what is drawn, mixed and augmented."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mssc.config import TrainConfig
from mssc.data.augment import VISIBLE, Augment
from mssc.data.clips import BatchOrder, ClipDataset, _one_row_per_box, collate
from mssc.data.dataset import Video
from mssc.structures import Tube
from mssc.training.loop import mix

TRAIN = TrainConfig(clip_length=8, keys=2, batch=2)


def batch_of(toy_videos, toy_cache, tiny_config, train=TRAIN):
    clips = ClipDataset(toy_videos, toy_cache, tiny_config, train)
    return collate([clips[item] for item in next(iter(BatchOrder(len(toy_videos), 2, 0)))])


def test_a_batch_has_the_documented_shapes(toy_videos, toy_cache, tiny_config):
    batch = batch_of(toy_videos, toy_cache, tiny_config)
    assert batch.clip.shape == (2, 3, 8, 64, 64) and batch.clip.dtype == torch.uint8
    assert batch.keys.shape == (2, 2) and (batch.keys[0] == batch.keys[1]).all()
    assert batch.boxes.shape[0] == batch.actions.shape[0] == 4
    assert batch.actions.shape[2] == len(toy_videos.classes)
    assert (batch.boxes >= 0).all() and (batch.boxes <= 64).all()


def test_a_sample_depends_on_its_seed_alone(toy_videos, toy_cache, tiny_config):
    clips = ClipDataset(toy_videos, toy_cache, tiny_config, TRAIN)
    torch.manual_seed(1)
    first = clips[(0, 7, 3)]
    torch.manual_seed(2)
    again, other = clips[(0, 7, 3)], clips[(0, 8, 3)]
    assert torch.equal(first[0], again[0]) and torch.equal(first[2][0][0], again[2][0][0])
    assert not torch.equal(first[0], other[0])


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
            _, _, found = clips[(index, seed, 0)]
            _, _, wanted = plain[(index, seed, 0)]
            seen, real = ([set(actions.nonzero()[:, 1].tolist()) for _, actions in targets] for targets in (found, wanted))
            if seen != real:
                turned += 1
                assert seen == [{1 - label for label in row} for row in real[::-1]]
        assert turned == 0 if labels - {0, 1} else 10 <= turned <= 30, (labels, turned)


def test_boxes_with_two_actions_become_one_row():
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 1, 5, 5], [0, 0, 4, 4]])
    unique, actions = _one_row_per_box(boxes, torch.tensor([0, 1, 2]), 3)
    assert unique.shape == (2, 4)
    assert actions[(unique == boxes[0]).all(1)].tolist() == [[1, 0, 1]]


def test_augmentation_moves_boxes_with_the_picture():
    # a white rectangle on black: wherever it goes, its box must still be its bounding box
    frames = torch.zeros(1, 3, 120, 160, dtype=torch.uint8)
    frames[:, :, 40:80, 60:120] = 255
    augment = Augment(96, 0.4)
    augment.appearance = augment.appearance.transforms[0]  # the flip alone: colours stay comparable
    moved = 0
    for seed in range(20):
        torch.manual_seed(seed)
        out, box = augment(frames, torch.tensor([[60.0, 40, 120, 80]]))
        ys, xs = (out[0, 0] > 127).nonzero(as_tuple=True)
        found = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert (box[0] - found).abs().max() <= 1.6, (seed, box, found)
        moved += int((box[0] - torch.tensor([36.0, 32, 72, 64])).abs().max() > 2)
    assert moved > 10


def test_a_crop_keeps_most_of_every_box():
    augment, boxes = Augment(64, 0.3), torch.tensor([[5.0, 5, 40, 60], [90, 20, 150, 110]])
    torch.manual_seed(0)
    for _ in range(30):
        top, left, height, width = augment._crop(120, 160, boxes)
        low = torch.maximum(boxes[:, :2], torch.tensor([float(left), top]))
        high = torch.minimum(boxes[:, 2:], torch.tensor([float(left + width), top + height]))
        share = (high - low).clamp(min=0).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert (share >= VISIBLE - 0.05).all()  # crops end on whole pixels


@pytest.mark.parametrize("seed", range(4))
def test_mixing_blends_pictures_and_labels_alike(toy_videos, toy_cache, tiny_config, seed):
    batch = batch_of(toy_videos, toy_cache, tiny_config)
    before = batch.clip.clone()
    torch.manual_seed(seed)
    mixed = mix(batch, 1.0)
    assert torch.equal(batch.clip, before)
    rows = mixed.actions.any(2)
    assert rows.sum() >= batch.actions.any(2).sum()
    shares = mixed.actions[rows].sum(1)
    assert (shares > 0).all() and (shares <= 1 + 1e-6).all()
    difference = (mixed.clip[0] - batch.clip[0].float()).abs().sum() / (batch.clip[1].float() - batch.clip[0].float()).abs().sum()
    assert 0 <= difference <= 0.5 + 1e-6


def test_nothing_is_mixed_when_not_asked(toy_videos, toy_cache, tiny_config):
    batch = batch_of(toy_videos, toy_cache, tiny_config)
    assert mix(batch, 0.0) is batch
