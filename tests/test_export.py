"""The shipped ONNX graphs: they run without this package, give what torch gives, and nothing wrong passes in silence."""

import shutil
from itertools import islice

import numpy as np
import pytest
import torch

from mssc import load_model
from mssc.detection.detector import Detector
from mssc.model.export import deviation, graph_name, open_session, state_names
from mssc.model.shipped import MODELS
from mssc.structures import InputError
from mssc.video import read


@pytest.fixture
def folder(tmp_path):
    """A copy of a shipped model with its graphs."""
    return shutil.copytree(MODELS / "toy", tmp_path / "toy")


def test_a_graph_runs_in_plain_onnxruntime():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(MODELS / "toy" / "step-1.onnx"), providers=["CPUExecutionProvider"])
    feed = {
        i.name: np.zeros(i.shape, {"tensor(uint8)": np.uint8, "tensor(int64)": np.int64}.get(i.type, np.float32))
        for i in session.get_inputs()
    }
    for age in (1, 2):
        found = dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))
        assert found["boxes"].shape[1:] == (32, 4) and found["next_state.age"].tolist() == [age]
        feed |= {name.removeprefix("next_"): value for name, value in found.items() if name.startswith("next_")}


@pytest.mark.parametrize("frames", [1, pytest.param(16, marks=pytest.mark.slow)])
def test_a_graph_gives_what_torch_gives(frames):
    assert deviation(load_model("toy"), MODELS / "toy" / graph_name(frames), frames, calls=2) < 1e-4


def test_the_state_is_named_after_its_places():
    assert state_names(load_model("toy"))[:3] == ["state.age", "state.backbone.frame", "state.backbone.flow"]


def test_a_stream_finds_the_same_in_both_runtimes():
    images = [frame.image for frame in islice(read(MODELS.parent / "examples" / "toy.mp4"), 19)]  # sixteen, and three by one
    found = {}
    for runtime in ("torch", "onnx"):
        detector = Detector.load("toy", device="cpu", runtime=runtime)
        assert detector.runtime == runtime
        found[runtime] = detector.stream(rate=30)(images)
    for ours, theirs in zip(found["onnx"], found["torch"], strict=True):
        assert ours.labels.tolist() == theirs.labels.tolist()
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.02)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


def test_auto_takes_onnx_on_a_cpu_and_torch_without_graphs(folder):
    assert Detector.load(folder, device="cpu").runtime == "onnx"
    (folder / "step-16.onnx").unlink()
    assert Detector.load(folder, device="cpu").runtime == "torch"
    with pytest.raises(InputError, match=r"has no step-16.onnx; make it with: mssc export"):
        Detector.load(folder, device="cpu", runtime="onnx")


def test_a_cut_graph_or_one_of_other_weights_is_refused(folder):
    graph = folder / "step-1.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"step-1.onnx cannot be read as ONNX .*; make it again with mssc export"):
        open_session(graph)
    graph.write_bytes(whole)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="made of other weights; make it again with: mssc export"):
        Detector.load(folder, device="cpu", runtime="onnx")
    assert Detector.load(folder, device="cpu").runtime == "torch"


def test_an_unknown_runtime_is_refused():
    with pytest.raises(InputError, match="the runtime is 'tensorrt'; use auto, torch or onnx"):
        Detector.load("toy", device="cpu", runtime="tensorrt")


def test_files_of_others_and_other_models_are_not_overwritten(tmp_path, folder):
    from mssc.model.export import export_model

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="config.json is there already, and no earlier run wrote it"):
        export_model(folder, tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"
    with pytest.raises(InputError, match="jhmdb holds another model; name another folder"):
        export_model(folder, shutil.copytree(MODELS / "jhmdb", tmp_path / "jhmdb"))


@pytest.mark.slow
def test_a_model_is_exported_with_all_it_needs(tmp_path, tiny_config, monkeypatch):
    from mssc.model.checkpoint import save_model
    from mssc.model.export import export_model
    from mssc.model.mssc import MSSC

    for module in ("model.export", "detection.runtime"):
        monkeypatch.setattr(f"mssc.{module}.FRAMES", (1,))  # tracing takes a while
    torch.manual_seed(0)
    save_model(MSSC(tiny_config).eval(), tmp_path / "model")
    found = export_model(tmp_path / "model", tmp_path / "out")
    assert set(found) == {"step-1.onnx"} and max(found.values()) < 1e-4
    assert Detector.load(tmp_path / "out", device="cpu", runtime="onnx").runtime == "onnx"
