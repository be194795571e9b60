import sys
from itertools import permutations

import numpy as np
import ot
import pytest
import scipy.sparse as sp
from scipy.stats import norm, wasserstein_distance

from scmimic.metrics import _transport, wasserstein


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 4)), rng.normal(0.5, 1.3, size=(45, 4))


def test_first_order_in_one_dimension_is_scipys(pair):
    real, synthetic = pair[0][:, :1], pair[1][:, :1]
    expected = wasserstein_distance(real[:, 0], synthetic[:, 0])
    assert wasserstein(real, synthetic, p=1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_equals_the_best_of_all_matchings(p):
    rng = np.random.default_rng(1)
    real, synthetic = rng.normal(size=(2, 6, 3))
    costs = [
        np.mean(np.linalg.norm(real - synthetic[list(order)], axis=1) ** p) ** (1 / p)
        for order in permutations(range(6))
    ]
    assert wasserstein(real, synthetic, p=p) == pytest.approx(min(costs), abs=1e-12)


def test_second_order_of_gaussians_is_the_closed_form():
    quantiles = norm.ppf((np.arange(400) + 0.5) / 400)[:, None]
    real, synthetic = quantiles, 2 + 3 * quantiles
    assert wasserstein(real, synthetic) == pytest.approx(np.sqrt(2**2 + (3 - 1) ** 2), rel=0.01)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("method", ["exact", "sinkhorn"])
def test_point_masses(p, method):
    assert wasserstein(np.zeros((3, 2)), np.tile([3.0, 4.0], (5, 1)), p=p, method=method) == pytest.approx(5)


@pytest.mark.parametrize("p", [1, 2])
def test_a_shift_costs_its_length(pair, p):
    assert wasserstein(pair[0], pair[0] + [3, 0, 4, 0], p=p) == pytest.approx(5)
    assert wasserstein(pair[0], pair[0], p=p) == pytest.approx(0, abs=1e-6)
    assert wasserstein(np.ones((3, 2)), np.ones((4, 2)), p=p, method="sinkhorn") == 0


@pytest.mark.parametrize("reg", [0.1, 0.5, 2.0])
def test_entropic_plan_of_two_points_is_the_closed_form(reg):
    """Costs 0 and 1, of mean 1/2: staying and crossing have odds exp(2 / reg)."""
    x = np.array([[0.0], [1.0]])
    assert wasserstein(x, x, p=1, method="sinkhorn", reg=reg) == pytest.approx(1 / (1 + np.exp(2 / reg)), rel=0.01)


def test_sinkhorn_equals_pot_and_bounds_the_exact_value(pair):
    cost = ot.dist(*pair)
    expected = np.sqrt(ot.sinkhorn2([], [], cost, 0.1 * cost.mean()))
    assert wasserstein(*pair, method="sinkhorn", reg=0.1) == pytest.approx(expected, rel=1e-3)
    exact = wasserstein(*pair)
    values = [wasserstein(*pair, method="sinkhorn", reg=reg) for reg in (0.5, 0.1, 0.03)]
    assert values[0] > values[1] > values[2] > exact
    assert values[2] == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("method", ["exact", "sinkhorn"])
def test_units_are_those_of_the_features(pair, method):
    expected = 1000 * wasserstein(*pair, method=method)
    assert wasserstein(1000 * pair[0], 1000 * pair[1], method=method) == pytest.approx(expected, rel=1e-6)


def test_far_points_do_not_underflow():
    """Costs of 500 times the regularisation and more go through logarithms."""
    real, synthetic = np.zeros((50, 1)), np.zeros((50, 1))
    real[0] = synthetic[0] = 1000.0
    assert wasserstein(real, synthetic, method="sinkhorn", reg=0.02) == pytest.approx(0, abs=1e-3)


def test_sparse_and_integer_input(pair):
    real, synthetic = np.rint(3 * pair[0]), np.rint(3 * pair[1])
    expected = wasserstein(real, synthetic)
    assert wasserstein(sp.csr_array(real), sp.csc_matrix(synthetic)) == pytest.approx(expected, abs=1e-9)
    assert wasserstein(real.astype(np.int64), sp.csr_matrix(synthetic)) == pytest.approx(expected, abs=1e-9)


def test_large_input_is_sampled_with_the_seed(pair):
    values = {wasserstein(*pair, max_cells=20, seed=seed) for seed in (1, 1, 2)}
    assert len(values) == 2
    assert wasserstein(*pair, max_cells=None) == wasserstein(*pair)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"p": 3}, "`p`"), ({"method": "fast"}, "`method`"), ({"reg": 0}, "`reg`"), ({"max_cells": 0}, "max_cells")],
)
def test_bad_arguments(pair, kwargs, message):
    with pytest.raises(ValueError, match=message):
        wasserstein(*pair, **kwargs)


def test_rough_plan_is_still_a_plan(pair, monkeypatch):
    """Far from its marginals, the unrounded plan leaves out the costly mass."""
    monkeypatch.setattr(_transport, "_SINKHORN_TOLERANCE", 1.0)
    real = np.vstack([pair[0], pair[0][:20] + 9])
    assert wasserstein(real, pair[1], method="sinkhorn", reg=0.005) > wasserstein(real, pair[1])


@pytest.mark.filterwarnings("ignore:numItermax reached")
def test_failure_to_converge_is_said(pair, monkeypatch):
    monkeypatch.setattr(_transport, "_MAX_SINKHORN_ITERATIONS", 1)
    monkeypatch.setattr(_transport, "_MAX_SIMPLEX_ITERATIONS", 1)
    with pytest.raises(RuntimeError, match="Raise `reg`"):
        wasserstein(*pair, method="sinkhorn")
    with pytest.raises(RuntimeError, match="max_cells"):
        wasserstein(*pair)


def test_missing_library_is_named(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match="pip install POT"):
        wasserstein(*pair)
