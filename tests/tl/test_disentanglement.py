import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scmimic as sm


@pytest.fixture(scope="module")
def cells():
    """A latent per factor, one of noise, and one that nothing moves."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(rng.choice(["a", "b"], 1000)),
            "stage": pd.Categorical(rng.choice(["late", "early", "mid"], 1000)),
            "library": rng.lognormal(size=1000),
            "treated": rng.random(1000) < 0.3,
        },
        index=[f"c{i}" for i in range(1000)],
    )
    stage = obs["stage"].cat.reorder_categories(["early", "mid", "late"], ordered=True)
    obs["stage"] = stage
    columns = [obs["batch"] == "b", stage.cat.codes, np.log(obs["library"]), obs["treated"], rng.normal(size=1000)]
    latent = np.column_stack([*columns, np.full(1000, 3.0)]).astype(np.float32)
    adata = ad.AnnData(np.ones((1000, 2), dtype=np.float32), obs=obs)
    adata.obsm["X_z"] = latent
    adata.obsm["z_var"] = np.full(latent.shape, 0.01)
    adata.obsm["named"] = pd.DataFrame(latent[:, :2], index=obs.index, columns=["first", "second"])
    return adata


FACTORS = ["batch", "stage", "library", "treated"]


def overall(table):
    return table[table["factor"] == "overall"].set_index("metric")["value"]


def test_a_perfect_representation(cells):
    adata = cells.copy()
    table = sm.tl.disentanglement(adata, use_rep="X_z", use_var="z_var", factors=FACTORS)
    score = overall(table)
    high = ["mig_posterior", "mig_histogram", "mig_knn", "factor_vae", "dci_disentanglement", "dci_completeness"]
    assert (score[[*high, "modularity", "lms_smi", "lms_spn"]] > 0.85).all()
    assert ((table["value"] > -0.05) & (table["value"] < 1.05)).all()
    stored = adata.uns["disentanglement"]
    for name in ("spearman", "mutual_information", "mutual_information_posterior", "importance"):
        assert stored[name].shape == (6, 4)
        np.testing.assert_array_equal(np.abs(stored[name]).argmax(axis=0), range(4))


def test_values_are_those_of_the_metrics(cells):
    adata = cells.copy()
    rng = np.random.default_rng(1)
    adata.obsm["X_z"] = adata.obsm["X_z"] @ rng.normal(size=(6, 3))
    adata.obsm["z_var"] = rng.uniform(0.1, 1, (1000, 3))
    table = sm.tl.disentanglement(
        adata, use_rep="X_z", use_var="z_var", factors=FACTORS, n_bins=9, factor_bins=3, seed=5
    )
    z, factors = adata.obsm["X_z"], {name: adata.obs[name].to_numpy() for name in FACTORS}
    # an ordered category counts as a number
    factors["stage"] = adata.obs["stage"].cat.codes.to_numpy()
    m, same = sm.metrics, {"factor_bins": 3}
    score = overall(table)
    for estimator in ("posterior", "histogram", "knn"):
        expected = m.mutual_information_gap(
            z, factors, variance=adata.obsm["z_var"], estimator=estimator, n_bins=9, seed=5, **same
        )
        assert score[f"mig_{estimator}"] == pytest.approx(expected)
    assert score["factor_vae"] == m.factor_vae_score(z, factors, seed=5, **same)
    assert score["spearman_gap"] == pytest.approx(m.spearman_gap(z, factors))
    assert score["sap"] == pytest.approx(m.sap_score(z, factors))
    assert score["modularity"] == pytest.approx(m.modularity(z, factors, n_bins=9, **same))
    result = m.dci(z, factors, seed=5, **same)
    assert score["dci_completeness"] == result.completeness
    assert score["dci_informativeness"] == result.informativeness
    for similarity in ("smi", "spn", "asc"):
        expected = m.latent_matching_score(z, factors, similarity=similarity, seed=5, **same)
        assert score[f"lms_{similarity}"] == pytest.approx(expected)
    gap = m.spearman_gap(z, factors, return_per_factor=True).per_factor
    rows = table[(table["metric"] == "spearman_gap") & (table["factor"] != "overall")]
    assert dict(zip(rows["factor"], rows["value"], strict=True)) == pytest.approx(gap)


def test_record_survives_a_file(cells, tmp_path):
    adata = cells.copy()
    adata.obs["a/b"] = adata.obs["batch"]
    table = sm.tl.disentanglement(adata, use_rep="named", factors=["a/b", "stage"], key_added="mine")
    # a name that files refuse as that of a column, but not within a result
    del adata.obs["a/b"]
    adata.write_h5ad(tmp_path / "x.h5ad")
    stored = ad.read_h5ad(tmp_path / "x.h5ad").uns["mine"]
    pd.testing.assert_frame_equal(stored["results"].reset_index(drop=True), table, check_index_type=False)
    assert list(stored["latents"]) == ["first", "second"]
    assert list(stored["factors"]) == ["a/b", "stage"]
    assert stored["params"]["use_rep"] == "named"
    np.testing.assert_allclose(stored["spearman"], adata.uns["mine"]["spearman"])


def test_one_factor_and_the_same_seed(cells):
    first, second = (sm.tl.disentanglement(cells.copy(), use_rep="X_z", factors="library", seed=2) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert "modularity" not in set(first["metric"])
    assert "mig_posterior" not in set(first["metric"])


def test_bad_input(cells):
    adata = cells.copy()
    adata.obs["gap"] = [None, *["x", "y"] * 499, "x"]
    adata.obs["one"] = "x"
    adata.obs["overall"] = adata.obs["batch"]
    adata.obsm["nan"] = np.full((1000, 2), np.nan)

    def run(use_rep="X_z", factors="batch", **kwargs):
        sm.tl.disentanglement(adata, use_rep=use_rep, factors=factors, **kwargs)

    with pytest.raises(KeyError, match="not in `adata.obsm`"):
        run("X_pca")
    with pytest.raises(KeyError, match="use_var='v'"):
        run(use_var="v")
    with pytest.raises(KeyError, match="factor 'x'"):
        run(factors=["batch", "x"])
    with pytest.raises(ValueError, match="missing for 1 cells"):
        run(factors="gap")
    with pytest.raises(ValueError, match="same value"):
        run(factors="one")
    with pytest.raises(ValueError, match="cannot be called"):
        run(factors="overall")
    with pytest.raises(ValueError, match="empty"):
        run(factors=[])
    with pytest.raises(ValueError, match="NaN"):
        run("nan")
    with pytest.raises(ValueError, match="shape of `latent`"):
        run(use_var="named")
    assert "disentanglement" not in adata.uns


def test_dimensions_of_an_array_have_the_names_of_all_latents(cells):
    adata = cells.copy()
    adata.obsm["array"] = np.asarray(adata.obsm["named"])
    sm.tl.disentanglement(adata, use_rep="array", factors="stage")
    assert list(adata.uns["disentanglement"]["latents"]) == ["Z1", "Z2"]
