import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats
from scipy.special import erf

from scmimic.metrics import energy_distance


def loop(x, y):
    def mean(a, b):
        return np.mean([np.linalg.norm(i - j) for i in a for j in b])

    return np.sqrt(2 * mean(x, y) - mean(x, x) - mean(y, y))


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.normal(size=(23, 4)), rng.normal(0.5, 1.3, size=(17, 4))


def test_equals_the_double_loop(pair):
    assert energy_distance(*pair) == pytest.approx(loop(*pair), abs=1e-9)


def test_one_dimension_is_scipys(pair):
    expected = stats.energy_distance(pair[0][:, 0], pair[1][:, 0])
    assert energy_distance(pair[0][:, :1], pair[1][:, :1]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("distance", [0.0, 0.5, 8.0])
def test_point_masses(distance):
    assert energy_distance(np.zeros((3, 1)), np.full((5, 1), distance)) == pytest.approx(np.sqrt(2 * distance))


def test_gaussian_closed_form():
    """X - Y is N(d, 2) and X - X' is N(0, 2): means of folded normal distributions."""
    quantiles = stats.norm.ppf((np.arange(3000) + 0.5) / 3000)[:, None]
    d = 1.5
    between = 2 / np.sqrt(np.pi) * np.exp(-(d**2) / 4) + d * erf(d / 2)
    expected = np.sqrt(2 * between - 4 / np.sqrt(np.pi))
    assert energy_distance(quantiles, quantiles + d) == pytest.approx(expected, rel=0.002)


def test_value_of_a_replicate_is_the_stated_one():
    rng = np.random.default_rng(0)
    squares = [energy_distance(*rng.normal(size=(2, 40, 3))) ** 2 for _ in range(200)]
    # E |X - X'| in three dimensions is 4 / sqrt(pi)
    assert np.mean(squares) == pytest.approx(2 / 40 * 4 / np.sqrt(np.pi), rel=0.1)


def test_chunks_and_sparse_input_change_nothing():
    rng = np.random.default_rng(1)
    real, synthetic = rng.poisson(0.5, (700, 6)).astype(float), rng.poisson(0.8, (600, 6)).astype(float)
    expected = energy_distance(real, synthetic, working_memory=1024)
    assert energy_distance(real, synthetic, working_memory=1) == pytest.approx(expected, abs=1e-9)
    assert energy_distance(sp.csr_array(real), sp.csc_matrix(synthetic)) == pytest.approx(expected, abs=1e-9)
    assert energy_distance(real.astype(int), sp.csr_matrix(synthetic)) == pytest.approx(expected, abs=1e-9)


def test_large_input_is_sampled_with_the_seed(pair):
    assert len({energy_distance(*pair, max_cells=10, seed=seed) for seed in (1, 1, 2)}) == 2


def test_equal_samples_and_other_features(pair):
    assert energy_distance(pair[0], pair[0]) == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="columns"):
        energy_distance(pair[0], pair[1][:, :2])
