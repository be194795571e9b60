import numpy as np
import pytest
import torch

from scmimic.datasets import synthetic_counts
from scmimic.model.gan._counts import counts_of_logarithms, round_at_random, scale_to


@pytest.fixture
def counts():
    return synthetic_counts(n_obs=200, n_vars=80, seed=0).X


def scaled(counts, target):
    x = counts.toarray().astype(np.float64)
    return (x * (target / x.sum(1, keepdims=True))).astype(np.float32)


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


def test_counts_of_logarithms_keep_the_mean_logarithm_and_the_total():
    torch.manual_seed(0)
    x = (torch.rand(3, 200, dtype=torch.float64) * 5 - 1).clamp_min(0)
    total = torch.tensor([[90.0], [400.0], [5000.0]], dtype=torch.float64)
    mean = counts_of_logarithms(x, total)
    torch.testing.assert_close(mean.sum(1, keepdim=True), total, rtol=1e-4, atol=0)
    assert ((mean == 0) == (x == 0)).all()
    for i in range(3):
        # what one count is worth, from the values between none and one, whose expected count is x / log1p(unit)
        low = (mean[i] > 0) & (mean[i] < 1)
        unit = torch.expm1(x[i][low] / mean[i][low]).mean()
        drawn = torch.log1p(round_at_random(mean[i].expand(4000, -1)) * unit)
        error = drawn.std(0) / 4000**0.5
        assert ((drawn.mean(0) - x[i]).abs() <= 5 * error + 1e-6).all()


def test_counts_of_logarithms_of_counts_are_the_counts(counts):
    x = torch.as_tensor(np.log1p(scaled(counts, 1e4)), dtype=torch.float64)
    total = torch.as_tensor(np.asarray(counts.sum(1)), dtype=torch.float64)
    made = counts_of_logarithms(x, total)
    np.testing.assert_allclose(made.numpy(), counts.toarray(), rtol=1e-6, atol=1e-3)


def test_empty_cell_stays_empty():
    assert scale_to(torch.zeros(2, 3), torch.ones(2, 1)).sum() == 0
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    made = counts_of_logarithms(x, torch.tensor([[5.0], [7.0]]))
    assert made[0].sum() == 0
    assert float(made[1].sum()) == pytest.approx(7, rel=1e-3)
