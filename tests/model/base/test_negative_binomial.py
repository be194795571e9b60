import numpy as np
import pytest
import torch
from scipy import stats
from scvi.distributions import NegativeBinomial

from scmimic.model.base._negative_binomial import SparseNegativeBinomial


def case(theta_shape, dtype=torch.float64, seed=0, n=(7, 11)):
    generator = torch.Generator().manual_seed(seed)
    mu = torch.rand(n, generator=generator, dtype=dtype) * 5 + 0.01
    theta = torch.rand(theta_shape, generator=generator, dtype=dtype) * 3 + 0.1
    x = torch.poisson(torch.rand(n, generator=generator, dtype=dtype) * 2, generator=generator)
    return x, mu.requires_grad_(), theta.requires_grad_()


@pytest.mark.parametrize("theta_shape", [(1, 11), (11,), (7, 11)])
def test_equals_scvi_tools_with_its_derivatives(theta_shape):
    x, mu, theta = case(theta_shape)
    assert 0.2 < (x == 0).double().mean() < 0.8
    weight = torch.rand(x.shape, dtype=x.dtype)
    found = []
    for distribution in (SparseNegativeBinomial(mu, theta), NegativeBinomial(mu=mu, theta=theta)):
        value = distribution.log_prob(x)
        found.append((value, *torch.autograd.grad((value * weight).sum(), (mu, theta))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_equals_scipys():
    x, mu, theta = (t.detach() for t in case((1, 11)))
    p = (theta / (theta + mu)).numpy()
    expected = stats.nbinom.logpmf(x.numpy(), np.broadcast_to(theta.numpy(), x.shape), p)
    np.testing.assert_allclose(SparseNegativeBinomial(mu, theta).log_prob(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("which", ["mu", "theta"])
def test_derivatives_of_one_alone(which):
    x, mu, theta = case((1, 11))
    fixed = (mu, theta.detach()) if which == "mu" else (mu.detach(), theta)
    (gradient,) = torch.autograd.grad(SparseNegativeBinomial(*fixed).log_prob(x).sum(), fixed[which == "theta"])
    both = torch.autograd.grad(SparseNegativeBinomial(mu, theta).log_prob(x).sum(), (mu, theta))
    torch.testing.assert_close(gradient, both[which == "theta"])


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_all_zeros_and_none(value):
    _, mu, theta = case((1, 11))
    x = torch.full_like(mu, value)
    expected = NegativeBinomial(mu=mu, theta=theta).log_prob(x)
    torch.testing.assert_close(SparseNegativeBinomial(mu, theta).log_prob(x), expected)


def test_samples_of_codes_broadcast():
    x, mu, theta = case((1, 11))
    several = torch.stack([mu, 2 * mu])
    expected = NegativeBinomial(mu=several, theta=theta).log_prob(x)
    torch.testing.assert_close(SparseNegativeBinomial(several, theta).log_prob(x), expected)


def test_extreme_values_in_single_precision():
    x = torch.tensor([[0.0, 0.0, 1e5, 1.0]])
    mu = torch.tensor([[0.0, 1e-30, 1e5, 0.0]], requires_grad=True)
    theta = torch.tensor([[1e4, 1e-4, 1e3, 20.0]], requires_grad=True)
    value = SparseNegativeBinomial(mu, theta).log_prob(x)
    exact = NegativeBinomial(mu=mu.double(), theta=theta.double()).log_prob(x.double())
    # a difference of gamma functions of 1e6
    torch.testing.assert_close(value.double(), exact, rtol=2e-2, atol=1e-4)
    value.sum().backward()
    assert torch.isfinite(mu.grad).all() and torch.isfinite(theta.grad).all()
