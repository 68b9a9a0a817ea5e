"""Models on disk: exact round trips, strict loading, and nothing half-written."""

import errno
import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_weights import randomise
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mssc.config import CONFIG_VERSION, ModelConfig
from mssc.model import checkpoint
from mssc.model.checkpoint import load_config, load_model, save_model
from mssc.model.layers import fold_batch_norms
from mssc.model.mssc import MSSC
from mssc.model.shipped import available_models
from mssc.structures import InputError

CONFIG = ModelConfig(classes=("walk", "çekmek"), key_size=32, clip_size=32, width=16, hidden=8, window=2, kept=2, motion_wide=5)


@pytest.fixture(scope="module")
def model():
    return randomise(MSSC(CONFIG))


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "model", {"epoch": 3})
    return tmp_path / "model"


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def _edit(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def _refuses(folder: Path, *words: str) -> None:
    with pytest.raises(InputError) as error:
        load_model(folder)
    for word in words:
        assert word in str(error.value)


# --------------------------------------------------------------------------------------------------------------------- whole


def test_who_may_read_the_config_may_read_the_weights(folder):
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_a_round_trip_is_exact(model, folder):
    assert sorted(_files(folder)) == ["about.json", "config.json", "model.safetensors"]
    again = load_model(folder)
    assert again.config == model.config and not again.training
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor) and state[name].dtype == tensor.dtype, name
    assert json.loads((folder / "about.json").read_text()) == {"epoch": 3}


def test_the_loaded_model_predicts_the_same(model, folder):
    clip = torch.randint(0, 256, (1, 3, 2, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        for a, b in zip(model(clip), load_model(folder)(clip), strict=True):
            assert torch.equal(a, b)


def test_a_checkpoint_holds_tensors_and_plain_json(folder):
    header = (folder / "model.safetensors").read_bytes()
    assert b"pickle" not in header and json.loads((folder / "config.json").read_text())["classes"] == ["walk", "çekmek"]


def test_saving_replaces_all_of_an_earlier_model(model, folder):
    save_model(randomise(MSSC(CONFIG), seed=1), folder)
    assert not (folder / "about.json").exists()  # it told of the other model
    assert not torch.equal(load_model(folder).head.boxes.reg_preds[0].weight, model.head.boxes.reg_preds[0].weight)


def test_a_model_in_training_is_saved_as_it_is_and_loaded_for_use(model, tmp_path):
    model.train()
    save_model(model, tmp_path / "deep" / "er")  # folders are made
    assert model.training and not load_model(tmp_path / "deep" / "er").training
    model.eval()


def test_a_folded_model_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="save it before fold_batch_norms"):
        save_model(fold_batch_norms(MSSC(CONFIG).eval()), tmp_path / "model")
    assert not (tmp_path / "model").exists()


# -------------------------------------------------------------------------------------------------------------------- weights


def test_a_missing_tensor_is_named(folder):
    _edit(folder, lambda tensors: tensors.pop("video.before.bias"))
    _refuses(folder, "lacks 1 tensors", "'video.before.bias'", "model.safetensors")


def test_an_extra_tensor_is_named(folder):
    _edit(folder, lambda tensors: tensors.update(extra=torch.zeros(2)))
    _refuses(folder, "has unknown 1 tensors", "'extra'")


def test_a_tensor_of_another_shape_is_named(folder):
    _edit(folder, lambda tensors: tensors.update({"video.before.bias": torch.zeros(17)}))
    _refuses(folder, "'video.before.bias' has shape (17,), (16,) is wanted")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named(folder, value):
    _edit(folder, lambda tensors: tensors["video.motion.gamma1"].__setitem__(3, value))
    _refuses(folder, "'video.motion.gamma1' contains NaN or infinity")


def test_weights_of_another_config_are_refused(model, folder):
    (folder / "config.json").write_text(replace(CONFIG, fusion="concat").to_json())
    _refuses(folder, "lacks 18 tensors, the first 'fusion.levels.0.embed.0.weight'", "does not fit its config.json")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_named(folder, keep):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:keep])
    _refuses(folder, "model.safetensors is cut off or damaged", "copy the model's folder again")


@pytest.mark.parametrize("data", [b"hello, I am no tensor file", b"PK\x03\x04 a zipped pickle of torch.save"])
def test_another_kind_of_file_is_refused(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    _refuses(folder, "is cut off or damaged")


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    _refuses(folder, "holds no weights: model.safetensors is missing")
    (folder / "model.safetensors").mkdir()
    _refuses(folder, "is cut off or damaged")


# --------------------------------------------------------------------------------------------------------------------- config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": CONFIG_VERSION + 1}, f"of version {CONFIG_VERSION + 1}"),
        ({"version": 2, "motion_mode": "both"}, "of version 2"),
        ({"colour": "red"}, "unknown fields ['colour']"),
        ({"width": None}, "lacks ['width']"),  # None: taken away
        ({"width": "wide"}, "width is 'wide'; int is wanted"),
        ({"fusion": "glue"}, "fusion is 'glue'; choose one of"),
        ({"backbone2d": "darknet"}, "darknet"),
        ({"backbone3d": "torchvision/r2d2"}, "torchvision/r2d2"),
        ({"width": 96, "fusion_reduction": 1, "fusion_position": "stems"}, "96 channels do not split into heads of 64"),
    ],
)
def test_an_unusable_config_is_refused(folder, change, words):
    values = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    _refuses(folder, words)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is cut off or damaged"),
        (b"{", "is cut off or damaged"),
        (b"\xff\xfe", "is cut off or damaged"),
        (b"[1]", "holds list, not a config"),
        (b"null", "holds NoneType"),
    ],
)
def test_a_broken_config_is_named(folder, data, words):
    (folder / "config.json").write_bytes(data)
    _refuses(folder, "config.json", words)


def test_a_folder_without_a_model_says_so(tmp_path):
    _refuses(tmp_path, "holds no model: config.json is missing there")
    _refuses(tmp_path / "nowhere", "there is no model")
    (tmp_path / "file").touch()
    _refuses(tmp_path / "file", "there is no model")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputError, match=r"config.json cannot be read"):
        load_config(tmp_path)


# ------------------------------------------------------------------------------------------------------------ failed saves


def _full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_in_rust(_, path, **__):
    Path(path).write_bytes(b"half")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize(
    ("where", "what", "broken"),
    [
        (checkpoint, "save_file", _full),
        (checkpoint, "save_file", _full_in_rust),
        (Path, "write_text", _full),
        (os, "replace", _full),
    ],
)
def test_a_failed_save_leaves_what_was_there(model, folder, monkeypatch, earlier, where, what, broken):
    target = folder if earlier else folder.parent / "new"
    before = _files(target)
    with monkeypatch.context() as patch:
        patch.setattr(where, what, broken)
        with pytest.raises(InputError, match=r"cannot be written: .*No space left on device.*choose another folder"):
            save_model(randomise(MSSC(CONFIG), seed=2), target, {"epoch": 4})
    assert _files(target) == before and target.exists() == earlier


def test_what_json_cannot_hold_is_found_before_anything_is_written(model, folder):
    before = _files(folder)
    with pytest.raises(TypeError):
        save_model(model, folder, {"epoch": object()})
    assert _files(folder) == before


def test_an_interrupted_save_clears_up(model, folder, monkeypatch):
    before = _files(folder)
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_model(model, folder)
    assert _files(folder) == before


def test_a_folder_that_is_a_file_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be written"):
            save_model(model, target)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_real_limit_on_file_size_leaves_nothing(model, tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # Python ignores the signal, so writing fails
    try:
        with pytest.raises(InputError, match="cannot be written"):
            save_model(model, tmp_path / "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_brings_every_model():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    files = {f"share/mssc/models/{name}": [f"assets/models/{name}/*"] for name in available_models()}
    assert files and project["tool"]["setuptools"]["data-files"] == files
