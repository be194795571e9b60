import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import scmimic as sm
from scmimic import _keys


class LinearModel:
    """A decoder whose genes are known functions of the code: expm1(|z @ loadings|) for counts, else z @ loadings."""

    def __init__(self, loadings, codes, is_count=False):
        self.loadings, self.codes = np.asarray(loadings, dtype=float), codes
        self.module = type("Module", (), {"is_count": is_count})

    def get_latent_representation(self, adata):
        return self.codes

    def expected_expression(self, z):
        values = z @ self.loadings
        return np.expm1(np.abs(values)) if self.module.is_count else values


def genes(names):
    data = sm.datasets.synthetic_counts(n_obs=500, n_vars=4)
    data.var_names = names
    return data


def test_scores_of_a_linear_decoder():
    codes = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    model = LinearModel([[3, 0, -1, 0.1], [0, 2, 0, -5]], codes)
    data = genes(list("abcd"))
    sm.tl.rank_latent_genes(data, model, span=(0, 1))
    result = data.uns["rank_latent_genes"]
    assert result["names"]["Z1"].tolist() == ["a", "c", "d", "b"]
    assert result["names"]["Z2"].tolist() == ["d", "b", "a", "c"]
    # a latent goes through its range, about 2 wide
    np.testing.assert_allclose(result["scores"]["Z1"], [6, -2, 0.2, 0], atol=0.05)
    np.testing.assert_allclose(result["scores"]["Z2"], [-10, 4, 0, 0], atol=0.1)


def test_counts_are_scored_by_their_log():
    codes = np.random.default_rng(0).uniform(0, 1, (500, 1))
    model = LinearModel([[3, 0, -1, 0.1]], codes, is_count=True)
    data = genes(list("abcd"))
    sm.tl.rank_latent_genes(data, model, span=(0, 1))
    np.testing.assert_allclose(data.uns["rank_latent_genes"]["scores"]["Z1"], [3, 1, 0.1, 0], atol=0.03)


def test_effect_that_turns_back_counts_in_full():
    class Parabola(LinearModel):
        def expected_expression(self, z):
            return np.c_[z[:, 0] ** 2, 0.1 * z[:, 0], 0 * z[:, 0], 0 * z[:, 0]]

    codes = np.linspace(-1, 1, 500)[:, None]
    data = genes(list("abcd"))
    sm.tl.rank_latent_genes(data, Parabola([[0]], codes), span=(0, 1))
    assert data.uns["rank_latent_genes"]["names"]["Z1"][0] == "a"
    assert abs(data.uns["rank_latent_genes"]["scores"]["Z1"][0]) == pytest.approx(1, abs=0.02)
    # the ends alone do not see it
    sm.tl.rank_latent_genes(data, Parabola([[0]], codes), span=(0, 1), n_steps=2)
    assert data.uns["rank_latent_genes"]["names"]["Z1"][0] == "b"


def test_driven_genes_are_found(learned, tmp_path):
    rng = np.random.default_rng(0)
    factor = rng.uniform(-1, 1, 400)
    data = sm.datasets.synthetic_counts(n_obs=400, n_vars=30)
    x = rng.normal(1.5, 0.1, (400, 30))
    x[:, :5] += factor[:, None]
    data.X = np.maximum(x, 0).astype(np.float32)
    sm.BetaTCVAE.setup_anndata(data)
    model = sm.BetaTCVAE(data, n_latent=2, n_hidden=(32,), beta=1)
    model.train(25, batch_size=64, enable_progress_bar=False)
    result = sm.tl.rank_latent_genes(data, model, n_genes=30, key_added="mine", copy=True)
    assert "mine" not in data.uns
    z = np.abs(np.corrcoef(model.get_latent_representation().T, factor)[:-1, -1]).argmax()
    names, scores = (result.uns["mine"][key][f"Z{z + 1}"] for key in ("names", "scores"))
    driven = np.isin(names, data.var_names[:5])
    ratio = np.abs(scores[~driven]).max() / np.abs(scores[driven]).min()
    learned("largest score of another gene over the least of a driven one", ratio, below=0.5)
    result.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad").uns["mine"]
    assert again["names"].dtype.names == result.uns["mine"]["names"].dtype.names
    # scanpy draws what is written
    assert sc.pl.rank_genes_groups(result, key="mine", n_genes=3, show=False)


def test_vanished_latents_are_left_out(adata):
    sm.BetaTCVAE.setup_anndata(adata)
    model = sm.BetaTCVAE(adata, n_latent=3, n_hidden=(8,), gene_likelihood="nb")
    model.train(1, enable_progress_bar=False)
    model.posterior_.mean[:, 1] = 0
    model.posterior_.mean[:, 0] *= 100
    model.posterior_.mean[:, 2] *= 100
    sm.tl.rank_latent_genes(adata, model, n_genes=2)
    assert adata.uns[_keys.RANK_LATENT_GENES]["names"].dtype.names == ("Z1", "Z3")
    sm.tl.rank_latent_genes(adata, model, dims=[1], n_genes=2)
    assert adata.uns[_keys.RANK_LATENT_GENES]["names"].dtype.names == ("Z2",)


def test_a_model_without_expected_expression_is_refused():
    data, model = genes(list("abcd")), object()
    with pytest.raises(TypeError, match="`expected_expression`.*object does not"):
        sm.tl.rank_latent_genes(data, model)


def test_bad_arguments():
    data, model = genes(list("abcd")), LinearModel(np.ones((2, 4)), np.zeros((500, 2)))
    for wrong in ({"span": (0.9, 0.1)}, {"n_steps": 1}, {"n_cells": 0}, {"dims": [2]}, {"dims": []}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            sm.tl.rank_latent_genes(data, model, **wrong)
