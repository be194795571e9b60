import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.metrics import PRDC, precision_recall_density_coverage


def loop(real, synthetic, k):
    def radii(x):
        return [np.sort([np.linalg.norm(a - b) for b in x])[k] for a in x]

    def within(centres, radius, points):
        return np.array([[np.linalg.norm(c - p) <= r for p in points] for c, r in zip(centres, radius, strict=True)])

    real_balls = within(real, radii(real), synthetic)
    synthetic_balls = within(synthetic, radii(synthetic), real)
    return PRDC(
        precision=real_balls.any(axis=0).mean(),
        recall=synthetic_balls.any(axis=0).mean(),
        density=real_balls.sum() / (k * len(synthetic)),
        coverage=real_balls.any(axis=1).mean(),
    )


def values(result):
    return [result.precision, result.recall, result.density, result.coverage]


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), rng.normal(0.7, 0.6, size=(40, 3))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_loops(pair, k):
    expected = values(loop(*pair, k))
    assert 0.05 < expected[1] < 0.95
    assert values(precision_recall_density_coverage(*pair, n_neighbors=k)) == pytest.approx(expected, abs=1e-12)


def test_roles_of_the_sides(pair):
    """Swapping the sides swaps precision and recall."""
    forward, backward = precision_recall_density_coverage(*pair), precision_recall_density_coverage(*pair[::-1])
    assert (forward.precision, forward.recall) == (backward.recall, backward.precision)
    assert forward.precision != forward.recall


def test_limits(pair):
    assert values(precision_recall_density_coverage(pair[0], pair[0] + 99)) == [0, 0, 0, 0]
    same = precision_recall_density_coverage(pair[0], pair[0])
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    # one mode of two: every synthetic cell is good, half of the real ones are missed
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(size=(100, 2)), rng.normal(size=(100, 2))
    real[50:] += 99
    one_mode = precision_recall_density_coverage(real, synthetic)
    assert one_mode.precision > 0.8
    assert one_mode.recall <= 0.5
    assert one_mode.coverage <= 0.5


@pytest.mark.parametrize("k", [1, 3])
def test_expectation_for_a_replicate(k):
    """Density 1, and coverage by counting which of 2n - 1 exchangeable neighbours come first (Naeem et al.)."""
    n = 30
    rng = np.random.default_rng(0)
    runs = np.array(
        [values(precision_recall_density_coverage(*rng.normal(size=(2, n, 4)), n_neighbors=k)) for _ in range(300)]
    )
    i = np.arange(1, k + 1)
    assert runs[:, 3].mean() == pytest.approx(1 - np.prod((n - i) / (2 * n - i)), abs=0.01)
    assert runs[:, 2].mean() == pytest.approx(1, abs=0.05)


def test_an_outlier_inflates_precision_more_than_density():
    """The weakness that Naeem et al. show: one far real cell has a huge ball."""
    rng = np.random.default_rng(0)
    real, synthetic = rng.normal(size=(60, 2)), rng.normal(8, 0.1, size=(60, 2))
    real[0] = 16
    result = precision_recall_density_coverage(real, synthetic)
    assert result.precision == 1
    assert result.density == pytest.approx(1 / 5)
    assert result.coverage == pytest.approx(1 / 60)


def test_sides_are_cut_to_equal_numbers():
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(50, 2)), rng.normal(size=(1000, 2))
    runs = [precision_recall_density_coverage(few, many, seed=seed) for seed in range(20)]
    # with all 1,000 every real cell would be covered
    assert np.mean([run.coverage for run in runs]) == pytest.approx(1 - 2**-5, abs=0.03)
    assert min(run.coverage for run in runs) < 1
    assert precision_recall_density_coverage(few, many, seed=3) == runs[3]


def test_chunks_and_sparse_input_change_nothing():
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(size=(700, 6)), rng.normal(0.3, size=(700, 6))
    real[real < 0] = synthetic[synthetic < 0] = 0
    expected = values(precision_recall_density_coverage(real, synthetic, working_memory=1024))
    assert values(precision_recall_density_coverage(real, synthetic, working_memory=1)) == pytest.approx(expected)
    for other in (sp.csc_matrix(synthetic), synthetic):
        assert values(precision_recall_density_coverage(sp.csr_array(real), other)) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 40])
def test_bad_number_of_neighbours(pair, k):
    with pytest.raises(ValueError, match="n_neighbors"):
        precision_recall_density_coverage(*pair, n_neighbors=k)
