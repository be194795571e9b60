from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from learning import SEED
from scvi import settings

from scmimic.baselines import SCVIReference

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def two_types() -> ad.AnnData:
    """Two types that differ in half of their genes, and in their total counts by a factor of four."""
    rng = np.random.default_rng(0)
    mean = np.ones((240, 12))
    mean[:120, :6], mean[120:, 6:] = 20.0, 90.0
    obs = pd.DataFrame({"k": ["low"] * 120 + ["high"] * 120}, index=[f"c{i}" for i in range(240)])
    return ad.AnnData(sp.csr_matrix(rng.poisson(mean).astype(np.float32)), obs=obs)


def fitted(adata, mode, epochs=30, **kwargs):
    return SCVIReference(adata, labels_key="k", mode=mode, max_epochs=epochs, **kwargs).fit(seed=SEED + 1)


@pytest.fixture(scope="module", params=["prior", "posterior_predictive"])
def generator(request, two_types):
    return fitted(two_types, request.param)


def test_labels_are_those_asked_for(generator, learned):
    synthetic = generator.generate(labels={"high": 500, "low": 300}, seed=0)
    x = synthetic.X.toarray()
    assert x.shape == (800, 12)
    np.testing.assert_array_equal(x, np.rint(x))
    assert synthetic.obs["k"].value_counts().to_dict() == {"high": 500, "low": 300}
    first_half = x[:, :6].sum(1) > x[:, 6:].sum(1)
    # far above the share that random labels reach (0.5); the prior also holds codes between the two types
    learned("accuracy", (first_half == (synthetic.obs["k"] == "low").to_numpy()).mean(), above=0.6, off=0.5)
    learned("ratio of the totals", x[:500].sum(1).mean() / x[500:].sum(1).mean(), above=2, below=8, off=1)


def test_same_seed_same_cells_and_global_state_is_left_alone(generator):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002
    before, scvi_seed = np.random.get_state()[1].copy(), settings.seed  # noqa: NPY002
    a, b, c = (generator.generate(20, seed=s).X.toarray() for s in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    torch.testing.assert_close(torch.rand(3), expected)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert settings.seed == scvi_seed


def test_fit_depends_on_its_seed_alone(two_types):
    draws = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        draws.append(fitted(two_types, "posterior_predictive", 2).generate(20, seed=0).X.toarray())
    np.testing.assert_array_equal(*draws)


def test_record(generator, two_types, tmp_path):
    synthetic = generator.generate(3, "low")
    assert synthetic.uns["scmimic"]["parameters"]["mode"] == generator.mode
    seed = synthetic.uns["scmimic"]["seed"]
    np.testing.assert_array_equal(generator.generate(3, "low", seed=seed).X.toarray(), synthetic.X.toarray())
    synthetic.write_h5ad(tmp_path / "x.h5ad")
    assert list(two_types.obs) == ["k"]
    assert not two_types.uns


def test_label_that_the_prior_does_not_reach(two_types, monkeypatch, caplog):
    generator = fitted(two_types, "prior", 2)
    monkeypatch.setattr("scmimic.baselines._scvi._PRIOR_BLOCKS", 1)
    monkeypatch.setattr("scmimic.baselines._scvi._PRIOR_BLOCK", 300)
    generator._classifier.intercept_ = generator._classifier.intercept_ - 1e4
    with caplog.at_level(logging.WARNING):
        synthetic = generator.generate(labels={"high": 40, "low": 40}, seed=0)
    assert synthetic.obs["k"].value_counts().to_dict() == {"high": 40, "low": 40}
    assert "gave 0 of 40" in caplog.text


def test_without_labels(two_types):
    for mode in ("prior", "posterior_predictive"):
        generator = SCVIReference(two_types, labels_key=None, mode=mode, max_epochs=1).fit()
        assert generator.generate(9, seed=0).shape == (9, 12)


def test_bad_input(two_types):
    with pytest.raises(ValueError, match="`mode` must be"):
        SCVIReference(two_types, labels_key="k", mode="posterior")
    empty = two_types.copy()
    empty.X = empty.X * 0
    with pytest.raises(ValueError, match="240 cells of `adata.X` have no counts"):
        SCVIReference(empty, labels_key="k")
