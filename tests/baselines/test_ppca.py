import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import multivariate_normal

from scmimic.baselines import PPCA


@pytest.fixture(scope="module")
def cells():
    """Cells of the model itself: three latents, twelve genes, noise of standard deviation 0.5."""
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(4000, 3)), rng.normal(size=(3, 12)) * [[3], [2], [1]]
    x = z @ w + 5 + 0.5 * rng.normal(size=(4000, 12))
    return ad.AnnData(x, var=pd.DataFrame(index=[f"g{i}" for i in range(12)]))


@pytest.fixture(scope="module")
def model(cells):
    return PPCA(cells, n_latent=3).fit()


def test_noise_is_found(model):
    assert model.noise_variance_ == pytest.approx(0.25, rel=0.05)


def test_likelihood_is_largest(model, cells):
    """Tipping & Bishop's solution against small changes of loadings and noise."""

    def likelihood(loadings, noise):
        cov = loadings @ loadings.T + noise * np.eye(12)
        return multivariate_normal.logpdf(cells.X, cells.X.mean(axis=0), cov).mean()

    best = likelihood(model.loadings, model.noise_variance_)
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert likelihood(model.loadings + 0.03 * rng.normal(size=(12, 3)), model.noise_variance_) < best
    for factor in (0.95, 1.05):
        assert likelihood(model.loadings, factor * model.noise_variance_) < best


def test_posterior_is_the_conditional_of_the_joint_gaussian(model, cells):
    """Of (z, x) jointly Gaussian: E[z | x] = Szx Sxx^-1 (x - m), and the Schur complement as covariance."""
    w, noise = model.loadings, model.noise_variance_
    gain = w.T @ np.linalg.inv(w @ w.T + noise * np.eye(12))
    mean, variance = model.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(mean, (cells.X - cells.X.mean(axis=0)) @ gain.T, atol=1e-8)
    covariance = np.eye(3) - gain @ w
    np.testing.assert_allclose(covariance, np.diag(variance[0]), atol=1e-10)
    assert (variance == variance[0]).all()
    # prior variance 1 = variance of the means + posterior variance
    np.testing.assert_allclose(mean.var(axis=0) + variance[0], 1, rtol=1e-3)


def test_draws_have_the_posterior(model):
    mean, variance = model.get_latent_representation(return_dist=True)
    drawn = model.get_latent_representation(give_mean=False, seed=1)
    np.testing.assert_allclose((drawn - mean).var(axis=0), variance[0], rtol=0.1)
    np.testing.assert_array_equal(drawn, model.get_latent_representation(give_mean=False, seed=1))


def test_decoded_cells_have_the_covariance_of_the_cells(model, cells):
    z = np.random.default_rng(1).normal(size=(20_000, 3))
    decoded = model.decode(z, seed=0)
    x = decoded.X.toarray()
    residual = x - model.decode(z, noise=False).X.toarray()
    np.testing.assert_allclose(residual.std(axis=0), 0.5, rtol=0.05)
    real = np.cov(cells.X.T)
    assert np.linalg.norm(np.cov(x.T) - real) < 0.05 * np.linalg.norm(real)
    np.testing.assert_allclose(x.mean(axis=0), cells.X.mean(axis=0), atol=0.2)
    np.testing.assert_array_equal(decoded.obsm["X_ppca"], z)
    assert decoded.uns["scmimic"]["model"] == "PPCA"
    assert decoded.var_names.equals(cells.var_names)


def test_codes_decode_to_their_cells(model, cells):
    z = model.get_latent_representation(indices=[5, 3])
    back = model.decode(z, noise=False).X.toarray()
    assert np.abs(back - cells.X[[5, 3]]).mean() < 0.7


def test_sparse_layer_and_other_cells(cells):
    x = np.maximum(cells.X - 5, 0)
    dense = ad.AnnData(np.zeros_like(x), layers={"log": x})
    sparse = ad.AnnData(np.zeros_like(x), layers={"log": sp.csr_matrix(x)})
    a, b = (PPCA(c, n_latent=3, layer="log").fit() for c in (dense, sparse))
    assert a.noise_variance_ == pytest.approx(b.noise_variance_)
    first, second = a.get_latent_representation(), b.get_latent_representation(dense[:10])
    np.testing.assert_allclose(np.abs(first[:10]), np.abs(second), atol=1e-6)


def test_bad_input(model, cells):
    with pytest.raises(ValueError, match="from 1 to 11"):
        PPCA(cells, n_latent=12)
    with pytest.raises(KeyError, match="'x' is not in adata.layers"):
        PPCA(cells, layer="x")
    with pytest.raises(RuntimeError, match="not fitted"):
        PPCA(cells, n_latent=2).get_latent_representation()
    with pytest.raises(RuntimeError, match="not fitted"):
        PPCA(cells, n_latent=2).decode(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="2 dimensions, the model 3"):
        model.decode(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="same order"):
        model.get_latent_representation(cells[:, ::-1])
    flat = ad.AnnData(np.outer(np.arange(20.0), np.ones(6)))
    with pytest.raises(ValueError, match="vary by more than the noise|without noise"):
        PPCA(flat, n_latent=2).fit()
    with pytest.raises(ValueError, match="without noise"):
        PPCA(flat, n_latent=1).fit()
