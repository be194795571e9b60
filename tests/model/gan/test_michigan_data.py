"""MichiGANs, their representations and the cells that both are set up on."""

import numpy as np
import pytest
import scvi
import torch

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_hidden_generator": (16, 16), "n_hidden_critic": (16, 16), "n_noise": 4}


def fit_vae(adata, n_latent=3):
    sm.BetaTCVAE.setup_anndata(adata)
    vae = sm.BetaTCVAE(adata, n_latent=n_latent, n_hidden=(16,), gene_likelihood="nb")
    vae.train(1, **QUIET)
    return vae


def test_codes_of_two_models_stand_beside_each_other(adata, tmp_path):
    vaes = [fit_vae(adata, n_latent=3), fit_vae(adata, n_latent=4)]
    models = [sm.MichiGAN.from_representation(vae, **SMALL) for vae in vaes]
    keys = [model.registry_["setup_args"]["code_key"] for model in models]
    assert keys == ["X_betatcvae_code", "X_betatcvae_code_1"]
    for model, vae in zip(models, vaes, strict=True):
        model.train(1, **QUIET)
        np.testing.assert_allclose(model.posterior_.mean, vae.get_latent_representation(), rtol=1e-4, atol=1e-5)
    # the same codes once more
    again = sm.MichiGAN.from_representation(vaes[0], "mean", **SMALL)
    assert again.registry_["setup_args"]["code_key"] == "X_betatcvae_code"
    assert again.registry_["setup_args"]["code_var_key"] is None

    models[1].save(tmp_path / "m")
    other = sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, n_batches=2, seed=0)
    other.obsm["X_betatcvae_code"] = taken = np.zeros((300, 3))
    loaded = sm.MichiGAN.load(tmp_path / "m", adata=other)
    np.testing.assert_array_equal(other.obsm["X_betatcvae_code"], taken)
    args = loaded.registry_["setup_args"]
    assert (args["code_key"], args["code_var_key"]) == ("X_betatcvae_code_1", "X_betatcvae_code_1_var")
    loaded.train(1, **QUIET)
    np.testing.assert_allclose(loaded.posterior_.mean, models[1].posterior_.mean, rtol=1e-3, atol=1e-4)
    loaded.save(tmp_path / "n")
    assert sm.MichiGAN.load(tmp_path / "n", adata=adata).registry_["setup_args"]["code_key"] == "X_betatcvae_code_1"


def test_loading_keeps_the_codes_of_a_live_model(adata, tmp_path):
    vae = fit_vae(adata)
    sm.MichiGAN.from_representation(vae, **SMALL).save(tmp_path / "m")
    vae.train(5, **QUIET)
    live = sm.MichiGAN.from_representation(vae, **SMALL)
    key = live.registry_["setup_args"]["code_key"]
    before = adata.obsm[key].copy()
    loaded = sm.MichiGAN.load(tmp_path / "m", adata=adata)
    np.testing.assert_array_equal(adata.obsm[key], before)
    assert loaded.registry_["setup_args"]["code_key"] != key


def test_covariates_and_batches_of_the_representation(adata):
    """Generated cells have none; the history can still say how well they show their codes."""
    rng = np.random.default_rng(0)
    adata.obs["donor"] = rng.choice(["d0", "d1"], adata.n_obs)
    adata.obs["age"] = rng.normal(50, 5, adata.n_obs)
    scvi.model.SCVI.setup_anndata(adata, categorical_covariate_keys=["donor"], continuous_covariate_keys=["age"])
    vae = scvi.model.SCVI(adata, n_latent=2, n_hidden=8, encode_covariates=True)
    vae.train(1, **QUIET)
    model = sm.MichiGAN.from_representation(vae, **SMALL)
    model.train(1, n_faithfulness_cells=30, **QUIET)
    assert "code_faithfulness" in model.history
    cells = model.generate(20, seed=0)
    shown = model.get_latent_representation(cells)
    told = cells.copy()
    told.obs["donor"], told.obs["age"] = "d0", adata.obs["age"].mean()
    np.testing.assert_allclose(shown, vae.get_latent_representation(told), rtol=1e-4, atol=1e-5)


def test_history_does_without_faithfulness_that_fails(adata, monkeypatch, caplog):
    model = sm.MichiGAN.from_representation(fit_vae(adata), **SMALL)

    def fails(*args, **kwargs):
        raise KeyError("no such column")

    monkeypatch.setattr(model, "get_latent_representation", fails)
    model.train(1, **QUIET)
    assert "code_faithfulness" not in model.history
    assert "no such column" in caplog.text


def test_recording_faithfulness_leaves_the_random_numbers(adata):
    vae = fit_vae(adata)
    states = []
    for n_cells in (0, 50):
        scvi.settings.seed = 0
        model = sm.MichiGAN.from_representation(vae, **SMALL)
        model.train(1, n_faithfulness_cells=n_cells, **QUIET)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_unlabelled_cells_are_no_type(adata):
    adata.obs["type"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[adata.obs_names[:40], "type"] = "Unknown"
    sm.ACTIVA.setup_anndata(adata, labels_key="type")
    vae = sm.ACTIVA(adata, n_latent=3, n_hidden=(16,))
    vae.train(1, calibrate_margins=False, calibrate_spread=False, calibrate_dispersion=False, **QUIET)
    model = sm.MichiGAN.from_representation(vae, **SMALL)
    model.train(1, **QUIET)
    assert set(model.label_categories_) == {"type_0", "type_1", "type_2"}
    assert set(model.generate(200, seed=0).obs["type"]) == set(model.label_categories_)
    assert set(model.decode(vae.get_latent_representation(), seed=0).obs["type"]) <= set(model.label_categories_)
    # the representation goes on with its own order of the categories
    vae.train(1, calibrate_margins=False, calibrate_spread=False, calibrate_dispersion=False, **QUIET)
    names = np.array([*vae.label_categories_, "Unknown"])[vae.posterior_.labels]
    np.testing.assert_array_equal(names, adata.obs["type"])

    adata.obs["type"] = "Unknown"
    sm.MichiGAN.setup_anndata(adata, code_key="X_activa_code", labels_key="type", unlabeled_category="Unknown")
    model = sm.MichiGAN(adata, **SMALL)
    model.train(1, **QUIET)
    assert model.generate(5, seed=0).n_obs == 5


def test_registered_codes_of_another_size_are_refused(adata):
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    sm.MichiGAN.setup_anndata(adata, code_key="X_pca")
    model = sm.MichiGAN(adata, **SMALL)
    other = adata.copy()
    other.obsm["X_pca"] = other.obsm["X_pca"][:, :2]
    with pytest.raises(ValueError, match="codes of 2 dimensions, but the model was trained on 3"):
        model.get_latent_representation(other)


def test_loading_refuses_other_genes_before_it_writes(adata, tmp_path):
    sm.MichiGAN.from_representation(fit_vae(adata), **SMALL).save(tmp_path / "m")
    fresh = sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, n_batches=2, seed=0)
    for other, message in ((fresh[:, ::-1].copy(), "in another order"), (fresh[:, 1:].copy(), "lacks 1 of the 60")):
        with pytest.raises(ValueError, match=message):
            sm.MichiGAN.load(tmp_path / "m", adata=other)
        assert not list(other.obsm)


def test_cells_in_other_units_than_the_representation_reads_are_refused(adata, tmp_path):
    scvi.model.SCVI.setup_anndata(adata)
    vae = scvi.model.SCVI(adata, n_latent=2, n_hidden=8)
    vae.train(1, **QUIET)
    adata.layers["log"] = adata.X.log1p()
    model = sm.MichiGAN.from_representation(vae, layer="log", **SMALL)
    model.train(1, n_faithfulness_cells=0, **QUIET)
    logs = adata.copy()
    logs.X = logs.layers["log"].copy()
    with pytest.raises(ValueError, match="`adata.X` holds log1p values, but the model was trained on counts"):
        model.get_latent_representation(logs)
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match="`adata.X` holds log1p values, but the model was trained on counts"):
        sm.MichiGAN.load(tmp_path / "m", adata=logs)

    counts = model.generate(20, as_counts=True, seed=0)
    assert model.get_latent_representation(counts).shape == (20, 2)
    counts.X = counts.X.log1p()
    with pytest.raises(ValueError, match="holds log1p values, but these cells were generated as counts"):
        model.get_latent_representation(counts)
