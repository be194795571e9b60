"""Cells and likelihoods of the VAEs' modules, against quadrature over the code."""

import numpy as np
import pytest
import torch

from scmimic.module import ACTIVAModule

N, GENES = 7, 5


def make(gene_likelihood):
    torch.manual_seed(0)
    module = ACTIVAModule(GENES, n_latent=1, n_hidden=(6,), gene_likelihood=gene_likelihood).eval()
    tensors = {"X": torch.poisson(4 * torch.rand(N, GENES)), "batch": torch.zeros(N, 1), "labels": torch.zeros(N, 1)}
    return module, tensors


@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb", "poisson", "normal"])
def test_samples_are_cells_of_the_posterior_predictive(gene_likelihood):
    module, tensors = make(gene_likelihood)
    assert module.sample(tensors).shape == (N, GENES)
    torch.manual_seed(1)
    many = module.sample(tensors, n_samples=4000)
    assert many.shape == (N, GENES, 4000)
    library = module.log_library(tensors["X"])
    inference = module.inference(tensors["X"], tensors["batch"])
    mean, std = inference["qz_mean"].detach(), (0.5 * inference["qz_log_var"]).exp().detach()
    # the mean over the posterior, by Gauss and Hermite
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    expected = torch.zeros(N, GENES)
    with torch.no_grad():
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            px = module.decode(mean + std * node, library, None, tensors["labels"])
            expected += weight * (px.mean if module.is_count else module.expected(px))
    error = many.std(-1) / 4000**0.5
    assert ((many.mean(-1) - expected).abs() <= 5 * error + 1e-4).all()


@pytest.mark.parametrize("per_pass", [1, 64])
def test_marginal_likelihood_is_the_integral_over_the_code(per_pass):
    module, tensors = make("nb")
    grid = torch.linspace(-6, 6, 600)
    library = module.log_library(tensors["X"])
    with torch.no_grad():
        parts = [
            module.decode(z.expand(N, 1), library, None, tensors["labels"]).log_prob(tensors["X"]).sum(-1) - 0.5 * z**2
            for z in grid
        ]
    step = (grid[1] - grid[0]).log() - 0.5 * np.log(2 * np.pi)
    expected = torch.logsumexp(torch.stack(parts), 0) + step
    torch.manual_seed(0)
    # 600 is no multiple of 64
    found = module.marginal_ll(tensors, 600, n_mc_samples_per_pass=per_pass)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.2)
    torch.manual_seed(0)
    mean = module.marginal_ll(tensors, 600, return_mean=True, n_mc_samples_per_pass=per_pass)
    assert mean == pytest.approx(found.mean().item(), abs=1e-4)
    torch.manual_seed(0)
    assert module.marginal_ll(tensors, 3).shape == (N,)


def test_proportions_are_kept_beside_the_counts():
    """What scvi-tools calls `scale`: the genes' shares, whatever the library size."""
    for gene_likelihood in ("nb", "zinb", "poisson"):
        module, tensors = make(gene_likelihood)
        z, library = torch.zeros(N, 1), torch.full((N, 1), 3.0)
        px = module.decode(z, library, None, tensors["labels"])
        scale = px.get_normalized("scale")
        torch.testing.assert_close(scale.sum(1), torch.ones(N))
        rate = px.rate if gene_likelihood == "poisson" else px.mu
        torch.testing.assert_close(rate, scale * np.exp(3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("told", [True, False])
def test_the_decoder_is_told_the_library_size_or_not(told):
    torch.manual_seed(0)
    settings = {} if told else {"library_covariate": False}
    module = ACTIVAModule(GENES, n_latent=1, n_hidden=(6,), gene_likelihood="nb", **settings).eval()
    for parameter in module.decoder.parameters():
        torch.nn.init.normal_(parameter)
    z, zeros = torch.zeros(N, 1), torch.zeros(N, 1)
    small, large = (module.decode(z, torch.full((N, 1), size), None, zeros).scale for size in (1.0, 9.0))
    assert torch.allclose(small, large) != told


def test_threads_do_not_change_the_gradient_of_dispersions():
    """Several threads add up the gradient of an indexed tensor in any order: trainings of one seed drift apart."""
    torch.manual_seed(0)
    module = ACTIVAModule(765, n_labels=8, n_hidden=(4,), n_latent=2, gene_likelihood="nb", dispersion="gene-label")
    weight, labels = torch.rand(128, 765), (torch.arange(128) % 8)[:, None]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [
            torch.autograd.grad((module.dispersions(labels) * weight).square().sum(), module.px_r)[0] for _ in range(40)
        ]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(gradient, found[0]) for gradient in found[1:])
    exact = torch.zeros(8, 765).double()
    exact.index_add_(0, labels[:, 0], 2 * weight.double().square() * module.px_r.double().exp()[labels[:, 0]].square())
    torch.testing.assert_close(found[0].double(), exact, rtol=1e-5, atol=1e-6)
