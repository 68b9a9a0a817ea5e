"""Configs: strict, plain JSON, and the ablation tables as rows of changes."""

import dataclasses
import json

import pytest

from mssc.ablate.tables import ABLATIONS
from mssc.config import CONFIG_VERSION, ModelConfig, TrainConfig
from mssc.structures import InputError

ROWS = [(table, name) for table, rows in ABLATIONS.items() for name in rows]


def _values(**changes) -> dict:
    return json.loads(ModelConfig().to_json()) | changes


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_every_ablation_is_a_config_that_survives_json(table, name):
    config = dataclasses.replace(ModelConfig(classes=("walk", "çekmek")), **ABLATIONS[table][name])
    assert ModelConfig.from_mapping(json.loads(config.to_json())) == config


@pytest.mark.parametrize("table", ABLATIONS)
def test_rows_of_a_table_differ(table):
    configs = [dataclasses.replace(ModelConfig(), **changes) for changes in ABLATIONS[table].values()]
    assert len(set(configs)) == len(configs)


def test_tables_hold_what_the_reconstruction_asks_for():
    both = [(row.get("motion", "msm"), row.get("fusion", "sfm")) for row in ABLATIONS["T-A"].values() if "paths" not in row]
    assert set(both) == {(m, f) for m in ("none", "msm") for f in ("cfam", "concat", "sfm")}
    assert {row["paths"] for row in ABLATIONS["T-A"].values() if "paths" in row} == {"key", "clip"}
    branches = {row.get("motion_branches", "both") for row in ABLATIONS["T-B"].values()}
    assert branches == {"none", "perceptual", "spacetime", "both"}
    assert {row.get("motion", "msm") for row in ABLATIONS["T-B"].values()} == {"msm", "none", "se", "simam", "dwconv"}
    fusions = {"sfm", "add", "concat", "cfam", "sfm1", "sfm2", "frm+sfm", "sfm_attention"}
    assert {row.get("fusion", "sfm") for row in ABLATIONS["T-C"].values()} == fusions


def test_a_config_is_flat_and_plain():
    for value in json.loads(ModelConfig().to_json()).values():
        assert isinstance(value, (str, int, float)) or all(isinstance(item, str) for item in value)
    assert ModelConfig(classes=["a", "b"]).classes == ("a", "b")  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().width = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fusion": "sum"}, "fusion is 'sum'; choose one of sfm, add, concat"),
        ({"motion_wide": 6}, "motion_wide is 6; it must be odd, or 0 for no wide kernel"),
        ({"motion_wide": -1}, "motion_wide is -1"),
        ({"motion_branches": "identity"}, "motion_branches is 'identity'; choose one of both, perceptual, spacetime, none"),
        ({"key_size": 100}, "key_size is 100; use a multiple of 32"),
        ({"key_size": 0}, "key_size is 0"),
        ({"clip_size": 16}, "clip_size is 16; use at least 32"),
        ({"clip_size": 100}, "clip_size 100 does not divide key_size 224; use 112"),
        ({"key_size": 32}, "clip_size 112 does not divide key_size 32; use 32"),
        ({"window": 0}, "window is 0; it must be at least 1"),
        ({"kept": -1}, "kept is -1"),
        ({"dropout": 1.5}, "dropout is 1.5; it must lie in [0, 1]"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"motion_ffn_ratio": -1.0}, "motion_ffn_ratio is -1.0"),
        ({"motion_ffn_ratio": float("inf")}, "motion_ffn_ratio is inf"),
        ({"classes": ()}, "classes are (); name at least one"),
        ({"classes": ("a", "a")}, "each once"),
        ({"classes": "jump"}, "classes are 'jump'; give a list of names"),  # not four classes j, u, m, p
        ({"classes": (1, 2)}, "give a list of names"),
        ({"version": CONFIG_VERSION + 1}, f"of version {CONFIG_VERSION + 1}"),
    ],
)
def test_model_config_refuses(changes, words):
    with pytest.raises(InputError) as error:
        dataclasses.replace(ModelConfig(), **changes)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (_values(colour="red"), "unknown fields ['colour']"),
        ({k: v for k, v in _values().items() if k != "width"}, "lacks ['width']"),
        (_values(version=CONFIG_VERSION + 1, colour="red"), f"is of version {CONFIG_VERSION + 1}, this package reads"),
        ({k: v for k, v in _values().items() if k != "version"}, "of version None"),
        (_values(width="64"), "the config's width is '64'; int is wanted"),
        (_values(width=64.0), "the config's width is 64.0; int is wanted"),
        (_values(width=True), "the config's width is True"),
        (_values(motion_wide="7"), "the config's motion_wide is '7'; int is wanted"),
        (_values(version=True), "is of version True"),
        (_values(classes="walk"), "the config's classes is 'walk'; tuple is wanted"),
        (_values(classes=["walk", 3]), "give a list of names"),
        (_values(fusion=None), "the config's fusion is None; str is wanted"),
        (_values(fusion="sum"), "fusion is 'sum'; choose"),
        (_values(dropout="much"), "float is wanted"),
    ],
)
def test_from_mapping_is_strict(values, words):
    with pytest.raises(InputError) as error:
        ModelConfig.from_mapping(values)
    assert words in str(error.value)


def test_a_config_of_before_is_refused_with_its_version():
    before = {k: v for k, v in _values(version=2, motion_mode="off").items() if k != "motion_branches"}
    with pytest.raises(InputError) as error:
        ModelConfig.from_mapping(before)
    assert str(error.value) == (
        f"the config is of version 2, this package reads version {CONFIG_VERSION}; "
        "use the mssc release that made it, or train again."
    )


def test_a_config_from_before_a_later_field_means_its_default():
    values = _values()
    assert values.pop("person") == "none" and ModelConfig.from_mapping(values) == ModelConfig()


def test_a_whole_number_is_a_float():
    assert ModelConfig.from_mapping(_values(dropout=0)).dropout == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"keys": -3}, "keys is -3"),
        ({"learning_rate": 0}, "learning_rate is 0; it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"ema": 1.1}, "ema is 1.1; it must lie in [0, 1]"),
        ({"mixup": -0.1}, "mixup is -0.1"),
        ({"label_smoothing": float("nan")}, "label_smoothing is nan"),
        ({"precision": "fp8"}, "precision is 'fp8'; choose one of no, fp16, bf16"),
    ],
)
def test_train_config_refuses(changes, words):
    with pytest.raises(InputError) as error:
        TrainConfig(**changes)
    assert words in str(error.value)


def test_train_config_is_hashable_whatever_json_made_of_it():
    assert hash(TrainConfig(stride_jitter=[0.5, 2.0])) == hash(TrainConfig(stride_jitter=(0.5, 2.0)))  # type: ignore[arg-type]
