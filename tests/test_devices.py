"""What users do with each model, on a CUDA device: skipped where there is none.

``SCMIMIC_TEST_ACCELERATOR=cpu`` walks the same way on the processor.
"""

import os

import numpy as np
import pytest
import scvi
import torch

import scmimic as sm

ACCELERATOR = os.environ.get("SCMIMIC_TEST_ACCELERATOR", "gpu")
TRAIN = {"accelerator": ACCELERATOR, "devices": 1, "enable_progress_bar": False}
GAN = {"n_hidden_generator": (16, 32), "n_hidden_critic": (32, 16)}
COUNT_VAE = {"n_latent": 4, "n_hidden": (32, 16)}
KEYS = {"group_key": "cell_type", "condition_key": "batch", "target": ("type_1", "batch_1")}

pytestmark = pytest.mark.skipif(ACCELERATOR == "gpu" and not torch.cuda.is_available(), reason="needs a CUDA device")


def on_device(model) -> bool:
    kind = "cuda" if ACCELERATOR == "gpu" else ACCELERATOR
    tensors = [*model.module.parameters(), *model.module.buffers()]
    return all(tensor.device.type == kind for tensor in tensors)


def activa(adata, **kwargs):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", batch_key="batch")
    return sm.ACTIVA(adata, **COUNT_VAE, **kwargs)


def activa_normal(adata):
    adata.layers["log"] = adata.X.astype(np.float32).log1p()
    sm.ACTIVA.setup_anndata(adata, layer="log", labels_key="cell_type")
    return sm.ACTIVA(adata, gene_likelihood="normal", **COUNT_VAE)


def beta_tcvae(adata):
    sm.BetaTCVAE.setup_anndata(adata, batch_key="batch")
    return sm.BetaTCVAE(adata, gene_likelihood="nb", **COUNT_VAE)


def beta_tcvae_normal(adata):
    adata.layers["log"] = adata.X.astype(np.float32).log1p()
    sm.BetaTCVAE.setup_anndata(adata, layer="log")
    return sm.BetaTCVAE(adata, **COUNT_VAE)


def wgangp(adata):
    sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    return sm.WGANGP(adata, n_latent=8, **GAN)


def infowgangp(adata):
    sm.InfoWGANGP.setup_anndata(adata, labels_key="cell_type")
    return sm.InfoWGANGP(adata, n_latent=4, n_noise=6, **GAN)


def michigan(adata):
    representation = beta_tcvae(adata)
    representation.train(2, **TRAIN)
    return sm.MichiGAN.from_representation(representation, n_noise=4, **GAN)


def michigan_of_scvi(adata):
    scvi.model.SCVI.setup_anndata(adata)
    representation = scvi.model.SCVI(adata, n_latent=3, n_hidden=16)
    representation.train(2, **TRAIN)
    return sm.MichiGAN.from_representation(representation, n_noise=4, **GAN)


GENERATORS = [
    activa,
    activa_normal,
    beta_tcvae,
    beta_tcvae_normal,
    wgangp,
    infowgangp,
    michigan,
    michigan_of_scvi,
]


@pytest.mark.parametrize("make", GENERATORS)
def test_generators(adata, make, tmp_path):
    model = make(adata)
    model.train(3, **TRAIN)
    assert on_device(model)
    new = model.generate(90, seed=1)
    np.testing.assert_array_equal(model.generate(90, seed=1).X.toarray(), new.X.toarray())
    assert np.isfinite(new.X.data).all()
    assert model.generate(40, seed=1, path=tmp_path / "cells.h5ad").n_obs == 40
    codes = new.obsm[next(key for key in new.obsm if key.startswith("X_"))]
    assert model.decode(codes[:7], seed=0).n_obs == 7
    if not isinstance(model, sm.WGANGP):
        assert np.isfinite(model.get_latent_representation()).all()
    if isinstance(model, sm.ACTIVA | sm.BetaTCVAE):
        assert np.isfinite(model.get_normalized_expression(return_numpy=True)).all()
    if isinstance(model, sm.ACTIVA):
        assert len(model.classify(adata)) == adata.n_obs
    model.train(1, **TRAIN)
    model.save(tmp_path / "model")
    before = model.generate(30, seed=2).X.toarray()
    loaded = type(model).load(tmp_path / "model", adata=adata, accelerator=ACCELERATOR)
    assert on_device(loaded)
    np.testing.assert_array_equal(loaded.generate(30, seed=2).X.toarray(), before)
    loaded.train(1, **TRAIN)
    # the same model on the processor alone
    plain = type(model).load(tmp_path / "model", accelerator="cpu")
    assert np.isfinite(plain.generate(30, seed=2).X.data).all()


def test_classifier(adata, tmp_path):
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTINN(adata)
    model.train(40, **TRAIN)
    assert (model.predict() == adata.obs["cell_type"].astype(str)).mean() > 0.8
    model.save(tmp_path / "model")
    assert len(sm.ACTINN.load(tmp_path / "model", adata=adata, accelerator=ACCELERATOR).predict()) == adata.n_obs
    informed = activa(adata, classifier=model)
    informed.train(2, **TRAIN)
    assert informed.generate(n=12, labels=["type_1"], seed=0).n_obs == 12


def test_report_of_a_model(adata):
    model = activa(adata)
    model.train(2, train_size=0.7, **TRAIN)
    assert np.isfinite(model.realism_report(n_trees=10)["auc"]).all()


@pytest.mark.parametrize("make", [beta_tcvae, michigan])
def test_latent_tools(adata, make):
    model = make(adata)
    model.train(2, **TRAIN)
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, control="batch_0", seed=0)
    assert np.isfinite(new.uns["latent_arithmetic"]["shift"]).all()
    assert sm.tl.latent_traversal(adata, model, start={"cell_type": "type_0"}, dims=[1], n_steps=4, seed=0).n_obs == 4
    assert np.isfinite(sm.tl.latent_entropy(adata, model, **KEYS, seed=0)["delta_entropy"]).all()
