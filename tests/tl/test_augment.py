import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scmimic as sm
import scmimic.tl as tl


class Foreign:
    """Anything that generates: `n` cells of ones, recorded calls."""

    def __init__(self, var_names, **obs):
        self.var_names, self.obs, self.calls = var_names, obs, []

    def generate(self, n=None, labels=None, *, seed=None):
        self.calls.append((n, labels, seed))
        n = n or sum(labels.values())
        obs = pd.DataFrame(self.obs, index=[f"synthetic_{i}" for i in range(n)])
        return ad.AnnData(np.ones((n, len(self.var_names))), obs=obs, var=pd.DataFrame(index=self.var_names))


@pytest.fixture
def model(adata):
    return sm.baselines.IndependentNB(adata, labels_key="cell_type").fit()


def test_real_cells_first_then_those_of_the_model(adata, model):
    before = adata.copy()
    both = tl.augment(adata, model, n=40, labels="type_2", seed=3)
    assert both.shape == (340, 60)
    assert sp.issparse(both.X) and both.X.dtype == adata.X.dtype
    assert (both.X[:300] != adata.X).nnz == 0
    assert (both.X[300:] != model.generate(40, "type_2", seed=3).X).nnz == 0
    assert both.obs["source"].tolist() == ["real"] * 300 + ["synthetic"] * 40
    assert list(both.obs["source"].cat.categories) == ["real", "synthetic"]
    assert set(both.obs["cell_type"][300:]) == {"type_2"}
    assert both.obs_names.is_unique
    assert both.obs_names[:300].equals(adata.obs_names)
    pd.testing.assert_frame_equal(both.var, adata.var)
    assert both.uns["scmimic"]["model"] == "IndependentNB"
    # nothing is written to the real cells
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert not adata.uns and (adata.X != before.X).nnz == 0


def test_trained_model(trained):
    data = trained.adata.copy()
    both = tl.augment(data, trained, labels={"type_0": 5, "type_1": 7}, seed=0)
    new = both[both.obs["source"] == "synthetic"]
    assert new.obs["cell_type"].tolist() == ["type_0"] * 5 + ["type_1"] * 7
    assert (new.X != trained.generate(labels={"type_0": 5, "type_1": 7}, seed=0).X).nnz == 0
    assert both.obs["batch"].notna().all()
    assert not [key for key in both.obs if key.startswith("_scvi")]
    # the result is fit to train the next model on
    sm.ACTIVA.setup_anndata(both, labels_key="cell_type", batch_key="batch")


def test_cells_are_joined_in_the_space_of_the_training_layer(adata):
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.log1p()
    adata.uns["log1p"] = {"base": None}
    adata.uns["cell_type_colors"] = ["red", "green", "blue"]
    sm.ACTIVA.setup_anndata(adata, layer="counts", labels_key="cell_type")
    activa = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
    activa.train(max_epochs=1, enable_progress_bar=False)
    for model in (activa, sm.baselines.IndependentNB(adata, labels_key="cell_type", layer="counts").fit()):
        both = tl.augment(adata, model, n=10, seed=0)
        assert (both.X[:300] != adata.layers["counts"]).nnz == 0
        assert (both.X != both.layers["counts"]).nnz == 0
        assert "log1p" not in both.uns
        assert both.uns["cell_type_colors"] == ["red", "green", "blue"]
    del adata.layers["counts"]
    with pytest.raises(KeyError, match="counts"):
        tl.augment(adata, model, n=10)


def test_fields_that_both_sides_have(adata):
    class Rich(Foreign):
        def generate(self, *args, **kwargs):
            cells = super().generate(*args, **kwargs)
            cells.obsm["X_pca"] = np.full((cells.n_obs, 2), 7.0)
            cells.obsm["X_other"] = np.zeros((cells.n_obs, 3))
            cells.layers["twice"] = 2 * cells.X
            return cells

    adata.obsm["X_pca"], adata.obsm["X_other"] = np.zeros((300, 2)), np.zeros((300, 2))
    adata.layers["twice"], adata.layers["real_only"] = 2 * adata.X, adata.X
    adata.varm["PCs"] = np.ones((60, 2))
    both = tl.augment(adata, Rich(adata.var_names), n=5)
    assert set(both.obsm) == {"X_pca"} and set(both.layers) - {None} == {"twice"} and set(both.varm) == {"PCs"}
    assert both.obsm["X_pca"][298:302].tolist() == [[0, 0], [0, 0], [7, 7], [7, 7]]
    assert both.layers["twice"].toarray()[300:].tolist() == (2 * both.X).toarray()[300:].tolist()


def test_columns_of_one_side_survive_a_file(adata, tmp_path):
    adata.obs["stage"] = pd.Categorical(["a", "b", "c"] * 100, categories=["b", "a", "c"], ordered=True)
    adata.obs["passed"], adata.obs["size"] = np.arange(300) % 2 == 0, np.arange(300)
    adata.obs["donor"] = ["d1", "d2"] * 150
    adata.obs["kind"] = pd.Categorical(["x"] * 300)
    adata.obs["flag"] = True
    model = Foreign(adata.var_names, made_by="me", kind=pd.Categorical(["y"] * 4), score=0.5, flag=False)
    tl.augment(adata, model, n=4).write_h5ad(tmp_path / "both.h5ad")
    obs = ad.read_h5ad(tmp_path / "both.h5ad").obs
    assert obs["stage"].cat.ordered and list(obs["stage"].cat.categories) == ["b", "a", "c"]
    assert obs["stage"][:3].tolist() == ["a", "b", "c"] and obs["stage"][300:].isna().all()
    assert obs["passed"][:3].tolist() == [True, False, True] and obs["passed"][300:].isna().all()
    assert obs["size"][:3].tolist() == [0, 1, 2] and obs["size"][300:].isna().all()
    assert obs["donor"][:2].tolist() == ["d1", "d2"] and obs["donor"][300:].isna().all()
    assert obs["kind"].tolist() == ["x"] * 300 + ["y"] * 4
    assert obs["flag"].dtype == bool and obs["flag"].sum() == 300
    assert obs["made_by"][:300].isna().all() and obs["made_by"][300:].tolist() == ["me"] * 4
    assert obs["score"][:300].isna().all() and obs["score"][300:].tolist() == [0.5] * 4


def controlled(adata):
    """The cells after scanpy's quality control."""
    adata = adata.copy()
    adata.var["mt"], adata.var["length"] = np.arange(60) < 5, 900.0
    sc.pp.filter_cells(adata, min_genes=1)
    sc.pp.filter_cells(adata, min_counts=1)
    sc.pp.filter_genes(adata, min_cells=1)
    sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=[10, 50], inplace=True)
    return adata


def test_quality_control_goes_on(adata, model, caplog):
    real = controlled(adata)
    real.obs["pct_counts_of_my_own"] = 1.0
    real.obs["total_counts_said"] = "many"
    real.obs["n_counts"] = real.obs["n_counts"].astype("Int64")
    both = tl.augment(real, model, n=30, seed=0)
    x = both.X.toarray()
    total, mt = x.sum(axis=1), x[:, :5].sum(axis=1)
    ordered = -np.sort(-x, axis=1)
    expected = {
        "n_genes": (x > 0).sum(axis=1),
        "n_genes_by_counts": (x > 0).sum(axis=1),
        "log1p_n_genes_by_counts": np.log1p((x > 0).sum(axis=1)),
        "n_counts": total,
        "total_counts": total,
        "log1p_total_counts": np.log1p(total),
        "total_counts_mt": mt,
        "log1p_total_counts_mt": np.log1p(mt),
        "pct_counts_mt": 100 * mt / total,
        "pct_counts_in_top_10_genes": 100 * ordered[:, :10].sum(axis=1) / total,
        "pct_counts_in_top_50_genes": 100 * ordered[:, :50].sum(axis=1) / total,
    }
    for key, values in expected.items():
        np.testing.assert_allclose(both.obs[key], values, rtol=1e-5, err_msg=key)
        assert both.obs[key].dtype == real.obs[key].dtype
    assert both.obs[["pct_counts_of_my_own", "total_counts_said"]][300:].isna().all(axis=None)
    (said,) = caplog.messages
    assert said.startswith("Synthetic cells have no pct_counts_of_my_own: ")
    # what is a gene's own stays, and what the real cells said of it does not
    assert list(both.var) == ["mt", "length"]


def test_quality_control_of_genes_that_are_gone_is_not_made_up(adata, caplog):
    real = controlled(adata)[:, :40].copy()
    model = sm.baselines.IndependentNB(real, labels_key="cell_type").fit()
    both = tl.augment(real, model, n=30, seed=0)
    assert both.obs["total_counts"][:300].tolist() == real.obs["total_counts"].tolist()
    gone = ["n_genes", "total_counts", "pct_counts_mt", "pct_counts_in_top_50_genes"]
    assert both.obs[gone][300:].isna().all(axis=None)
    # all its genes are there
    assert both.obs["total_counts_mt"].notna().all()
    assert all(key in caplog.text for key in gone) and "total_counts_mt" not in caplog.text


def test_twice(adata, model):
    once = tl.augment(adata, model, n=10, seed=0)
    twice = tl.augment(once, model, n=20, seed=1)
    assert twice.obs["source"].value_counts().to_dict() == {"real": 300, "synthetic": 30}
    assert twice.obs_names.is_unique
    assert twice.obs_names[:310].equals(once.obs_names)


def test_numbers_and_seed_reach_the_model(adata):
    model = Foreign(adata.var_names)
    assert tl.augment(adata, model).n_obs == 600
    tl.augment(adata, model, n=3, labels=["type_1"], seed=9)
    tl.augment(adata, model, labels={"type_1": 2})
    assert model.calls == [(300, None, None), (3, ["type_1"], 9), (None, {"type_1": 2}, None)]


def test_bad_input(adata, model):
    with pytest.raises(TypeError, match="AnnData, not csr_matrix"):
        tl.augment(adata.X, model)
    with pytest.raises(TypeError, match="not ReferenceGenerator|not str"):
        tl.augment(adata, "ACTIVA")
    with pytest.raises(RuntimeError, match="not fitted"):
        tl.augment(adata, sm.baselines.IndependentNB(adata, labels_key="cell_type"), n=3)
    with pytest.raises(ValueError, match="same genes"):
        tl.augment(adata[:, :50].copy(), model, n=3)
    with pytest.raises(ValueError, match="another order"):
        tl.augment(adata[:, ::-1].copy(), model, n=3)
    named = adata.copy()
    named.obs["source"] = "hospital"
    with pytest.raises(ValueError, match="rename that column"):
        tl.augment(named, model, n=3)
    repeated = adata.copy()
    repeated.obs_names = ["same"] * 300
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        tl.augment(repeated, model, n=3)
    with pytest.raises(ValueError, match="is empty"):
        tl.augment(ad.AnnData(obs=adata.obs, var=adata.var), model, n=3)

    class Array:
        def generate(self, n, labels, seed):
            return np.ones((n, 60))

    with pytest.raises(TypeError, match="returned ndarray"):
        tl.augment(adata, Array(), n=3)


def test_other_space_is_noticed(adata, model):
    adata.X = adata.X.log1p()
    with pytest.raises(ValueError, match="`synthetic` counts.*: put values in the units .* into `adata.X`"):
        tl.augment(adata, model, n=3)
    adata.X = adata.X.multiply(np.random.default_rng(0).random(adata.shape)).tocsr()
    with pytest.warns(UserWarning, match="`adata.X` holds fractions, but the synthetic cells hold counts"):
        tl.augment(adata, model, n=3)
