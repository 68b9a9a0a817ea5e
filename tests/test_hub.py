"""Models as the Hugging Face Hub's users load and save them; nothing here asks the network."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from mssc import MSSC, load_model
from mssc.model import hub
from mssc.model.shipped import ABOUT, default_threshold, learnt
from mssc.structures import InputError


@pytest.fixture
def saved(tiny_config, tmp_path):
    torch.manual_seed(3)
    model = MSSC(tiny_config)
    model.save_pretrained(tmp_path / "mine")
    return model, tmp_path / "mine"


def same(one, other):
    assert one.config == other.config and not one.training
    theirs = other.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_a_threshold_and_what_was_learnt_from_stay(saved, tmp_path):
    _, folder = saved
    (folder / ABOUT).write_text(json.dumps({"threshold": 0.17, "learnt": ["0a", "0b"], "scores": {"frame-mAP": 1}}))
    load_model(folder).save_pretrained(tmp_path / "again")
    assert default_threshold(tmp_path / "again") == 0.17 and learnt(tmp_path / "again") == {"0a", "0b"}
    assert "scores" not in (tmp_path / "again" / ABOUT).read_text(), "which may be another network's by now"


def test_what_is_saved_is_loaded_by_either_name(saved):
    model, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text()
    assert "library_name: mssc" in card and "license: mit" not in card and "spatio-temporal-action-detection" in card
    same(MSSC.from_pretrained(folder), model)
    same(load_model(folder), model)
    same(MSSC.from_pretrained("toy"), load_model("toy"))


def test_loading_is_strict(saved):
    _, folder = saved
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    gone = tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match="lacks 1 tensors"):
        MSSC.from_pretrained(folder)
    assert gone is not None
    for damaged in (
        config | {"colour": "red"},
        {k: v for k, v in config.items() if k != "window"},
        config | {"window": "16"},
        [],
    ):
        (folder / "config.json").write_text(json.dumps(damaged))
        with pytest.raises(InputError, match="config"):
            MSSC.from_pretrained(folder)


def test_pushing_uploads_the_whole_folder_and_loading_downloads_it(saved, tmp_path, monkeypatch):
    model, _ = saved
    kept = tmp_path / "hub"

    class Api:
        def __init__(self, **_):
            pass

        def create_repo(self, repo_id, **_):
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, repo_id, folder_path, **_):
            for path in Path(folder_path).iterdir():
                (kept / repo_id).mkdir(parents=True, exist_ok=True)
                (kept / repo_id / path.name).write_bytes(path.read_bytes())
            return repo_id

    def download(repo_id, revision, allow_patterns, **_):
        assert revision == "v2" and "README.md" not in allow_patterns
        return str(kept / repo_id)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr(hub, "snapshot_download", download)
    assert model.push_to_hub("somebody/mssc-toy") == "somebody/mssc-toy"
    same(MSSC.from_pretrained("somebody/mssc-toy", revision="v2"), model)


def test_a_model_that_is_nowhere_is_refused_with_a_sentence(tmp_path):
    for name in ("somebody/nothing", "a/b/c", "no such folder"):
        with pytest.raises(InputError, match="is no folder, does not ship .*toy.*, and cannot be fetched from the Hub"):
            MSSC.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)
