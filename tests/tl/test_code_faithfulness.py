from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy.stats import pearsonr, spearmanr

import scmimic as sm


class Encoder:
    """Reads two codes off the first two genes; the third dimension is all posterior."""

    def __init__(self, n=2000, seed=0):
        z = np.random.default_rng(seed).normal(size=(n, 3))
        mean = z * [1.0, 1.0, 0.1]
        self.posterior_ = SimpleNamespace(mean=mean, std=np.sqrt(np.tile([0.05, 0.2, 0.99], (n, 1))))

    def get_latent_representation(self, adata, return_dist):
        x = np.concatenate([adata.X[:, :2], adata.X[:, 2:3] * 0.1], axis=1)
        return x, np.ones_like(x)


@pytest.fixture
def cells():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(500, 3))
    x = np.concatenate([z[:, :1], z[:, 1:2] ** 3 + rng.normal(size=(500, 1)), rng.normal(size=(500, 1))], axis=1)
    return AnnData(x, obsm={"X_encoder": z})


def test_table(cells):
    table = sm.tl.code_faithfulness(cells, Encoder())
    z, x = cells.obsm["X_encoder"], cells.X
    for j in range(3):
        assert table["pearson"].iloc[j] == pytest.approx(pearsonr(z[:, j], x[:, j])[0])
        assert table["spearman"].iloc[j] == pytest.approx(spearmanr(z[:, j], x[:, j])[0])
    np.testing.assert_allclose(table["ceiling"], np.sqrt([1 / 1.05, 1 / 1.2, 0.01 / 1.0]), rtol=0.02)
    assert table["informative"].tolist() == [True, True, False]
    record = cells.uns["code_faithfulness"]
    assert record["params"] == {"use_rep": "X_encoder", "model": "Encoder"}
    assert record["median"] == pytest.approx(table["pearson"].iloc[:2].median())
    pd.testing.assert_frame_equal(record["table"], table)


def test_ceiling_is_what_the_posteriors_allow():
    """Codes drawn from each cell's posterior correlate with its mean by the ceiling."""
    encoder = Encoder()
    posterior = encoder.posterior_
    z = posterior.mean + posterior.std * np.random.default_rng(2).normal(size=posterior.mean.shape)
    x = posterior.mean * [1, 1, 10]
    table = sm.tl.code_faithfulness(AnnData(x, obsm={"X_encoder": z}), encoder)
    np.testing.assert_allclose(table["pearson"], table["ceiling"], atol=0.05)


def test_mean_codes_have_the_widths_of_the_representation(adata):
    sm.ACTIVA.setup_anndata(adata)
    vae = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    vae.train(5, warmup_epochs=5, enable_progress_bar=False)
    sizes = {"n_hidden_generator": (16,), "n_hidden_critic": (16,), "n_noise": 4}
    tables = []
    for code in ("sample", "mean"):
        model = sm.MichiGAN.from_representation(vae, code, **sizes)
        model.train(1, enable_progress_bar=False)
        tables.append(sm.tl.code_faithfulness(model.generate(50, seed=0), model))
    mean, var = vae.get_latent_representation(return_dist=True)
    share = mean.var(0) / (mean.var(0) + var.mean(0))
    for table in tables:
        np.testing.assert_allclose(table["ceiling"], np.sqrt(share), rtol=1e-4)
        assert table["informative"].tolist() == (share > 0.5).tolist()


def test_cells_in_a_file_are_read(adata, tmp_path):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    vae = sm.ACTIVA(adata, n_latent=3, n_hidden=(16,))
    vae.train(2, warmup_epochs=2, enable_progress_bar=False)
    expected = sm.tl.code_faithfulness(vae.generate(50, seed=0), vae)
    for name in ("x.h5ad", "x.zarr"):
        stored = vae.generate(50, seed=0, path=tmp_path / name)
        pd.testing.assert_frame_equal(sm.tl.code_faithfulness(stored, vae), expected)
        assert "code_faithfulness" in stored.uns


def test_models_that_cannot_read_codes(cells):
    with pytest.raises(TypeError, match="has no encoder"):
        sm.tl.code_faithfulness(cells, SimpleNamespace())
    encoder = Encoder()
    encoder.registry_ = {"setup_method_name": "setup_mudata"}
    with pytest.raises(TypeError, match="a model of a MuData"):
        sm.tl.code_faithfulness(cells, encoder)


def test_errors(cells):
    with pytest.raises(KeyError, match="not in `adata.obsm`"):
        sm.tl.code_faithfulness(cells, Encoder(), use_rep="X_other")
    cells.obsm["X_encoder"] = cells.obsm["X_encoder"][:, :2]
    with pytest.raises(ValueError, match="have shape"):
        sm.tl.code_faithfulness(cells, Encoder())


@pytest.fixture
def pair():
    """Expression that follows `u`; the first code of the synthetic cells is u, the second is noise."""
    rng = np.random.default_rng(0)
    u = rng.uniform(1, 5, size=(2, 400))
    parts = []
    for values in u:
        x = values[:, None] * np.linspace(0.5, 2, 8) + 0.05 * rng.normal(size=(400, 8))
        obs = pd.DataFrame({"u": values, "group": np.where(values > 3, "high", "low")})
        parts.append(AnnData(x, obs=obs.set_index(pd.Index([f"c{i}" for i in range(400)]))))
    parts[1].obsm["X_michigan"] = np.stack([np.log(u[1]), rng.normal(size=400), np.ones(400)], axis=1)
    return parts


def test_factors_are_inferred_from_expression(pair):
    real, synthetic = pair
    del synthetic.obs["u"]
    table = sm.tl.code_factor_correlation(real, synthetic, factors=["u", "group"], log1p=False)
    assert table.shape == (3, 2)
    assert table.loc["Z1", "u"] > 0.99
    # high comes before low
    assert table.loc["Z1", "group"] < -0.8
    assert table.loc["Z2"].abs().max() < 0.15
    assert (table.loc["Z3"] == 0).all()
    pd.testing.assert_frame_equal(synthetic.uns["code_factor_correlation"]["table"], table)


def test_levels_without_an_order_are_read_one_by_one(pair):
    real, synthetic = pair
    u = real.obs["u"]
    # the middle of three levels by name is the highest by expression
    real.obs["type"] = pd.Categorical(np.select([u > 4, u > 2], ["b", "c"], "a"))
    real.obs["step"] = pd.Categorical(np.ceil(u).astype(int))
    synthetic.obsm["X_michigan"][:, 1] = -(synthetic.obs["u"] > 4)
    table = sm.tl.code_factor_correlation(real, synthetic, factors=["type", "u", "step"], log1p=False)
    truth = {"b": synthetic.obs["u"] > 4, "c": synthetic.obs["u"].between(2, 4), "a": synthetic.obs["u"] < 2}
    by_level = [spearmanr(synthetic.obsm["X_michigan"][:, 0], level).statistic for level in truth.values()]
    # the lowest and the highest level say nearly as much, with opposite signs
    assert abs(table.loc["Z1", "type"]) == pytest.approx(max(map(abs, by_level)), abs=0.05)
    assert table.loc["Z2", "type"] < -0.95
    # numbers keep their order, also as categories
    assert table.loc["Z1", "step"] > 0.95 and table.loc["Z1", "u"] > 0.99


def test_factor_errors(pair):
    real, synthetic = pair
    with pytest.raises(KeyError, match="`factors`"):
        sm.tl.code_factor_correlation(real, synthetic, factors=["v"], log1p=False)
    real.obs.loc[real.obs_names[0], "u"] = np.nan
    with pytest.raises(ValueError, match="missing for 1"):
        sm.tl.code_factor_correlation(real, synthetic, factors=["u"], log1p=False)
    with pytest.raises(KeyError, match="`use_rep"):
        sm.tl.code_factor_correlation(real, real, factors=["group"], log1p=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factors": []}, "`factors` is empty"),
        ({"factors": "group"}, r"list of columns: `factors=\['group'\]`"),
        ({"n_neighbors": 0}, "`n_neighbors` must be a whole number at least 1"),
        ({"n_neighbors": 401}, "400 real cells"),
        ({"n_comps": 0}, "`n_comps` must be"),
        ({"log1p": True, "target_sum": 0}, "`target_sum` must be a number above 0"),
    ],
)
def test_bad_arguments(pair, change, message):
    with pytest.raises(ValueError, match=message):
        sm.tl.code_factor_correlation(*pair, **{"factors": ["group"], "log1p": False} | change)


def test_too_few_cells(pair, cells):
    real, synthetic = pair
    with pytest.raises(ValueError, match="`synthetic` has 2 cells"):
        sm.tl.code_factor_correlation(real, synthetic[:2].copy(), factors=["group"], log1p=False)
    with pytest.raises(ValueError, match="`adata` has 2 cells"):
        sm.tl.code_faithfulness(cells[:2].copy(), Encoder())


def test_parameters_are_kept(pair, tmp_path):
    real, synthetic = pair
    for cells in pair:
        cells.layers["raw"] = np.abs(cells.X)
    sm.tl.code_factor_correlation(real, synthetic, factors=["u", "group"], layer="raw", target_sum=50, n_comps=4)
    synthetic.write_h5ad(tmp_path / "x.h5ad")
    params = read_h5ad(tmp_path / "x.h5ad").uns["code_factor_correlation"]["params"]
    assert list(params.pop("factors")) == ["u", "group"]
    expected = {"n_neighbors": 3, "n_comps": 4, "layer": "raw", "log1p": True, "target_sum": 50}
    assert params == {"use_rep": "X_michigan", **expected}


def test_logs_are_not_logged_again(pair):
    real, synthetic = pair
    synthetic.uns["scmimic"] = {"parameters": {"units": "log1p", "layer": "None"}}
    with pytest.raises(ValueError, match="`log1p=False`"):
        sm.tl.code_factor_correlation(real, synthetic, factors=["u"])
    sm.tl.code_factor_correlation(real, synthetic, factors=["u"], log1p=False)
