"""Codes that are moved apart until generated cells vary as the training cells do."""

import logging

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
from anndata import AnnData
from learning import SEED

import scmimic as sm
from scmimic.model.generation._sampler import AggregatedPosterior
from scmimic.model.generation.calibration import _spread
from scmimic.model.generation.calibration._calibration import MAX_SPREAD
from scmimic.model.generation.calibration._spread import WithinLabelVariance, local_centers

RNG = np.random.default_rng(0)


def test_centers_are_means_of_nearest_codes_of_the_label():
    codes, labels = RNG.standard_normal((40, 3)).astype(np.float32), np.repeat([0, 1, 2], [25, 12, 3])
    found = local_centers(codes, labels, n_neighbors=7)
    for i in range(40):
        others = codes[labels == labels[i]]
        nearest = np.argsort(((others - codes[i]) ** 2).sum(1))[:7]
        np.testing.assert_allclose(found[i], others[nearest].mean(0), atol=1e-6)


def test_centers_of_many_cells_are_sought_among_some(monkeypatch):
    codes, labels = RNG.standard_normal((3000, 2)).astype(np.float32), np.zeros(3000, dtype=int)
    exact = local_centers(codes, labels, n_neighbors=300)
    monkeypatch.setattr(_spread, "MAX_ANCHORS", 1000)
    assert np.abs(local_centers(codes, labels, n_neighbors=100) - exact).mean() < 0.1


def test_groups_within_a_label_stay_where_they_are():
    codes = RNG.standard_normal((400, 2)).astype(np.float32)
    codes[200:] += 50
    posterior = AggregatedPosterior(codes, codes, *(np.zeros(400, dtype=np.int64) for _ in range(3)))
    np.testing.assert_array_equal(posterior.mean_codes(np.arange(400)), codes)
    posterior.center, posterior.spread = local_centers(codes, posterior.labels), 1.5
    wider = posterior.mean_codes(np.arange(400))
    for group in (wider[:200], wider[200:]):
        assert group.std(0).min() > 1.15
    np.testing.assert_allclose(wider.reshape(2, 200, 2).mean(1), codes.reshape(2, 200, 2).mean(1), atol=0.2)


def sample(rng, n, scale=1.0):
    """Cells of two labels far apart, with eight main directions of unequal variance."""
    labels = np.repeat([0, 1], n // 2)
    structure = rng.standard_normal((n, 8)) * np.linspace(3, 1, 8) * scale
    directions = np.random.default_rng(9).standard_normal((8, 300)) / np.sqrt(300)
    x = structure @ directions + 0.3 * rng.standard_normal((n, 300)) + 10 * labels[:, None]
    return sp.csr_matrix(x), labels


def test_ratio_is_that_of_new_cells_not_of_the_ones_that_directions_were_fitted_to():
    found, errors = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, labels = sample(rng, 400)
        variance = WithinLabelVariance(x, labels, rng)
        assert variance.ratio(x) == pytest.approx(1)
        found.append(variance.ratio(sample(rng, 400)[0]))
        errors.append(variance.error)
    assert np.mean(found) == pytest.approx(1, abs=0.04)
    assert 0.4 < np.std(found) / np.mean(errors) < 1.6
    # as normal cells that vary so along these directions would have it: each is measured by one half of the cells
    draws = rng.standard_normal((2, 2000, 200, len(variance._of_training_cells))) * np.sqrt(variance._of_training_cells)
    ratios = np.divide(*np.square(draws).mean(axis=2).sum(axis=2))
    assert variance.error == pytest.approx(ratios.std(), rel=0.1)
    # cells that vary less by a tenth in every main direction
    low = WithinLabelVariance(x, labels, rng).ratio(sample(rng, 400, 0.9)[0])
    assert low == pytest.approx(0.81, abs=0.08)


@pytest.fixture(scope="module")
def model():
    """Cells of two types that vary along six gradients."""
    rng = np.random.default_rng(0)
    state, labels = rng.standard_normal((1500, 6)), np.arange(1500) % 2
    rate = np.exp(0.5 + state @ (0.4 * rng.standard_normal((6, 60))) + labels[:, None] * rng.standard_normal(60))
    adata = AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs["cell_type"] = labels.astype(str)
    scvi.settings.seed = SEED
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=8, n_hidden=(32,))
    model.train(max_epochs=60, warmup_epochs=60, calibrate_spread=False, enable_progress_bar=False)
    return model


def variance_ratio(model):
    """Variance of generated cells against that of the training cells, summed over genes, within types."""
    real, new = model.adata, model.generate(4000, codes="posterior", seed=0)
    sides = []
    for cells in (real, new):
        x = np.log1p(cells.X.toarray() / cells.X.sum(1) * 1e4)
        types = cells.obs["cell_type"].to_numpy()
        sides.append(np.mean([np.cov(x[types == t].T) for t in "01"], axis=0))
    leading = np.linalg.eigh(sides[0])[1][:, -6:]
    return np.trace(leading.T @ sides[1] @ leading) / np.trace(leading.T @ sides[0] @ leading)


def test_cells_that_vary_too_little_are_moved_apart(model, learned, caplog):
    posterior = model.posterior_
    assert posterior.center is None
    for label in (0, 1):
        center = posterior.mean[posterior.labels == label].mean(0)
        posterior.mean[posterior.labels == label] += 0.3 * (center - posterior.mean[posterior.labels == label])
    model.margins_ = None
    before = variance_ratio(model)
    with caplog.at_level(logging.INFO, logger="scmimic"):
        model._calibrate(dispersion=False, spread=True, margins=False)
    posterior = model.posterior_
    learned("factor of the codes", posterior.spread, above=1.1, off=1)
    assert posterior.spread <= MAX_SPREAD
    assert "less than the training cells" in caplog.text
    assert posterior.center.shape == posterior.mean.shape
    learned("variance of generated cells over that of real ones before", before, below=0.97, off=1)
    error = abs(variance_ratio(model) - 1) / abs(before - 1)
    learned("error of that ratio after over the error before", error, below=1, off=1)


def test_spread_is_saved(model, tmp_path):
    model.posterior_.spread, model.posterior_.center = (
        1.3,
        local_centers(model.posterior_.mean, model.posterior_.labels),
    )
    model.save(tmp_path / "m")
    again = sm.ACTIVA.load(tmp_path / "m", adata=model.adata)
    a, b = (x.generate(50, codes="posterior", seed=3) for x in (model, again))
    assert (a.X != b.X).nnz == 0
    again.posterior_.spread = 1.0
    assert (again.generate(50, codes="posterior", seed=3).X != b.X).nnz > 0


def test_cells_that_vary_enough_are_left_as_they_are(model, monkeypatch):
    monkeypatch.setattr(WithinLabelVariance, "ratio", lambda self, x: 1.0)
    model.posterior_.center = None
    model._calibrate(dispersion=False, spread=True, margins=False)
    assert model.posterior_.center is None
    assert model.margins_ is None


def test_spread_that_does_not_help_is_undone(model, monkeypatch):
    ratios = iter([0.5, 0.4])
    monkeypatch.setattr(WithinLabelVariance, "ratio", lambda self, x: next(ratios))
    model.posterior_.spread, model.posterior_.center = 1.0, None
    model._calibrate(dispersion=False, spread=True, margins=True)
    assert (model.posterior_.spread, model.posterior_.center) == (1.0, None)
    assert model.margins_ is not None


def test_few_cells_and_other_likelihoods_are_left_alone(model):
    small = sm.datasets.synthetic_counts(n_obs=49, n_vars=10, seed=0)
    sm.ACTIVA.setup_anndata(small, labels_key="cell_type")
    few = sm.ACTIVA(small, n_latent=2, n_hidden=(8,))
    few.train(max_epochs=1, enable_progress_bar=False)
    assert few.posterior_.center is None
    assert few.margins_ is not None
    small.X = np.log1p(small.X.toarray())
    sm.ACTIVA.setup_anndata(small, labels_key="cell_type")
    normal = sm.ACTIVA(small, n_latent=2, n_hidden=(8,), gene_likelihood="normal")
    normal.train(max_epochs=1, warmup_epochs=1, enable_progress_bar=False)
    assert normal.posterior_.center is None
    assert normal.margins_ is None
