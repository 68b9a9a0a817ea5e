"""From frames to detections: what the network is shown, what its answers become, on which machine."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mssc import Detector
from mssc.config import ModelConfig
from mssc.data.decoding import decode
from mssc.detection import detector as module
from mssc.detection.detector import prepare, shared_detector
from mssc.detection.postprocess import MOST_ROWS, action_probabilities, to_detections
from mssc.detection.resources import (
    all_threads,
    choose_device,
    inference_threads,
    is_cpu,
    network_threads,
    one_thread,
    tune_malloc,
    usable_cores,
)
from mssc.model import shipped
from mssc.model.checkpoint import load_model, save_model
from mssc.model.layers import ConvBlock
from mssc.model.mssc import MSSC
from mssc.structures import InputError, Predictions

CONFIG = ModelConfig(classes=("sit", "stand"), key_size=64, clip_size=32)


def close(found, wanted, tolerance=1e-4):
    """The same rows, but for rounding."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=100 * tolerance)
        np.testing.assert_allclose(one.scores, other.scores, atol=tolerance)


# -------------------------------------------------------------------- predictions


def predictions(boxes, objectness, logits) -> Predictions:
    boxes, objectness, logits = torch.tensor(boxes), torch.tensor(objectness), torch.tensor(logits)
    return Predictions(boxes, objectness, boxes, objectness, logits)


def test_scores_boxes_and_rows_worked_out_by_hand():
    # two actors, the second one seen twice (IoU 0.9), in a source of 128x32
    given = predictions(
        [[[0.0, 0, 32, 64], [40, 10, 60, 30], [40, 10, 60, 28]]],
        [[0.0, 2.0, 1.0]],  # probabilities 0.5, 0.881, 0.731
        [[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]],
    )
    (found,) = to_detections(given, CONFIG, [(32, 128)])
    np.testing.assert_allclose(found.boxes[found.labels == 0], [[80, 5, 120, 15], [0, 0, 64, 32]])
    sure = 1 / (1 + np.exp(-4.0))
    np.testing.assert_allclose(found.scores[found.labels == 0], [0.880797 * sure, 0.25], rtol=1e-5)
    np.testing.assert_allclose(found.scores[found.labels == 1], [0.880797 * (1 - sure), 0.25], rtol=1e-5)


def test_labels_that_do_not_exclude_each_other_may_both_be_certain():
    logits = torch.tensor([[8.0, 8.0]])
    assert action_probabilities(logits, CONFIG).tolist() == [[0.5, 0.5]]
    assert (action_probabilities(logits, replace(CONFIG, actions="multilabel")) > 0.99).all()


def test_frames_do_not_suppress_each_other_and_boxes_stay_inside_their_own():
    box = [[-10.0, -10, 80, 80]]
    given = predictions([box, box, box], [[3.0], [3.0], [-9.0]], [[[5.0, 0.0]]] * 3)
    found = to_detections(given, CONFIG, [(50, 100), (20, 30), (50, 100)])
    assert [len(d) for d in found] == [1, 1, 0]
    assert found[0].boxes.tolist() == [[0, 0, 100, 50]] and found[1].boxes.tolist() == [[0, 0, 30, 20]]


def test_a_crowded_frame_keeps_its_best_rows():
    boxes = [[[float(x), 0, x + 1, 1] for x in range(60)]]
    logits = torch.randn(1, 60, 2, generator=torch.Generator().manual_seed(0))
    (found,) = to_detections(predictions(boxes, [[4.0] * 60], logits.tolist()), CONFIG, [(64, 64)])
    every = (torch.tensor(4.0).sigmoid() * logits.softmax(2)).flatten().sort(descending=True).values
    assert len(found) == MOST_ROWS == 50
    np.testing.assert_allclose(np.sort(found.scores)[::-1], every[:50], rtol=1e-5)


def test_predictions_are_not_modified():
    given = predictions([[[0.0, 0, 32, 64]]], [[1.0]], [[[0.0, 0.0]]])
    copies = [tensor.clone() for tensor in given]
    to_detections(given, CONFIG, [(32, 128)])
    assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True))


# -------------------------------------------------------------------- frames


def test_frames_are_shown_nearly_as_pillow_makes_them():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, size, np.uint8) for size in ((90, 120, 3), (32, 32, 3), (20, 50, 3))]
    copies = [frame.copy() for frame in frames]
    shown = prepare(frames, 32)
    assert shown.dtype == torch.uint8 and shown.shape == (3, 3, 32, 32)
    for frame, copy, one in zip(frames, copies, shown, strict=True):
        wanted = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
        apart = np.abs(one.permute(1, 2, 0).numpy() - wanted)
        assert apart.max() <= 15 and apart.mean() < 0.6 and np.array_equal(frame, copy)
    mirrored = prepare([frames[0][:, ::-1]], 32)  # neither contiguous nor, as Pillow's arrays, to be written to
    frames[0].flags.writeable = False
    assert torch.equal(mirrored, prepare([np.ascontiguousarray(frames[0][:, ::-1])], 32))
    assert torch.equal(prepare(frames[:1], 32), shown[:1])


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((8, 8), np.uint8), "(8, 8)"),
        (np.zeros((3, 8, 8), np.uint8), "(3, 8, 8)"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((0, 8, 3), np.uint8), "(0, 8, 3)"),
    ],
)
def test_what_is_no_frame_is_refused_by_name(frame, said):
    with pytest.raises(InputError) as error:
        prepare([frame], 32)
    assert said in str(error.value)
    with pytest.raises(InputError, match="no frame"):
        prepare([], 32)


# -------------------------------------------------------------------- a detector


@pytest.fixture(scope="module")
def model(tiny_config):
    """Random weights that find actors everywhere."""
    torch.manual_seed(1)
    model = MSSC(tiny_config).eval()
    for conv in model.head.boxes.obj_preds:
        torch.nn.init.constant_(conv.bias, 2.0)
    return model


@pytest.fixture(scope="module")
def detector(model):
    return Detector(model)


@pytest.fixture(scope="module")
def images(toy_videos):
    return list(decode(toy_videos.videos[0].path))


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "walker", {"threshold": 0.17})
    return tmp_path / "walker"


def test_a_model_in_a_run_is_called_as_the_run(folder, monkeypatch):
    run = folder.rename(folder.parent / "model").parent
    assert Detector.load(run / "model", "cpu").name == run.name != "model"
    monkeypatch.chdir(run)
    assert shipped.name_of(Path("model")) == run.name and shipped.name_of(Path("walker")) == "walker"


def test_a_stream_is_the_whole_video_as_one_clip_however_it_is_cut(detector, images, monkeypatch):
    with torch.no_grad():
        clip = prepare(images, 64).transpose(0, 1)[None]
        wanted = to_detections(detector.model(clip, torch.arange(len(images))[None]), detector.config, [(48, 64)] * len(images))
    assert sum(map(len, wanted)) > 0
    close(detector.window(images, range(len(images))), wanted)
    stream = detector.stream()
    close([*stream(images[0]), *stream(iter(images[1:4])), *stream(np.stack(images[4:])), *stream([])], wanted)
    monkeypatch.setattr(module, "FRAMES_AT_ONCE", 3)
    close(list(detector.stream().iterate(images)), wanted)


@pytest.mark.parametrize(("rate", "every", "count"), [(60, 2, 11), (90, 3, 12), (150, 5, 7), (240, 8, 5)])
def test_the_network_is_shown_every_few_frames_of_a_fast_video(detector, images, monkeypatch, rate, every, count):
    monkeypatch.setattr(module, "FRAMES_AT_ONCE", 6)
    wanted = detector.stream()(images[:count:every])
    stream = detector.stream(rate)
    assert stream.every == every
    close(
        [rows for part in (images[:3], images[3:4], images[4:count]) for rows in stream(part)],
        [wanted[i // every] for i in range(count)],
    )


def test_boxes_are_in_pixels_of_the_source_where_frames_are_stored_smaller(detector, images):
    (own,), (scaled,) = detector.stream()(images[0]), detector.stream(size=(96, 192))(images[0])
    np.testing.assert_allclose(scaled.boxes, own.boxes * [3, 2, 3, 2], rtol=1e-5)
    (again,) = detector.window(images[:1], size=(96, 192))
    close([again], [scaled])


def test_a_bad_frame_leaves_the_stream_as_it_was(detector, images):
    stream = detector.stream()
    stream(images[:2])
    with pytest.raises(InputError, match="float64"):
        stream([images[2], images[3] / 255])
    close(stream(images[2]), detector.stream()(images[:3])[2:])


@pytest.mark.parametrize("rate", [None, 60.0])
def test_a_window_sees_no_more_than_its_frames(detector, images, rate):
    every, keys = (1, (1, 2, 9)) if rate is None else (2, (1, 2, 3, 9))
    batches = list(detector.windows(images, rate, keys))
    numbers = [number for _, some in batches for number in some]
    assert numbers == [1, 2, 9]  # at 60 frames a second the network is shown 2 for both 2 and 3
    found = [rows for clip, _ in batches for rows in detector.detect(clip, (48, 64))]
    shown = images[::every]
    close(found, [detector.window(shown[max(0, n // every - 3) : n // every + 1])[0] for n in numbers])
    assert [number for _, some in detector.windows(images, rate) for number in some] == list(range(0, len(images), every))
    assert list(detector.windows(images, rate, [])) == []


def test_key_frames_are_frames_of_the_clip(detector, images):
    close(detector.window(images[:4], [1, 3]), [detector.window(images[:2])[0], detector.window(images[:4])[0]])
    for keys in ([4], [-1], []):
        with pytest.raises(InputError, match="from 0 to 3"):
            detector.window(images[:4], keys)


def test_a_model_that_still_learns_is_refused(tiny_config):
    with pytest.raises(InputError, match="training mode"):
        Detector(MSSC(tiny_config))


def test_loading_makes_a_model_ready(folder, model, images):
    found = Detector.load(folder, device="cpu")
    assert (found.name, found.threshold, found.classes) == ("walker", 0.17, model.config.classes)
    assert found.device == torch.device("cpu") and not any(p.requires_grad for p in found.model.parameters())
    blocks = [part for part in found.model.modules() if isinstance(part, ConvBlock)]
    assert blocks and all(isinstance(block.bn, torch.nn.Identity) for block in blocks), "BatchNorms are folded"
    close(found.stream()(images), Detector(model).stream()(images))
    for words, arguments in (
        ("'tpu' cannot be used", {"device": "tpu"}),
        ("runtime is 'tensorrt'; use auto, torch, onnx, openvino or openvino-bf16", {"runtime": "tensorrt"}),
    ):
        with pytest.raises(InputError, match=words):
            Detector.load(folder, **arguments)
    with pytest.raises(InputError, match="no model 'walkers'"):
        Detector.load("walkers")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_videos_are_looked_at_without_torch(tmp_path):
    """Its import takes half a gigabyte and seconds, which a graph runtime can do without."""
    video = shipped.MODELS.parent / "examples" / "toy.mp4"
    script = (
        "import sys; from mssc import detect_video; found = detect_video(sys.argv[1], 'toy', output=sys.argv[2]);"
        "assert found.tubes and 'torch' not in sys.modules, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(video), str(tmp_path / "out.mp4")], check=True)


@pytest.mark.parametrize("size", [(1, 20000), (20000, 1), (2, 2), (3, 50), (200, 3)])
def test_frames_of_hardly_any_width_are_shown_too(size):
    frame = np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(*size, 1).repeat(3, 2)
    wanted = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(prepare([frame], 32)[0].permute(1, 2, 0).numpy() - wanted).max() <= 1


def test_who_cannot_look_for_people_says_so_in_every_runtime():
    for runtime in ("torch", "openvino"):
        with pytest.raises(ValueError, match="no detector of people"):
            Detector.load("toy", "cpu", runtime).people(np.zeros((64, 64, 3), np.uint8), (64, 64))


@pytest.mark.parametrize("size", [(0, 0), (-5, 5), (10,), "ab"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match="give height and width"):
        Detector.load("toy", "cpu").stream(size=size)


def test_threads_are_those_that_torch_would_take(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert all_threads() == 5
    with one_thread():
        assert all_threads() == network_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert all_threads() == usable_cores()


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    assert choose_device() == torch.device("cpu") == choose_device("cpu") and is_cpu() and is_cpu("cpu")
    with pytest.raises(InputError, match="'cuda' cannot be used.*use auto, cpu or cuda"):
        choose_device("cuda")
    with pytest.raises(InputError, match="no such device"):
        choose_device("meta")


def test_a_shared_detector_is_loaded_once_and_again_when_it_changed(folder, model):
    first = shared_detector(folder, "cpu")
    assert shared_detector(folder, "cpu") is first
    with torch.no_grad():
        changed = load_model(folder)
        changed.head.boxes.obj_preds[0].bias += 1
    save_model(changed, folder)
    assert shared_detector(folder, "cpu") is not first


def test_the_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), inference_threads():
        assert torch.get_num_threads() <= max(1, before)
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    tune_malloc(arenas=2)


# -------------------------------------------------------------------- models that ship


def test_shipped_models_load_by_name_and_say_what_they_are():
    models = shipped.available_models()
    assert shipped.default_model() in models and shipped.model_folder("default") == models[shipped.default_model()]
    for name, place in models.items():
        assert load_model(name).config == load_model(place).config
        found = Detector.load(name, "cpu")
        assert len(found.classes) > 1 and found.name == name and 0 < found.threshold < 1
        assert (place / "README.md").stat().st_size > 500, "a card tells data, licence, recipe and scores"
        assert (place / "model.safetensors").stat().st_size < 17_000_000


def test_a_model_has_its_own_threshold(folder, model):
    assert shipped.default_threshold(folder) == 0.17
    (folder / "about.json").write_text(json.dumps({"epoch": 3}))
    assert shipped.default_threshold(folder) == shipped.DEFAULT_THRESHOLD
    for damaged in ("{", "[]"):
        (folder / "about.json").write_text(damaged)
        with pytest.raises(InputError, match="about.json is cut off or damaged.*copy the model's folder again"):
            shipped.default_threshold(folder)


# -------------------------------------------------------------------- a GPU


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 60, 80, 3), np.uint8)
    here, there = Detector.load("toy", "cpu"), Detector.load("toy")
    assert there.device.type == "cuda"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    clip = here.prepare(frames).transpose(0, 1)[None]
    for cut in (1, 7, 20):
        answers = []
        for detector in (here, there):
            state, parts = detector.model.initial_state(1), []
            for part in clip.split(cut, 2):
                predictions, state = detector.step(part, state, torch.arange(part.shape[2])[None])
                parts.append(predictions)
            answers.append([torch.cat([getattr(p, name) for p in parts]).cpu() for name in ("anchor_boxes", "anchor_objectness")])
        for one, other in zip(*answers, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert len(there.stream(30)(frames)) == 20


@pytest.mark.parametrize("rate", [0, -3, float("nan"), float("inf"), "x"])
def test_a_rate_that_is_none_is_refused(detector, rate):
    with pytest.raises(InputError, match=f"the rate is {rate!r}; give frames a second, above 0"):
        detector.stream(rate)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (None, "the frames are of type NoneType"),
        ([None], "a frame is of type NoneType"),
        (np.zeros((3, 3)), "a frame is float64 of shape"),
    ],
)
def test_what_is_no_frame_is_refused(detector, frames, said):
    with pytest.raises(InputError, match=said):
        detector.stream()(frames)
