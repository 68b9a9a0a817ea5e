"""COCO weights: the ONNX file against onnxruntime. The file here is generated, so no test needs the published one."""

import copy
import os
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mssc.model.convert import CocoDetector, _running_order, calibrate, coco_weights
from mssc.structures import InputError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIDE = 64


def _randomise(model: nn.Module) -> None:
    """Weights that carry a signal to the end, and BatchNorms like trained ones: or wrong folding and colours go unseen."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            scale = 0.01 if module.in_channels == 12 else 1.0  # the stem sees grey levels
            nn.init.normal_(module.weight, std=scale * (2 / module.weight[0].numel()) ** 0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.8, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.3)
            nn.init.normal_(module.bias, std=0.3)


def _export(model: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: it warns of being old and of every size that it fixes
        torch.onnx.export(model, (torch.rand(1, 3, SIDE, SIDE),), str(path), dynamo=False, input_names=["images"])
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """YOLOX-nano with random weights, BatchNorm folded by torch's exporter; like the published one, it takes BGR."""
    torch.manual_seed(0)
    model = CocoDetector()
    _randomise(model)
    path = _export(model.eval(), tmp_path_factory.mktemp("onnx") / "nano.onnx")
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "Conv" in operators and "BatchNormalization" not in operators
    return path


def _images(count: int = 8) -> Tensor:
    """Coloured clouds: pure noise looks alike to the coarse levels, whose statistics would then be of nothing."""
    clouds = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return 255 * F.interpolate(clouds, (SIDE, SIDE), mode="bicubic").clamp(0, 1)


def _reference(path: Path, images: Tensor) -> np.ndarray:
    """What onnxruntime says about RGB images; the file wants BGR, one by one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": image.flip(0)[None].numpy()})[0] for image in images])


def _difference(model: nn.Module, path: Path, images: Tensor) -> float:
    with torch.no_grad():
        return float(np.abs(model(images).numpy() - _reference(path, images)).max())


# ---------------------------------------------------------------------------------------------------------------- parity


def test_parity_with_onnxruntime(exported):
    detector = coco_weights(exported)
    assert not detector.training
    assert detector(_images(1)).shape == (1, 64 + 16 + 4, 85)
    assert _difference(detector, exported, _images()) < 1e-3


def test_parity_after_calibration(exported):
    assert _difference(coco_weights(exported, _images()), exported, _images()) < 1e-3


# What onnxruntime 1.32 makes of the published graph with the weights below: row -> box, objectness, class 2.
GOLDEN = {
    0: [-0.111, 0.867, -0.190, -2.085, 0.432, 0.305],  # stride 8, 8 x 8 cells: the first
    27: [-3.429, 5.972, 2.175, -3.991, 0.051, 0.997],
    63: [-0.073, 2.939, -0.528, -4.210, 0.693, 0.578],
    64: [1.971, -0.428, 0.955, 1.164, 0.611, 0.628],  # stride 16, 4 x 4 cells
    73: [0.132, 2.556, -0.002, -1.485, 0.602, 0.976],
    79: [1.011, 0.693, 0.621, -0.777, 0.558, 0.411],
    80: [-0.025, 2.274, 1.057, -0.390, 0.683, 0.319],  # stride 32, 2 x 2 cells
    83: [0.349, 0.711, 0.957, 2.053, 0.431, 0.334],
}


def _made_up(shape: tuple[int, ...], phase: float) -> np.ndarray:
    """Numbers in -1..1 without a pattern, the same on every machine and with every version of torch."""
    index = np.arange(int(np.prod(shape)), dtype=np.int64)
    return np.cos(0.37 * (index * index % 1009) + phase).reshape(shape)


def test_structure_is_that_of_the_published_graph():
    # The generated file comes from our own network, so it cannot show a wrong one: say, two maps joined the wrong way round.
    detector = CocoDetector().eval()
    for k, (_, conv, norm) in enumerate(_running_order(detector)):
        shape = tuple(conv.weight.shape)
        weight = _made_up(shape, k) * np.sqrt(4 / np.prod(shape[1:])) / (100 if k == 0 else 1)
        if k == 0:  # the graph reads BGR
            weight = weight.reshape(16, 4, 3, 3, 3)[:, :, ::-1].reshape(shape)
        conv.weight.data = torch.from_numpy(weight).float()
        shift = conv.bias if norm is None else norm.bias
        shift.data = torch.from_numpy(0.3 * _made_up(shape[:1], k + 0.5)).float()
        if norm is not None:
            norm.weight.data.fill_((1 + norm.eps) ** 0.5)
    image = torch.from_numpy(127.5 * (1 + _made_up((1, 3, SIDE, SIDE), 0.0))).float()
    with torch.no_grad():
        rows = detector(image)[0, list(GOLDEN)][:, [0, 1, 2, 3, 4, 7]]
    assert torch.allclose(rows, torch.tensor(list(GOLDEN.values())), atol=2e-3)


def test_colours_matter(exported):
    detector = coco_weights(exported)
    with torch.no_grad():
        swapped = detector(_images().flip(1)).numpy()
    assert np.abs(swapped - _reference(exported, _images())).max() > 0.1  # or the parity above would not show BGR from RGB


def test_after_calibration_training_starts_where_coco_ended(exported):
    images = _images()
    detector = coco_weights(exported, images)
    with torch.no_grad():
        evaluated = detector(images)
        trained = detector.train()(images)
        uncalibrated = coco_weights(exported).train()(images)
    spread = evaluated.std(dim=1).mean()
    assert (trained - evaluated).abs().max() < 1e-3
    assert (uncalibrated - evaluated).abs().mean() > 0.1 * spread  # without, the function is another one


# ----------------------------------------------------------------------------------------------------------- calibration


def test_calibration_sets_true_statistics_and_keeps_function_and_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    _randomise(model)
    model.train()
    model[4].eval()  # a frozen layer stays frozen
    x = 5 + 3 * torch.randn(6, 3, 9, 7)
    before = copy.deepcopy(model).eval()
    calibrate(model, x)
    assert [module.training for module in model] == [True, True, True, True, False]
    assert not model[1]._forward_pre_hooks
    first = model[0](x)
    assert torch.allclose(model[1].running_mean, first.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(model[1].running_var, first.var((0, 2, 3), correction=0), atol=1e-3)
    assert torch.allclose(model.eval()(x), before(x), atol=1e-4)


def test_calibration_survives_a_channel_without_variance():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    x = torch.ones(1, 3, 1, 1)  # a single cell of a single image: variance 0 everywhere
    before = model(x).detach()
    calibrate(model, x)
    assert model[1].running_var.tolist() == [0] * 4
    assert torch.allclose(model(x), before, atol=1e-5)


def test_calibration_leaves_no_hook_behind_after_an_error():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(4, 4, 1))
    with pytest.raises(RuntimeError):
        calibrate(model, torch.rand(1, 3, 4, 4))
    assert model.training and not model[0]._forward_pre_hooks


@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (3, 32, 32), (2, 1, 32, 32)])
def test_calibration_images_of_a_wrong_shape_are_refused(exported, shape):
    with pytest.raises(InputError, match=r"\(N, 3, H, W\)"):
        coco_weights(exported, torch.zeros(shape))


# ------------------------------------------------------------------------------------------------------------- bad files


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no file .*nowhere\.onnx"):
        coco_weights(tmp_path / "nowhere.onnx")
    with pytest.raises(InputError, match="no file"):  # a folder is no file either
        coco_weights(tmp_path)


@pytest.mark.parametrize("content", [b"These are notes, not weights.\n" * 20, b"\x00\xff" * 100])
def test_file_that_is_no_onnx(tmp_path, content):
    path = tmp_path / "notes.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        coco_weights(path)


def test_empty_file(tmp_path):
    (path := tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="has 0 convolutions"):
        coco_weights(path)


def test_truncated_file(exported, tmp_path):
    (path := tmp_path / "half.onnx").write_bytes(exported.read_bytes()[:500_000])
    with pytest.raises(InputError, match=r"half\.onnx"):
        coco_weights(path)


def test_other_network(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.SiLU(), nn.Conv2d(5, 2, 1))
    with pytest.raises(InputError, match=r"\(5, 3, 3, 3\).* backbone\.stem\.conv\.conv has \(16, 12, 3, 3\)"):
        coco_weights(_export(model, tmp_path / "other.onnx"))


def test_other_number_of_classes(tmp_path):
    detector = CocoDetector()
    detector.cls_preds = nn.ModuleList(nn.Conv2d(64, 20, 1) for _ in range(3))
    with pytest.raises(InputError, match=r"\(20, 64, 1, 1\).*cls_preds\.0 has \(80, 64, 1, 1\)"):
        coco_weights(_export(detector.eval(), tmp_path / "voc.onnx"))


def _edited(exported: Path, path: Path, edit) -> Path:
    model = onnx.load(exported)
    edit(model.graph, [node for node in model.graph.node if node.op_type == "Conv"])
    onnx.save(model, path)
    return path


def test_too_few_convolutions(exported, tmp_path):
    path = _edited(exported, tmp_path / "short.onnx", lambda graph, convs: graph.node.remove(convs[-1]))
    with pytest.raises(InputError, match=r"has 112 convolutions; YOLOX-nano has 113"):
        coco_weights(path)


def test_other_stride(exported, tmp_path):
    def edit(graph, convs):
        next(a for a in convs[1].attribute if a.name == "strides").ints[:] = [1, 1]

    with pytest.raises(InputError, match=r"stride \(1, 1\).*dark2\.0\.depthwise"):
        coco_weights(_edited(exported, tmp_path / "stride.onnx", edit))


def test_convolution_without_bias_means_batchnorm_is_not_folded(exported, tmp_path):
    path = _edited(exported, tmp_path / "unfolded.onnx", lambda graph, convs: convs[3].input.pop())
    with pytest.raises(InputError, match="BatchNorm folded"):
        coco_weights(path)


def test_nan_in_the_weights(exported, tmp_path):
    def edit(graph, convs):
        tensor = next(t for t in graph.initializer if t.name == convs[2].input[1])
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = np.nan
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    with pytest.raises(InputError, match="NaN"):
        coco_weights(_edited(exported, tmp_path / "nan.onnx", edit))


def test_without_onnx_the_error_says_what_to_install(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="pip install onnx"):
        coco_weights(exported)


def test_tensors_shared_by_identity_nodes_are_found(exported, tmp_path):
    def edit(graph, convs):
        name = convs[5].input[2]
        convs[5].input[2] = "shared"
        graph.node.insert(0, onnx.helper.make_node("Identity", [name], ["shared"]))

    path = _edited(exported, tmp_path / "shared.onnx", edit)
    expected, got = coco_weights(exported).state_dict(), coco_weights(path).state_dict()
    assert all(torch.equal(expected[key], got[key]) for key in expected)


# ------------------------------------------------------------------------------------------------------------- real data


@pytest.mark.data
def test_parity_of_the_published_weights_on_random_and_real_images():
    import av

    root = Path(os.environ["MSSC_DATA"])
    path = Path(os.environ.get("MSSC_YOLOX_ONNX", root.parent / "weights" / "yolox_nano.onnx"))
    if not path.is_file():
        pytest.skip(f"no {path}; MSSC_YOLOX_ONNX names the published yolox_nano.onnx")
    videos = sorted((root / "jhmdb" / "videos").glob("*/*.mp4"))[::80][:12]
    assert videos, f"no video under {root}/jhmdb/videos"
    real = []
    for video in videos:
        with av.open(str(video)) as container:
            frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
        image = torch.from_numpy(frame).permute(2, 0, 1)[None]
        real.append(F.interpolate(image, (416, 416), mode="bilinear", antialias=True).float())
    images = torch.cat(real)
    noise = 255 * torch.rand(2, 3, 416, 416, generator=torch.Generator().manual_seed(0))
    for detector in (coco_weights(path), coco_weights(path, images)):
        assert _difference(detector, path, noise) < 1e-3
        assert _difference(detector, path, images) < 1e-3
    with torch.no_grad():
        people = coco_weights(path)(images)[..., 4:6].prod(dim=-1).amax(dim=1)
    assert (people > 0.3).float().mean() > 0.7  # J-HMDB's clips show people; a wrong colour order costs some of them
