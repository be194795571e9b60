import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import pdist

from scmimic.metrics import _mmd, mmd


def loop(x, y, squared_bandwidth):
    """Lemma 6 of Gretton et al. (2012), term by term."""

    def k(a, b):
        return np.exp(-((a - b) ** 2).sum() / squared_bandwidth)

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.normal(size=(23, 4)), rng.normal(0.5, 1.3, size=(17, 4))


def test_equals_the_double_loop_with_given_bandwidth(pair):
    assert mmd(*pair, bandwidth=1.7) == pytest.approx(loop(*pair, 1.7**2), abs=1e-12)


def test_default_bandwidth_is_the_median_of_real_pairs(pair):
    real = pair[0]
    squared = [((real[i] - real[j]) ** 2).sum() for i in range(len(real)) for j in range(i)]
    assert mmd(*pair) == pytest.approx(loop(*pair, np.median(squared)), abs=1e-12)


def test_median_comes_from_a_sample_where_there_are_many_cells(pair, monkeypatch):
    exact = mmd(*pair)
    monkeypatch.setattr(_mmd, "_MAX_CELLS_MEDIAN", 15)
    assert mmd(*pair, seed=1) != exact
    assert mmd(*pair, seed=1) == mmd(*pair, seed=1)
    assert mmd(*pair, seed=1) == pytest.approx(exact, abs=0.1)


def test_chunks_and_sparse_input_change_nothing():
    rng = np.random.default_rng(1)
    real, fake = rng.poisson(0.5, (700, 6)).astype(float), rng.poisson(0.8, (600, 6)).astype(float)
    expected = mmd(real, fake, bandwidth=2.0, working_memory=1024)
    # one MiB holds 187 rows of 700 distances
    assert mmd(real, fake, bandwidth=2.0, working_memory=1) == pytest.approx(expected, abs=1e-12)
    assert mmd(sp.csr_array(real), sp.csc_matrix(fake), bandwidth=2.0) == pytest.approx(expected, abs=1e-12)
    assert mmd(sp.csr_matrix(real), fake, bandwidth=2.0) == pytest.approx(expected, abs=1e-12)


def test_the_median_of_all_pairs_does_not_depend_on_chunks():
    real, fake = np.random.default_rng(1).normal(size=(2, 700, 3))
    expected = np.median(pdist(real, "sqeuclidean"))
    for memory in (1, 1024):
        found = mmd(real, fake, working_memory=memory)
        assert found == pytest.approx(mmd(real, fake, bandwidth=np.sqrt(expected)), abs=1e-12)


def test_gaussian_closed_form():
    """For N(0, s2) and N(d, s2) in one dimension the kernel means are known integrals."""
    rng = np.random.default_rng(0)
    shift, h2 = 1.0, 2.0
    real, fake = rng.normal(size=(4000, 1)), rng.normal(shift, size=(4000, 1))
    # E exp(-(a - b)^2 / h2) with a - b ~ N(mu, 2)
    spread = np.sqrt(h2 / (h2 + 4))
    expected = 2 * spread - 2 * spread * np.exp(-(shift**2) / (h2 + 4))
    assert mmd(real, fake, bandwidth=np.sqrt(h2)) == pytest.approx(expected, abs=0.015)


def test_unbiased_for_equal_distributions():
    rng = np.random.default_rng(3)
    values = [mmd(*rng.normal(size=(2, 20, 2)), bandwidth=1.0) for _ in range(200)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_unbiased_for_the_value_of_all_cells_when_some_are_drawn(pair):
    real, synthetic = pair
    drawn = [mmd(*pair, bandwidth=1.7, max_cells=7, seed=seed) for seed in range(1500)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert np.mean(drawn) == pytest.approx(mmd(*pair, bandwidth=1.7), abs=4 * error)
    # a biased estimate of so few cells would be off by the diagonal, a twentieth and more
    assert error < 0.01
    assert mmd(*pair, bandwidth=1.7, max_cells=7, seed=3) == drawn[3]
    assert mmd(*pair, max_cells=23) == mmd(*pair, max_cells=None) == mmd(*pair)
    rows = [np.sort(rng.choice(len(x), 7, replace=False)) for rng in [np.random.default_rng(3)] for x in pair]
    assert drawn[3] == pytest.approx(loop(real[rows[0]], synthetic[rows[1]], 1.7**2), abs=1e-12)


@pytest.mark.parametrize(
    ("real", "kwargs", "message"),
    [
        (np.ones((1, 4)), {}, "two cells"),
        (np.ones((9, 4)), {}, "identical"),
        (np.eye(4), {"bandwidth": 0}, "`bandwidth` must be a number above 0"),
        (np.eye(3), {}, "columns"),
        (np.eye(4), {"max_cells": 1}, "`max_cells` must be a whole number at least 2"),
    ],
)
def test_bad_input(pair, real, kwargs, message):
    with pytest.raises(ValueError, match=message):
        mmd(real, pair[1], **kwargs)
