"""Links and tubes: worked out by hand, on degenerate input, and against the YOWO family's linker on noisy videos."""

from dataclasses import fields, replace

import numpy as np
import pytest

from mssc.boxes import CONTINUOUS, tube_iou
from mssc.evaluate import Truth, frame_map, video_map
from mssc.linking import LinkConfig, OnlineLinker, identify, join, link, score_by_tubes, trim, tube_nms
from mssc.linking.online import _near
from mssc.structures import Detections, InputError, Tube

CONFIG = LinkConfig()
A, B = np.array([10.0, 10.0, 50.0, 90.0]), np.array([200.0, 20.0, 250.0, 100.0])


def dets(*rows):
    """Rows (label, score, box)."""
    return Detections([box for _, _, box in rows], [label for label, _, _ in rows], [score for _, score, _ in rows])


def still(score, frames, box=A, label=0):
    return [dets((label, score, box))] * frames


def summary(tubes):
    return sorted((tube.label, tube.start, tube.stop, round(tube.score, 4)) for tube in tubes)


# -------------------------------------------------------------------------------------------------------- tubes by hand


def test_one_still_actor_gives_one_tube():
    (tube,) = link(still(0.8, 30))
    assert (tube.label, tube.start, tube.stop) == (0, 0, 30)
    assert tube.score == pytest.approx(0.8)
    np.testing.assert_array_equal(tube.boxes, np.tile(A.astype(np.float32), (30, 1)))
    np.testing.assert_allclose(tube.scores, 0.8, rtol=1e-6)


def test_start_and_end_come_from_the_scores():
    frames = still(0.03, 40) + still(0.8, 30) + still(0.03, 50)
    assert summary(link(frames)) == [(0, 40, 70, 0.8)]


def test_frames_before_the_first_row_count():
    frames = [Detections.empty()] * 17 + still(0.6, 20)
    assert summary(link(frames)) == [(0, 17, 37, 0.6)]


def test_a_gap_is_filled_by_straight_lines():
    away = A + [10, 5, 10, 5]
    frames = still(0.8, 20) + [Detections.empty()] * 4 + still(0.4, 20, away)
    (tube,) = link(frames)
    assert (tube.start, tube.stop) == (0, 44)
    np.testing.assert_allclose(tube.boxes[20:24], [A + np.array([10, 5, 10, 5]) * k / 5 for k in (1, 2, 3, 4)], rtol=1e-5)
    np.testing.assert_allclose(tube.scores[20:24], [0.72, 0.64, 0.56, 0.48], rtol=1e-5)


def test_a_longer_gap_ends_the_link():
    for gap, tubes in ((CONFIG.max_gap, 1), (CONFIG.max_gap + 1, 2)):
        frames = still(0.8, 40) + [Detections.empty()] * gap + still(0.8, 40)
        assert len(link(frames)) == tubes, gap


def test_a_young_link_survives_as_many_misses_as_it_has_rows():
    for seen, gap, tubes in ((12, 12, 1), (12, 13, 2)):
        frames = still(0.8, seen) + [Detections.empty()] * gap + still(0.8, 30)
        assert len(link(frames)) == tubes, (seen, gap)


def test_a_change_of_action_gives_two_tubes():
    frames = [dets((0, 0.8, A), (1, 0.04, A))] * 40 + [dets((0, 0.04, A), (1, 0.7, A))] * 40
    assert summary(link(frames)) == [(0, 0, 40, 0.8), (1, 40, 80, 0.7)]


def test_two_actions_at_once_give_two_tubes():
    assert summary(link([dets((0, 0.8, A), (3, 0.5, A))] * 20)) == [(0, 0, 20, 0.8), (3, 0, 20, 0.5)]


def test_actors_who_cross_keep_their_links():
    frames = []
    for t in range(60):
        one, other = A + np.array([10, 0, 10, 0]) * t, A + np.array([10, 0, 10, 0]) * (60 - t)
        rows = [(0, 0.8, one), (0, 0.7, other)]
        frames.append(dets(*rows[:: 1 if t % 2 else -1]))
    first, second = link(frames)
    np.testing.assert_allclose(first.boxes[:, 0], 10 + 10.0 * np.arange(60), rtol=1e-5)
    np.testing.assert_allclose(second.boxes[:, 0], 610 - 10.0 * np.arange(60), rtol=1e-5)
    assert (first.score, second.score) == pytest.approx((0.8, 0.7))


def test_an_occluded_actor_in_a_moving_camera_is_found_again():
    boxes = [A + np.array([3, 0, 3, 0]) * t for t in range(80)]
    frames = [Detections.empty() if 30 <= t < 38 else dets((0, 0.7, box)) for t, box in enumerate(boxes)]
    (tube,) = link(frames)
    assert (tube.start, tube.stop) == (0, 80)
    np.testing.assert_allclose(tube.boxes[:, 0], 10 + 3.0 * np.arange(80), rtol=1e-4)
    # without a guess of the motion, the box is 27 pixels away from where it was lost, an IoU of 0.2
    assert len(link(frames, replace(CONFIG, momentum=0))) == 2


def test_a_second_box_does_not_take_a_link_over():
    sloppy = A + [6, 6, 6, 6]
    frames = [dets((0, 0.7, A), (0, 0.6, sloppy)) if t % 10 == 5 else dets((0, 0.7, A)) for t in range(60)]
    (tube,) = link(frames)
    np.testing.assert_array_equal(tube.boxes, np.tile(A.astype(np.float32), (60, 1)))


def test_duplicates_are_suppressed_and_other_actors_kept():
    frames = [dets((0, 0.7, A), (0, 0.5, A + [4, 0, 4, 0]), (0, 0.6, B), (1, 0.5, A))] * 20
    assert summary(link(frames)) == [(0, 0, 20, 0.6), (0, 0, 20, 0.7), (1, 0, 20, 0.5)]


def test_a_weak_action_is_trimmed_as_well():
    frames = still(0.02, 40) + still(0.15, 40) + still(0.02, 40)
    assert summary(link(frames)) == [(0, 40, 80, 0.15)]


def test_a_short_action_of_an_actor_who_stays():
    frames = still(0.05, 900) + still(0.9, 30) + still(0.05, 900)
    best = link(frames)[0]
    assert (best.start, best.stop) == (900, 930) and best.score == pytest.approx(0.9)


# ------------------------------------------------------------------------------------------------------ matching, trim


@pytest.mark.parametrize("least", [0.0, 0.05, 0.3, 0.5, 1.0])
def test_the_search_for_overlapping_boxes_misses_none(least):
    rng = np.random.default_rng(0)
    for _ in range(60):
        (a, a_labels), (b, b_labels) = (
            (np.c_[low, low + rng.choice([0, 1, 3, 8, 20], low.shape) * rng.choice([1, 0.7])], rng.integers(0, 3, len(low)))
            for low in (rng.integers(-10, 20, (n, 2)).astype(float) for n in rng.integers(1, 25, 2))
        )
        order = np.lexsort((b[:, 0], b_labels))
        b, b_labels = b[order], b_labels[order]
        side = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2]), 0, None)
        union = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1) - side.prod(2)
        iou = np.divide(side.prod(2), union, out=np.zeros_like(union), where=union > 0)
        expected = np.argwhere((iou >= max(least, 1e-6)) & (a_labels[:, None] == b_labels))
        i, j, overlap = _near(a, a_labels, b, b_labels, least)
        assert np.stack([i, j], axis=1).tolist() == expected.tolist()
        np.testing.assert_allclose(overlap, iou[i, j])


@pytest.mark.parametrize(
    "parts, intervals",
    [
        ([(0.5, 30)], [(0, 30)]),
        ([(0.5, 1)], [(0, 1)]),
        ([(0.001, 30)], []),
        ([(0.02, 30), (0.5, 30)], [(30, 60)]),
        ([(0.5, 30), (0.02, 30), (0.5, 30)], [(0, 30), (60, 90)]),
        ([(0.5, 30), (0.02, 3), (0.5, 30)], [(0, 63)]),  # 3 x 2 against the action is less than two changes of 8
        ([(0.02, 30), (0.5, 3), (0.02, 30), (0.5, 20)], [(63, 83)]),  # nor do 3 frames for it pay
    ],
)
def test_trim_by_hand(parts, intervals):
    scores = np.concatenate([np.full(n, score) for score, n in parts])
    assert trim([np.asarray(scores)], replace(CONFIG, ratio=0.25)) == [intervals]


@pytest.mark.parametrize("seed", range(20))
def test_trim_finds_the_best_of_all_labellings(seed):
    rng = np.random.default_rng(seed)
    config = replace(CONFIG, contrast=1e9, switch=float(rng.uniform(0, 3)), evidence=float(rng.uniform(0.5, 3)))
    scores = rng.uniform(0.001, 0.9, 11) ** rng.uniform(1, 3)
    level = max(config.ratio * np.sort(scores)[-6:].mean(), config.floor)
    odds = np.clip(np.log(scores / (1 - scores)) - np.log(level / (1 - level)), -config.evidence, config.evidence)

    def gain(labels):
        return (odds * labels).sum() - config.switch * np.abs(np.diff(labels)).sum()

    every = (np.arange(2**11)[:, None] >> np.arange(11)) & 1
    mine = np.zeros(11, int)
    for a, b in trim([scores], config)[0]:
        mine[a:b] = 1
    assert gain(mine) == pytest.approx(max(gain(labels) for labels in every))


# ------------------------------------------------------------------------------------------------------- linked scores


def test_linked_scores_by_hand():
    linker = OnlineLinker(replace(CONFIG, horizon=2.0, warm=0))
    keep = np.exp(-0.5)
    scores = [linker.step(dets((0, s, A))).scores[0] for s in (0.8, 0.2, 0.5)]
    assert scores[0] == pytest.approx(0.8)
    assert scores[1] == pytest.approx((0.8 * keep + 0.2) / (keep + 1))
    assert scores[2] == pytest.approx((0.8 * keep**2 + 0.2 * keep + 0.5) / (keep**2 + keep + 1))
    linker.step(Detections.empty())  # a miss ages the past and adds nothing
    after = linker.step(dets((0, 0.9, A))).scores[0]
    past, weight = 0.8 * keep**2 + 0.2 * keep + 0.5, keep**2 + keep + 1
    assert after == pytest.approx((past * keep**2 + 0.9) / (weight * keep**2 + 1))


def test_without_horizon_scores_stay_as_they_are():
    frames, _ = noisy_video(np.random.default_rng(0))
    linker = OnlineLinker(replace(CONFIG, horizon=0))
    for found in frames:
        np.testing.assert_array_equal(linker.step(found).scores, found.scores)


def test_an_endless_horizon_gives_the_plain_mean():
    linker = OnlineLinker(replace(CONFIG, horizon=float("inf"), warm=0))
    given = [0.9, 0.1, 0.4, 0.6]
    linked = [linker.step(dets((0, s, A))).scores[0] for s in given]
    np.testing.assert_allclose(linked, np.cumsum(given) / [1, 2, 3, 4], rtol=1e-6)


def test_the_first_frames_of_a_video_count_less():
    """The network has seen little motion then."""
    config = replace(CONFIG, horizon=float("inf"), warm=4)
    given, trust = np.array([0.9, 0.2, 0.4, 0.6, 0.8, 0.7]), np.array([0.25, 0.5, 0.75, 1, 1, 1])
    linker = OnlineLinker(config)
    linked = [linker.step(dets((0, s, A))).scores[0] for s in given]
    np.testing.assert_allclose(linked, np.cumsum(trust * given) / np.cumsum(trust), rtol=1e-6)
    frames = [dets((0, s, A)) for s in np.tile(given, 3)]
    (tube,) = link(frames, config)
    assert tube.score == pytest.approx(np.average(np.tile(given, 3), weights=[*trust[:3], *[1] * 15]))
    (tube,) = link([Detections.empty()] * 9 + frames, config)
    assert tube.score == pytest.approx(given.mean()), "an action that begins later"
    assert config.at(50).warm == 8
    with pytest.raises(InputError, match="warm is inf"):
        LinkConfig(warm=float("inf"))


def test_rows_stay_in_place_and_classes_and_actors_apart():
    linker = OnlineLinker(replace(CONFIG, warm=0))
    linker.step(dets((0, 0.9, A), (1, 0.1, A), (0, 0.2, B)))
    found = dets((0, 0.3, B), (0, 0.001, A), (1, 0.3, A), (0, 0.7, A))  # the second row is below min_score
    linked = linker.step(found)
    np.testing.assert_array_equal(linked.boxes, found.boxes)
    np.testing.assert_array_equal(linked.labels, found.labels)
    k = np.exp(-1 / CONFIG.horizon)
    expected = [(0.2 * k + 0.3) / (k + 1), 0.001, (0.1 * k + 0.3) / (k + 1), (0.9 * k + 0.7) / (k + 1)]
    np.testing.assert_allclose(linked.scores, expected, rtol=1e-5)


def test_scores_depend_on_the_past_alone():
    frames, _ = noisy_video(np.random.default_rng(1))
    whole, part = OnlineLinker(), OnlineLinker()
    complete = [whole.step(found).scores for found in frames]
    for found, expected in zip(frames[:30], complete, strict=False):
        np.testing.assert_array_equal(part.step(found).scores, expected)


def test_linked_scores_rank_noisy_frames_better():
    rng = np.random.default_rng(5)
    own, linked, truth = {}, {}, {}
    for v in range(12):
        own[v], truth[v] = noisy_video(rng, trimmed=True)
        linker = OnlineLinker()
        linked[v] = [linker.step(found) for found in own[v]]
    before, after = (frame_map(found, truth, CLASSES).map for found in (own, linked))
    assert after > before + 0.01, (before, after)


def test_rows_take_the_score_of_their_tube():
    scores = [0.9, 0.5, 0.4] * 5
    frames = [dets((0, s, A), (1, 0.3, A), (0, 0.005, B)) for s in scores]
    tubes = [tube for tube in link(frames, replace(CONFIG, warm=0)) if tube.label == 0]
    (tube,) = tubes
    assert tube.score == pytest.approx(0.6) and len(tube) == 15
    told = score_by_tubes(frames, tubes)
    for before, after in zip(frames, told, strict=True):
        np.testing.assert_array_equal(after.boxes, before.boxes)
        np.testing.assert_allclose(
            after.scores, [tube.score, 0.3, 0.005], rtol=1e-6
        )  # of another class, of another box: as they were
    later = replace(tube, start=5, boxes=tube.boxes[:5], scores=tube.scores[:5])
    told = score_by_tubes(frames, [later, replace(later, score=0.2)])  # the best of two, and in its frames alone
    np.testing.assert_allclose([f.scores[0] for f in told], [*scores[:5], *[0.6] * 5, *scores[10:]], rtol=1e-6)
    assert score_by_tubes([], []) == [] and len(score_by_tubes([Detections.empty()], [])) == 1


def test_tubes_rank_noisy_frames_better_than_the_past_does():
    rng = np.random.default_rng(5)
    online, told, truth = {}, {}, {}
    for v in range(12):
        frames, truth[v] = noisy_video(rng, trimmed=True)
        linker = OnlineLinker()
        online[v] = [linker.step(found) for found in frames]
        told[v] = score_by_tubes(online[v], linker.finish())
    before, after = (frame_map(found, truth, CLASSES).map for found in (online, told))
    assert after > before + 0.01, (before, after)


# ------------------------------------------------------------------------------------------------------------ contracts


def test_nothing_gives_nothing():
    assert link([]) == [] and link([Detections.empty()] * 50) == []
    assert OnlineLinker().finish() == [] and OnlineLinker().finished() == []
    assert link(still(0.005, 50)) == []  # never plausible
    assert tube_nms([]) == []


def test_a_detection_of_a_single_frame_is_no_tube_unless_the_video_is_that_short():
    assert link([Detections.empty()] * 20 + still(0.9, 1) + [Detections.empty()] * 20) == []
    assert summary(link(still(0.9, 1))) == [(0, 0, 1, 0.9)]
    assert summary(link(still(0.9, 4))) == [(0, 0, 4, 0.9)]
    assert link(still(0.9, 4) + [Detections.empty()] * 20) == []


def test_boxes_without_area_do_no_harm():
    assert link([dets((0, 0.9, [5, 5, 5, 5]))] * 20) == []


def test_the_order_of_rows_does_not_matter():
    rng = np.random.default_rng(3)
    frames, _ = noisy_video(rng)
    one, other = OnlineLinker(), OnlineLinker()
    for found in frames:
        found = Detections(found.boxes, found.labels, np.round(found.scores, 1))  # with many ties
        order = rng.permutation(len(found))
        mixed = Detections(found.boxes[order], found.labels[order], found.scores[order])
        np.testing.assert_array_equal(one.step(found).scores[order], other.step(mixed).scores)
    assert fingerprints(one.finish()) == fingerprints(other.finish())


def test_inputs_are_not_modified():
    frames, _ = noisy_video(np.random.default_rng(4))
    copies = [(found.boxes.copy(), found.labels.copy(), found.scores.copy()) for found in frames]
    for found in frames:
        for array in (found.boxes, found.labels, found.scores):
            array.setflags(write=False)
    tubes = link(frames)
    for found, (boxes, labels, scores) in zip(frames, copies, strict=True):
        np.testing.assert_array_equal(found.boxes, boxes)
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_array_equal(found.scores, scores)
    assert all(tube.boxes.base is None and tube.scores.base is None for tube in tubes)  # tubes keep nothing else alive


def fingerprints(tubes):
    return sorted((t.label, t.start, t.score, t.boxes.tobytes(), t.scores.tobytes()) for t in tubes)


@pytest.mark.parametrize("every", [1, 7, 50])
def test_tubes_taken_early_are_the_tubes_of_the_whole(every):
    rng = np.random.default_rng(6)
    frames = [found for _ in range(4) for found in [*noisy_video(rng)[0], *[Detections.empty()] * 40]]
    whole = link(frames)
    linker, early, taken = OnlineLinker(), [], 0
    for t, found in enumerate(frames):
        linker.step(found)
        if t % every == 0:
            early += linker.finished()
            taken = max(taken, len(early))
    assert taken > len(whole) / 2
    assert fingerprints(early + linker.finish()) == fingerprints(whole)


def test_tubes_come_best_first():
    scores = [tube.score for tube in link(noisy_video(np.random.default_rng(7))[0])]
    assert len(scores) > 3 and scores == sorted(scores, reverse=True)


def test_finish_makes_ready_for_another_video():
    frames, _ = noisy_video(np.random.default_rng(8))
    linker = OnlineLinker()
    results = []
    for _ in range(2):
        linked = [linker.step(found).scores for found in frames]
        results.append((np.concatenate(linked).tobytes(), fingerprints(linker.finish())))
    assert results[0] == results[1]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_a_threshold_leaves_out_tubes_and_changes_none(threshold):
    rng = np.random.default_rng(12)
    frames = [found for _ in range(3) for found in noisy_video(rng)[0]]
    linker = OnlineLinker(threshold=threshold)
    plain = OnlineLinker()
    for found in frames:
        np.testing.assert_array_equal(linker.step(found).scores, plain.step(found).scores)
    assert not [tube for tube in [*linker._pending, *linker._done] if tube.score < threshold]
    kept, every = linker.finish(), plain.finish()
    assert 0 < len(kept) < len(every)
    assert fingerprints(kept) == fingerprints([tube for tube in every if tube.score >= threshold])


def size(linker):
    tubes = [*linker._pending, *linker._done]
    arrays = [linker._live, linker._log._rows, *[part for t in tubes for part in (t.boxes, t.scores)]]
    return sum(array.nbytes for array in arrays)


def test_memory_is_bounded_by_what_is_live():
    """One actor never leaves, others come and go: after 20 times as many frames, as much is held."""
    rng = np.random.default_rng(9)
    linker, held, found = OnlineLinker(), [], 0
    for t in range(6000):
        rows = [(c, 0.011 + 0.005 * rng.random(), A + rng.normal(size=4)) for c in range(5)]  # linked, never plausible
        if t % 300 < 60:
            rows.append((5, 0.7, A + rng.normal(size=4)))
            rows.append((6, 0.6, B + rng.normal(size=4)))
        linker.step(dets(*rows))
        if t % 300 == 299:
            found += len(linker.finished())
            held.append(size(linker))
    assert max(held[10:]) <= 1.2 * max(held[:2]), held
    assert found + len(linker.finish()) == 40


def test_untaken_tubes_are_all_that_grows():
    linker, held = OnlineLinker(), []
    for t in range(3000):
        linker.step(dets(*[(c, 0.8 if t % 300 < 60 else 0.015, A) for c in range(10)]))
        held.append(linker._log._rows.nbytes + linker._live.nbytes)
    assert max(held) < 300_000 and len(linker._done) >= 50
    assert len(linker.finish()) == 100


# ---------------------------------------------------------------------------------------------------- overlap, config


def tube(start, frames, box=A, score=0.5, label=0):
    return Tube(label, score, start, np.tile(box, (frames, 1)))


def test_tube_iou_by_hand():
    assert tube_iou(tube(0, 10), tube(0, 10), CONTINUOUS) == 1
    assert tube_iou(tube(0, 10), tube(5, 10), CONTINUOUS) == pytest.approx(5 / 15)
    assert tube_iou(tube(0, 10), tube(10, 10), CONTINUOUS) == 0
    half = tube(0, 10, A + [20, 0, 20, 0])  # 20 of 40 + 20 pixels in each frame
    assert tube_iou(tube(0, 20), half, CONTINUOUS) == pytest.approx(1 / 3 * 10 / 20)
    assert tube_iou(tube(0, 3), tube(0, 3, B), CONTINUOUS) == 0


def test_tube_nms_by_hand():
    best, near, far = tube(0, 10, score=0.9), tube(2, 10, score=0.8), tube(7, 10, score=0.7)
    assert tube_iou(best, near, CONTINUOUS) > 0.3 > tube_iou(best, far, CONTINUOUS) and tube_iou(near, far, CONTINUOUS) > 0.3
    assert tube_nms([far, near, best]) == [best, far]  # far met only the one that went
    assert tube_nms([best, tube(0, 10, score=0.1, label=1)], 0.0)[1].label == 1
    assert tube_nms([far, near, best], 1.0) == [best, near, far]


@pytest.mark.parametrize("seed", range(5))
def test_tube_nms_equals_the_plain_loop(seed):
    rng = np.random.default_rng(seed)
    tubes = []
    for _ in range(40):
        start, n = rng.integers(0, 20), rng.integers(1, 20)
        box = A + rng.normal(size=4).repeat(1) * 3 + rng.integers(0, 3) * np.array([25, 0, 25, 0])
        tubes.append(Tube(rng.integers(2), rng.random(), start, np.tile(box, (n, 1)) + rng.normal(size=(n, 1))))
    for threshold in (0.1, 0.3, 0.6):
        kept = []
        for candidate in sorted(tubes, key=lambda t: -t.score):
            if all(other.label != candidate.label or tube_iou(other, candidate, CONTINUOUS) <= threshold for other in kept):
                kept.append(candidate)
        assert tube_nms(tubes, threshold) == kept


def test_durations_follow_the_frame_rate():
    twice = CONFIG.at(50)
    assert (twice.max_gap, twice.horizon, twice.min_length) == (50, 8, 20)
    assert CONFIG.at(25) == CONFIG
    assert CONFIG.at(1).min_length == 1
    assert OnlineLinker(rate=50).config == twice and OnlineLinker().config == CONFIG
    slow = still(0.05, 40) + still(0.8, 30) + still(0.05, 50)
    fast = [found for found in slow for _ in range(2)]
    (a,), (b,) = link(slow, rate=25), link(fast, rate=50)
    assert (b.start, b.stop) == (2 * a.start, 2 * a.stop)


@pytest.mark.parametrize(
    "change", [{"iou": 1.5}, {"min_score": -0.1}, {"nms": float("nan")}, {"max_gap": -1}, {"min_length": 0}, {"horizon": -1.0}]
)
def test_impossible_settings_are_named(change):
    with pytest.raises(InputError, match=next(iter(change))):
        LinkConfig(**change)
    with pytest.raises(InputError, match="frame rate"):
        CONFIG.at(0)


def test_every_setting_is_documented():
    for field in fields(LinkConfig):
        assert f"        {field.name}: " in LinkConfig.__doc__, field.name


# ---------------------------------------------------------------------------------- against the linker of YOWO's family

CLASSES = 6


def drift(rng, count, deviation, memory):
    """Noise that changes slowly."""
    values = rng.normal(size=count) * deviation
    for t in range(1, count):
        values[t] = memory * values[t - 1] + np.sqrt(1 - memory**2) * values[t]
    return values


def noisy_video(rng, trimmed=False):
    """Two actors who move, act for part of the time (or all of it), and are detected with all the usual faults.

    Returns:
        Detections per frame, and the truth.
    """
    frames = int(rng.integers(70, 160))
    camera = np.cumsum(drift(rng, frames, 1.0, 0.95))
    rows, tubes = [[] for _ in range(frames)], []
    for _ in range(2):
        height = rng.uniform(60, 120)
        width, (x, y) = height / 2, rng.uniform((20, 10), (240, 100))
        left = x + camera + rng.normal() * np.arange(frames)
        boxes = np.stack([left, np.full(frames, y), left + width, np.full(frames, y + height)], axis=1)
        label = int(rng.integers(CLASSES))
        length = frames if trimmed else int(rng.integers(25, frames // 2))
        start = int(rng.integers(0, frames - length + 1))
        tubes.append(Tube(label, 1, start, boxes[start : start + length]))
        odds = np.stack([drift(rng, frames, 1.0, 0.85) for _ in range(CLASSES)], axis=1) - 4
        ramp = 1 / (1 + np.exp(np.clip((np.abs(np.arange(frames) - start - 2 - length / 2) - length / 2) / 2, -30, 30)))
        gain = rng.normal(4, 1) * (1 if trimmed else ramp)
        odds[:, label] += gain
        odds[:, (label + 1) % CLASSES] += 0.5 * gain
        seen = boxes + rng.normal(size=boxes.shape) * [width, height, width, height] * 0.04
        lost = int(rng.integers(frames))
        for t in range(frames):
            if rng.random() < 0.06 or lost <= t < lost + 6:
                continue
            chance = 1 / (1 + np.exp(-odds[t]))
            rows[t] += [(c, chance[c], seen[t]) for c in range(CLASSES) if chance[c] >= 0.01]
            if rng.random() < 0.1:  # a second, sloppy box
                sloppy = boxes[t] + rng.normal(size=4) * width * 0.12
                rows[t] += [(c, 0.6 * chance[c], sloppy) for c in range(CLASSES) if chance[c] >= 0.02]
    return [dets(*row) if row else Detections.empty() for row in rows], Truth(tuple(tubes), frames)


def family_link(frames, at_most=3):
    """What YOWO's family does, in our words: per class, the best path through all frames, up to three times; no trimming.

    A step's worth is the boxes' overlap plus both scores plus half of their product; tubes that overlap a better one by over
    0.3 go; a tube scores its mean.
    """
    tubes = []
    for label in range(CLASSES):
        left = [(d.boxes[d.labels == label].astype(float), d.scores[d.labels == label].astype(float)) for d in frames]
        found = []
        for _ in range(at_most):
            times = [t for t, (boxes, _) in enumerate(left) if len(boxes)]
            if not times:
                break
            value, back = np.zeros(len(left[times[0]][0])), []
            for a, b in zip(times, times[1:], strict=False):
                (box1, s1), (box2, s2) = left[a], left[b]
                side = np.minimum(box1[:, None, 2:], box2[None, :, 2:]) - np.maximum(box1[:, None, :2], box2[None, :, :2])
                inter = side.clip(0).prod(axis=2)
                areas = [(box[:, 2:] - box[:, :2]).prod(axis=1) for box in (box1, box2)]
                overlap = inter / (areas[0][:, None] + areas[1] - inter)
                gain = value[:, None] + overlap + s1[:, None] + s2 + 0.5 * s1[:, None] * s2
                back.append(gain.argmax(axis=0))
                value = gain.max(axis=0)
            path = [int(value.argmax())]
            for step in reversed(back):
                path.append(int(step[path[-1]]))
            path.reverse()
            boxes = np.array([left[t][0][i] for t, i in zip(times, path, strict=True)])
            score = np.mean([left[t][1][i] for t, i in zip(times, path, strict=True)])
            every = np.stack([np.interp(np.arange(len(frames)), times, side) for side in boxes.T], axis=1)
            found.append(Tube(label, float(score), 0, every))
            for t, i in zip(times, path, strict=True):
                left[t] = (np.delete(left[t][0], i, axis=0), np.delete(left[t][1], i))
        tubes += tube_nms(found)
    return tubes


@pytest.fixture(scope="module")
def comparison():
    """Video-mAP at 0.2 and 0.5 of both linkers on the same 24 videos, by (linker, kind)."""
    scores = {}
    for kind, seed in (("untrimmed", 10), ("trimmed", 11)):
        rng = np.random.default_rng(seed)
        videos = {v: noisy_video(rng, kind == "trimmed") for v in range(24)}
        truth = {v: t for v, (_, t) in videos.items()}
        for name, linker in (("ours", link), ("family", family_link)):
            tubes = {v: linker(frames) for v, (frames, _) in videos.items()}
            scores[name, kind] = [video_map(tubes, truth, CLASSES, iou).map for iou in (0.2, 0.5)]
    return scores


def test_untrimmed_videos_are_linked_clearly_better_than_by_the_family(comparison):
    ours, family = comparison["ours", "untrimmed"], comparison["family", "untrimmed"]
    assert ours[1] > 0.55 and ours[1] > family[1] + 0.35, comparison
    assert ours[0] > family[0] + 0.05, comparison


def test_trimmed_videos_are_not_linked_worse(comparison):
    ours, family = comparison["ours", "trimmed"], comparison["family", "trimmed"]
    assert ours[1] > family[1] - 0.02 and ours[1] > 0.6, comparison


@pytest.mark.parametrize(
    "change",
    [
        {"ratio": 0.0, "floor": 0.0},  # no trimming
        {"seniority": 0.0, "score_weight": 0.0, "mature": 10**6},  # links are taken over by second boxes
    ],
)
def test_each_part_is_worth_its_place(comparison, change):
    rng = np.random.default_rng(10)
    videos = {v: noisy_video(rng) for v in range(24)}
    tubes = {v: link(frames, replace(CONFIG, **change)) for v, (frames, _) in videos.items()}
    without = video_map(tubes, {v: t for v, (_, t) in videos.items()}, CLASSES, 0.5).map
    assert without < comparison["ours", "untrimmed"][1] - 0.05, (without, comparison)


# --------------------------------------------------------------------------------------------------------------- actors


def actor_tube(label, start, frames, x=0.0):
    """A still tube of 10x20 pixels at `x`."""
    return Tube(label, 0.5, start, np.tile([x, 0, x + 10, 20], (frames, 1)))


@pytest.mark.parametrize(
    ("tubes", "numbers"),
    [
        ([], []),
        ([actor_tube(0, 0, 10), actor_tube(1, 5, 10)], [1, 1]),  # two actions at once, same place
        ([actor_tube(0, 0, 10), actor_tube(1, 5, 10, x=3)], [1, 1]),  # IoU 7/13
        ([actor_tube(0, 0, 10), actor_tube(1, 5, 10, x=6)], [1, 2]),  # IoU 4/16
        ([actor_tube(0, 0, 10), actor_tube(0, 5, 10)], [1, 2]),  # nobody does one thing twice at once
        ([actor_tube(0, 0, 10), actor_tube(1, 10, 10, x=5)], [1, 1]),  # the next action, IoU 1/3
        ([actor_tube(0, 0, 10), actor_tube(0, 25, 10)], [1, 1]),  # 15 frames without an action
        ([actor_tube(0, 0, 10), actor_tube(0, 26, 10)], [1, 2]),  # 16
        ([actor_tube(0, 20, 5, x=50), actor_tube(1, 0, 30), actor_tube(2, 20, 5, x=51)], [2, 1, 2]),  # numbered as they appear
        ([actor_tube(0, 0, 30), actor_tube(1, 0, 10), actor_tube(1, 12, 9), actor_tube(2, 0, 40, x=80)], [1, 1, 1, 2]),
    ],
)
def test_actors_by_hand(tubes, numbers):
    assert identify(tubes) == numbers


def test_who_does_what_does_not_change_where_less_sure_tubes_are_left_out():
    def tube(label, score, start, stop, x):
        return Tube(label, score, start, np.tile([[x, 0.0, x + 40, 80]], (stop - start, 1)))

    people = [tube(9, 0.9, 0, 50, 0), tube(9, 0.8, 0, 20, 200), tube(9, 0.8, 40, 60, 200)]
    numbers = identify(people)
    assert numbers == [1, 2, 3]
    acts = [
        tube(0, 0.1, 10, 50, 200),
        tube(1, 0.7, 5, 30, 2),
        tube(0, 0.6, 0, 20, 500),
        tube(2, 0.3, 22, 40, 502),
        tube(0, 0.5, 45, 60, 200),
    ]
    assert join(acts, people, numbers) == [2, 1, 4, 4, 3], "the first goes on where its person was last seen"
    for least in (0.2, 0.4, 0.65):
        kept = [index for index, one in enumerate(acts) if one.score >= least]
        assert join([acts[index] for index in kept], people, numbers) == [[2, 1, 4, 4, 3][index] for index in kept]
    assert join(acts[:1], [], []) == [1] and join([], people, numbers) == []
