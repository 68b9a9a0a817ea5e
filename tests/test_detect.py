"""From predictions to detections to a result; the command line has its own tests."""

import json
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from test_video import make

from mssc.detection import pipeline
from mssc.detection.detector import Detector
from mssc.detection.people import PeopleLinker
from mssc.detection.pipeline import VideoResult
from mssc.detection.prefetch import prefetch
from mssc.model.mssc import MSSC
from mssc.scoring.run import detect_frames, known_of, link_all
from mssc.structures import Detections, InputError, Tube
from mssc.video import VideoInfo, probe


@pytest.fixture(scope="module")
def detector(tiny_config):
    torch.manual_seed(1)
    model = MSSC(tiny_config).eval()
    for conv in model.head.boxes.obj_preds:
        torch.nn.init.constant_(conv.bias, 2.0)
    return Detector(model, "tiny")


def result(tubes, times, detections=()) -> VideoResult:
    info = VideoInfo(Path("a/walk.mp4"), 64, 48, Fraction(10), len(times), len(times) / 10)
    linker = PeopleLinker(10.0, 2)
    for found in detections:
        linker.step(found)
    people, spent = linker.so_far(detections) if detections else [], {"network": 2.0, "draw": 0.5}
    return VideoResult(info, ("sit", "stand"), tubes, detections, times, spent, "tiny", 0.3, people=people)


def test_seconds_follow_the_frames_own_times():
    tube = Tube(1, 0.7, 2, np.tile([1, 2, 3, 4], (2, 1)))
    found = result([tube], [0.0, 0.1, 0.5, 0.6, 1.0])  # a variable rate
    assert found.seconds(tube) == (0.5, 1.0)  # until the next frame
    assert result([], [0.0, 0.1, 0.5, 0.6]).seconds(tube) == (0.5, pytest.approx(0.7))  # the last frame lasts 1/rate
    row = found.to_json()["tubes"][0]
    assert (row["action"], row["start_frame"], row["end_frame"], row["start_seconds"]) == ("stand", 2, 3, 0.5)
    assert found.frames_per_second == pytest.approx(2.0)


def test_a_result_knows_who_acts_in_a_frame():
    box = [1, 2, 30, 40]
    tubes = [Tube(label, 0.7, start, np.tile(box, (frames, 1))) for label, start, frames in ((0, 0, 3), (1, 1, 2))]
    found = result([*tubes, Tube(0, 0.5, 1, [[50, 2, 60, 9]])], [0.0, 0.1, 0.2])
    assert found.actors == [1, 1, 2]
    rows, actors = found.shown_at(1)
    assert actors == [1, 1, 2] and rows.labels.tolist() == [0, 1, 0] and rows.boxes[2].tolist() == [50, 2, 60, 9]
    assert [len(found.shown_at(frame)[0]) for frame in range(4)] == [1, 3, 2, 0]
    assert [row["actor"] for row in found.to_json()["tubes"]] == [1, 1, 2]


def test_who_acts_in_a_frame_is_not_among_the_others_there():
    actor, other = np.array([1, 2, 30, 40], np.float32), np.array([50, 2, 80, 40], np.float32)
    seen = [Detections(np.stack([actor, other]), np.zeros(2), np.full(2, 0.9))] * 30
    tube = Tube(0, 0.7, 0, np.tile(actor, (10, 1)))
    found = result([tube], [index / 10 for index in range(30)], seen)
    assert len(found.people) == 2 and found.actors[0] in found.numbers[1]
    np.testing.assert_allclose(found.others_at(5)[0], [other], atol=0.01)
    assert [len(boxes) for boxes, _ in (found.others_at(20), found.others_at(99))] == [2, 0]
    assert {*found.others_at(5)[1], *found.actors} == set(found.others_at(20)[1]) == {1, 2}


def test_everybody_is_told_of_where_no_action_is_sure():
    box = np.array([[1, 2, 30, 40]], np.float32)
    unsure = Detections(box, np.array([1]), np.array([0.2]), box, np.array([0.9]))
    found = result([], [frame / 10 for frame in range(12)], [unsure] * 12)
    (person,) = found.to_json()["people"]
    assert person["likeliest"] == [{"action": "stand", "score": pytest.approx(0.2)}] and person["end_frame"] == 11
    assert person["boxes"][5] == [1, 2, 30, 40] and found.to_json()["tubes"] == []


def test_a_result_without_tubes_is_written_too(tmp_path):
    found = result([], [0.0])
    found.write_json(tmp_path / "new" / "r.json")
    found.write_csv(tmp_path / "new" / "r.csv")
    assert json.loads((tmp_path / "new" / "r.json").read_text())["tubes"] == []
    assert (tmp_path / "new" / "r.csv").read_text().startswith("actor,action,score")


def test_a_box_has_a_line_of_its_own_and_texts_stay_as_they_are(tmp_path):
    tube = Tube(0, 0.5, 0, np.tile(np.array([[1.1, 2, 30, 40]], np.float32), (2, 1)))
    found = replace(result([tube], [0.0, 0.1]), notes=["a  [1,  2] b"])
    found.write_json(tmp_path / "r.json", {"runtime": "torch"})
    text = (tmp_path / "r.json").read_text()
    assert text.count("[1.1, 2.0, 30.0, 40.0]") == 2
    told = json.loads(text)
    assert {key: told[key] for key in found.to_json()} == json.loads(json.dumps(found.to_json())) and told["runtime"] == "torch"


def test_a_result_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="taken"):
        result([], [0.0]).write_json(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_what_was_not_drawn_here_is_not_overwritten(toy_videos, detector, tmp_path):
    other = tmp_path / "other.mp4"
    other.write_bytes(toy_videos.videos[1].path.read_bytes())
    for place, said in ((other, "no video that was drawn here"), (tmp_path / "o.gif", "an MP4")):
        with pytest.raises(InputError, match=said):
            pipeline.detect_video(toy_videos.videos[0].path, detector, output=place)
    assert other.read_bytes() == toy_videos.videos[1].path.read_bytes()
    for _ in range(2):
        pipeline.detect_video(toy_videos.videos[0].path, detector, output=tmp_path / "o.mp4")


def test_the_progress_of_both_passes_is_told(detector, toy_videos, tmp_path):
    said = []
    video = toy_videos.videos[0]
    found = pipeline.detect_video(video.path, detector, output=tmp_path / "o.mp4", progress=lambda *a: said.append(a))
    stages = [stage for _, _, stage in said]
    assert list(dict.fromkeys(stages)) == ["looking for actions", "drawing"]
    assert said[-1][0] == video.frames == len(found.times) == len(found.detections)
    assert {"decode", "network", "boxes", "link", "draw", "encode"} == set(found.timings)
    assert probe(tmp_path / "o.mp4").rate == video.rate


def test_every_video_of_a_dataset_is_streamed(detector, toy_videos):
    part = toy_videos.subset([v.name for v in toy_videos.videos[:2]])
    own = {video.name: detect_frames(detector, video) for video in part.videos}
    linked, tubes = link_all(own, known_of(part))
    assert set(own) == set(linked) == set(tubes) == {v.name for v in part.videos}
    assert [len(own[v.name]) for v in part.videos] == [v.frames for v in part.videos]


def test_items_are_made_ahead_in_order_and_errors_arrive():
    assert list(prefetch(range(50), 3)) == list(range(50))

    def broken():
        yield 1
        raise InputError("the middle is missing.")

    source = prefetch(broken())
    assert next(source) == 1
    with pytest.raises(InputError, match="middle"):
        next(source)


def test_no_more_is_made_ahead_than_asked_and_leaving_ends_it():
    made = []

    def items():
        for index in range(1000):
            made.append(index)
            yield index

    source = prefetch(items(), 4)
    assert next(source) == 0
    time.sleep(0.2)
    assert len(made) <= 7
    before = threading.active_count()
    source.close()
    assert threading.active_count() < before and len(made) <= 8


def test_steps_tell_what_there_is_so_far_and_end_as_detection_does(detector, toy_videos, tmp_path):
    path = toy_videos.videos[0].path
    whole = pipeline.detect_video(path, detector, 0.0)
    steps, counts = [], []
    for step in pipeline.detect_steps(path, detector, 0.0, tmp_path / "o.mp4"):
        steps.append((step.done, step.stage, step.complete, step.image is not None))
        counts.append(len(step.so_far().tubes))
        assert len(step.result.times) == len(step.result.detections), "what is not looked at yet has not been seen"
    count = len(whole.times)
    looking = [(n + 1, "looking for actions", False, False) for n in range(count)]
    drawing = [(n + 1, "drawing", True, True) for n in range(count)]
    assert steps == [*looking, (count, "looking for actions", True, False), *drawing]
    assert counts[0] > 0 and counts[-1] == len(whole.tubes) > 0
    assert [(t.start, t.score) for t in step.result.tubes] == [(t.start, t.score) for t in whole.tubes], "asking changes nothing"
    assert (tmp_path / "o.mp4").exists()


def test_what_is_wrong_with_a_file_is_told_with_the_result(detector, toy_videos, tmp_path):
    whole = toy_videos.videos[0].path
    found = pipeline.detect_video(whole, detector, 0.0)
    assert found.notes == [] == found.to_json()["notes"]
    assert found.to_json()["seconds"] == pytest.approx(len(found.times) / float(found.info.rate), abs=1e-3)
    cut = tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    data = cut.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    found = pipeline.detect_video(cut, detector, 0.0)
    assert found.notes[-1] == f"{len(found.times)} of its {found.info.frames} frames can be decoded; it may have been cut off."
    slower = make(tmp_path / "slower.mkv", frames=60, times=[*(n / 30 for n in range(40)), *(4 / 3 + n / 10 for n in range(20))])
    uneven = pipeline.detect_video(slower, detector, 0.0)
    assert uneven.info.frames == 82 and len(uneven.times) == 60 and not uneven.notes, "a camera that slows down has lost nothing"
    hurt = bytearray(whole.read_bytes())
    middle = hurt.find(b"mdat") + (len(hurt) - hurt.find(b"mdat")) // 2
    hurt[middle : middle + 60] = bytes(60)
    (tmp_path / "hurt.mp4").write_bytes(hurt)
    found = pipeline.detect_video(tmp_path / "hurt.mp4", detector, 0.0)
    assert found.notes and "damaged" in found.notes[0] and str(tmp_path) not in found.notes[0]
    assert found.to_json()["notes"] == found.notes


@pytest.mark.parametrize("after", [3, 20])
def test_leaving_early_ends_the_work_and_leaves_no_file(detector, toy_videos, tmp_path, after):
    before = threading.active_count()
    steps = pipeline.detect_steps(toy_videos.videos[0].path, detector, 0.0, tmp_path / "o.mp4")
    for _ in range(after):
        next(steps)
    steps.close()
    assert threading.active_count() == before and not list(tmp_path.iterdir())
