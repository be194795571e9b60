from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from scmimic.metrics import TooFewCellsError, self_distance_ratio


def nearest(x, rows):
    """Distance of each of `rows` to the nearest other of them."""
    distances = cdist(x[rows], x[rows])
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_equals_every_draw_of_few_cells(kind):
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(11, 4)), rng.normal(size=(10, 4))
    found = self_distance_ratio(kind(real), kind(synthetic), n=5)
    for x, value in ((real, found.real[-1]), (synthetic, found.synthetic[-1])):
        # each cell, in each draw of five that it is in
        every = np.sort([d for rows in combinations(range(len(x)), 5) for d in nearest(x, list(rows))])
        low, high = np.searchsorted(every, value, "left"), np.searchsorted(every, value, "right")
        share = len(every) / 120  # as often as the rarest neighbour of a cell is the nearest
        assert low - share * 10 <= len(every) / 2 <= high + share * 10
    assert found.n == found.sizes[-1] == 5
    assert found.ratio == found.ratios[-1] == found.synthetic[-1] / found.real[-1]


def test_all_cells_have_the_median_of_the_nearest():
    rng = np.random.default_rng(1)
    for n in (60, 61):
        real, synthetic = rng.normal(size=(n, 4)), rng.gamma(2, size=(n, 4))
        found = self_distance_ratio(real, synthetic)
        assert found.n == n
        assert found.real[-1] == pytest.approx(np.median(nearest(real, np.arange(n))))
        assert found.synthetic[-1] == pytest.approx(np.median(nearest(synthetic, np.arange(n))))


def test_real_cells_are_carried_on_by_their_closest_pairs():
    """Pair by pair: a distance in units of the third nearest of the cells that are not the pair's."""
    rng = np.random.default_rng(2)
    m, n = 70, 100
    real, synthetic = rng.normal(size=(m, 3)), rng.normal(size=(n, 3))
    found = self_distance_ratio(real, synthetic)
    distances, pairs = cdist(real, real), []
    for i in range(m):
        for j in set(range(m)) - {i}:
            others = [other for other in range(m) if other not in (i, j)]
            pairs.append(distances[i, j] / np.sort(distances[i, others])[2])
    below = [np.interp(m * (m - 1) / (size - 1), np.arange(len(pairs)) + 0.5, np.sort(pairs)) for size in (n, m)]
    assert found.real[-1] == pytest.approx(np.median(nearest(real, np.arange(m))) * below[0] / below[1])
    assert found.synthetic[-1] == pytest.approx(np.median(nearest(synthetic, np.arange(n))))


def mixture(n, rng, n_dims=15):
    """Types of unequal size, density and shape."""
    fixed = np.random.default_rng(7)
    centers, spread = fixed.normal(0, 2, size=(4, n_dims)), np.array([0.6, 1.0, 1.5, 0.8])
    shapes = fixed.normal(size=(4, n_dims, 5))
    types = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    along = np.einsum("nij,nj->ni", shapes[types], rng.normal(size=(n, 5)))
    return centers[types] + spread[types, None] * (along + 0.5 * rng.normal(size=(n, n_dims)))


def median_nearest(x, rng):
    rows = rng.choice(len(x), 300, replace=False)
    return np.median(np.sort(cdist(x[rows], x), axis=1)[:, 1])


N_TRAIN = 500
NOISE = 0.3


@pytest.fixture(scope="module")
def real():
    return mixture(N_TRAIN, np.random.default_rng(0))


def at(times):
    """Number of cells; 500 real ones tell of 6,237."""
    return min(times * N_TRAIN, 6000)


@pytest.mark.parametrize("times", [1, 5, 20])
def test_new_cells_are_as_far_apart_as_real_ones(times):
    ratios = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found = self_distance_ratio(mixture(N_TRAIN, rng), mixture(times * N_TRAIN, rng), n=at(times), max_cells=400)
        ratios.append(found.ratio)
    # five dimensions at most, in which a twentieth of the cells is 6 % of the distance
    assert np.mean(ratios) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("times", [1, 5, 20])
def test_repeated_parents_are_seen_and_measured(real, times):
    """The ratio is that of the median distances to the nearest neighbour, with as many true cells as were generated."""
    rng = np.random.default_rng(2)
    n = times * N_TRAIN
    parents = mixture(N_TRAIN // 10, rng)
    repeated = parents[rng.integers(len(parents), size=n)] + NOISE * rng.normal(size=(n, 15))
    found = self_distance_ratio(real, repeated, n=at(times), max_cells=800)
    truth = median_nearest(repeated[: at(times)], rng) / median_nearest(mixture(at(times), rng), rng)
    assert truth < 0.6
    assert found.ratio == pytest.approx(truth, abs=0.08)
    assert found.interval[1] < 0.7


def test_more_cells_show_more_repeats_and_no_less_spread(real):
    rng = np.random.default_rng(3)
    n = 6000
    repeated = real[np.arange(n) % len(real)] + 0.1 * rng.normal(size=(n, 15))
    once = self_distance_ratio(real, repeated[: len(real)])
    often = self_distance_ratio(real, repeated)
    assert once.ratio > 0.9
    assert often.ratio < 0.3
    assert often.ratios[0] > 0.8
    assert (np.diff(often.ratios) < 0.05).all()
    # smooth cells are too close at every number
    smooth = self_distance_ratio(real, 0.8 * mixture(n, rng))
    np.testing.assert_allclose(smooth.ratios, 0.8, atol=0.12)
    assert abs(smooth.ratios[-1] - smooth.ratios[0]) < 0.1


def test_ratio_is_a_length(real):
    np.testing.assert_allclose(self_distance_ratio(real, 3 * real).ratios, 3)
    # shifts and rotations change nothing, also far from the origin
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(15, 15)))[0]
    np.testing.assert_allclose(self_distance_ratio(real, 1e3 + real @ turn).ratios, 1, rtol=1e-6)


def test_copies():
    rng = np.random.default_rng(4)
    real = 1e4 + rng.normal(size=(100, 30))
    copies = real[rng.integers(20, size=400)]
    found = self_distance_ratio(real, copies)
    assert (found.ratio, found.interval) == (0, (0, 0))
    assert self_distance_ratio(copies, real).ratio == np.inf
    assert np.isnan(self_distance_ratio(copies, copies).ratio)
    # copies of a few cells do not matter to the median
    few = np.vstack([rng.normal(size=(395, 30)), np.zeros((5, 30))])
    assert self_distance_ratio(rng.normal(size=(400, 30)), few, n=50).ratio == pytest.approx(1, abs=0.05)


def test_interval_covers():
    hits, ratios = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = self_distance_ratio(mixture(150, rng), mixture(400, rng), n=300)
        hits += found.interval[0] < 1 < found.interval[1]
        ratios.append(found.ratio)
    assert hits >= 34
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


def test_drawn_cells_are_compared_with_all_others(real):
    rng = np.random.default_rng(5)
    synthetic = mixture(3000, rng)
    few, all_cells = (self_distance_ratio(real, synthetic, max_cells=n, seed=1) for n in (300, None))
    assert few.ratio != all_cells.ratio
    assert few.ratio == pytest.approx(all_cells.ratio, rel=0.1)
    assert few.ratio == self_distance_ratio(real, synthetic, max_cells=300, seed=1).ratio


def test_too_few_cells():
    rng = np.random.default_rng(6)
    with pytest.raises(TooFewCellsError, match="at least 10 cells of each, got 9 real and 50"):
        self_distance_ratio(rng.normal(size=(9, 3)), rng.normal(size=(50, 3)))
    real, synthetic = rng.normal(size=(40, 3)), rng.normal(size=(200, 3))
    # 780 pairs, of which 20 decide, tell of 39: no more than the cells themselves
    assert self_distance_ratio(real, synthetic).n == 40
    with pytest.raises(TooFewCellsError, match="`n` is 41, but there are 200 synthetic cells, and 40 real"):
        self_distance_ratio(real, synthetic, n=41)
    # 60 real cells have 1,770 pairs
    assert self_distance_ratio(rng.normal(size=(60, 3)), synthetic).n == 88
    with pytest.raises(TooFewCellsError, match="`n` is 60, but there are 40 synthetic cells"):
        self_distance_ratio(synthetic, real, n=60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 1}, "`n` must be"),
        ({"n": 2.5}, "`n` must be"),
        ({"max_cells": 0}, "`max_cells` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"n_jobs": 0}, "`n_jobs` must be"),
    ],
)
def test_arguments_are_checked(real, arguments, message):
    with pytest.raises(ValueError, match=message):
        self_distance_ratio(real, real, **arguments)


def test_bad_cells(real):
    broken = real.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="`synthetic` holds 1 NaN"):
        self_distance_ratio(real, broken)
    with pytest.raises(ValueError, match="'synthetic': 14"):
        self_distance_ratio(real, real[:, 1:])
