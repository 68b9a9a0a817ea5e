"""The quantities of an analysis: numbers worked out by hand, invariances, and what has no meaning."""

import math

import numpy as np
import pytest
import torch

from mssc import analysis
from mssc.analysis import bootstrap, cells, exchange, maps, msm, probes
from mssc.analysis import distances as s
from mssc.analysis.embedding import embed
from mssc.model.fusion import context_entropy
from mssc.structures import InputError

RNG = np.random.default_rng(0)


# -------------------------------------------------------------------- cells


def test_coverage_by_hand():
    # a frame of 40x20 pixels, 2x4 cells of 10x10: the box covers one cell wholly, a half of the next, and a fifth of those below
    found = cells.coverage(np.array([[0, 0, 15, 12]]), (2, 4), (20, 40))[0]
    np.testing.assert_allclose(found, [[1, 0.5, 0, 0], [0.2, 0.1, 0, 0]])


def test_kinds_of_cells():
    # 6x6 cells of 10 px; the box is cells (2..3, 2..3) and a sliver of a quarter of column 4
    kinds = cells.cell_kinds(np.array([[20, 20, 42.5, 40]]), (6, 6), (60, 60))
    assert (kinds[2:4, 2:4] == cells.ACTION).all() and (kinds == cells.ACTION).sum() == 4
    assert (kinds[1:5, 1:6] != cells.BACKGROUND).all()  # one cell around the box, and the sliver makes it reach column 5
    assert (kinds[0] == cells.BACKGROUND).all() and (kinds[:, 0] == cells.BACKGROUND).all()
    assert cells.enough(kinds)


@pytest.mark.parametrize(
    ("boxes", "action", "background"),
    [
        ([], 0, 16),  # nothing: all background
        ([[0, 0, 40, 40]], 16, 0),  # the whole frame
        ([[10, 10, 20, 20]], 1, 16 - 9),  # one cell exactly: its neighbours alone are ignored
        ([[10, 10, 15, 20]], 1, 7),  # half of a cell still is action
        ([[10, 10, 14.9, 20]], 0, 7),  # a little less is not
        ([[-50, -50, -45, -45]], 0, 16),  # far outside
        ([[0, 0, 4, 10], [6, 0, 10, 10]], 0, 12),  # two boxes do not make one: each covers less than half
    ],
)
def test_kinds_at_the_edges(boxes, action, background):
    kinds = cells.cell_kinds(np.array(boxes).reshape(-1, 4), (4, 4), (40, 40))
    assert (kinds == cells.ACTION).sum() == action and (kinds == cells.BACKGROUND).sum() == background


def test_a_map_without_cells_is_refused():
    with pytest.raises(InputError, match="0x4"):
        cells.coverage(np.zeros((1, 4)), (0, 4), (10, 10))


def test_centres_stay_on_the_map():
    rows, columns = cells.centre_cells(np.array([[0, 0, 10, 20], [90, 90, 130, 130]]), (10, 10), (100, 100))
    assert rows.tolist() == [1, 9] and columns.tolist() == [0, 9]


# -------------------------------------------------------------------- separability

X = np.array([[3.0, 0], [5, 0], [0, 1], [0, 3], [2, 1]])  # the last is of neither set
A, B = np.array([1, 1, 0, 0, 0], bool), np.array([0, 0, 1, 1, 0], bool)


def test_distances_by_hand():
    # m_A = (4, 0), m_B = (0, 2), mu = (2, 1)
    found = s.separability(X, A, B)
    assert found["d_cos"] == pytest.approx(1)  # they are at right angles
    assert found["d_cos centred"] == pytest.approx(2)  # (2, -1) and (-2, 1) are opposite
    assert found["d_raw"] == pytest.approx(math.sqrt(20))
    # squared distances from mu: 2, 10, 4, 8, 0; their mean is 4.8
    assert found["d_euc"] == pytest.approx(math.sqrt(20 / 4.8))
    assert found["Fisher J"] == pytest.approx(20 / 2)  # both variances are 1, in one channel each
    distances = np.sqrt([2, 10, 4, 8])
    assert found["D_A/D_B"] == pytest.approx(distances[:2].sum() / distances[2:].sum())
    cosines = np.array([2, 2, 1, 1]) / math.sqrt(5)  # of (1, 0) and (0, 1) with (2, 1); the last cell is mu itself
    assert found["sim2avg"] == pytest.approx((cosines.sum() + 1) / 5)
    assert found["sim2avg action"] == pytest.approx(2 / math.sqrt(5))
    assert found["sim2avg background"] == pytest.approx(1 / math.sqrt(5))
    assert found["silhouette"] == pytest.approx(1)  # directions agree within each set
    assert found["spread"] == pytest.approx(math.sqrt(24 / 49))
    np.testing.assert_allclose(s.channel_fisher(X, A, B), [16, 4])


def test_effective_rank():
    square = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert s.effective_rank(square) == pytest.approx(2)  # two equal singular values
    assert s.effective_rank(square * [1, 0]) == pytest.approx(1)
    assert math.isnan(s.effective_rank(np.ones((4, 3))))


@pytest.mark.parametrize("factor", [1e-6, 0.1, 1e5])
def test_what_a_common_factor_changes(factor):
    x = RNG.normal(size=(60, 8)) + 1
    a, b = np.arange(60) < 20, np.arange(60) >= 30
    plain, scaled = s.separability(x, a, b), s.separability(factor * x, a, b)
    for name in s.MEASURES:
        if name != "d_raw":
            assert scaled[name] == pytest.approx(plain[name]), name
    assert scaled["d_raw"] == pytest.approx(factor * plain["d_raw"])


def test_order_of_cells_and_rotation_do_not_matter():
    x, a, b = RNG.normal(size=(40, 6)) + 1, np.arange(40) < 9, np.arange(40) >= 20
    turn, order = np.linalg.qr(RNG.normal(size=(6, 6)))[0], RNG.permutation(40)
    plain, other = s.separability(x, a, b), s.separability((x @ turn)[order], a[order], b[order])
    for name in plain:
        assert other[name] == pytest.approx(plain[name]), name


def test_equal_cells_have_no_distance():
    found = s.separability(np.full((9, 4), 3.0), np.arange(9) < 3, np.arange(9) > 4)
    assert found["d_cos"] == pytest.approx(0) and found["d_raw"] == 0 and found["sim2avg"] == pytest.approx(1)
    for name in ("d_cos centred", "d_euc", "Fisher J", "D_A/D_B", "effective rank"):
        assert math.isnan(found[name]), name
    assert found["spread"] == pytest.approx(0)
    zero = s.separability(np.zeros((9, 4)), np.arange(9) < 3, np.arange(9) > 4)
    assert math.isnan(zero["d_cos"]) and math.isnan(zero["sim2avg"]) and math.isnan(zero["spread"])


def test_sets_too_small_or_mixed_are_refused():
    for a, b in (([1, 0, 0, 0, 0], B), (A, [0, 0, 0, 0, 1]), (A, A)):
        with pytest.raises(InputError, match="two of each"):
            s.separability(X, np.array(a, bool), np.array(b, bool))
    with pytest.raises(InputError, match="shape"):
        s.separability(X, A[:3], B)


# -------------------------------------------------------------------- intervals and probes


def test_intervals():
    known = bootstrap.mean_interval([1.0, 2.0, 3.0, math.nan])
    assert known.value == 2 and known.videos == 3 and 1 <= known.low < 2 < known.high <= 3
    assert bootstrap.mean_interval([1.0, 2.0, 3.0, math.nan]) == known  # the draws are seeded
    assert bootstrap.mean_interval([4.0] * 5)[:3] == (4, 4, 4)
    assert math.isnan(bootstrap.mean_interval([]).value) and bootstrap.mean_interval([]).text() == "–"
    alone = bootstrap.mean_interval([7.0])
    assert alone.value == 7 and math.isnan(alone.low) and alone.text() == "7.000"


def test_pairs_are_surer_than_their_parts():
    before = RNG.normal(size=30) * 10
    change = bootstrap.paired_interval(before, before + 1 + 0.01 * RNG.normal(size=30))
    assert 0.9 < change.low <= change.value <= change.high < 1.1
    assert bootstrap.paired_interval([1.0, math.nan, 3], [2.0, 5, math.nan]).videos == 1
    with pytest.raises(InputError, match="per video"):
        bootstrap.paired_interval([1.0], [1.0, 2.0])


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    hits = [
        low <= 0 <= high
        for _, low, high, _ in (bootstrap.mean_interval(RNG.normal(size=40), rounds=300, seed=i) for i in range(120))
    ]
    assert 0.86 <= np.mean(hits) <= 1


def test_area_under_roc():
    assert probes.area_under_roc(np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1])) == 1
    assert probes.area_under_roc(np.array([1.0, 2, 3, 4]), np.array([0, 1, 0, 1])) == 0.75
    assert probes.area_under_roc(np.zeros(6), np.array([0, 1] * 3)) == 0.5
    assert math.isnan(probes.area_under_roc(np.ones(3), np.ones(3)))


def test_probes_are_tested_on_other_videos():
    videos = np.repeat([f"v{i}" for i in range(10)], 20)
    action = np.tile([True, False], 100)
    told = np.where(action, 1.0, -1.0)[:, None] + 0.1 * RNG.normal(size=(200, 3))
    assert analysis.probe_auroc(told, action, videos, 50).value == 1
    # a feature that names the video tells nothing in another one
    labels = np.repeat(np.arange(10), 20)
    assert analysis.class_probe(np.eye(10)[labels], labels, videos).value == 0
    assert math.isnan(analysis.probe_auroc(told[:20], action[:20], videos[:20]).value)  # one video only


# -------------------------------------------------------------------- exchange


def test_context_entropy():
    depth = 8
    assert context_entropy(torch.full((2, 3, depth, depth), 1 / depth)).tolist() == pytest.approx([1, 1])
    assert context_entropy(torch.eye(depth)[None]).item() == 0
    half = torch.zeros(1, depth, depth)
    half[:, :2] = 0.5  # each column uses two channels of eight
    assert context_entropy(half).item() == pytest.approx(1 / 3)
    assert context_entropy(torch.ones(1, 1, 1)).item() == 1


def linear_cka(x, y):
    return exchange.cka_of(exchange.moments_of(x, y))


def test_linear_cka():
    x, turn = RNG.normal(size=(200, 5)), np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    assert linear_cka(x, 3 * x @ turn + 7) == pytest.approx(1)
    y = RNG.normal(size=(200, 5))
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))
    assert linear_cka(x, y) < 0.2
    xc, yc = x - x.mean(0), y - y.mean(0)
    gram, other = xc @ xc.T, yc @ yc.T  # the definition by Gram matrices
    assert linear_cka(x, y) == pytest.approx((gram * other).sum() / (np.linalg.norm(gram) * np.linalg.norm(other)))
    assert math.isnan(linear_cka(x, np.ones((200, 5))))


def test_moments_add_up():
    x, y = RNG.normal(size=(2, 50, 4))
    parts = exchange.moments_of(x[:20], y[:20]) + exchange.moments_of(x[20:], y[20:])
    assert exchange.cka_of(parts) == pytest.approx(linear_cka(x, y))


def test_rank_correlation():
    x = np.arange(10.0)
    assert msm.rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert msm.rank_correlation(x, -x) == pytest.approx(-1)
    assert math.isnan(msm.rank_correlation(x, np.ones(10)))
    assert msm.rank_correlation(np.append(x, 5), np.append(x, math.nan)) == pytest.approx(1)


# -------------------------------------------------------------------- maps

BOX = np.array([[10.0, 10, 30, 30]])


@pytest.mark.parametrize("boxes", [BOX, [[3.0, 4, 17, 39]], [[0.0, 0, 40, 40]], [[-9.0, 5, 20, 90], [1, 1, 3, 3]]])
def test_a_uniform_map_has_lift_one(boxes):
    found = maps.map_measures(np.ones((8, 8)), np.array(boxes), (40, 40))
    assert found["lift"] == pytest.approx(1) and found["entropy"] == pytest.approx(1)


def test_maps_by_hand():
    response = np.zeros((4, 4))
    response[1:3, 1:3] = 1  # the box exactly
    found = maps.map_measures(response, BOX, (40, 40))
    assert found == pytest.approx({"entropy": 0.5, "EIB": 1, "lift": 4, "pointing": 1, "area IoU": 1})
    response = np.zeros((4, 4))
    response[0] = [8, 4, 2, 2]  # beside it
    found = maps.map_measures(response, BOX, (40, 40))
    assert found == pytest.approx({"entropy": 1.75 / 4, "EIB": 0, "lift": 0, "pointing": 0, "area IoU": 0})
    response[0] = 0
    response[1] = [0, 4, 3, 2]  # two of the four strongest cells... the fourth is a cell of value 0, the first of all
    assert maps.map_measures(response, BOX, (40, 40))["area IoU"] == pytest.approx(2 / 6)


def test_maps_of_nothing_and_boxes_of_nothing():
    assert maps.normalised(np.zeros((2, 3))).tolist() == [[pytest.approx(1 / 6)] * 3] * 2
    tiny = maps.map_measures(np.eye(4), np.array([[12.0, 12, 13, 13]]), (40, 40))  # less than half of any cell
    assert tiny["pointing"] == 0 and 0 <= tiny["area IoU"] <= 1
    outside = maps.map_measures(np.eye(4), np.array([[90.0, 90, 99, 99]]), (40, 40))
    assert math.isnan(outside["lift"]) and outside["EIB"] == 0
    assert maps.map_entropy(np.ones((1, 1))) == 1
    with pytest.raises(InputError, match="no box"):
        maps.map_measures(np.eye(4), np.zeros((0, 4)), (40, 40))
    with pytest.raises(InputError, match="negative"):
        maps.normalised(np.array([[-1.0]]))


def test_attention_rows():
    weights = torch.rand(2, 6, 4).softmax(-1)  # six cells look at four places
    chosen = np.array([[False, True, False], [False, False, True]])
    rows = maps.attention_rows(weights, chosen)
    assert rows.shape == (2, 2, 2) and rows.sum((1, 2)) == pytest.approx([1, 1])
    np.testing.assert_allclose(rows[1].ravel(), weights.mean(0)[5].numpy(), rtol=1e-6)


# -------------------------------------------------------------------- embeddings


def test_embeddings_keep_what_is_apart_apart():
    x = RNG.normal(size=(60, 70))
    x[30:, 0] += 40
    for method in ("tsne", "pca"):
        points = embed(x, method)
        assert points.shape == (60, 2) and np.isfinite(points).all()
        assert np.array_equal(points, embed(x.copy(), method))  # the same each time
        centres = points[:30].mean(0), points[30:].mean(0)
        nearer = np.linalg.norm(points[:30] - centres[0], axis=1) < np.linalg.norm(points[:30] - centres[1], axis=1)
        assert nearer.all()


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("shape", [(4, 5), (6, 1), (5, 2)])
def test_small_embeddings(method, shape):
    assert embed(RNG.normal(size=shape), method).shape == (shape[0], 2)
    assert np.isfinite(embed(np.ones(shape), method)).all()


def test_what_cannot_be_embedded():
    for features, method in ((np.ones((3, 4)), "tsne"), (np.full((9, 4), np.nan), "pca"), (np.ones((9, 4)), "umap")):
        with pytest.raises(InputError):
            embed(features, method)
