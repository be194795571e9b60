"""The latent tools on MichiGANs over each kind of representation."""

import numpy as np
import pytest
import scanpy as sc
import scvi

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_hidden_generator": (16, 16), "n_hidden_critic": (16, 16), "n_noise": 4}
KEYS = {"group_key": "cell_type", "condition_key": "batch", "target": ("type_1", "batch_1")}


def over_pca(adata):
    adata.obsm["X_pca"] = sc.pp.pca(np.log1p(adata.X.toarray()), n_comps=3)
    sm.MichiGAN.setup_anndata(adata, code_key="X_pca")
    return sm.MichiGAN(adata, **SMALL)


def over_beta_tcvae(adata):
    adata.layers["log"] = adata.X.astype(np.float32).log1p()
    sm.BetaTCVAE.setup_anndata(adata, layer="log")
    vae = sm.BetaTCVAE(adata, n_latent=3, n_hidden=(16,))
    vae.train(2, **QUIET)
    return sm.MichiGAN.from_representation(vae, **SMALL)


def over_scvi(adata):
    scvi.model.SCVI.setup_anndata(adata)
    vae = scvi.model.SCVI(adata, n_latent=3, n_hidden=16)
    vae.train(2, **QUIET)
    return sm.MichiGAN.from_representation(vae, **SMALL)


@pytest.mark.parametrize("make", [over_pca, over_beta_tcvae, over_scvi])
def test_tools(adata, make):
    model = make(adata)
    model.train(2, **QUIET)
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, control="batch_0", seed=0)
    codes = model.get_latent_representation()
    of = {
        (group, batch): codes[((adata.obs["cell_type"] == group) & (adata.obs["batch"] == batch)).to_numpy()].mean(0)
        for group in ("type_0", "type_1", "type_2")
        for batch in ("batch_0", "batch_1")
    }
    shift = np.mean([of[group, "batch_1"] - of[group, "batch_0"] for group in ("type_0", "type_2")], axis=0)
    record = new.uns["latent_arithmetic"]
    np.testing.assert_allclose(record["shift"], shift, rtol=1e-3, atol=1e-4)
    has_posterior = make is not over_pca
    assert np.isfinite(record["delta_entropy"]) == has_posterior
    cells = sm.tl.latent_traversal(adata, model, start={"cell_type": "type_0"}, dims=[1], n_steps=4, seed=0)
    assert cells.n_obs == 4
    assert np.unique(cells.obsm["X_michigan"][:, 0]).size == 1
    if has_posterior:
        assert np.isfinite(sm.tl.latent_entropy(adata, model, **KEYS, seed=0)["delta_entropy"]).all()
    else:
        with pytest.raises(ValueError, match="gives no variances"):
            sm.tl.latent_entropy(adata, model, **KEYS)
