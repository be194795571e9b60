import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from scmimic.module import BetaTCVAEModule

N_OBS = 500


def posteriors(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), 0.5 * torch.randn(n, 3, generator=generator) - 1


def double_loop(z, mean, log_var, others):
    """Chen et al., appendix C.2: a sample's own posterior counts once in all cells, the rest share what is left."""
    means, stds = (torch.cat(pair).double() for pair in zip((mean, (0.5 * log_var).exp()), others, strict=True))
    terms = []
    for i in range(len(z)):
        joint, each = 0.0, np.zeros(z.shape[1])
        for k in range(len(means)):
            share = 1 / N_OBS if k == i else (N_OBS - 1) / N_OBS / (len(means) - 1)
            density = norm.pdf(z[i], means[k], stds[k])
            joint, each = joint + share * math.prod(density), each + share * density
        own = norm.logpdf(z[i], mean[i], (0.5 * log_var[i]).exp()).sum()
        product = np.log(each).sum()
        terms.append([own - math.log(joint), math.log(joint) - product, product - norm.logpdf(z[i]).sum()])
    return np.mean(terms, axis=0)


def test_loss_adds_up():
    """Reconstruction, KL and beta times the total correlation, and what is logged of them."""
    torch.manual_seed(0)
    module = BetaTCVAEModule(4, n_latent=3, n_hidden=(4,), n_comps=None, beta=7.0).eval()
    tensors = {"X": torch.rand(6, 4), "batch": torch.zeros(6, 1)}
    inference, generative, found = module(tensors, loss_kwargs={"kl_weight": 0.4, "beta_weight": 0.5, "n_obs": N_OBS})
    mean, log_var, z, px = inference["qz_mean"], inference["qz_log_var"], inference["z"], generative["px"]
    kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).detach()
    reconstruction = -norm.logpdf(tensors["X"], px.loc.detach(), px.scale.detach()).sum(1)
    terms = double_loop(z.detach(), mean.detach(), log_var.detach(), posteriors(0, 1))
    assert found.loss.item() == pytest.approx(reconstruction.mean() + 0.4 * kl.mean().item() + 3.5 * terms[1], rel=1e-4)
    torch.testing.assert_close(found.kl_local["kl_local"].detach(), kl)
    np.testing.assert_allclose(found.reconstruction_loss["reconstruction_loss"].detach(), reconstruction, rtol=1e-4)
    named = ("mutual_information", "total_correlation", "dimension_wise_kl")
    np.testing.assert_allclose([found.extra_metrics[name].item() for name in named], terms, rtol=1e-3)


def test_gradient_runs_through_the_posteriors_where_asked():
    """By differences of the double loop: of a posterior that is moved with its sample held, and of the sample."""
    (mean, log_var), step = posteriors(5, 0), 1e-3
    z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    none = posteriors(0, 1)

    def slope(name):
        ends = []
        for sign in (1, -1):
            moved = {"z": z.clone(), "mean": mean.clone()}
            moved[name][1, 2] += sign * step
            ends.append(double_loop(moved["z"], moved["mean"], log_var, none)[1])
        return (ends[0] - ends[1]) / (2 * step)

    for posterior_gradients in (False, True):
        module = BetaTCVAEModule(4, n_latent=3, n_hidden=(4,), n_comps=None, posterior_gradients=posterior_gradients)
        given = z.clone().requires_grad_(), mean.clone().requires_grad_()
        value = module.decompose(*given, log_var, N_OBS).total_correlation
        of_z, of_mean = torch.autograd.grad(value, given, allow_unused=True)
        assert of_z[1, 2].item() == pytest.approx(slope("z"), rel=0.02)
        if posterior_gradients:
            assert of_mean[1, 2].item() == pytest.approx(slope("mean"), rel=0.02)
        else:
            assert of_mean is None


@pytest.mark.parametrize("posterior_gradients", [False, True])
@pytest.mark.parametrize("n_memory", [0, 7])
def test_terms_equal_the_double_loop(posterior_gradients, n_memory):
    """A sample's own posterior is the one of the batch, wherever the remembered ones stand."""
    module = BetaTCVAEModule(4, n_latent=3, n_hidden=(4,), n_comps=None, posterior_gradients=posterior_gradients)
    (mean, log_var), memory = posteriors(5, 0), posteriors(n_memory, 1)
    z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    found = module.decompose(z, mean, log_var, N_OBS, memory if n_memory else None)
    expected = double_loop(z, mean, log_var, (memory[0], (0.5 * memory[1]).exp()))
    np.testing.assert_allclose([float(term) for term in found], expected, rtol=1e-4)
