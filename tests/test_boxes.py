"""Overlaps by hand and against a plain loop, in both ways to count; tables of boxes."""

import numpy as np
import pytest

from mssc import boxes
from mssc.boxes import CONTINUOUS, INCLUSIVE, BoxTable, box_area, box_iou, box_share, tube_iou, tube_ious
from mssc.structures import Detections, Tube

RNG = np.random.default_rng(0)


def plain_iou(a, b, pixel):
    """One pair, as it is written in papers."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + pixel
    height = min(a[3], b[3]) - max(a[1], b[1]) + pixel
    inter = max(width, 0) * max(height, 0)
    union = sum((x[2] - x[0] + pixel) * (x[3] - x[1] + pixel) for x in (a, b)) - inter
    return inter / union if union > 0 else 0.0


def some_boxes(count):
    low = RNG.integers(0, 12, (count, 2))
    return np.concatenate([low, low + RNG.integers(0, 9, (count, 2))], 1).astype(float)


def test_a_box_by_hand():
    a, b = np.array([0.0, 0, 9, 9]), np.array([5.0, 0, 14, 9])
    assert box_area(a, CONTINUOUS) == 81 and box_area(a, INCLUSIVE) == 100
    assert box_iou(a, b, CONTINUOUS) == 36 / 126 and box_iou(a, b, INCLUSIVE) == 50 / 150
    assert box_iou(a, a, CONTINUOUS) == 1
    assert box_share(a, b, CONTINUOUS) == 36 / box_area(a, CONTINUOUS) and box_share(a, a, INCLUSIVE) == 1
    point = np.array([3.0, 3, 3, 3])
    assert box_iou(point, point, CONTINUOUS) == 0 and box_iou(point, point, INCLUSIVE) == 1


@pytest.mark.parametrize("pixel", [CONTINUOUS, INCLUSIVE])
def test_pairs_and_tables_equal_the_plain_loop(pixel):
    a, b = some_boxes(40), some_boxes(30)
    every = box_iou(a[:, None], b, pixel)
    assert every.shape == (40, 30)
    np.testing.assert_allclose(every, [[plain_iou(x, y, pixel) for y in b] for x in a], atol=1e-12)
    np.testing.assert_array_equal(box_iou(a[:30], b, pixel), every[np.arange(30), np.arange(30)])
    assert box_iou(a[:0], b[:0], pixel).shape == (0,)


@pytest.mark.parametrize("pixel", [CONTINUOUS, INCLUSIVE])
def test_tubes_equal_the_plain_loop(pixel, monkeypatch):
    tubes = [Tube(0, 0.5, int(RNG.integers(0, 20)), some_boxes(int(RNG.integers(1, 12)))) for _ in range(20)]
    pairs = np.array([(i, j) for i in range(20) for j in range(20)])
    wanted = []
    for i, j in pairs:
        a, b = tubes[i], tubes[j]
        both = range(max(a.start, b.start), min(a.stop, b.stop))
        ious = [plain_iou(a.boxes[f - a.start].tolist(), b.boxes[f - b.start].tolist(), pixel) for f in both]
        wanted.append(len(both) / (max(a.stop, b.stop) - min(a.start, b.start)) * np.mean(ious) if ious else 0)
    found = tube_ious(tubes, pairs, pixel)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert 0 < np.count_nonzero(found) < len(found)
    assert tube_iou(tubes[3], tubes[7], pixel) == found[3 * 20 + 7]
    monkeypatch.setattr(boxes, "_AT_ONCE", 7)  # cut into small parts
    np.testing.assert_array_equal(tube_ious(tubes, pairs, pixel), found)
    assert tube_ious(tubes, np.zeros((0, 2), int), pixel).shape == (0,)


def test_a_table_of_frames():
    frames = [Detections(some_boxes(n), RNG.integers(0, 3, n), RNG.random(n)) for n in (2, 0, 3)]
    table = BoxTable.of(enumerate(frames))
    assert table.frames.tolist() == [0, 0, 2, 2, 2]
    np.testing.assert_array_equal(table.boxes, np.concatenate([rows.boxes for rows in frames]))
    assert BoxTable.of([]).boxes.shape == (0, 4) and BoxTable.of([]).labels.dtype == np.int64
    ranked = table.ranked()
    order = sorted(range(5), key=lambda i: (table.labels[i], -table.scores[i]))
    np.testing.assert_array_equal(ranked.scores, table.scores[order])
    assert table.where(table.frames == 2).labels.tolist() == frames[2].labels.tolist()
    assert not table.unlabelled().labels.any() and table.labels.any()


def test_equal_scores_stay_in_their_order():
    table = BoxTable(np.arange(4), np.array([1, 0, 1, 0]), some_boxes(4), np.full(4, 0.5))
    assert table.ranked().frames.tolist() == [1, 3, 0, 2]
