import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from scmimic.metrics import lisi_mixing, one_nn_accuracy


@pytest.fixture
def pair():
    """Overlapping sides: neither mixed nor apart."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 3)), rng.normal(1.0, size=(40, 3))


def loop_lisi(real, synthetic, perplexity):
    """One cell after the other, with a root finder for the width of its kernel."""
    x, side = np.vstack([real, synthetic]), np.repeat([0, 1], [len(real), len(synthetic)])
    values = []
    for i, row in enumerate(cdist(x, x)):
        nearest = np.argsort(row)[1 : 3 * perplexity + 1]

        def weights(log_beta, squares=row[nearest] ** 2):
            kernel = np.exp(-np.exp(log_beta) * (squares - squares.min()))
            return kernel / kernel.sum()

        def surplus(log_beta, weights=weights):
            p = weights(log_beta)
            return -(p * np.log(np.maximum(p, 1e-300))).sum() - np.log(perplexity)

        p = weights(brentq(surplus, -12, 12, xtol=1e-13))
        assert i not in nearest
        values.append(1 / sum(p[side[nearest] == s].sum() ** 2 for s in (0, 1)))
    return np.array(values)


def test_accuracy_equals_leave_one_out(pair):
    x, y = np.vstack(pair), np.repeat([0, 1], 40)
    expected = cross_val_score(KNeighborsClassifier(1), x, y, cv=LeaveOneOut()).mean()
    assert 0.55 < expected < 0.95
    assert one_nn_accuracy(*pair) == pytest.approx(expected, abs=1e-12)


def test_limits_of_the_accuracy(pair):
    assert one_nn_accuracy(pair[0], pair[0] + 99) == 1
    # every cell has its own copy on the other side
    assert one_nn_accuracy(pair[0], pair[0]) == 0
    # all cells alike: a tie between the sides
    assert one_nn_accuracy(np.ones((9, 2)), np.ones((9, 2))) == 0.5
    rng = np.random.default_rng(2)
    chance = [one_nn_accuracy(*rng.normal(size=(2, 100, 3))) for _ in range(30)]
    assert abs(np.mean(chance) - 0.5) < 0.03


def test_copies_are_ties_at_any_offset():
    """Far from the origin, squared norms lose the small differences."""
    x = np.repeat(1e4 + np.arange(20.0)[:, None] * 1e-3, 2, axis=0)
    assert one_nn_accuracy(x, x) == 0.5


def test_lisi_equals_the_loop(pair):
    expected = loop_lisi(*pair, perplexity=8)
    assert expected.std() > 0.1
    assert lisi_mixing(*pair, n_neighbors=8) == pytest.approx(np.median(expected), abs=1e-9)
    assert lisi_mixing(*pair, n_neighbors=8, statistic="mean") == pytest.approx(expected.mean(), abs=1e-9)


def test_lisi_of_equidistant_cells_is_the_closed_form():
    """All others are equally near: weights 1/19, nine of the own and ten of the other side."""
    x = np.eye(20)
    expected = 1 / ((9 / 19) ** 2 + (10 / 19) ** 2)
    assert lisi_mixing(x[:10], x[10:], n_neighbors=7) == pytest.approx(expected, abs=1e-9)


def test_limits_of_lisi(pair):
    assert lisi_mixing(pair[0], pair[0] + 99, n_neighbors=10) == pytest.approx(1)
    assert lisi_mixing(pair[0], pair[1], n_neighbors=10) < lisi_mixing(pair[0], pair[1] - 1, n_neighbors=10)
    real, same = np.random.default_rng(0).normal(size=(2, 1000, 5))
    assert lisi_mixing(real, same) == pytest.approx(1.93, abs=0.02)
    assert lisi_mixing(real, real) > 1.9
    assert np.isfinite(lisi_mixing(np.ones((40, 2)), np.ones((40, 2)), n_neighbors=5))


@pytest.mark.parametrize("metric", [one_nn_accuracy, lambda a, b, **k: lisi_mixing(a, b, n_neighbors=8, **k)])
def test_sides_are_cut_to_equal_numbers(pair, metric):
    """Ten times the synthetic cells would otherwise own most neighbourhoods."""
    rng = np.random.default_rng(3)
    few, many = rng.normal(size=(60, 2)), rng.normal(size=(600, 2))
    values = [metric(few, many, seed=seed) for seed in range(5)]
    ideal = 0.5 if metric is one_nn_accuracy else 1.85
    assert np.mean(values) == pytest.approx(ideal, abs=0.1)
    assert len(set(values)) > 1
    assert metric(few, many, seed=1) == values[1]
    assert metric(*pair, max_cells=20) != metric(*pair)


@pytest.mark.parametrize("metric", [one_nn_accuracy, lambda a, b: lisi_mixing(a, b, n_neighbors=8)])
def test_sparse_input(metric):
    rng = np.random.default_rng(1)
    real, synthetic = rng.poisson(1.0, (60, 30)).astype(float), rng.poisson(1.3, (60, 30)).astype(float)
    expected = metric(real, synthetic)
    # integer distances tie, and ties may be broken differently
    assert metric(sp.csr_array(real), sp.csc_matrix(synthetic)) == pytest.approx(expected, abs=0.05)
    assert metric(real, sp.csr_matrix(synthetic)) == pytest.approx(expected, abs=0.05)


def test_bad_arguments(pair):
    with pytest.raises(ValueError, match="two cells"):
        one_nn_accuracy(pair[0], pair[1][:1])
    with pytest.raises(ValueError, match="n_neighbors"):
        lisi_mixing(pair[0], pair[1][:10])
    with pytest.raises(ValueError, match="n_neighbors"):
        lisi_mixing(*pair, n_neighbors=1)
    with pytest.raises(ValueError, match="statistic"):
        lisi_mixing(*pair, statistic="mode")
