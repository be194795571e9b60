import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
import torch
from anndata import AnnData
from learning import SEED

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_hidden_generator": (32, 32), "n_hidden_critic": (64, 32), "n_noise": 4}


@pytest.fixture(scope="module")
def vae():
    """An SCVI on counts; tests must not change it."""
    scvi.settings.seed = SEED
    data = sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, n_batches=2, seed=0)
    scvi.model.SCVI.setup_anndata(data, labels_key="cell_type", batch_key="batch")
    model = scvi.model.SCVI(data, n_latent=3, n_hidden=16)
    model.train(40, **QUIET)
    return model


@pytest.fixture(scope="module")
def michigan(vae):
    scvi.settings.seed = SEED
    model = sm.MichiGAN.from_representation(vae, **SMALL)
    model.train(3, **QUIET)
    return model


@pytest.fixture(scope="module")
def plane():
    """Cells whose two codes are u and v: six genes follow u, six follow v, with noise of 0.3."""
    rng = np.random.default_rng(0)
    code = rng.normal(size=(600, 2)).astype(np.float32)
    x = 5 + np.repeat(code, 6, axis=1) + 0.3 * rng.normal(size=(600, 12))
    adata = AnnData(np.clip(x, 0, None).astype(np.float32), obs=pd.DataFrame(index=[f"c{i}" for i in range(600)]))
    adata.obsm["X_code"] = 10 * code
    adata.obsm["X_code_var"] = np.full_like(code, 100 * 0.2**2)
    adata.obs["half"] = np.where(code[:, 0] > 0, "up", "down")
    return adata


def fit(plane, epochs=60, var=None, **kwargs):
    scvi.settings.seed = SEED
    sm.MichiGAN.setup_anndata(plane, code_key="X_code", code_var_key=var, labels_key="half")
    model = sm.MichiGAN(plane, **{**SMALL, **kwargs})
    plan = {"lr": 2e-3, "n_critic": 4, "average_decay": 0.99}
    model.train(epochs, batch_size=64, plan_kwargs=plan, **QUIET)
    return model


def read_code(cells):
    """What a perfect encoder of :func:`plane` would give, in units of its codes."""
    x = cells.X.toarray()
    return 10 * np.stack([x[:, :6].mean(1) - 5, x[:, 6:].mean(1) - 5], axis=1)


@pytest.mark.parametrize("conditioning", ["projection", "concat"])
def test_cells_show_the_codes_that_were_asked_for(plane, learned, conditioning):
    model = fit(plane, epochs={"projection": 60, "concat": 200}[conditioning], conditioning=conditioning)
    new = model.generate(1000, seed=0)
    asked, shown = new.obsm["X_michigan"], read_code(new)
    for j in range(2):
        learned(f"correlation of code {j} with what is shown", np.corrcoef(asked[:, j], shown[:, j])[0, 1], above=0.8)
    # one code moves its own genes, and leaves the others
    grid = np.zeros((200, 2))
    grid[:, 0] = np.linspace(-15, 15, 200)
    shown = read_code(model.decode(grid, seed=0))
    learned("slope of its own genes", np.polyfit(grid[:, 0], shown[:, 0], 1)[0], above=0.6)
    learned("slope of the other genes", abs(np.polyfit(grid[:, 0], shown[:, 1], 1)[0]), below=0.3)


def test_codes_follow_the_data_and_the_label(plane):
    model = fit(plane, epochs=2)
    code = plane.obsm["X_code"]
    new = model.generate(600, seed=0).obsm["X_michigan"]
    assert set(map(tuple, new)) == set(map(tuple, code))
    up = model.generate(50, "up", seed=0)
    assert (up.obsm["X_michigan"][:, 0] > 0).all()
    assert (up.obs["half"] == "up").all()
    # without a label, that of the nearest code
    decoded = model.decode(np.array([[12.0, 0.0], [-12.0, 0.0]]), seed=0)
    assert list(decoded.obs["half"]) == ["up", "down"]


def test_posterior_samples_are_fresh(plane):
    model = fit(plane, epochs=2, var="X_code_var")
    new = model.generate(6000, ["up", "down"], seed=0).obsm["X_michigan"]
    nearest = np.abs(new[:, None, :] - plane.obsm["X_code"][None]).sum(-1).argmin(1)
    assert (new[0] != plane.obsm["X_code"][nearest[0]]).any()
    # var(code) + var of the posterior, 10 cells drawn from each posterior
    expected = plane.obsm["X_code"].var(0) + 100 * 0.2**2
    np.testing.assert_allclose(new.var(0), expected, rtol=0.1)
    tensors = {
        "X": torch.zeros(5, 12),
        "code": torch.zeros(5, 2),
        "code_var": torch.ones(5, 2),
    }
    first, second = model.module.draw(tensors).z, model.module.draw(tensors).z
    assert (first != second).all()
    assert (model.module.draw({k: v for k, v in tensors.items() if k != "code_var"}).z == 0).all()


def test_codes_are_standardised_by_all_that_makes_them_vary(plane):
    """Training codes are samples: their variance is that of the means and, of each posterior, its own."""
    code = plane.obsm["X_code"]
    plane.obsm["X_wide"] = np.random.default_rng(1).uniform(0, 2 * code.var(0), code.shape).astype(np.float32)
    sm.MichiGAN.setup_anndata(plane, code_key="X_code", code_var_key="X_wide")
    module = sm.MichiGAN(plane, **SMALL).module
    torch.manual_seed(0)
    # 100 samples of every cell's code
    tensors = {
        name: torch.as_tensor(values).repeat(100, 1)
        for name, values in (("X", plane.X), ("code", code), ("code_var", plane.obsm["X_wide"]))
    }
    told = module.condition(module.draw(tensors))
    torch.testing.assert_close(told.mean(0), torch.zeros(2), rtol=0, atol=0.02)
    torch.testing.assert_close(told.var(0), torch.ones(2), rtol=0.02, atol=0)
    sm.MichiGAN.setup_anndata(plane, code_key="X_code")
    np.testing.assert_allclose(sm.MichiGAN(plane, **SMALL).module.code_std, code.std(0), rtol=1e-4)


def test_from_representation(michigan, vae):
    assert michigan.representation is vae
    assert michigan.module.n_latent == 3
    assert michigan.labels_key_ == "cell_type"
    mean, var = vae.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(vae.adata.obsm["X_scvi_code"], mean, rtol=1e-5)
    np.testing.assert_allclose(vae.adata.obsm["X_scvi_code_var"], var, rtol=1e-5)
    new = michigan.generate(60, "type_1", seed=0)
    assert (new.X.data == np.rint(new.X.data)).all()
    assert (new.obs["cell_type"] == "type_1").all()
    # the cells are of no batch, which the SCVI was set up with
    assert michigan.get_latent_representation(new).shape == (60, 3)
    again, spread = michigan.get_latent_representation(return_dist=True)
    np.testing.assert_allclose(again, mean, rtol=1e-5)
    np.testing.assert_allclose(spread, var, rtol=1e-5)
    sample = michigan.get_latent_representation(give_mean=False)
    z = (sample - mean) / np.sqrt(var)
    assert abs(z.mean()) < 0.1
    assert z.std() == pytest.approx(1, abs=0.1)


def test_mean_codes_and_another_layer(vae):
    vae.adata.layers["log"] = np.log1p(sc.pp.normalize_total(vae.adata, inplace=False)["X"])
    model = sm.MichiGAN.from_representation(vae, "mean", layer="log", **SMALL)
    model.train(1, **QUIET)
    assert model.registry_["setup_args"]["code_var_key"] is None
    new = model.generate(300, seed=0)
    assert (new.X.data != np.rint(new.X.data)).any()
    rows = {tuple(row) for row in vae.get_latent_representation().round(4)}
    assert {tuple(row) for row in new.obsm["X_michigan"].round(4)} == rows


def encoder_of_counts(vae, cells):
    counts = AnnData(cells.X, obs=pd.DataFrame({"batch": ["batch_0"] * cells.n_obs}, index=cells.obs_names))
    counts.var_names, counts.obs["cell_type"] = cells.var_names, "type_0"
    return vae.get_latent_representation(counts)


def test_cells_are_encoded_in_the_units_of_the_representation(vae, adata):
    # counts by a model of logarithms for an encoder of counts
    vae.adata.layers["log"] = np.log1p(sc.pp.normalize_total(vae.adata, inplace=False)["X"])
    model = sm.MichiGAN.from_representation(vae, layer="log", **SMALL)
    model.train(1, **QUIET)
    cells = model.generate(40, seed=0, as_counts=True)
    np.testing.assert_allclose(model.get_latent_representation(cells), encoder_of_counts(vae, cells), rtol=1e-4)
    logs = model.generate(40, seed=0)
    for call in (model.get_latent_representation, lambda x: sm.tl.code_faithfulness(x, model)):
        with pytest.raises(ValueError, match="log1p values, but the encoder reads raw counts.*`as_counts=True`"):
            call(logs)

    # counts for an encoder of logarithms
    adata.layers["log"] = np.log1p(sc.pp.normalize_total(adata, target_sum=500, inplace=False)["X"])
    sm.BetaTCVAE.setup_anndata(adata, layer="log")
    encoder = sm.BetaTCVAE(adata, n_latent=3, n_hidden=(16,))
    encoder.train(2, **QUIET)
    model = sm.MichiGAN.from_representation(encoder, **SMALL)
    model.train(1, **QUIET)
    cells = model.generate(40, seed=0, as_counts=True)
    expected = AnnData(cells.X.copy())
    expected.var_names = cells.var_names
    expected.layers["log"] = np.log1p(sc.pp.normalize_total(expected, target_sum=500, inplace=False)["X"])
    expected = encoder.get_latent_representation(expected)
    np.testing.assert_allclose(model.get_latent_representation(cells), expected, rtol=1e-3, atol=1e-4)
    # the encoder itself as the model, and cells in its layer's own units
    table = sm.tl.code_faithfulness(cells, encoder, use_rep="X_michigan")
    pd.testing.assert_frame_equal(table, sm.tl.code_faithfulness(cells, model), check_exact=False, rtol=1e-3)
    logs = model.generate(40, seed=0)
    expected = AnnData(logs.X, var=logs.var, layers={"log": logs.X})
    expected = encoder.get_latent_representation(expected)
    np.testing.assert_allclose(model.get_latent_representation(logs), expected, rtol=1e-3, atol=1e-4)


def test_training_data_that_were_generated_and_logged(michigan):
    cells = michigan.generate(100, seed=0)
    sc.pp.log1p(cells)
    sm.BetaTCVAE.setup_anndata(cells)
    encoder = sm.BetaTCVAE(cells, n_latent=2, n_hidden=(8,))
    encoder.train(1, **QUIET)
    model = sm.MichiGAN.from_representation(encoder, **SMALL)
    expected = encoder.get_latent_representation()
    np.testing.assert_allclose(cells.obsm["X_betatcvae_code"], expected, rtol=1e-5)
    np.testing.assert_allclose(model.get_latent_representation(cells.copy()), expected, rtol=1e-4, atol=1e-5)


def test_history_holds_faithfulness(adata, tmp_path):
    sm.ACTIVA.setup_anndata(adata)
    vae = sm.ACTIVA(adata, n_latent=3, n_hidden=(16,))
    vae.train(10, warmup_epochs=10, **QUIET)
    model = sm.MichiGAN.from_representation(vae, **SMALL)
    model.train(2, n_faithfulness_cells=200, **QUIET)
    sm.tl.code_faithfulness(cells := model.generate(200, seed=0), model)
    assert model.history["code_faithfulness"].loc[1].item() == pytest.approx(cells.uns["code_faithfulness"]["median"])
    model.save(tmp_path / "m")
    loaded = sm.MichiGAN.load(tmp_path / "m", adata=adata)
    loaded.train(3, **QUIET)
    loaded.train(1, n_faithfulness_cells=0, **QUIET)
    record = loaded.history["code_faithfulness"]
    assert record.index.tolist() == [1, 4] and record.index.name == "epoch"
    assert record.loc[1].equals(model.history["code_faithfulness"].loc[1])
    assert np.isfinite(record.to_numpy()).all()
    assert len(loaded.history["critic_loss_train"]) == 6
    assert "code faithfulness" in [ax.get_title() for ax in sm.pl.training(loaded, show=False)]
    with pytest.raises(ValueError, match="`n_faithfulness_cells`"):
        loaded.train(1, n_faithfulness_cells=-1)


def test_history_without_faithfulness(plane, vae):
    """Codes that nothing can encode again, and cells in units that the encoder cannot read."""
    assert "code_faithfulness" not in fit(plane, epochs=1).history
    vae.adata.layers["odd"] = np.random.default_rng(0).uniform(0.1, 5, size=vae.adata.shape)
    model = sm.MichiGAN.from_representation(vae, layer="odd", **SMALL)
    model.train(1, **QUIET)
    assert "code_faithfulness" not in model.history


def test_activa_as_representation(adata):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    activa = sm.ACTIVA(adata, n_latent=5, n_hidden=(16,))
    activa.train(2, **QUIET)
    model = sm.MichiGAN.from_representation(activa, **SMALL)
    model.train(1, **QUIET)
    assert model.generate(10, seed=0).obsm["X_michigan"].shape == (10, 5)


def test_a_saved_model_is_whole(michigan, vae, tmp_path):
    michigan.save(tmp_path / "m")
    michigan.save(tmp_path / "m", overwrite=True)
    cells = michigan.generate(30, seed=1)
    fresh = sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, n_batches=2, seed=0)
    bare = sm.MichiGAN.load(tmp_path / "m")
    with_data = sm.MichiGAN.load(tmp_path / "m", adata=fresh)
    for model in (bare, with_data):
        assert (model.generate(30, seed=1).X != cells.X).nnz == 0
        assert isinstance(model.representation, scvi.model.SCVI)
    # data that the model has not seen
    other = sm.datasets.synthetic_counts(n_obs=50, n_vars=60, n_labels=3, n_batches=2, seed=3)
    expected = vae.get_latent_representation(other.copy())
    for model in (bare, with_data):
        np.testing.assert_allclose(model.get_latent_representation(other.copy()), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fresh.obsm["X_scvi_code"], vae.adata.obsm["X_scvi_code"], rtol=1e-3, atol=1e-4)
    for model in (michigan, with_data):
        scvi.settings.seed = 7
        model.train(1, **QUIET)
    np.testing.assert_allclose(
        michigan.generate(30, seed=1).X.toarray(), with_data.generate(30, seed=1).X.toarray(), atol=1.001
    )


def test_saved_on_registered_codes(plane, tmp_path):
    model = fit(plane, epochs=1)
    model.save(tmp_path / "m")
    loaded = sm.MichiGAN.load(tmp_path / "m")
    assert (loaded.generate(20, seed=0).X != model.generate(20, seed=0).X).nnz == 0
    np.testing.assert_array_equal(model.get_latent_representation(indices=[3, 5]), plane.obsm["X_code"][[3, 5]])
    with pytest.raises(ValueError, match="cannot encode"):
        loaded.get_latent_representation(AnnData(plane.X))


def test_errors(plane, vae, adata):
    with pytest.raises(KeyError, match="no such key in `adata.obsm`"):
        sm.MichiGAN.setup_anndata(plane, code_key="X_pca")
    plane.obsm["X_bad"] = np.full((600, 2), np.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        sm.MichiGAN.setup_anndata(plane, code_key="X_bad")
    with pytest.raises(ValueError, match="none negative"):
        sm.MichiGAN.setup_anndata(plane, code_key="X_code", code_var_key="X_code")
    with pytest.raises(ValueError, match="`code` must be"):
        sm.MichiGAN.from_representation(vae, "median")
    with pytest.raises(TypeError, match="must be a trained scvi-tools model"):
        sm.MichiGAN.from_representation(object())
    sm.ACTIVA.setup_anndata(adata)
    with pytest.raises(RuntimeError, match="not trained yet"):
        sm.MichiGAN.from_representation(sm.ACTIVA(adata, n_latent=2, n_hidden=(4,)))
    sm.MichiGAN.setup_anndata(plane, code_key="X_code")
    with pytest.raises(ValueError, match="`conditioning`"):
        sm.MichiGAN(plane, conditioning="batch_norm")
