import warnings

import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.metrics import distance_to_closest_record


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.poisson(3, (50, 8)), rng.poisson(3, (31, 8)), rng.poisson(3, (20, 8))


def brute(train, x):
    return np.array([min(np.sqrt(((row - t) ** 2).sum()) for t in train) for row in x])


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_equals_brute_force(arrays, kind):
    train, synthetic, test = arrays
    result = distance_to_closest_record(*(kind(x.astype(np.float32)) for x in arrays))
    np.testing.assert_allclose(result.synthetic, brute(train, synthetic), rtol=1e-6)
    np.testing.assert_allclose(result.test, brute(train, test), rtol=1e-6)
    assert result.synthetic_median == pytest.approx(np.median(brute(train, synthetic)))
    assert result.test_median == pytest.approx(np.median(brute(train, test)))
    assert result.ratio == pytest.approx(result.synthetic_median / result.test_median)


def test_dense_and_sparse_mix(arrays):
    train, synthetic, test = arrays
    mixed = distance_to_closest_record(train, sp.csr_matrix(synthetic), test)
    np.testing.assert_allclose(mixed.synthetic, brute(train, synthetic))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_copies_are_exactly_zero_even_far_from_the_origin(kind):
    rng = np.random.default_rng(0)
    train = (1e4 + rng.normal(size=(200, 30))).astype(np.float32)
    test = (1e4 + rng.normal(size=(40, 30))).astype(np.float32)
    result = distance_to_closest_record(kind(train), kind(np.vstack([train[:30], test[:10]])), kind(test))
    assert result.ratio == 0
    assert result.synthetic_copies == 0.75
    assert result.test_copies == 0
    assert (result.synthetic[:30] == 0).all()
    assert (result.synthetic[30:] > 0).all()


def test_fresh_cells_of_the_same_distribution_give_a_ratio_near_one():
    rng = np.random.default_rng(0)
    train, synthetic, test = rng.normal(size=(3, 400, 10))
    assert distance_to_closest_record(train, synthetic, test).ratio == pytest.approx(1, abs=0.05)
    wide = distance_to_closest_record(train, 3 * synthetic, test)
    assert wide.ratio > 1.5


def test_drawn_cells_are_compared_with_every_training_cell(arrays):
    train, synthetic, test = arrays
    result = distance_to_closest_record(*arrays, max_cells=10, seed=2)
    assert len(result.synthetic) == len(result.test) == 10
    rng = np.random.default_rng(2)
    for found, x in ((result.synthetic, synthetic), (result.test, test)):
        rows = np.sort(rng.choice(len(x), 10, replace=False))
        np.testing.assert_allclose(found, brute(train, x)[rows], rtol=1e-6)
    # copies of any training cell are found, whichever cells are drawn
    assert distance_to_closest_record(train, train, test, max_cells=5).synthetic_copies == 1
    whole = distance_to_closest_record(*arrays, max_cells=None)
    assert len(whole.synthetic) == len(synthetic)
    assert whole.ratio == distance_to_closest_record(*arrays, max_cells=31).ratio
    with pytest.raises(ValueError, match="max_cells"):
        distance_to_closest_record(*arrays, max_cells=0)


def test_degenerate_test_set():
    train = np.eye(3)
    assert distance_to_closest_record(train, 2 * train, train).ratio == np.inf
    assert np.isnan(distance_to_closest_record(train, train, train).ratio)


def test_other_genes_are_refused():
    with pytest.raises(ValueError, match="'synthetic': 2"):
        distance_to_closest_record(np.eye(3), np.eye(2), np.eye(3))


def test_copies_on_both_sides_have_no_ratio(arrays):
    """0 / 0 says nothing, and the user gets no warning of numpy's for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = distance_to_closest_record(arrays[0], arrays[0][:5], arrays[0])
    assert np.isnan(result.ratio)
    assert (result.synthetic_median, result.test_median) == (0, 0)
