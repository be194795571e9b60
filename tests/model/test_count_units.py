import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scmimic.datasets import synthetic_counts
from scmimic.model._count_units import count_units, round_at_random, scale_to


@pytest.fixture
def counts():
    return synthetic_counts(n_obs=200, n_vars=80, seed=0).X


def scaled(counts, target):
    x = counts.toarray().astype(np.float64)
    return (x * (target / x.sum(1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("units", ["counts", "linear", "log1p"])
def test_units_and_library_sizes_are_found(counts, units, dense):
    x = {"counts": counts.toarray(), "linear": scaled(counts, 20_000), "log1p": np.log1p(scaled(counts, 1e4))}[units]
    found = count_units(x if dense else sp.csr_matrix(x))
    assert found.units == units
    total = np.asarray(counts.sum(1)).ravel()
    single = np.where(counts.toarray() == 0, np.inf, counts.toarray()).min(1) == 1
    assert single.mean() > 0.9
    np.testing.assert_allclose(found.library_size[single], total[single])


def test_other_values_are_left_alone():
    rng = np.random.default_rng(0)
    found = count_units(rng.gamma(1.0, size=(50, 20)))
    assert found.units is None
    assert np.isnan(found.library_size).all()
    assert count_units(np.log2(1 + rng.poisson(2.0, (50, 20)) + 0.3)).units is None


def test_rounding_keeps_means_and_totals():
    torch.manual_seed(0)
    rate = scale_to(torch.rand(1, 30) * 3, torch.tensor([[100.0]]))
    assert float(rate.sum()) == pytest.approx(100)
    made = round_at_random(rate.expand(4000, -1))
    assert torch.equal(made, made.round())
    torch.testing.assert_close(made.mean(0), rate.squeeze(0), rtol=0.02, atol=0.03)
    assert ((made - rate).abs() < 1).all()


def test_counts_of_normalised_counts_are_the_counts(counts):
    x = torch.as_tensor(scaled(counts, 1e4), dtype=torch.float64)
    total = torch.as_tensor(np.asarray(counts.sum(1)), dtype=torch.float64)
    difference = round_at_random(scale_to(x, total)) - torch.as_tensor(counts.toarray())
    assert (difference == 0).double().mean() > 0.99


def test_empty_cell_stays_empty():
    assert scale_to(torch.zeros(2, 3), torch.ones(2, 1)).sum() == 0
