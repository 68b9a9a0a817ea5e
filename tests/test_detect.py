"""From predictions to detections to a result; the command line has its own tests."""

import json
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mssc.config import ModelConfig
from mssc.data.decoding import decode
from mssc.detection import pipeline
from mssc.detection.pipeline import VideoResult, action_probabilities, stream_detections, to_detections
from mssc.model.checkpoint import save_model
from mssc.model.mssc import MSSC, half_of_the_cores
from mssc.scoring.run import detect_dataset, model_hash
from mssc.structures import InputError, Predictions, Tube
from mssc.video import VideoInfo, probe

CONFIG = ModelConfig(classes=("sit", "stand"), key_size=64, clip_size=32)


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
    (found,) = to_detections(given, CONFIG, 128, 32)
    np.testing.assert_allclose(found.boxes[found.labels == 0], [[80, 5, 120, 15], [0, 0, 64, 32]])
    sure = 1 / (1 + np.exp(-4.0))
    np.testing.assert_allclose(found.scores[found.labels == 0], [0.880797 * sure, 0.25], rtol=1e-5)
    np.testing.assert_allclose(found.scores[found.labels == 1], [0.880797 * (1 - sure), 0.25], rtol=1e-5)


def test_labels_that_do_not_exclude_each_other_may_both_be_certain():
    logits = torch.tensor([[8.0, 8.0]])
    assert action_probabilities(logits, CONFIG).tolist() == [[0.5, 0.5]]
    assert (action_probabilities(logits, replace(CONFIG, actions="multilabel")) > 0.99).all()


def test_frames_do_not_suppress_each_other_and_boxes_stay_inside():
    box = [[-10.0, -10, 80, 80]]
    given = predictions([box, box, box], [[3.0], [3.0], [-9.0]], [[[5.0, 0.0]]] * 3)
    found = to_detections(given, CONFIG, 100, 50)
    assert [len(d) for d in found] == [1, 1, 0]
    assert found[0].boxes.tolist() == [[0, 0, 100, 50]]


def test_a_crowded_frame_keeps_its_best_rows():
    boxes = [[[float(x), 0, x + 1, 1] for x in range(60)]]
    logits = torch.randn(1, 60, 2, generator=torch.Generator().manual_seed(0))
    (found,) = to_detections(predictions(boxes, [[4.0] * 60], logits.tolist()), CONFIG, 64, 64)
    every = (torch.tensor(4.0).sigmoid() * logits.softmax(2)).flatten().sort(descending=True).values
    assert len(found) == pipeline.MOST_ROWS == 50
    np.testing.assert_allclose(np.sort(found.scores)[::-1], every[:50], rtol=1e-5)


def test_predictions_are_not_modified():
    given = predictions([[[0.0, 0, 32, 64]]], [[1.0]], [[[0.0, 0.0]]])
    copies = [tensor.clone() for tensor in given]
    to_detections(given, CONFIG, 128, 32)
    assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True))


@pytest.fixture(scope="module")
def model(tiny_config):
    torch.manual_seed(1)
    return MSSC(tiny_config).eval()


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_chunk_size_does_not_matter(model, toy_videos, monkeypatch, at_once):
    images = list(decode(toy_videos.videos[0].path))
    for conv in model.head.boxes.obj_preds:
        torch.nn.init.constant_(conv.bias, 2.0)
    whole = list(stream_detections(model, images))
    monkeypatch.setattr(pipeline, "FRAMES_AT_ONCE", at_once)
    parts = list(stream_detections(model, images))
    assert len(whole) == len(parts) == len(images) and sum(map(len, whole)) > 0
    for a, b in zip(whole, parts, strict=True):
        assert abs(a.scores.max() - b.scores.max()) < 1e-4


@pytest.mark.parametrize(("every", "count"), [(2, 11), (3, 12), (5, 7), (20, 9)])
def test_a_fast_video_is_looked_at_every_few_frames(model, toy_videos, monkeypatch, every, count):
    images = list(decode(toy_videos.videos[0].path))[:count]
    monkeypatch.setattr(pipeline, "FRAMES_AT_ONCE", 6)
    seldom = list(stream_detections(model, images, every=every))
    wanted = list(stream_detections(model, images[::every]))
    assert len(seldom) == len(images)
    for place, found in enumerate(seldom):
        assert abs(found.scores.max(initial=0) - wanted[place // every].scores.max(initial=0)) < 1e-4


def result(tubes, times) -> VideoResult:
    info = VideoInfo(Path("a/walk.mp4"), 64, 48, Fraction(10), len(times), len(times) / 10)
    return VideoResult(info, ("sit", "stand"), tubes, [], times, {"network": 2.0, "draw": 0.5}, "tiny", 0.3)


def test_seconds_follow_the_frames_own_times():
    tube = Tube(1, 0.7, 2, np.tile([1, 2, 3, 4], (2, 1)))
    found = result([tube], [0.0, 0.1, 0.5, 0.6, 1.0])  # a variable rate
    assert found.seconds(tube) == (0.5, 1.0)
    row = found.to_json()["tubes"][0]
    assert (row["action"], row["start_frame"], row["end_frame"], row["start_seconds"]) == ("stand", 2, 3, 0.5)
    assert found.frames_per_second == pytest.approx(2.0)


def test_a_result_without_tubes_is_written_too(tmp_path):
    found = result([], [0.0])
    found.write_json(tmp_path / "new" / "r.json")
    found.write_csv(tmp_path / "new" / "r.csv")
    assert json.loads((tmp_path / "new" / "r.json").read_text())["tubes"] == []
    assert (tmp_path / "new" / "r.csv").read_text().startswith("actor,action,score")


def test_a_result_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="taken"):
        result([], [0.0]).write_json(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_model_has_its_own_threshold(tmp_path, model):
    save_model(model, tmp_path / "m", {"threshold": 0.17})
    assert pipeline.default_threshold(tmp_path / "m") == 0.17
    save_model(model, tmp_path / "m")
    assert pipeline.default_threshold(tmp_path / "m") == pipeline.DEFAULT_THRESHOLD
    assert len(model_hash(tmp_path / "m")) == 12


def test_a_model_is_loaded_once_and_again_when_it_changed(tmp_path, model):
    save_model(model, tmp_path / "m")
    first = pipeline.load_for_detection(tmp_path / "m")
    assert pipeline.load_for_detection(tmp_path / "m") is first
    assert not any(p.requires_grad for p in first.parameters()) and not first.training


def test_the_progress_of_both_passes_is_told(model, toy_videos, tmp_path):
    said = []
    video = toy_videos.videos[0]
    found = pipeline.detect_video(video.path, model, output=tmp_path / "o.mp4", progress=lambda *a: said.append(a))
    stages = [stage for _, _, stage in said]
    assert list(dict.fromkeys(stages)) == ["looking for actions", "drawing"]
    assert said[-1][0] == video.frames == len(found.times) == len(found.detections)
    assert {"decode", "resize", "network", "boxes", "link", "draw", "encode"} == set(found.timings)
    assert probe(tmp_path / "o.mp4").rate == video.rate


def test_every_video_of_a_dataset_is_streamed(model, toy_videos):
    part = toy_videos.subset([v.name for v in toy_videos.videos[:2]])
    own, linked, tubes = detect_dataset(model, part)
    assert set(own) == set(linked) == set(tubes) == {v.name for v in part.videos}
    assert [len(own[v.name]) for v in part.videos] == [v.frames for v in part.videos]


def test_shipped_models_load_and_say_what_they_are():
    models = pipeline.available_models()
    assert pipeline.default_model() in models
    for name, folder in models.items():
        network = pipeline.load_for_detection(name)
        assert len(network.config.classes) > 1
        assert (folder / "README.md").stat().st_size > 500, "a card tells data, licence, recipe and scores"
        assert (folder / "model.safetensors").stat().st_size < 10_000_000
        assert 0 < pipeline.default_threshold(name) < 1


def test_items_are_made_ahead_in_order_and_errors_arrive():
    assert list(pipeline._ahead(range(50), 3)) == list(range(50))

    def broken():
        yield 1
        raise InputError("the middle is missing.")

    source = pipeline._ahead(broken())
    assert next(source) == 1
    with pytest.raises(InputError, match="middle"):
        next(source)


def test_no_more_is_made_ahead_than_asked_and_leaving_ends_it():
    made = []

    def items():
        for index in range(1000):
            made.append(index)
            yield index

    source = pipeline._ahead(items(), 4)
    assert next(source) == 0
    time.sleep(0.2)
    assert len(made) <= 7
    before = threading.active_count()
    source.close()
    assert threading.active_count() < before and len(made) <= 8


def test_the_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), half_of_the_cores():
        assert torch.get_num_threads() <= max(1, before)
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_steps_tell_what_there_is_so_far_and_end_as_detection_does(model, toy_videos, tmp_path):
    for conv in model.head.boxes.obj_preds:
        torch.nn.init.constant_(conv.bias, 2.0)
    path = toy_videos.videos[0].path
    whole = pipeline.detect_video(path, model, 0.0)
    steps, counts = [], []
    for step in pipeline.detect_steps(path, model, 0.0, tmp_path / "o.mp4"):
        steps.append((step.done, step.stage, step.complete, step.image is not None))
        counts.append(len(step.tubes_so_far()))
    count = len(whole.times)
    looking = [(n + 1, "looking for actions", False, False) for n in range(count)]
    drawing = [(n + 1, "drawing", True, True) for n in range(count)]
    assert steps == [*looking, (count, "looking for actions", True, False), *drawing]
    assert counts[0] > 0 and counts[-1] == len(whole.tubes) > 0
    assert [(t.start, t.score) for t in step.result.tubes] == [(t.start, t.score) for t in whole.tubes], "asking changes nothing"
    assert (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize("after", [3, 20])
def test_leaving_early_ends_the_work_and_leaves_no_file(model, toy_videos, tmp_path, after):
    before = threading.active_count()
    steps = pipeline.detect_steps(toy_videos.videos[0].path, model, 0.0, tmp_path / "o.mp4")
    for _ in range(after):
        next(steps)
    steps.close()
    assert threading.active_count() == before and not list(tmp_path.iterdir())
