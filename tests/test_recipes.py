"""Recipes: stages follow one another, survive a kill, and are told of beside the model."""

import dataclasses
import json
from dataclasses import replace
from typing import get_args

import pytest
import torch

from mssc.__main__ import main
from mssc.analysis import in_words, stored
from mssc.commands.options import RecipeName as Choice
from mssc.data import toy
from mssc.data.clips import ClipDataset
from mssc.model.checkpoint import load_model
from mssc.model.convert import CocoDetector
from mssc.model.mssc import MSSC
from mssc.structures import InputError
from mssc.training import recipes
from mssc.training.recipes import Kitchen, Recipe, Stage, average, follow, measure_statistics

SHORT = {"epochs": 1, "batch": 2, "clip_length": 4, "keys": 2, "frozen": "none", "validation_step": 8}


@pytest.fixture
def recipe(tiny_config):
    network = {
        name: value for name, value in dataclasses.asdict(tiny_config).items() if name not in ("classes", "actions", "version")
    }
    stages = (Stage("first", SHORT, start="nothing"), Stage("more", SHORT, start="first", seeds=(1, 2)))
    return Recipe("toy", tiny_config.classes, stages, network)


def kitchen(folder, toy_videos, toy_cache, stop=lambda: False):
    return Kitchen(folder, lambda part: toy_videos, toy_cache.folder, None, {"workers": 0}, progress=False, stop=stop)


def after(calls):
    """Says stop the so many-th time that it is asked: once a step."""
    asked = iter(range(1000))
    return lambda: next(asked) == calls - 1


def test_a_killed_recipe_goes_on_where_it_was(tmp_path, recipe, toy_videos, toy_cache, monkeypatch):
    monkeypatch.setattr(recipes, "STATISTICS_BATCHES", 2)
    straight = follow("tiny", recipe, kitchen(tmp_path / "whole", toy_videos, toy_cache))
    assert follow("tiny", recipe, kitchen(tmp_path / "cut", toy_videos, toy_cache, after(2))) is None
    assert not (tmp_path / "cut" / "first" / "model").exists()
    assert follow("tiny", recipe, kitchen(tmp_path / "cut", toy_videos, toy_cache, after(2 + 4))) is None
    assert (tmp_path / "cut" / "first" / "model").exists() and not (tmp_path / "cut" / "more" / "model").exists()
    model = follow("tiny", recipe, kitchen(tmp_path / "cut", toy_videos, toy_cache))
    found = model.state_dict()
    for name, tensor in straight.state_dict().items():
        assert torch.equal(found[name], tensor), name

    about = json.loads((tmp_path / "cut" / "model" / "about.json").read_text())
    assert set(about["learnt"]) == toy_videos.marks
    assert about["name"] == "tiny" and set(about["versions"]) >= {"torch", "python"} and about["data"].startswith("toy")
    first, more = about["stages"]
    assert (first["start"], more["start"], more["seeds"]) == ("nothing", "first", [1, 2]) and more["steps"] == 6
    assert set(more["scores"]) == {"frame_map", "actor_ap", "box_accuracy"} and about["scores"] == more["scores"]
    seeds = [dict(load_model(tmp_path / "cut" / "more" / f"seed-{seed}" / "model").named_parameters()) for seed in (1, 2)]
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, sum(one[name] for one in seeds) / 2, atol=1e-6)
    assert not list(tmp_path.glob("cut/*/*/last.pt"))

    with pytest.raises(InputError, match="another recipe"):
        follow("tiny", replace(recipe, stages=recipe.stages[:1]), kitchen(tmp_path / "cut", toy_videos, toy_cache))


def test_averaged_weights_have_statistics_of_their_own(toy_videos, toy_cache, tiny_config):
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(MSSC(tiny_config).eval())
        models[0].load_state_dict(models[0].state_dict())
    for model in models:  # as a frozen stage: alike in both
        stem = model.backbone2d.stem if hasattr(model, "backbone2d") else model.image.backbone.stem
        stem.conv.bn.running_mean.fill_(3.0)
        stem.conv.bn.running_var.fill_(2.0)
    for layer in models[1].modules():
        if isinstance(layer, torch.nn.BatchNorm2d) and not (layer.running_mean == 3).all():
            layer.running_mean.fill_(0.5)
    model = average(models)
    config = recipes.TrainConfig(**SHORT)
    measure_statistics(model, models, ClipDataset(toy_videos, toy_cache, tiny_config, config), config)
    alike = changed = 0
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.momentum in (0.03, 0.1) and not layer.training
            same = bool((layer.running_mean == 3).all() and (layer.running_var == 2).all())
            alike, changed = alike + same, changed + (not same and not torch.allclose(layer.running_mean, torch.tensor(0.25)))
    assert alike == 1 and changed > 10


def test_what_a_recipe_cannot_be_followed_with_is_refused(tmp_path, recipe, toy_videos, toy_cache):
    at = kitchen(tmp_path / "run", toy_videos, toy_cache)
    with pytest.raises(InputError, match="is for the classes jump; toy train has circle"):
        follow("jumping", replace(recipe, classes=("jump",)), at)
    with pytest.raises(InputError, match="--coco"):
        follow("tiny", replace(recipe, stages=(Stage("first", SHORT),)), at)
    assert not at.folder.exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(InputError, match="no recipe"):
        follow("tiny", recipe, at)


def test_stages_must_fit_each_other(recipe):
    with pytest.raises(ValueError, match="starts from 'later'"):
        replace(recipe, stages=(Stage("first", start="later"),))
    with pytest.raises(ValueError, match="different random weights"):
        replace(recipe, stages=(Stage("first", start="nothing", seeds=(0, 1)),))


def test_shipped_recipes_fit_their_data_sets_and_configs():
    assert recipes.RECIPES["toy"].classes == tuple(toy.CLASSES)
    for recipe in recipes.RECIPES.values():
        network = recipes.ModelConfig(classes=recipe.classes, **recipe.model)
        for stage in recipe.stages:
            network = replace(network, **stage.model)
            recipes.TrainConfig(**stage.train)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "toy", "--epochs", "3", "--seed", "1"], "leave out --epochs, --seed"),
        (["--recipe", "toy", "--start", "jhmdb"], "leave out --start"),
        (["--recipe", "toy", "--model.fusion", "add"], "leave out --model.fusion"),
        (["--recipe", "toy", "--more-videos", "clips"], "leave out --more-videos"),
        ([], "--dataset or a --recipe"),
    ],
)
def test_a_recipe_brings_its_own_options(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *words, "--data", str(tmp_path / "data"), "-o", str(tmp_path / "run")])
    assert stopped.value.code == 2 and said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_card_tells_what_the_parts_are_worth(tmp_path, recipe, toy_videos, monkeypatch):
    first = replace(recipe.stages[0], name="judged")
    last = Stage("all", first.train, start="judged", all_videos=True)
    monkeypatch.setitem(recipes.RECIPES, "toy", replace(recipe, stages=(first, last)))
    monkeypatch.setattr("mssc.data.catalogue.load_dataset", lambda *_: toy_videos)
    command = ["train", "--recipe", "toy", "--data", str(tmp_path / "data"), "-o", str(tmp_path / "run"), "--workers", "0"]
    main(command)
    model = tmp_path / "run" / "model"
    kept, card = stored(model), (model / "README.md").read_text()
    assert kept is not None and kept.model == "toy" and kept.videos == len(toy_videos) and len(kept.rows) > 20
    assert in_words(kept) in card and "### Vitals" in card and "those of stage judged" in card
    written = (model / "README.md").stat().st_mtime_ns
    main(command)
    assert (model / "README.md").stat().st_mtime_ns == written, "it is measured once"


def test_a_recipe_ends_with_somebody_who_sees_people(tmp_path, recipe, toy_videos, toy_cache, monkeypatch):
    monkeypatch.setattr("mssc.training.loop.coco_weights", lambda path: CocoDetector())
    first = replace(recipe.stages[0], train={**SHORT, "learning_rate": 1e-12})
    people = Stage("people", recipes.PEOPLE | {"epochs": 1, "batch": 16}, {"person": "detector"}, start="first", all_videos=True)
    at = replace(kitchen(tmp_path / "run", toy_videos, toy_cache), coco=tmp_path / "yolox.onnx", frames=tmp_path / "frames")
    model = follow("tiny", replace(recipe, stages=(first, people)), at)
    before = load_model(tmp_path / "run" / "first" / "model").state_dict()
    after = model.state_dict()
    assert model.person is not None and all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert json.loads((tmp_path / "run" / "model" / "about.json").read_text())["stages"][1]["steps"] == 1


def test_every_recipe_can_be_asked_for():
    assert get_args(Choice) == tuple(recipes.RECIPES)


def test_a_stage_may_do_without_the_frames_of_the_3d_path(tmp_path, recipe, toy_videos, toy_cache):
    flow = {"backbone3d": "causal_flow", "rgb_dropout": 0.0}
    stages = (
        Stage("video", {**SHORT, "phase": "video"}, start="nothing"),
        Stage("flow", {**SHORT, "learning_rate": 1e-12, "gentle": ("video.",)}, flow, start="video"),
        Stage("all-flow", {**SHORT, "learning_rate": 1e-12}, start="flow", all_videos=True),
    )
    model = follow("both", replace(recipe, stages=stages), kitchen(tmp_path / "run", toy_videos, toy_cache))
    before = load_model(tmp_path / "run" / "video" / "model").video
    wide = before.before.weight.shape[1] - before.flow_dims
    assert torch.allclose(model.video.before.weight, before.before.weight[:, wide:], atol=1e-6)
    assert not torch.allclose(model.video.before.bias, before.before.bias, atol=1e-4)  # what the frames said on average
    about = json.loads((tmp_path / "run" / "model" / "about.json").read_text())
    assert set(about["scores"]) == set(about["stages"][1]["scores"]) and about["stages"][0]["scores"] == {}
