"""Vitals: gains, entropies and moves worked out by hand, and what training writes down of them."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from random_weights import random_network

from mssc.analysis.vitals import moved, scales, vital_signs
from mssc.config import ModelConfig, TrainConfig
from mssc.detection.detector import Detector
from mssc.model.mssc import MSSC
from mssc.structures import InputError
from mssc.training.entropy import exchange_entropies
from mssc.training.loop import Trainer

LOOK = ModelConfig(key_size=96, clip_size=96, width=16, hidden=16, window=4, kept=4, fusion_head_width=8)


network = partial(random_network, LOOK)


@pytest.fixture(scope="module")
def few(toy_videos):
    return toy_videos.subset([video.name for video in toy_videos.videos[:3]])


@pytest.fixture(scope="module")
def model(few):
    return network(few.classes)


def test_vitals_are_those_of_the_key_frames(model, few):
    found = vital_signs(Detector(model), few, step=4)
    assert found.gain.least >= 1 and found.gain.least < found.gain.mean < found.gain.most and found.gain.std > 0
    assert set(found.entropy) == {f"stride {s}, {path} takes" for s in (8, 16, 32) for path in ("spatial", "motion")}
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in found.entropy.values())
    before, after, change = found.distances["d_euc"]
    assert change.value == pytest.approx(after.value - before.value)
    assert json.loads(json.dumps(found.record()))["gain"]["std"] == pytest.approx(found.gain.std, abs=1e-4)


def test_a_gain_that_is_known(few):
    model = network(few.classes)
    branch = model.video.motion.perceptual
    for layer in (branch.by_deviation, branch.by_average):
        torch.nn.init.zeros_(layer.weight)
    branch.by_deviation.bias[:] = torch.linspace(0, 3, 16)
    wanted = 1 + torch.nn.functional.softplus(torch.linspace(0, 3, 16))
    gain = vital_signs(Detector(model), few, step=8).gain
    known = (wanted.mean(), wanted.std(correction=0), wanted.min(), wanted.max())
    assert gain == pytest.approx([float(x) for x in known], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "gain", "entropies", "distances"),
    [
        ({"motion": "none", "fusion": "concat"}, False, 0, 0),
        ({"fusion": "sfm_attention", "motion_perceptual": "product"}, True, 6, 3),
        ({"motion": "se", "fusion_branch": "task"}, False, 6, 3),
        ({"paths": "key"}, False, 0, 0),
    ],
)
def test_what_a_network_has_not_is_left_out(changes, gain, entropies, distances, few):
    found = vital_signs(Detector(network(few.classes, **changes)), few, step=8)
    assert (found.gain is not None) == gain and len(found.entropy) == entropies and len(found.distances) == distances
    assert "head" not in found.moved and found.moved["classifier"].distance > found.moved["classifier"].chance


def test_an_untrained_network_has_not_moved(few):
    torch.manual_seed(0)
    model = MSSC(replace(LOOK, classes=few.classes))
    assert all(one.distance == 0 for one in moved(model).values())  # the same draw
    torch.manual_seed(7)
    other = moved(MSSC(model.config))
    assert other["MSM gamma"].distance == 0
    for part in ("SFM stage 1", "SFM stage 2", "MSM spacetime branch"):
        assert other[part].distance == pytest.approx(other[part].chance, rel=0.5), part


def test_moves_by_hand(few):
    torch.manual_seed(0)
    model = MSSC(replace(LOOK, classes=few.classes))
    with torch.no_grad():
        model.video.motion.gamma1 *= 3
        model.video.motion.gamma2 *= 3
    assert moved(model)["MSM gamma"].distance == pytest.approx(2)  # the start is a constant, so each seed knows it
    assert moved(model)["SFM stage 1"].distance == 0  # the same draw
    assert scales(model)["|gamma1|"] == pytest.approx((3, 1)) and scales(model)["SFM temperature, stride 8"] == pytest.approx(
        (4, 4)
    )


def test_entropies_of_known_exchanges(few):
    model = network(few.classes)
    clip, keys = torch.rand(1, 3, 4, 96, 96) * 255, torch.tensor([[1, 3]])
    for level in model.fusion.levels:
        for take in level.exchange.take:
            take.context.log_temperature[:] = -30.0  # flat
    model.fusion.levels[1].exchange.take[0].context.log_temperature[:] = 30.0  # one-hot
    with exchange_entropies(model) as found:
        model(clip, keys)
        assert not found
    assert found["entropy_8"] == pytest.approx(1) and found["entropy_32"] == pytest.approx(1)
    assert found["entropy_16"] == pytest.approx(0.5, abs=0.02)
    model(clip, keys)
    assert set(found) == {"entropy_8", "entropy_16", "entropy_32"}
    with exchange_entropies(network(few.classes, fusion="concat")) as nothing:
        pass
    assert nothing == {}


def test_each_epoch_is_written_with_its_entropies(tmp_path, toy_videos, toy_cache, tiny_config):
    config = TrainConfig(epochs=2, batch=3, clip_length=6, keys=2, workers=0, warmup=0.5, ema=0.9, validate_every=2)
    Trainer(tiny_config, config, tmp_path, toy_videos, toy_cache, toy_videos, progress=False, cpu=True).run()
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert "entropy_8" not in first and all(0 <= second[f"entropy_{stride}"] <= 1 for stride in (8, 16, 32))


def test_what_has_no_vitals(model, few):
    empty = few.subset([few.videos[0].name])
    empty = replace(empty, videos=(replace(empty.videos[0], tubes=()),))
    with pytest.raises(InputError, match="nothing to look at"):
        vital_signs(Detector(model), empty)
    with pytest.raises(InputError, match="c0"):
        vital_signs(Detector(model), replace(few, classes=tuple(f"c{i}" for i in range(len(few.classes)))))
