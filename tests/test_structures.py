"""Detections and tubes: what they accept, and what they refuse."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mssc.structures import DetectionLog, Detections, InputError, Tube, class_name, counted

BOX = [1.0, 2.0, 3.0, 4.0]
NAN, INF = float("nan"), float("inf")


def test_the_models_that_ship_name_classes_as_the_readers_do():
    files = list(Path(__file__).parents[1].glob("assets/models/*/config.json"))
    assert files
    for file in files:
        classes = json.loads(file.read_text())["classes"]
        assert classes == [class_name(name) for name in classes]
    assert class_name("shoot_ball") == "shoot ball"


def test_numbers_of_things_are_words():
    assert [counted(n, "box") for n in (0, 1, 2)] == ["0 boxes", "1 box", "2 boxes"] and counted(3, "key frame") == "3 key frames"


def test_the_types_are_there_without_torch():
    subprocess.run([sys.executable, "-c", "import sys, mssc.structures; assert 'torch' not in sys.modules"], check=True)


def test_detections_convert_what_they_are_given():
    rows = Detections([BOX, [0, 0, 0, 0]], [3, 0], [1, 0.25])  # lists of ints and floats; a box may be a point
    assert (rows.boxes.dtype, rows.labels.dtype, rows.scores.dtype) == (np.float32, np.int64, np.float32)
    assert rows.boxes.shape == (2, 4) and rows.labels.tolist() == [3, 0] and len(rows) == 2
    assert Detections(np.array([BOX]), np.array([2.0]), np.array([0.5])).labels.tolist() == [2]  # whole floats are labels


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros(0)])
def test_no_detection_is_a_detections(boxes):
    rows = Detections(boxes, [], [])
    assert rows.boxes.shape == (0, 4) and rows.labels.dtype == np.int64 and len(rows) == len(Detections.empty()) == 0
    assert len(rows.above(0.5)) == 0


def test_above_keeps_rows_at_the_threshold():
    rows = Detections([BOX] * 3, [0, 1, 2], [0.5, 0.49, 0.9])
    kept = rows.above(0.5)
    assert kept.labels.tolist() == [0, 2] and kept.scores.tolist() == pytest.approx([0.5, 0.9])
    assert len(rows) == 3


SOME = Detections([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 0, 10, 10]], [0, 0, 0, 1], [0.5, 0.75, 0.25, 0.125])


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("boxes", "labels", "scores"))


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (1, [1]),
        (-1, [3]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([2, 0], [2, 0]),
        (np.array([False, True, False, True]), [1, 3]),
        ([False, True, False, True], [1, 3]),
        (np.zeros(4, bool), []),
        (np.zeros(0, int), []),
    ],
)
def test_rows_are_chosen_like_those_of_an_array(index, rows):
    chosen = SOME[index]
    assert chosen.labels.tolist() == SOME.labels[rows].tolist() and chosen.boxes.shape == (len(rows), 4)
    np.testing.assert_array_equal(chosen.scores, SOME.scores[rows])
    chosen.boxes[:] = 7  # a copy
    assert SOME.boxes.max() == 30


def test_a_row_that_is_not_there():
    for index in (4, [0, 4], np.array([True, False])):
        with pytest.raises(IndexError):
            SOME[index]


def test_iteration_gives_box_label_and_score():
    rows = list(SOME)
    assert [(box.tolist(), label, score) for box, label, score in rows][3] == ([0, 0, 10, 10], 1, 0.125)
    assert len(rows) == 4 and type(rows[0][1]) is int and not list(Detections.empty())


def test_parts_are_merged():
    assert same(Detections.merge([SOME[:1], Detections.empty(), SOME[1:]]), SOME)
    assert len(Detections.merge([])) == 0 and Detections.merge([]).labels.dtype == np.int64


def test_suppression_keeps_the_best_of_a_class():
    assert same(SOME.with_nms(0.5), SOME[[1, 2, 3]])  # 0 overlaps 1 by 0.9; 3 is of another class
    assert same(SOME.with_nms(0.95), SOME[[1, 0, 2, 3]])
    assert same(SOME.with_nms(0.5, class_agnostic=True), SOME[[1, 2]])
    assert len(Detections.empty().with_nms()) == 0


def test_rows_for_a_table():
    assert SOME[3].to_rows() == [{"x1": 0, "y1": 0, "x2": 10, "y2": 10, "label": 1, "score": 0.125}]
    assert SOME.to_rows(["run", "sit"])[3]["class"] == "sit"
    json.dumps(SOME.to_rows())  # plain numbers


def test_supervision_and_back():
    supervision = pytest.importorskip("supervision")
    other = SOME.to_supervision(["run", "sit"])
    assert isinstance(other, supervision.Detections) and other["class_name"].tolist() == ["run", "run", "run", "sit"]
    assert same(Detections.from_supervision(other), SOME) and same(Detections.from_supervision(SOME.to_supervision()), SOME)
    best = other.with_nms(0.5)  # theirs keeps the order of rows, ours is by score
    ours = SOME.with_nms(0.5)
    assert sorted(map(tuple, best.xyxy.tolist())) == sorted(map(tuple, ours.boxes.tolist()))
    assert same(Detections.from_supervision(supervision.Detections.empty()), Detections.empty())


def test_what_is_like_supervision_is_enough(monkeypatch):
    one = SimpleNamespace(xyxy=SOME.boxes, class_id=SOME.labels, confidence=None)
    assert Detections.from_supervision(one).scores.tolist() == [1] * 4
    with pytest.raises(InputError, match="no class_id"):
        Detections.from_supervision(SimpleNamespace(xyxy=SOME.boxes, class_id=None, confidence=None))
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        SOME.to_supervision()


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "words"),
    [
        ([[1, 2, 3]], [0], [1], "boxes has shape (1, 3); it must be (N, 4)"),
        (np.zeros((0, 5)), [], [], "boxes has shape (0, 5)"),
        (BOX, [0], [1], "boxes has shape (4,)"),
        ([BOX], [[0]], [1], "labels has shape (1, 1); it must be (N)"),
        ([BOX], [0, 1], [1], "1 boxes, 2 labels and 1 scores differ"),
        ([BOX], [0], [], "1 boxes, 1 labels and 0 scores differ"),
        ([[0, 0, NAN, 1]], [0], [1], "boxes contains NaN"),
        ([[0, 0, INF, 1]], [0], [1], "boxes contains NaN or infinity"),
        ([[0, 0, 1e300, 1]], [0], [1], "boxes contains NaN or infinity"),  # infinite as float32
        ([BOX], [0], [NAN], "scores contains NaN"),
        ([BOX, [3, 0, 1, 1]], [0, 0], [1, 1], "box 1 is [3.0, 0.0, 1.0, 1.0]: x2 < x1"),
        ([[0, 5, 1, 1]], [0], [1], "y2 < y1"),
        ([BOX], [-1], [1], "label -1 is negative"),
        ([BOX], [0.5], [1], "labels must be whole numbers, not [0.5]"),
        ([BOX], [NAN], [1], "labels must be"),
        ([BOX], np.array([NAN]), [1], "labels must be whole numbers"),
        ([BOX], ["run"], [1], "labels must be numbers"),
        ([BOX, [1, 2]], [0, 0], [1, 1], "boxes must be numbers"),  # ragged
        ([BOX], [0], [1.5], "scores run from 1.5 to 1.5"),
        ([BOX], [0], [-0.1], "they must lie in [0, 1]"),
    ],
)
def test_detections_refuse(boxes, labels, scores, words):
    with pytest.raises(InputError) as error:
        Detections(boxes, labels, scores)
    assert words in str(error.value)


def test_tube_counts_its_frames():
    tube = Tube(2, 0.5, 10, [BOX] * 3)
    assert (len(tube), tube.start, tube.stop, tube.label, tube.score) == (3, 10, 13, 2, 0.5)
    assert tube.scores.tolist() == [1, 1, 1] and tube.boxes.dtype == np.float32
    assert Tube(0, 1, 0, [BOX], [0.25]).scores.tolist() == [0.25]
    numbers = Tube(np.int64(1), np.float32(0.5), np.int32(3), np.array([BOX]))
    assert (type(numbers.label), type(numbers.score), type(numbers.start)) == (int, float, int)  # they go into JSON


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes": []}, "at least one box"),
        ({"boxes": [[1, 2, 3]]}, "boxes has shape (1, 3)"),
        ({"boxes": [[0, 0, NAN, 1]]}, "boxes contains NaN"),
        ({"boxes": [[2, 0, 1, 1]]}, "x2 < x1"),
        ({"scores": [1, 1]}, "scores has shape (2,); it must be (1)"),
        ({"scores": []}, "scores has shape (0,)"),
        ({"scores": [2]}, "must lie in [0, 1]"),
        ({"score": 1.1}, "must lie in [0, 1]"),
        ({"score": NAN}, "score contains NaN"),
        ({"score": "high"}, "score must be numbers"),
        ({"label": -1}, "label -1 and start 0 must not be negative"),
        ({"label": 1.5}, "label must be whole numbers"),
        ({"start": -2}, "start -2"),
        ({"start": NAN}, "start must be"),
        ({"start": None}, "start must be numbers"),
    ],
)
def test_tube_refuses(changes, words):
    with pytest.raises(InputError) as error:
        Tube(**({"label": 0, "score": 1.0, "start": 0, "boxes": [BOX]} | changes))
    assert words in str(error.value)


def test_they_are_frozen_and_leave_their_input_alone():
    boxes, scores = np.array([BOX]), np.array([0.5])
    rows, tube = Detections(boxes, [0], scores), Tube(0, 0.5, 0, boxes, scores)
    assert boxes.tolist() == [BOX] and boxes.dtype == np.float64
    with pytest.raises(dataclasses.FrozenInstanceError):
        rows.boxes = boxes
    with pytest.raises(dataclasses.FrozenInstanceError):
        tube.start = 3


def test_a_log_gives_back_what_was_appended():
    rng, log, given = np.random.default_rng(0), DetectionLog(), []
    for count in (0, 3, 0, 9000, 1, *rng.integers(0, 40, 400).tolist(), 0):
        low = rng.random((count, 2))
        rows = Detections(np.c_[low, low + 1], rng.integers(0, 80, count) * 10**10, rng.random(count))
        given.append(rows)
        log.append(rows)
        assert len(log) == len(given)
    for one, other in zip(log, given, strict=True):
        assert (one.boxes.tobytes(), one.scores.tobytes()) == (other.boxes.tobytes(), other.scores.tobytes())
        assert one.labels.tolist() == other.labels.tolist()
    assert [len(rows) for rows in log[-3:]] == [len(rows) for rows in given[-3:]] and len(log[-1]) == 0
    for index in (len(log), -len(log) - 1):
        with pytest.raises(IndexError):
            log[index]


def test_a_log_keeps_nothing_that_it_was_given_alive_and_gives_copies():
    log, rows = DetectionLog(), Detections([BOX], [1], [0.5])
    log.append(rows)
    rows.scores[0] = 0
    log[0].boxes[:] = 7
    assert (log[0].scores.item(), log[0].boxes.tolist()) == (0.5, [BOX])
    assert len(DetectionLog()) == 0 and list(DetectionLog()) == []


@pytest.mark.parametrize(
    ("start", "length", "kept_start", "kept"),
    [(0, 9, 0, 3), (1, 9, 1, 2), (4, 4, 1, 1), (8, 2, 2, 1)],  # every 4th of 10 frames: 0, 4, 8
)
def test_a_thinned_tube_keeps_the_right_boxes(start, length, kept_start, kept):
    boxes = np.arange(start, start + length)[:, None] + np.array([0, 0, 5, 5])
    thin = Tube(0, 0.5, start, boxes, np.linspace(0, 1, length)).among(np.array([0, 4, 8]))
    assert thin is not None and (thin.start, len(thin)) == (kept_start, kept)
    assert thin.score == 0.5 and len(thin.scores) == kept
    assert thin.boxes[:, 0].tolist() == [4 * (kept_start + i) for i in range(kept)]


def test_a_tube_between_the_kept_frames_is_left_out():
    assert Tube(0, 1.0, 5, np.tile([0, 0, 1, 1], (3, 1))).among(np.array([0, 4, 8])) is None
