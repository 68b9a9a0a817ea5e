"""Scores against hand-computed values, brute force, and what public evaluators give."""

import importlib.util
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mssc.boxes import CONTINUOUS
from mssc.data import plain_pickle
from mssc.evaluate import (
    PROTOCOLS,
    RANGE,
    Truth,
    actor_ap,
    alarm_curve,
    alarms_at_recall,
    average_precision,
    collect,
    frame_map,
    video_accuracy,
    video_map,
    video_map_range,
)
from mssc.structures import Detections, InputError, Tube

BASIC = ("voc", "act", "yowo")
BOX = [10.0, 10.0, 30.0, 50.0]


def dets(*rows):
    """Rows (label, score, x1, y1, x2, y2)."""
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 0].astype(int), table[:, 1])


def still(box, frames, label=0, start=0, score=1.0):
    return Tube(label, score, start, np.tile(np.array(box, float), (frames, 1)))


def random_case(seed, videos=4, classes=3, frames=12):
    """Noisy detections around random tubes, with duplicates, wrong classes, ties and clutter."""
    rng = np.random.default_rng(seed)
    detections, truth = {}, {}
    for v in range(videos):
        tubes = []
        for _ in range(rng.integers(0, 4)):
            start = int(rng.integers(0, frames - 2))
            length = int(rng.integers(1, frames - start))
            low = rng.uniform(0, 40, 2)
            box = np.r_[low, low + rng.uniform(15, 40, 2)] + np.cumsum(rng.normal(size=(length, 1)), 0)
            tubes.append(Tube(int(rng.integers(classes - 1)), 1, start, box))  # the last class has no ground truth
        per_frame = []
        for f in range(frames):
            rows = []
            for tube in tubes:
                if tube.start <= f < tube.stop:
                    for _ in range(rng.integers(0, 3)):
                        box = tube.boxes[f - tube.start] + rng.normal(size=4) * 4
                        label = tube.label if rng.random() < 0.8 else int(rng.integers(classes))
                        rows.append((label, round(float(rng.random()), 2), *np.sort(box[[0, 2]]), *np.sort(box[[1, 3]])))
            if rng.random() < 0.4:
                low = rng.uniform(0, 60, 2)
                rows.append((int(rng.integers(classes)), round(float(rng.random()), 2), low[0], low[0] + 20, low[1], low[1] + 20))
            per_frame.append(dets(*[(a, s, x1, y1, x2, y2) for a, s, x1, x2, y1, y2 in rows]))
        detections[f"v{v}"], truth[f"v{v}"] = per_frame, Truth(tuple(tubes), frames)
    return detections, truth


def area(box, pixel):
    return max(box[2] - box[0] + pixel, 0) * max(box[3] - box[1] + pixel, 0)


def iou(a, b, pixel):
    a, b = [float(x) for x in a], [float(x) for x in b]
    inter = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])], pixel)
    union = area(a, pixel) + area(b, pixel) - inter
    return inter / union if union else 0.0


def oracle_ap(hits, positives, envelope):
    if positives == 0:
        return float("nan")
    points, right = [(0.0, 1.0)], 0
    for n, hit in enumerate(hits, 1):
        right += hit
        points.append((right / positives, right / n))
    total = 0.0
    for i in range(1, len(points)):
        width = points[i][0] - points[i - 1][0]
        height = max(p for _, p in points[i:]) if envelope else (points[i][1] + points[i - 1][1]) / 2
        total += width * height
    return total


def oracle_match(found, wanted, threshold, overlap, retry):
    """Hits of `found` (group, thing) pairs, taken in the order given, against `wanted` pairs."""
    taken, hits = set(), []
    for group, thing in found:
        free = [j for j, (g, _) in enumerate(wanted) if g == group and not (retry and j in taken)]
        best = max(free, key=lambda j: overlap(thing, wanted[j][1]), default=None)
        hits.append(best is not None and overlap(thing, wanted[best][1]) >= threshold and best not in taken)
        if hits[-1]:
            taken.add(best)
    return hits


def oracle_frame_map(detections, truth, classes, threshold, name, frames):
    rule = PROTOCOLS[name]
    scores = []
    wanted = [
        (v, f, tube.label, tube.boxes[f - tube.start])
        for v, video in truth.items()
        for tube in video.tubes
        for f in range(tube.start, tube.stop - (name == "yowo"))
    ]
    annotated = {(v, f) for v, f, _, _ in wanted}
    for c in range(classes):
        mine = [((v, f), box) for v, f, label, box in wanted if label == c]
        rows = [
            (-d.scores[i], ((v, f), d.boxes[i]))
            for v in truth
            for f, d in enumerate(detections.get(v, []))
            for i in range(len(d))
            if d.labels[i] == c and ((v, f) in annotated or (frames or rule.frames) == "every")
        ]
        rows.sort(key=lambda row: row[0])
        hits = oracle_match([row for _, row in rows], mine, threshold, lambda a, b: iou(a, b, rule.pixel), rule.retry)
        scores.append(oracle_ap(hits, len(mine), rule.envelope))
    return np.array(scores)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name, frames", [("voc", None), ("voc", "every"), ("act", None), ("act", "annotated"), ("yowo", None)])
def test_frame_map_equals_brute_force(seed, name, frames):
    detections, truth = random_case(seed)
    for threshold in (0.3, 0.5, 0.75):
        score = frame_map(detections, truth, 3, threshold, name, frames)
        expected = oracle_frame_map(detections, truth, 3, threshold, name, frames)
        np.testing.assert_allclose(score.per_class, expected, atol=1e-9)
        assert np.isnan(score.per_class[2]) and score.positives[2] == 0
        assert score.map == pytest.approx(np.nanmean(expected))


def test_the_protocols_differ_on_the_same_detections():
    detections, truth = random_case(1, videos=8)
    assert len({round(frame_map(detections, truth, 3, 0.5, name).map, 6) for name in BASIC}) == 3


# hits by descending score, positives, area under the envelope, under the trapezoids from (0, 1)
@pytest.mark.parametrize(
    "hits, positives, envelope, trapezoids",
    [
        ([1, 0, 1], 2, 0.5 + 0.5 * 2 / 3, 0.5 + 0.5 * (1 / 2 + 2 / 3) / 2),
        ([0, 1], 1, 0.5, (0 + 0.5) / 2),
        ([1], 4, 0.25, 0.25),
        ([], 3, 0.0, 0.0),
        ([0, 0], 3, 0.0, 0.0),
    ],
)
def test_average_precision_by_hand(hits, positives, envelope, trapezoids):
    assert average_precision(np.array(hits, bool), positives) == pytest.approx(envelope)
    assert average_precision(np.array(hits, bool), positives, envelope=False) == pytest.approx(trapezoids)
    assert np.isnan(average_precision(np.array(hits, bool), 0))


def test_a_second_detection_of_one_box_is_wrong():
    truth = {"a": Truth((still(BOX, 1),), 1)}
    once = frame_map({"a": [dets((0, 0.9, *BOX))]}, truth, 1)
    assert once.map == 1
    # ranks: right, duplicate; with a second box to find, recall stays at 1/2
    truth = {"a": Truth((still(BOX, 1), still([100, 0, 120, 20], 1)), 1)}
    twice = {"a": [dets((0, 0.9, *BOX), (0, 0.8, *BOX), (0, 0.7, 100, 0, 120, 20))]}
    assert frame_map(twice, truth, 1).map == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_only_act_gives_a_second_choice():
    # Both detections overlap the first box best; the second detection also overlaps the other box by 9/11.
    truth = {"a": Truth((still([0, 0, 100, 100], 1), still([0, 10, 100, 110], 1)), 1)}
    found = {"a": [dets((0, 0.9, 0, 0, 100, 100), (0, 0.8, 0, 1, 100, 101))]}
    assert frame_map(found, truth, 1, protocol="voc").map == pytest.approx(0.5)
    assert frame_map(found, truth, 1, protocol="act").map == pytest.approx(1.0)


def test_inclusive_pixels_flip_a_decision():
    truth = {"a": Truth((still([0, 0, 10, 10], 2),), 2)}
    found = {"a": [dets((0, 0.9, 0, 0, 10, 4.9))] * 2}  # IoU 0.49, or 11 x 5.9 / 121 = 0.536
    assert frame_map(found, truth, 1, protocol="voc").map == 0
    assert frame_map(found, truth, 1, protocol="yowo").map == 1
    exact = {"a": [dets((0, 0.9, 0, 0, 10, 5))] * 2}
    assert frame_map(exact, truth, 1, iou=0.5, protocol="voc").map == 1  # the threshold itself suffices


def test_yowos_annotations_lie_beside_the_others():
    # x1, y1, x2, y2 of J-HMDB's first annotated brush_hair box, and what YOWO's file says; its frame ends at (320, 240).
    truth = {"a": Truth((still([71, 48, 246, 239], 2),), 2)}
    exact = {"a": [dets((0, 0.9, 72, 49, 248, 240))] * 2}
    assert frame_map(exact, truth, 1, 1.0, "yowo-jhmdb").map == 1 and frame_map(exact, truth, 1, 1.0, "yowo").map == 0
    # UCF101-24: 175, 100, 47 wide, 78 high is "174 99 221 177"
    truth = {"a": Truth((still([175, 100, 222, 178], 2),), 2)}
    exact = {"a": [dets((0, 0.9, 174, 99, 221, 177))] * 2}
    assert frame_map(exact, truth, 1, 1.0, "yowo-ucf101-24").map == 1 and frame_map(exact, truth, 1, 1.0, "yowo").map == 0


def test_which_frames_count():
    truth = {"a": Truth((still(BOX, 2, start=1),), 5)}  # frames 1 and 2
    right = dets((0, 0.5, *BOX))
    alarm = dets((0, 0.9, *BOX))
    found = {"a": [alarm, right, right]}
    assert frame_map(found, truth, 1).map == 1
    assert frame_map(found, truth, 1, frames="every").map == pytest.approx(2 / 3)  # precision 0, 1/2, 2/3
    assert frame_map(found, truth, 1, protocol="act").map < 1
    last_wrong = {"a": {1: right, 2: dets((0, 0.9, 200, 0, 210, 10))}}
    assert frame_map(last_wrong, truth, 1, protocol="yowo").map == 1  # frame 2 is the tube's last
    assert frame_map(last_wrong, truth, 1, protocol="yowo").positives.tolist() == [1]


def test_a_frame_is_kept_if_another_tube_goes_on():
    truth = {"a": Truth((still(BOX, 2), still([60, 0, 90, 30], 3, label=1)), 4)}
    score = frame_map({}, truth, 2, protocol="yowo")
    assert score.positives.tolist() == [1, 2]
    found = {"a": {1: dets((0, 0.9, *BOX))}}  # the tube's last frame, still annotated for the other one: a false positive
    with_hit = {"a": {0: dets((0, 0.5, *BOX)), **found["a"]}}
    assert frame_map(with_hit, truth, 2, protocol="yowo").per_class.tolist() == [0.5, 0.0]


def test_frames_without_detections_keep_their_truth():
    truth = {"a": Truth((still(BOX, 4),), 4), "b": Truth((still(BOX, 4),), 4)}
    found = {"a": [dets((0, 0.9, *BOX)), Detections.empty(), Detections.empty(), dets((0, 0.8, *BOX))]}
    assert frame_map(found, truth, 1).map == pytest.approx(2 / 8)


def test_nothing_found_nothing_wanted():
    truth = {"a": Truth((still(BOX, 3),), 3)}
    assert frame_map({}, truth, 2).per_class[0] == 0
    assert frame_map({"a": []}, truth, 1).map == 0
    nothing = {"a": Truth((), 3)}
    score = frame_map({"a": [dets((0, 0.9, *BOX))]}, nothing, 2)
    assert np.isnan(score.map) and np.isnan(score.per_class).all()
    assert np.isnan(frame_map({}, {}, 1).map)
    assert np.isnan(video_map({}, nothing, 1).map)
    assert np.isnan(video_accuracy({}, nothing))


def test_boxes_without_area_never_match():
    truth = {"a": Truth((still([5, 5, 5, 5], 1),), 1)}
    assert frame_map({"a": [dets((0, 0.9, 5, 5, 5, 5))]}, truth, 1, 0.01).map == 0


def test_equal_scores_are_taken_as_given():
    truth = {"a": Truth((still(BOX, 1),), 1)}
    wrong, right = (0, 0.5, 200, 0, 210, 10), (0, 0.5, *BOX)
    assert frame_map({"a": [dets(wrong, right)]}, truth, 1).map == 0.5
    assert frame_map({"a": [dets(right, wrong)]}, truth, 1).map == 1


def test_a_sparse_mapping_equals_a_sequence():
    detections, truth = random_case(3)
    sparse = {v: {f: d for f, d in enumerate(frames) if len(d)} for v, frames in detections.items()}
    np.testing.assert_array_equal(frame_map(detections, truth, 3).per_class, frame_map(sparse, truth, 3).per_class)


def test_many_rows_go_through_in_chunks():
    rng = np.random.default_rng(0)
    many = 70_000  # more than one chunk
    box = (np.tile(np.array(BOX), (many, 1)) + rng.normal(size=(many, 1)) * 3).astype(np.float32)
    frame, score = np.sort(rng.integers(500, size=many)), rng.random(many).astype(np.float32)
    truth = {"a": Truth((still(BOX, 500),), 500)}
    parts = [slice(*np.searchsorted(frame, [f, f + 1])) for f in range(500)]
    found = [Detections(box[rows], np.zeros(len(box[rows])), score[rows]) for rows in parts]
    assert frame_map({"a": found}, truth, 1).positives[0] == 500
    order = np.argsort(-score, kind="stable")[:2000]
    hits = oracle_match(
        [(f, b) for f, b in zip(frame[order].tolist(), box[order].astype(float), strict=True)],
        [(f, BOX) for f in range(500)],
        0.5,
        lambda a, b: iou(a, b, 0),
        False,
    )
    few = frame_map({"a": [rows.above(score[order[-1]]) for rows in found]}, truth, 1)
    assert few.map == pytest.approx(oracle_ap(hits, 500, True))


def test_inputs_are_not_modified():
    detections, truth = random_case(2)
    for frames in detections.values():
        for d in frames:
            for array in (d.boxes, d.labels, d.scores):
                array.setflags(write=False)
    for video in truth.values():
        for tube in video.tubes:
            tube.boxes.setflags(write=False)
    tubes = {v: list(video.tubes) for v, video in truth.items()}
    before = {v: list(frames) for v, frames in detections.items()}
    for name in PROTOCOLS:
        frame_map(detections, truth, 3, protocol=name)
    actor_ap(detections, truth)
    alarm_curve(detections, truth, [0.5])
    video_map_range(tubes, truth, 3)
    assert all(x is y for v in before for x, y in zip(before[v], detections[v], strict=True))
    assert all(x is y for v, video in truth.items() for x, y in zip(tubes[v], video.tubes, strict=True))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda d, t: frame_map({"zzz": []}, t, 1), "unknown videos, e.g. 'zzz'"),
        (lambda d, t: frame_map({"a": {7: d}}, t, 1), "detections in frame 7"),
        (lambda d, t: frame_map({"a": {-1: d}}, t, 1), "frames count from 0"),
        (lambda d, t: frame_map({"a": [dets((3, 0.5, *BOX))]}, t, 2), "label 3, but there are 2 classes"),
        (lambda d, t: frame_map({}, {"a": Truth((still(BOX, 2, label=5),), 2)}, 2), "ground truth has label 5"),
        (lambda d, t: frame_map({}, {"a": Truth((still(BOX, 9),), 2)}, 1), "ends at 9"),
        (lambda d, t: frame_map({}, t, 1, protocol="coco"), "unknown protocol 'coco'"),
        (lambda d, t: frame_map({}, t, 1, frames="some"), "'annotated' or 'every'"),
        (lambda d, t: frame_map({}, t, 1, protocol="yowo", frames="every"), "annotated frames only"),
        (lambda d, t: frame_map({}, t, 1, iou=0), "must lie in"),
        (lambda d, t: video_map({}, t, 1, iou=1.5), "must lie in"),
        (lambda d, t: video_map({"b": []}, t, 1), "unknown videos"),
        (lambda d, t: video_map({"a": [still(BOX, 2, label=4)]}, t, 1), "label 4"),
        (lambda d, t: video_accuracy({"b": []}, t), "unknown videos"),
    ],
)
def test_what_cannot_be_scored_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call(dets((0, 0.5, *BOX)), {"a": Truth((still(BOX, 2),), 2)})


def test_actor_ap_ignores_the_action():
    truth = {"a": Truth((still(BOX, 2, label=1), still(BOX, 2, label=2)), 2)}  # one actor, two actions
    found = {"a": [dets((0, 0.9, *BOX), (3, 0.4, *BOX))] * 2}  # one box, two wrong actions
    assert frame_map(found, truth, 4).map == 0
    assert actor_ap(found, truth) == 1
    far = {"a": [dets((1, 0.9, 100, 100, 110, 110), (1, 0.5, *BOX))] * 2}
    assert actor_ap(far, truth) == pytest.approx(0.5)


# ---------------------------------------------------------------------------------------------------------------- tubes


def oracle_tube_iou(a, b):
    both = [f for f in range(a.start, a.stop) if b.start <= f < b.stop]
    either = {*range(a.start, a.stop), *range(b.start, b.stop)}
    span = max(either) - min(either) + 1
    if not both:
        return 0.0
    return len(both) / span * np.mean([iou(a.boxes[f - a.start], b.boxes[f - b.start], 1) for f in both])


@pytest.mark.parametrize("seed", range(5))
def test_video_map_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    _, truth = random_case(seed, videos=10)
    tubes = {}
    for v, video in truth.items():
        tubes[v] = []
        for tube in video.tubes:
            for _ in range(rng.integers(0, 3)):
                cut = int(rng.integers(0, len(tube)))
                box = tube.boxes[cut:] + rng.normal(size=4)
                label = tube.label if rng.random() < 0.8 else int(rng.integers(3))
                tubes[v].append(Tube(label, float(rng.random()), tube.start + cut, box))
    for threshold in (0.1, 0.2, 0.5, 0.75):
        expected = []
        for c in range(3):
            found = sorted(((t.score, v, t) for v in tubes for t in tubes[v] if t.label == c), key=lambda item: -item[0])
            wanted = [(v, t) for v, video in truth.items() for t in video.tubes if t.label == c]
            hits = oracle_match([(v, t) for _, v, t in found], wanted, threshold, oracle_tube_iou, True)
            expected.append(oracle_ap(hits, len(wanted), False))
        np.testing.assert_allclose(video_map(tubes, truth, 3, threshold).per_class, expected, atol=1e-6)
    each = [video_map(tubes, truth, 3, threshold).map for threshold in RANGE]
    score = video_map_range(tubes, truth, 3)
    assert score.map == pytest.approx(np.mean(each)) and score.iou == RANGE and len(RANGE) == 10


def test_video_map_by_hand():
    truth = {"a": Truth((still(BOX, 10),), 30)}
    half = {"a": [still(BOX, 5, score=0.4)]}  # 5 of 10 frames, exact boxes
    assert video_map(half, truth, 1, 0.5).map == 1
    assert video_map(half, truth, 1, 0.51).map == 0
    whole = {"a": [still(BOX, 30, score=0.9)]}  # not trimmed: 10 of 30
    assert [video_map(whole, truth, 1, t).map for t in (0.2, 0.5)] == [1, 0]
    both = {"a": whole["a"] + half["a"]}  # wrong, right: from (0, 1) over (0, 0) to (1, 1/2)
    assert video_map(both, truth, 1, 0.5).map == pytest.approx(0.25)
    assert video_map(both, truth, 1, 0.5, "yowo").map == pytest.approx(0.5)  # the envelope: 1/2 at every recall
    with pytest.raises(InputError, match="unknown protocol 'voc' of video-mAP"):
        video_map(both, truth, 1, 0.5, "voc")
    late = {"a": [still(BOX, 5, start=20)]}
    assert video_map(late, truth, 1, 0.01).map == 0
    assert video_map({}, truth, 1).map == 0


def test_video_accuracy_takes_the_best_tube():
    truth = {v: Truth((still(BOX, 5, label=i),), 5) for i, v in enumerate("abc")} | {"idle": Truth((), 5)}
    tubes = {
        "a": [still(BOX, 5, label=2, score=0.3), still(BOX, 5, label=0, score=0.6)],
        "b": [still(BOX, 5, label=0, score=0.9), still(BOX, 5, label=1, score=0.6)],
        "idle": [still(BOX, 5)],
    }
    assert video_accuracy(tubes, truth) == pytest.approx(1 / 3)


def test_false_alarms_by_hand():
    # 60 frames at 1 per second, action in 10..19
    truth = {"a": Truth((still(BOX, 10, start=10),), 60, Fraction(1)), "b": Truth((), 60, Fraction(1))}
    one, weak = dets((0, 0.6, *BOX)), dets((0, 0.4, *BOX))
    two = dets((0, 0.6, *BOX), (0, 0.7, 80, 0, 90, 9), (1, 0.5, *BOX))
    found = {
        "a": {0: one, 1: one, 2: weak, 3: one, 15: two, 59: one},  # runs 0-1, 3 and 59; 15 has an action
        "b": {0: two, 1: two},  # does not continue a's last frame; class 0 once, class 1 once
    }
    (alarms,) = alarm_curve(found, truth, [0.5])
    assert alarms == (5, 6, 2.0, pytest.approx(110 / 60))
    assert alarms.per_minute == pytest.approx(2.5)
    assert alarm_curve({}, truth, [0.5])[0].per_minute == 0
    assert np.isnan(alarm_curve({}, {}, [0.5])[0].per_minute)


def test_alarms_of_systems_that_find_equally_much():
    # ten frames, action in the first four; scores fall from frame to frame, in idle frames 5, 6 and 8 something is reported
    truth = {"a": Truth((still(BOX, 4),), 10, Fraction(10))}
    near, far = [11.0, 10, 30, 50], [60.0, 60, 80, 90]
    scores = {0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6, 5: 0.75, 6: 0.65, 8: 0.2}
    rows = {t: dets((0, s, *(near if t != 3 else far))) for t, s in scores.items()}
    found = alarms_at_recall({"a": rows}, truth, 1, [0.25, 0.5, 0.6, 0.75, 1.0])
    assert (
        [threshold for threshold, _ in found[:4]] == pytest.approx([0.9, 0.8, 0.7, 0.7])
        and np.isnan(found[4][0])
        and found[4][1] is None
    )
    assert [alarms.alarms for _, alarms in found[:4]] == [0, 0, 1, 1]  # frame 5 alone at 0.7
    lower = {t: dets((0, row.scores[0] / 2, *row.boxes[0])) for t, row in rows.items()}
    halved = alarms_at_recall({"a": lower}, truth, 1, [0.75])
    assert halved[0][0] == pytest.approx(0.35) and halved[0][1] == found[3][1]


# ------------------------------------------------------------------------------- what public evaluators give on real data


@pytest.fixture(scope="module")
def known():
    root = Path(os.environ["MSSC_DATA"])
    pickle = plain_pickle.load(root / "jhmdb" / "JHMDB-GT.pkl")
    names = pickle["test_videos"][0]
    truth = {}
    for name in names:
        tubes = [Tube(c, 1, int(t[0, 0]) - 1, t[:, 1:]) for c, group in pickle["gttubes"][name].items() for t in group]
        truth[name] = Truth(tuple(tubes), int(pickle["nframes"][name]))
    rows = np.load(root / "evaluation" / "frame_dets.npy")
    detections = {name: {} for name in names}
    for v, f in np.unique(rows[:, :2], axis=0).astype(int):
        mine = rows[(rows[:, 0] == v) & (rows[:, 1] == f)]
        detections[names[v]][f - 1] = Detections(mine[:, 4:], mine[:, 2].astype(int), mine[:, 3])
    return detections, truth, np.load(root / "evaluation" / "tubes.npz"), names


@pytest.mark.data
def test_known_frame_scores(known, monkeypatch):
    detections, truth, _, _ = known
    # in per cent; mmaction2's arithmetic is float64, that of ACT and MOC float32
    assert 100 * frame_map(detections, truth, 21).map == pytest.approx(49.744148, abs=1e-6)
    assert 100 * frame_map(detections, truth, 21, frames="every").map == pytest.approx(49.744148, abs=1e-6)
    assert 100 * frame_map(detections, truth, 21, 0.5, "act").map == pytest.approx(48.566074, abs=1e-4)
    assert 100 * frame_map(detections, truth, 21, 0.75, "act").map == pytest.approx(7.543193, abs=1e-4)
    monkeypatch.setitem(PROTOCOLS, "continuous", PROTOCOLS["act"]._replace(pixel=CONTINUOUS))
    assert 100 * frame_map(detections, truth, 21, 0.5, "continuous").map == pytest.approx(48.390293, abs=1e-4)


@pytest.mark.data
def test_known_yowo_score(known):
    """YOWO's own script gave 49.22 (two decimals): its rules over the boxes of its own annotation, which lie beside ACT's."""
    detections, truth, _, _ = known
    assert 100 * frame_map(detections, truth, 21, 0.5, "yowo-jhmdb").map == pytest.approx(49.22, abs=0.005)
    assert 100 * frame_map(detections, truth, 21, 0.5, "yowo").map == pytest.approx(49.9275, abs=1e-4)  # over ACT's boxes


@pytest.mark.data
def test_yowo_scores_the_frames_of_its_ucf_annotation():
    """Users count 137,557 files in YOWO's ground truth of UCF101-24's test videos: all annotated frames but each tube's last."""
    root = Path(os.environ["MSSC_DATA"]) / "ucf101-24"
    annotation = plain_pickle.load(root / "pyannot.pkl")
    frames = 0
    for line in (root / "testlist01.txt").read_text().splitlines():
        entry = annotation.get(line.split()[0].rsplit(".", 1)[0])
        if entry:
            spans = [(int(tube["sf"]), int(tube["ef"])) for tube in entry["annotations"]]
            tubes = [still(BOX, stop - start, start=start) for start, stop in spans]
            _, wanted = collect({}, {"v": Truth(tuple(tubes), max(stop for _, stop in spans))}, 1)
            frames += len(np.unique(wanted.frames[wanted.scores > 0]))
    assert frames == 137_557


@pytest.mark.data
@pytest.mark.parametrize("threshold, expected", [(0.1, 63.355236), (0.2, 62.403553), (0.5, 59.256561), (0.75, 48.541641)])
def test_known_video_scores(known, threshold, expected):
    _, truth, arrays, names = known
    assert 100 * video_map(known_tubes(arrays, names), truth, 21, threshold).map == pytest.approx(expected, abs=1e-4)


@pytest.mark.data
def test_known_video_score_over_a_range(known):
    _, truth, arrays, names = known
    assert 100 * video_map_range(known_tubes(arrays, names), truth, 21).map == pytest.approx(39.039103, abs=1e-4)


@pytest.mark.data
def test_known_yowo_video_scores(known):
    """YOWO's evaluate_videoAP with bTemporal: its linker's tubes, the envelope's area. It adds 1e-5 to what was to be found."""
    detections, truth, _, names = known
    spec = importlib.util.spec_from_file_location("linking_benchmark", Path(__file__).parents[1] / "benchmarks" / "linking.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    nothing = Detections.empty()
    videos = {name: [detections[name].get(t, nothing) for t in range(truth[name].frames)] for name in names}
    tubes = {name: benchmark.family_link(frames) for name, frames in videos.items()}
    for iou, expected in ((0.1, 65.056597), (0.2, 64.892193), (0.5, 62.964877), (0.75, 8.775785)):
        assert 100 * video_map(tubes, truth, 21, iou, "yowo").map == pytest.approx(expected, abs=1e-4)


def known_tubes(arrays, names):
    """The tubes of the file after the suppression that those scores include: overlap over 0.3, inclusive boxes."""
    tubes = {name: [] for name in names}
    pieces = np.split(arrays["boxes"], np.cumsum(arrays["idx"][:, 3]).astype(int)[:-1])
    for (v, label, score, _), boxes in sorted(zip(arrays["idx"].tolist(), pieces, strict=True), key=lambda item: -item[0][2]):
        tube = Tube(int(label), score, int(boxes[0, 0]) - 1, boxes[:, 1:])
        if all(other.label != tube.label or oracle_tube_iou(other, tube) <= 0.3 for other in tubes[names[int(v)]]):
            tubes[names[int(v)]].append(tube)
    return tubes
