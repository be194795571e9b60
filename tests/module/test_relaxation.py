import pytest
import torch
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial

from scmimic.module import draw_counts, straight_through_counts

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
    counts, _ = draw_counts(distribution(kind, torch.full((N,), MU)), generator)
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
    a, _ = draw_counts(px, torch.Generator().manual_seed(3))
    b, _ = draw_counts(px, torch.Generator().manual_seed(3))
    assert torch.equal(a, b)
