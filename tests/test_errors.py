"""Kinds of errors, confusion, AVA and alarm curves, by hand and against plain loops."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mssc.boxes import BoxTable
from mssc.evaluate import ERRORS, Truth, alarm_curve, ava_map, confusion, error_types, frame_map
from mssc.structures import Detections, InputError, Tube

BOX = [10.0, 10.0, 30.0, 50.0]
NEAR = [10.0, 32.0, 30.0, 72.0]  # IoU 18/62 = 0.29
FAR = [100.0, 100.0, 120.0, 120.0]


def dets(*rows):
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 0].astype(int), table[:, 1])


def still(box, frames, label=0, start=0):
    return Tube(label, 1, start, np.tile(np.array(box, float), (frames, 1)))


def counts(errors):
    return dict(zip(ERRORS, errors.wrong.sum(axis=1).tolist(), strict=True)) | {
        "right": int(errors.right.sum()),
        "missed": int(errors.missed.sum()),
    }


# what is in the one annotated frame of class 0, what kind it is
@pytest.mark.parametrize(
    "rows, kind",
    [
        ([(0, 0.9, *BOX)], "right"),
        ([(0, 0.9, *BOX), (0, 0.8, *BOX)], "duplicate"),
        ([(1, 0.9, *BOX)], "class"),
        ([(0, 0.9, *NEAR)], "localisation"),
        ([(1, 0.9, *NEAR)], "both"),
        ([(0, 0.9, *FAR)], "background"),
    ],
)
def test_each_kind_by_hand(rows, kind):
    truth = {"a": Truth((still(BOX, 1),), 2)}
    found = counts(error_types({"a": {0: dets(*rows)}}, truth, 2, 0.5))
    assert found[kind] == 1
    assert sum(found[name] for name in (*ERRORS, "right")) == len(rows)
    assert found["missed"] == (found["right"] == 0)


def test_an_idle_frame_is_a_kind_of_its_own():
    truth = {"a": Truth((still(BOX, 1),), 2)}
    errors = error_types({"a": {1: dets((0, 0.9, *BOX), (1, 0.2, *BOX))}}, truth, 2, 0.5)
    assert counts(errors)["no action"] == 1 and errors.wrong[ERRORS.index("no action")].tolist() == [1, 0]


def test_gains_are_what_a_mended_list_scores():
    truth = {"a": Truth((still(BOX, 1), still(FAR, 1, label=1)), 3)}
    found = {"a": {0: dets((0, 0.9, *BOX), (0, 0.8, *FAR)), 1: dets((0, 0.95, *BOX))}}
    errors = error_types(found, truth, 2, 0.0)
    assert frame_map(found, truth, 2, frames="every").map == pytest.approx(0.25)
    without_idle = frame_map({"a": {0: found["a"][0]}}, truth, 2, frames="every").map
    assert errors.gain["no action"] == pytest.approx(without_idle - 0.25)
    mended = {"a": {0: dets((0, 0.9, *BOX), (1, 0.8, *FAR)), 1: found["a"][1]}}
    assert errors.gain["class"] == pytest.approx(frame_map(mended, truth, 2, frames="every").map - 0.25)
    assert errors.gain["localisation"] == errors.gain["duplicate"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_kinds_add_up_and_gains_are_never_losses(seed):
    rng = np.random.default_rng(seed)
    truth = {str(v): Truth((still(BOX, 5, int(rng.integers(3))), still(FAR, 4, int(rng.integers(3)), 2)), 9) for v in range(5)}
    found = {}
    for v in truth:
        found[v] = []
        for _ in range(9):
            low = rng.choice([BOX[:2], FAR[:2], [60, 60]], size=4) + rng.normal(size=(4, 2)) * 9
            rows = np.c_[rng.integers(3, size=4), rng.random(4), low, low + rng.uniform(15, 40, (4, 2))]
            found[v].append(dets(*rows))
    for threshold in (0, 0.5):
        errors = error_types(found, truth, 3, threshold)
        shown = sum(int((d.scores >= threshold).sum()) for frames in found.values() for d in frames)
        assert errors.right.sum() + errors.wrong.sum() == shown
        assert (
            errors.right + errors.missed == np.bincount([t.label for v in truth.values() for t in v.tubes for _ in t.boxes])
        ).all()
        assert min(errors.gain.values()) >= -1e-12
    table = confusion(found, truth, 3, 0.0)
    assert table[:3].sum() == 5 * 9 and table[:, :3].sum() == 5 * 9 * 4
    assert table[3, 3] == 0


def test_confusion_by_hand():
    truth = {"a": Truth((still(BOX, 1), still(FAR, 1, label=1)), 2)}
    found = {"a": {0: dets((2, 0.9, *BOX), (0, 0.6, *BOX), (0, 0.8, *FAR), (1, 0.1, *FAR)), 1: dets((2, 0.9, *BOX))}}
    table = confusion(found, truth, 3, 0.5)
    expected = np.zeros((4, 4), int)
    expected[0, 0] = 1  # the right class chooses first, though the other scores more
    expected[1, 0] = 1
    expected[3, 2] = 2  # left over, and the idle frame
    assert table.tolist() == expected.tolist()
    assert confusion({}, truth, 3, 0.5)[:, 3].tolist() == [1, 1, 0, 0]


def test_alarms_at_many_thresholds_are_alarms_at_each():
    rng = np.random.default_rng(0)
    truth = {v: Truth((still(BOX, 4, start=3),), 20, Fraction(10)) for v in "ab"}
    found = {v: [dets((0, rng.random(), *BOX)) for _ in range(20)] for v in truth}
    thresholds = (0.1, 0.5, 0.9)
    assert alarm_curve(found, truth, thresholds) == [alarm_curve(found, truth, [t])[0] for t in thresholds]


# ---------------------------------------------------------------------------------------------------------------- AVA


def ava(*rows):
    """Rows (frame, action, score, x1, y1, x2, y2)."""
    table = np.array([row[1:] for row in rows], float).reshape(-1, 6)
    return BoxTable(np.array([row[0] for row in rows], str), table[:, 0].astype(int), table[:, 2:], table[:, 1])


def oracle_ava(found, wanted, classes, excluded):
    """The official evaluator's steps, one by one: per class, best first, area under the envelope."""
    out = []
    for c in classes:
        truth = [
            (f, b) for f, k, b in zip(wanted.frames, wanted.labels, wanted.boxes, strict=True) if k == c and f not in excluded
        ]
        rows = sorted(
            ((s, f, b) for f, k, b, s in zip(*found, strict=True) if k == c and f not in excluded and (b[2:] > b[:2]).all()),
            key=lambda row: -row[0],
        )
        taken, hits = set(), []
        for _, f, b in rows:
            best, at = 0.0, None
            for j, (g, t) in enumerate(truth):
                side = np.minimum(b[2:], t[2:]) - np.maximum(b[:2], t[:2])
                inter = side.clip(0).prod()
                iou = inter / ((b[2:] - b[:2]).prod() + (t[2:] - t[:2]).prod() - inter)
                if g == f and iou > best:
                    best, at = iou, j
            hits.append(best >= 0.5 and at not in taken)
            if hits[-1]:
                taken.add(at)
        right = np.cumsum(hits)
        precision = right / np.arange(1, len(hits) + 1)
        ap = sum(max(precision[i:]) for i in range(len(hits)) if hits[i]) / len(truth) if truth else np.nan
        out.append(ap)
    return np.array(out)


@pytest.mark.parametrize("seed", range(3))
def test_ava_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    wanted, found = [], []
    for frame in (f"v{v},{s}" for v in range(4) for s in range(902, 912)):
        for _ in range(rng.integers(0, 3)):
            low = rng.uniform(0, 0.5, 2)
            box = np.r_[low, low + rng.uniform(0.1, 0.4, 2)]
            for action in rng.choice([3, 5, 8, 11], size=2, replace=False):
                wanted.append((frame, action, 1, *box))
                moved = box + rng.normal(size=4) * 0.03
                found.append((frame, action if rng.random() < 0.7 else 5, rng.random(), *moved))
    wanted, found = ava(*wanted), ava(*found)
    excluded = {"v0,905", "v2,910"}
    score = ava_map(found, wanted, [3, 5, 11, 14], excluded)
    np.testing.assert_allclose(score.per_class, oracle_ava(found, wanted, [3, 5, 11, 14], excluded), atol=1e-9)
    assert np.isnan(score.per_class[3]) and score.map == pytest.approx(np.nanmean(score.per_class))
    assert ava_map(wanted, wanted, [3, 5, 8, 11]).map == 1


def test_only_the_best_fifty_rows_of_a_frame_count_in_ava():
    box = (0.1, 0.1, 0.5, 0.5)
    clutter = [("a,902", 2, 0.5 + i / 1000, 0.6, 0.6, 0.9, 0.9) for i in range(50)]
    found, wanted = ava(*clutter, ("a,902", 1, 0.4, *box)), ava(("a,902", 1, 1, *box))
    assert ava_map(found, wanted, [1, 2]).map == 0
    assert ava_map(found, wanted, [1, 2], capacity=None).map == 1
    assert ava_map(found, wanted, [1]).map == 1  # rows of other classes are left out before
    with pytest.raises(InputError, match="each once"):
        ava_map(found, wanted, [1, 1])


@pytest.mark.data
def test_real_ava_ground_truth_scores_one():
    from mssc.data.ava import read_classes, read_excluded
    from mssc.scoring.saved import read_ava

    root = Path(os.environ["MSSC_DATA"]) / "ava"
    rows = read_ava(root / "AVA-II_ava_val_v2.1.csv", range(1, 81))
    assert len(rows.labels) == 93_400  # its last line ends without a newline, so tools count 93,399
    excluded = {f"{v},{s}" for v, s in read_excluded(root / "ava_val_excluded_timestamps_v2.2.csv")}
    for name in ("ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt", "ava_action_list_v2.2.pbtxt"):
        score = ava_map(rows, rows, list(read_classes(root / name)), excluded)
        assert score.map == 1 and np.nanmin(score.per_class) == pytest.approx(1, abs=1e-12)


def test_the_work_grows_with_the_detections_not_with_their_square(monkeypatch):
    from mssc.evaluate import matching

    compared = []
    real = matching.box_iou
    monkeypatch.setattr(matching, "box_iou", lambda a, b, pixel: compared.append(len(a)) or real(a, b, pixel))
    sizes = []
    for videos in (5, 10, 20):
        compared.clear()
        truth = {str(v): Truth((still(BOX, 30), still(FAR, 30, 1)), 30) for v in range(videos)}
        found = {v: [dets((0, 0.9, *BOX), (1, 0.5, *BOX), (0, 0.1, *FAR))] * 30 for v in truth}
        frame_map(found, truth, 2)
        sizes.append(sum(compared))
    assert sizes == [5 * 30 * 3, 10 * 30 * 3, 20 * 30 * 3]  # each with the one box of its frame and class
