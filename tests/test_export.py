"""The shipped ONNX graphs: they run without this package, give what torch gives, and nothing wrong passes in silence."""

import json
import locale
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from mssc import load_model
from mssc.detection.detector import Detector
from mssc.model import engines
from mssc.model.checkpoint import save_model
from mssc.model.engines import graphs_of, open_graph
from mssc.model.export import OPSET, deviation, export_model, state_names
from mssc.model.mssc import MSSC
from mssc.model.shipped import MODELS
from mssc.structures import InputError
from mssc.video import read


@pytest.fixture
def folder(tmp_path):
    """A copy of a shipped model with its graphs, to be spoilt."""
    return shutil.copytree(MODELS / "toy", tmp_path / "toy")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """One for several tests, which leave it as it was: OpenVINO compiles its graphs once."""
    return shutil.copytree(MODELS / "toy", tmp_path_factory.mktemp("copied") / "toy")


@pytest.fixture(scope="module")
def exported(tiny_config, tmp_path_factory):
    """A tiny model's graphs of a single frame and of people, in both formats, and their deviations. Tracing takes a while."""
    place = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    save_model(MSSC(replace(tiny_config, person="detector")).eval(), place / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "FRAMES", (1,))
        return place / "out", export_model(place / "model", place / "out", "openvino")


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
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_graph_gives_what_torch_gives(frames, runtime):
    model = load_model("toy")
    assert deviation(model, MODELS / "toy" / graphs_of(model.config)[frames], frames, runtime=runtime) < 1e-4


def test_the_state_is_named_after_its_places():
    assert state_names(load_model("toy"))[:3] == ["state.age", "state.backbone.frame", "state.backbone.flow"]


def test_a_stream_finds_the_same_in_both_runtimes():
    images = [frame.image for frame in islice(read(MODELS.parent / "examples" / "toy.mp4"), 19)]  # sixteen, and three by one
    found = {}
    for runtime in ("torch", "onnx", "openvino"):
        detector = Detector.load("toy", device="cpu", runtime=runtime)
        assert detector.runtime == runtime
        found[runtime] = detector.stream(rate=30)(images)
    for runtime in ("onnx", "openvino"):
        for ours, theirs in zip(found[runtime], found["torch"], strict=True):
            assert ours.labels.tolist() == theirs.labels.tolist()
            np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.02)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
            np.testing.assert_allclose(ours.people, theirs.people, atol=0.05)


def test_auto_takes_the_fastest_that_is_there(folder, copied, monkeypatch):
    assert Detector.load(copied, device="cpu").runtime == "openvino"
    with monkeypatch.context() as patch:
        patch.setattr(engines, "find_spec", lambda package: None if package == "openvino" else package)
        assert Detector.load(copied, device="cpu").runtime == "onnx"
        with pytest.raises(InputError, match="openvino is not installed; run: pip install openvino, or use the runtime torch"):
            Detector.load(folder, device="cpu", runtime="openvino")
        with pytest.raises(InputError, match="openvino is not installed; run: pip install openvino, or export as onnx"):
            export_model(folder, folder, "openvino")
    (folder / "step-16.onnx").unlink()
    assert Detector.load(folder, device="cpu").runtime == "torch"
    with pytest.raises(InputError, match=r"has no step-16.onnx; mssc export .* makes it"):
        Detector.load(folder, device="cpu", runtime="onnx")


def small_graph(path):
    """A convolution, which is compiled at once."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.random.default_rng(0).random((64, 3, 5, 5), np.float32), "weights")
    shapes = {"frames": (1, 3, 32, 32), "maps": (1, 64, 28, 28)}
    before, after = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("Conv", ["frames", "weights"], ["maps"])], "small", [before], [after], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), path)
    return path


@pytest.mark.parametrize("spoil", ["cut", "no folder"])
def test_a_compiled_graph_is_kept_and_a_spoilt_one_is_made_again(spoil, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "_ENGINES", {})
    graph, kept = small_graph(tmp_path / "small.onnx"), tmp_path / "cache" / "mssc" / "openvino"
    open_graph(graph, "openvino")
    (blob,) = kept.rglob("*.blob")
    size = blob.stat().st_size
    if spoil == "cut":
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[: size // 2])
        for _ in range(2):
            engines._ENGINES.clear()
            open_graph(graph, "openvino")
        (made,) = kept.rglob("*.blob")
        assert made.stat().st_size > 0.9 * size
    else:
        shutil.rmtree(kept)
        kept.write_text("")
        engines._ENGINES.clear()
        assert open_graph(graph, "openvino") and kept.is_file()


def test_of_compiled_graphs_the_one_that_was_used_longest_ago_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "_ENGINES", {})
    monkeypatch.setattr(engines, "MOST_CACHED", 2)
    used, other, new = (small_graph(tmp_path / f"{name}.onnx") for name in ("used", "other", "new"))
    places = []
    for age, graph in ((3, used), (2, other), (0, used), (0, new)):
        before = set((tmp_path / "cache").glob("mssc/openvino/*"))
        engines._ENGINES.clear()
        open_graph(graph, "openvino")
        for place in {*(tmp_path / "cache").glob("mssc/openvino/*")} - before:
            places.append(place)
            os.utime(place, (time.time() - age * 100,) * 2)
    assert [place.exists() for place in places] == [True, False, True]


def test_a_cut_graph_or_one_of_other_weights_is_refused(folder):
    graph = folder / "step-1.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    for runtime in ("onnx", "openvino"):
        with pytest.raises(InputError, match=r"step-1.onnx cannot be read as ONNX .*; make it again with mssc export"):
            open_graph(graph, runtime)
    graph.write_bytes(whole)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="made of other weights; make it again with mssc export"):
        Detector.load(folder, device="cpu", runtime="onnx")
    assert Detector.load(folder, device="cpu").runtime == "torch"


def test_graphs_that_are_opened_at_once_leave_the_locale_as_it_was():
    graph, before = MODELS / "toy" / "step-1.onnx", locale.setlocale(locale.LC_ALL)
    open_graph(graph, "openvino")  # from now on it is read from the cache
    with ThreadPoolExecutor(3) as pool:
        assert len(list(pool.map(lambda _: open_graph(graph, "openvino"), range(6)))) == 6
    assert locale.setlocale(locale.LC_ALL) == before


def test_nobody_is_told_that_a_graph_was_opened():
    asked = (
        "import socket, sys; socket.socket.connect = lambda *_: sys.exit('somebody is called')\n"
        "from mssc.detection.detector import Detector; Detector.load('toy', 'cpu', 'openvino')\n"
        "import openvino; assert sys.modules['openvino_telemetry'] is None"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_runtime_is_refused():
    with pytest.raises(InputError, match="the runtime is 'tensorrt'; use auto, torch, onnx, openvino or openvino-bf16"):
        Detector.load("toy", device="cpu", runtime="tensorrt")


def test_files_of_others_and_other_models_are_not_overwritten(tmp_path, folder):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="config.json is there already, and no earlier run wrote it"):
        export_model(folder, tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"
    with pytest.raises(InputError, match="jhmdb holds another model; name another folder"):
        export_model(folder, shutil.copytree(MODELS / "jhmdb", tmp_path / "jhmdb"))


@pytest.mark.slow
def test_a_model_is_exported_with_all_it_needs(exported, tiny_config, monkeypatch, tmp_path):
    folder, found = exported
    monkeypatch.setattr(engines, "FRAMES", (1,))
    assert set(found) == {f"{name}.{kind}" for name in ("step-1", "people") for kind in ("onnx", "xml")}
    assert max(found.values()) < 1e-4
    bare = (
        "import sys, numpy as np, openvino as ov; m = ov.Core().compile_model(sys.argv[1], 'CPU');"
        "f = {i.any_name: np.zeros(i.shape, i.element_type.to_dtype()) for i in m.inputs}; out = m(f);"
        "print(out['boxes'].shape, out['next_state.age'].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", bare, str(folder / "step-1.xml")], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == f"(1, {tiny_config.kept}, 4) [1]", done.stderr
    assert Detector.load(folder, device="cpu", runtime="onnx").runtime == "onnx"


@pytest.mark.slow
def test_a_graph_gives_everybody_too_in_frames_of_any_shape(exported, monkeypatch):
    folder, _ = exported
    monkeypatch.setattr(engines, "FRAMES", ())  # to open the others takes its time
    assert "`people` (1, P, 4), boxes in pixels" in (folder / "step.md").read_text()
    detectors = {runtime: Detector.load(folder, "cpu", runtime) for runtime in ("torch", "onnx", "openvino")}
    for height, width in ((64, 64), (96, 160)):
        image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
        wanted = detectors["torch"].model.people(image)
        for runtime in ("onnx", "openvino"):
            graphs = detectors[runtime].graphs
            assert graphs is not None
            for ours, theirs in zip(graphs.people(image[0].permute(1, 2, 0).numpy()), wanted, strict=True):
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "said"), [({"classes": ["a", "b"]}, r"speaks of \(16, 32, 2\)"), ({"key_size": 512}, r"for \(16, 512, 512, 3\)")]
)
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_config_that_was_changed_since_is_refused(copied, changes, said, runtime):
    config = copied / "config.json"
    before = config.read_text()
    config.write_text(json.dumps(json.loads(before) | changes))
    try:
        with pytest.raises(InputError, match=rf"step-16.onnx gives .* {said}.*; undo what was changed there"):
            Detector.load(copied, "cpu", runtime)
    finally:
        config.write_text(before)
