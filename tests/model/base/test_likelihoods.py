import numpy as np
import pytest
import scipy.stats
import torch
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial

from scmimic.module import draw_counts, sample_counts, straight_through_counts

N = 200_000
MU, THETA, LOGIT = 3.0, 1.5, -0.5


def distribution(kind, mu):
    if kind == "poisson":
        return Poisson(mu)
    if kind == "nb":
        return NegativeBinomial(mu=mu, theta=torch.full_like(mu, THETA))
    return ZeroInflatedNegativeBinomial(mu=mu, theta=torch.full_like(mu, THETA), zi_logits=torch.full_like(mu, LOGIT))


@pytest.mark.parametrize("kind", ["poisson", "nb", "zinb"])
def test_moments_in_closed_form(kind):
    generator = torch.Generator().manual_seed(0)
    counts = draw_counts(distribution(kind, torch.full((N,), MU)), generator)
    pi = torch.sigmoid(torch.tensor(LOGIT)).item() if kind == "zinb" else 0.0
    nb_var = MU if kind == "poisson" else MU + MU**2 / THETA
    mean = (1 - pi) * MU
    var = (1 - pi) * (nb_var + pi * MU**2)
    assert counts.mean().item() == pytest.approx(mean, abs=5 * (var / N) ** 0.5)
    assert counts.var().item() == pytest.approx(var, rel=0.05)
    assert (counts == counts.round()).all()
    assert (counts >= 0).all()


@pytest.mark.parametrize("kind", ["poisson", "nb", "zinb"])
def test_gradient_is_that_of_the_mean(kind):
    torch.manual_seed(0)
    mu = torch.full((N,), MU, requires_grad=True)
    cells = straight_through_counts(distribution(kind, mu))
    assert (cells.detach() == cells.detach().round()).all()
    cells.mean().backward()
    keep = 1 - (torch.sigmoid(torch.tensor(LOGIT)).item() if kind == "zinb" else 0.0)
    # d E[x] / d mu = 1 (times the share that is not dropped)
    assert mu.grad.sum().item() == pytest.approx(keep, rel=0.02)


def test_same_generator_same_counts():
    px = distribution("zinb", torch.rand(50, 20))
    a = draw_counts(px, torch.Generator().manual_seed(3))
    b = draw_counts(px, torch.Generator().manual_seed(3))
    assert torch.equal(a, b)


@pytest.mark.parametrize("mu", [0.01, 0.5, 3.0, 7.9, 8.1, 40.0])
@pytest.mark.parametrize("theta", [0.1, 2.0, 50.0])
def test_fast_sampling_has_scipys_distribution(mu, theta):
    px = NegativeBinomial(mu=torch.full((N,), mu), theta=torch.tensor(theta))
    counts = sample_counts(px, torch.Generator().manual_seed(1)).numpy().astype(int)
    exact = scipy.stats.nbinom(theta, theta / (theta + mu))
    edges = np.unique(exact.ppf(np.linspace(0, 1, 30)[1:-1]).astype(int))
    expected = np.diff(np.r_[0, exact.cdf(edges), 1]) * N
    bins = np.bincount(np.searchsorted(edges, counts), minlength=len(expected))
    keep = expected > 5
    statistic = ((bins - expected)[keep] ** 2 / expected[keep]).sum()
    assert scipy.stats.chi2(max(keep.sum() - 1, 1)).sf(statistic) > 1e-4


def test_fast_sampling_of_zeros():
    px = distribution("zinb", torch.full((N,), MU))
    counts = sample_counts(px, torch.Generator().manual_seed(0))
    pi = torch.sigmoid(torch.tensor(LOGIT)).item()
    expected = pi + (1 - pi) * (THETA / (THETA + MU)) ** THETA
    assert (counts == 0).float().mean().item() == pytest.approx(expected, abs=0.005)
    again = sample_counts(px, torch.Generator().manual_seed(0))
    assert torch.equal(counts, again)


@pytest.mark.parametrize("function", [torch.square, lambda x: torch.log1p(x / 10)], ids=["square", "log"])
@pytest.mark.parametrize("kind", ["nb", "poisson"])
def test_gradient_is_that_of_a_score_function(kind, function):
    """The factor of each draw belongs into its gradient: left out, the slope of the square would be 100, not 167."""
    torch.manual_seed(0)
    mean = torch.full((N,), 50.0, requires_grad=True)
    px = distribution(kind, mean)
    cells = straight_through_counts(px)
    (ours,) = torch.autograd.grad(function(cells).mean(), mean)
    value = function(cells.detach())
    # d E[f(x)] / d mu = E[(f(x) - c) d log p(x) / d mu] for any number c
    (score,) = torch.autograd.grad(((value - value.mean()) * px.log_prob(cells.detach())).mean(), mean)
    assert ours.sum().item() == pytest.approx(score.sum().item(), rel=0.08)


@pytest.mark.parametrize("kind", ["nb", "zinb"])
def test_the_slope_of_a_count_is_the_mean_of_its_gamma_factors(kind):
    """By brute force: factors are drawn with their counts, and averaged over those that gave the same count."""
    rng = np.random.default_rng(0)
    factor = rng.gamma(THETA, 1 / THETA, 20 * N)
    drawn = rng.poisson(MU * factor)
    pi = scipy.special.expit(LOGIT) if kind == "zinb" else 0.0
    drawn[rng.random(len(drawn)) < pi] = 0
    torch.manual_seed(0)
    mean = torch.full((N,), MU, requires_grad=True)
    cells = straight_through_counts(distribution(kind, mean))
    (slope,) = torch.autograd.grad(cells.sum(), mean)
    for count in (0, 1, 2, 5, 12):
        of_count = slope[cells == count]
        assert of_count.unique().numel() == 1
        expected = factor[drawn == count]
        assert of_count[0].item() == pytest.approx(
            (1 - pi) * expected.mean(), abs=5 * expected.std() / len(expected) ** 0.5
        )


@pytest.mark.parametrize("kind", ["poisson", "nb", "zinb"])
def test_fast_sampling_shows_rates_that_are_not_finite(kind):
    mu = torch.rand(50, generator=torch.Generator().manual_seed(0)) * 5
    px = distribution(kind, mu)
    expected = sample_counts(px, torch.Generator().manual_seed(1))
    assert torch.isfinite(expected).all()
    mu[3], mu[7] = float("nan"), float("inf")
    spoilt = Poisson(mu, validate_args=False) if kind == "poisson" else distribution(kind, mu)
    counts = sample_counts(spoilt, torch.Generator().manual_seed(1))
    assert torch.isnan(counts[[3, 7]]).all()
    assert torch.isfinite(counts).sum() == 48


@pytest.mark.parametrize("kind", ["poisson", "nb", "zinb"])
def test_rates_that_are_not_finite_give_nan_and_leave_the_others_alone(kind):
    mu = torch.rand(50, generator=torch.Generator().manual_seed(0)) * 5
    expected = draw_counts(distribution(kind, mu), torch.Generator().manual_seed(1))
    # the last ones, so that they take no random numbers from others
    mu = torch.cat([mu, torch.tensor([float("nan"), float("inf")])])
    # as in the modules, torch's own checks are off
    spoilt = Poisson(mu, validate_args=False) if kind == "poisson" else distribution(kind, mu)
    counts = draw_counts(spoilt, torch.Generator().manual_seed(1))
    assert torch.isnan(counts[-2:]).all() or kind == "zinb"
    assert torch.isfinite(counts[:-2]).all()
    if kind == "poisson":
        assert torch.equal(counts[:-2], expected)
