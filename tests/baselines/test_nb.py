from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import optimize, stats

from scmimic.baselines import IndependentNB
from scmimic.baselines._nb import MAX_DISPERSION, MIN_DISPERSION, fit_negative_binomial


def simulate(rate, dispersion, n, rng):
    library = rng.integers(500, 3000, n).astype(float)
    mean = library[:, None] * rate
    return rng.poisson(rng.gamma(1 / dispersion, mean * dispersion)), library


def test_fit_recovers_known_parameters():
    rng = np.random.default_rng(0)
    rate = np.array([1e-3, 3e-3, 1e-2, 3e-2])
    dispersion = np.array([0.8, 0.4, 0.2, 0.1])
    x, library = simulate(rate, dispersion, 20_000, rng)
    got_rate, got_dispersion = fit_negative_binomial(sp.csr_matrix(x), library)
    np.testing.assert_allclose(got_rate, rate, rtol=0.03)
    np.testing.assert_allclose(got_dispersion, dispersion, rtol=0.08)


@pytest.mark.parametrize("n", [40, 500])
def test_dispersion_has_the_highest_likelihood(n):
    """Against scipy's probabilities and scipy's optimiser; 500 cells go through the bins of library size."""
    rng = np.random.default_rng(1)
    x, library = simulate(np.array([1e-3, 1e-2]), np.array([0.9, 0.3]), n, rng)
    rate, dispersion = fit_negative_binomial(sp.csr_matrix(x), library)
    np.testing.assert_allclose(rate, x.sum(0) / library.sum())
    for gene in range(2):

        def cost(log_dispersion, gene=gene):
            shape = np.exp(-log_dispersion)
            return -stats.nbinom.logpmf(x[:, gene], shape, shape / (shape + library * rate[gene])).sum()

        best = optimize.minimize_scalar(cost, bounds=(-6, 3), method="bounded", options={"xatol": 1e-6})
        np.testing.assert_allclose(dispersion[gene], np.exp(best.x), rtol=5e-3)


def test_dispersion_stays_in_bounds():
    never, once, constant = np.zeros(1000), np.r_[5000, np.zeros(999)], np.full(1000, 4)
    _, dispersion = fit_negative_binomial(sp.csr_matrix(np.c_[never, once, constant]), np.full(1000, 100.0))
    np.testing.assert_allclose(dispersion, [MIN_DISPERSION, MAX_DISPERSION, MIN_DISPERSION], rtol=1e-2)


@pytest.mark.parametrize("n", [1, 6000])
def test_margins_of_generated_cells(n):
    rng = np.random.default_rng(2)
    rate, dispersion = np.array([2e-4, 1e-3, 1e-2]), np.array([1.0, 0.5, 0.2])
    x, _ = simulate(rate, dispersion, 3000, rng)
    x = np.c_[x, 2000 - x.sum(1)]
    fake = IndependentNB(ad.AnnData(x.astype(np.float32)), labels_key=None).fit().generate(n, seed=0).X.toarray()
    assert fake.shape == (n, 4)
    if n > 1:
        np.testing.assert_allclose(fake.mean(0), x.mean(0), rtol=0.1)
        np.testing.assert_allclose(fake[:, :3].var(0), x[:, :3].var(0), rtol=0.25)
        np.testing.assert_allclose((fake == 0).mean(0), (x == 0).mean(0), atol=0.03)
