"""Cells that are asked for by type, batch and covariates: numbers, columns, and what is said of what was never seen."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
from mudata import MuData

import scmimic as sm

QUIET = {"enable_progress_bar": False}
KEYS = {
    "labels_key": "cell_type",
    "batch_key": "plate",
    "categorical_covariate_keys": ["condition", "treated"],
    "continuous_covariate_keys": ["dose", "hours"],
}


def cells(n=360, seed=0):
    """Three types; the condition triples five genes of its own and a dose doubles five others, in all types."""
    rng = np.random.default_rng(seed)
    adata = sm.datasets.synthetic_counts(n_obs=n, n_vars=30, n_labels=3, seed=seed)
    adata.obs["plate"] = rng.choice([10, 20], n)
    adata.obs["condition"] = pd.Categorical(rng.choice(["ctrl", "stim"], n), categories=["stim", "ctrl"])
    adata.obs["treated"] = rng.choice([True, False], n)
    adata.obs["dose"] = rng.choice([0, 1, 4], n)
    adata.obs["hours"] = rng.uniform(1, 9, n).astype("float32")
    rate = np.ones((n, 30))
    rate[:, :5] *= np.where(adata.obs["condition"] == "stim", 6, 1)[:, None]
    rate[:, 5:10] *= 2.0 ** (adata.obs["dose"].to_numpy()[:, None] / 2)
    adata.X = type(adata.X)(rng.poisson(rate * 2 + adata.X.toarray() * 0.2).astype("float32"))
    # a combination that was never measured
    gone = (adata.obs["cell_type"] == "type_0") & (adata.obs["condition"] == "stim")
    adata = adata[~gone.to_numpy()].copy()
    adata.obs["condition"] = adata.obs["condition"].cat.add_categories("unused")
    return adata


def fit(cls=sm.ACTIVA, epochs=2, adata=None, **init):
    scvi.settings.seed = 0
    adata = cells() if adata is None else adata
    cls.setup_anndata(adata, **KEYS)
    model = cls(adata, **{"n_latent": 4, "n_hidden": (16,), "gene_likelihood": "nb"} | init)
    model.train(epochs, **QUIET)
    return model


@pytest.fixture(scope="module", params=["ACTIVA", "BetaTCVAE"])
def model(request):
    return fit(getattr(sm, request.param))


@pytest.fixture(scope="module")
def activa():
    return fit()


def test_columns_come_back_in_their_types(model):
    real, new = model.adata.obs, model.generate(50, seed=0).obs
    for key in ("cell_type", "plate", "condition", "treated", "dose", "hours"):
        assert new[key].dtype == real[key].dtype, key
    assert list(new["condition"].cat.categories) == ["stim", "ctrl", "unused"]
    assert new["seen"].dtype == bool
    assert new["seen"].all()


def test_what_is_left_out_is_as_in_the_data_given_the_rest(model):
    """Open attributes together are those of training cells with the asked ones."""
    real = model.adata.obs
    pool = real[(real["condition"] == "ctrl") & (real["plate"] == 20)]
    for codes, keys in (("posterior", ["cell_type", "treated", "dose", "hours"]), ("mixture", ["cell_type", "dose"])):
        new = model.generate(300, covariates={"condition": "ctrl", "plate": 20}, codes=codes, seed=0).obs
        assert (new["condition"] == "ctrl").all() and (new["plate"] == 20).all()
        assert set(map(tuple, new[keys].astype(str).to_numpy())) <= set(map(tuple, pool[keys].astype(str).to_numpy()))
        share, expected = (x["cell_type"].value_counts(normalize=True, sort=False) for x in (new, pool))
        np.testing.assert_allclose(share, expected, atol=1 / 300)
        assert new["hours"].mean() == pytest.approx(pool["hours"].mean(), abs=0.6)


@pytest.mark.parametrize("labels", [None, "type_1", ["type_1", "type_2"], {"type_1": 4, "type_2": 7}])
def test_several_values_share_the_cells(activa, labels):
    n = None if isinstance(labels, dict) else 11
    asked = {"condition": ["stim", "ctrl"], "dose": [0, 4, 1.5]}
    new = activa.generate(n, labels, covariates=asked, seed=0).obs
    assert len(new) == 11
    numbers = new.groupby(["condition", "dose"], observed=True).size()
    assert set(numbers) == {1, 2}
    assert len(numbers) == 6
    if labels is not None and not isinstance(labels, str):
        wanted = labels if isinstance(labels, dict) else {"type_1": 6, "type_2": 5}
        assert new["cell_type"].value_counts()[list(wanted)].tolist() == list(wanted.values())
    # a dose between those of whole numbers is none of their type
    assert new["dose"].dtype == float


def test_unseen_combinations_are_made_and_named(activa, tmp_path):
    asked = {"labels": "type_0", "covariates": {"condition": ["stim", "ctrl"], "plate": 10, "treated": True}}
    new = activa.generate(20, **asked, seed=0)
    assert new.obs["seen"].tolist() == (new.obs["condition"] == "ctrl").tolist()
    assert new.uns["scmimic"]["unseen"] == {"type_0, 10, stim, True": 10}
    for name in ("a.h5ad", "a.zarr"):
        stored = activa.generate(20, **asked, seed=0, path=tmp_path / name)
        pd.testing.assert_frame_equal(
            stored.obs.astype(str), new.obs.astype(str), check_names=False, check_index_type=False
        )
        assert {k: int(v) for k, v in stored.uns["scmimic"]["unseen"].items()} == new.uns["scmimic"]["unseen"]
        np.testing.assert_array_equal(stored.X[:].toarray(), new.X.toarray())


def test_numbers_beyond_those_of_the_training_cells_are_named_by_themselves(activa, tmp_path, caplog):
    known, unknown = {"condition": "ctrl", "dose": [3.0, 4.0]}, {"condition": "stim", "plate": 10, "treated": True}
    new = activa.generate(6, "type_0", covariates=known, seed=0)
    assert new.obs["seen"].all() and not new.uns["scmimic"]["unseen"] and not new.uns["scmimic"]["beyond"]
    assert "beyond" not in caplog.text
    new = activa.generate(6, "type_0", covariates={**known, "dose": [3.0, 4.5, -0.5]}, seed=0)
    assert new.obs["seen"].tolist() == (new.obs["dose"] == 3).tolist()
    assert not new.uns["scmimic"]["unseen"] and new.uns["scmimic"]["beyond"] == {"dose": 4}
    assert "'dose' of 4 cells lies beyond that of the training cells, 0 to 4." in caplog.messages
    # of a combination that is unseen too
    asked = {"labels": "type_0", "covariates": {**unknown, "dose": [1.0, 8.0]}, "seed": 0}
    new = activa.generate(10, **asked)
    stored = activa.generate(10, **asked, path=tmp_path / "a.h5ad")
    for cells_ in (new, stored):
        assert not cells_.obs["seen"].any()
        assert cells_.uns["scmimic"]["unseen"] == {"type_0, 10, stim, True": 10}
        assert cells_.uns["scmimic"]["beyond"] == {"dose": 5}
        assert list(cells_.uns["scmimic"]["trust"]) == ["type_0, 10, stim, True"]


@pytest.mark.parametrize("kind", ["table", "cells", "real"])
def test_like_is_a_twin_of_a_table(activa, kind):
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(
        {
            "cell_type": rng.choice(["type_0", "type_1"], 40),
            "condition": rng.choice(["ctrl", "stim"], 40),
            "hours": rng.uniform(2, 5, 40),
            "note": "not known to the model",
        },
        index=[f"cell {i}" for i in range(40)],
    )
    like = {"table": obs, "cells": ad.AnnData(np.zeros((40, 2)), obs=obs), "real": activa.adata}[kind]
    table = like if kind == "table" else like.obs
    new = activa.generate(like=like, seed=0).obs
    keys = ["cell_type", "condition", *(["plate", "treated", "dose"] if kind == "real" else [])]
    assert new[keys].astype(str).to_numpy().tolist() == table[keys].astype(str).to_numpy().tolist()
    np.testing.assert_allclose(new["hours"], table["hours"], rtol=1e-6)
    assert "note" not in new
    seen = (table["cell_type"] != "type_0") | (table["condition"] != "stim")
    assert (new["seen"].to_numpy() <= seen.to_numpy()).all()
    if kind == "real":
        assert new["seen"].all()


def test_the_same_seed_gives_the_same_cells_whatever_the_batch_size(activa):
    asked = {"covariates": {"condition": ["stim", "ctrl"]}, "seed": 3}
    one, other = (activa.generate(300, **asked, batch_size=size) for size in (1, 300))
    np.testing.assert_array_equal(one.X.toarray(), other.X.toarray())
    pd.testing.assert_frame_equal(one.obs, other.obs)
    assert (activa.generate(300, covariates=asked["covariates"], seed=4).X != one.X).nnz > 0


def test_the_batch_is_a_covariate(activa):
    by_key = activa.generate(10, covariates={"plate": 20}, seed=0)
    by_argument = activa.generate(10, transform_batch=20, seed=0)
    np.testing.assert_array_equal(by_key.X.toarray(), by_argument.X.toarray())
    with pytest.raises(ValueError, match="asked for twice"):
        activa.generate(10, covariates={"plate": 20}, transform_batch=20)


@pytest.mark.parametrize(
    ("request_", "error", "match"),
    [
        ({"n": 5, "covariates": {"donor": "a"}}, ValueError, "not set up with. It knows .*'plate', 'condition'"),
        ({"n": 5, "covariates": {"cell_type": "type_0"}}, ValueError, "asked for by `labels`"),
        ({"n": 5, "covariates": {"condition": "stimulated"}}, ValueError, "not seen in training"),
        ({"n": 5, "covariates": {"condition": ["stim", "stim"]}}, ValueError, "more than once"),
        ({"n": 5, "covariates": {"condition": []}}, ValueError, "empty"),
        ({"n": 5, "covariates": {"treated": 1}}, ValueError, "truth values"),
        ({"n": 5, "covariates": {"dose": "high"}}, ValueError, "must be a number"),
        ({"n": 5, "covariates": {"dose": float("nan")}}, ValueError, "must be a number"),
        ({"n": 5, "covariates": ["condition"]}, TypeError, "must be a dict"),
        ({"n": 5, "like": pd.DataFrame({"condition": ["stim"]})}, ValueError, "leave one of them out"),
        ({"like": pd.DataFrame({"condition": []})}, ValueError, "no row"),
        ({"like": pd.DataFrame({"donor": ["a"]})}, KeyError, "none of the columns"),
        ({"like": pd.DataFrame({"condition": ["x"]})}, ValueError, "training cells have not"),
        ({"like": pd.DataFrame({"condition": ["stim", None]})}, ValueError, "no value"),
        ({"like": pd.DataFrame({"dose": ["a"]})}, TypeError, "numbers, but `like.* such as 'a'"),
        (
            {"like": pd.DataFrame({"cell_type": [f"T{i}" for i in range(8)]})},
            ValueError,
            r"'T4'\] and 3 more, which .* Remove these rows, or leave the column out\.$",
        ),
        ({"like": {"condition": ["stim"]}}, TypeError, "DataFrame or an AnnData"),
        ({"n": 5, "codes": "best"}, ValueError, "'posterior'"),
        ({"n": 5, "codes": "posterior", "method": "prior"}, ValueError, "contradict"),
    ],
)
def test_clear_errors(activa, request_, error, match):
    with pytest.raises(error, match=match):
        activa.generate(**request_)


@pytest.mark.parametrize(
    ("change", "keys", "error", "match"),
    [
        ({}, {"categorical_covariate_keys": ["nosuch"]}, KeyError, "nosuch"),
        ({}, {"continuous_covariate_keys": ["condition"]}, TypeError, "a column of numbers"),
        ({"dose": np.nan}, {"continuous_covariate_keys": ["dose"]}, ValueError, "no value"),
        ({"dose": np.inf}, {"continuous_covariate_keys": ["dose"]}, ValueError, "infinite"),
        ({}, {"categorical_covariate_keys": ["plate", "plate"]}, ValueError, "twice"),
        ({}, {"batch_key": "plate", "categorical_covariate_keys": ["plate"]}, ValueError, "`batch_key` and"),
        ({}, {"categorical_covariate_keys": 3}, TypeError, "name of a column"),
    ],
)
@pytest.mark.parametrize("cls", [sm.ACTIVA, sm.BetaTCVAE])
def test_bad_columns(cls, change, keys, error, match):
    adata = cells(60)
    for key, value in change.items():
        adata.obs[key] = adata.obs[key].astype(float)
        adata.obs.iloc[0, adata.obs.columns.get_loc(key)] = value
    with pytest.raises(error, match=match):
        cls.setup_anndata(adata, **keys)


def test_one_name_is_a_list_of_one():
    adata = cells(60)
    sm.ACTIVA.setup_anndata(adata, categorical_covariate_keys="condition")
    assert sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))._attributes.keys == ["condition"]


def test_a_saved_model_knows_its_covariates(model, tmp_path):
    model.save(tmp_path / "model", overwrite=True)
    again = type(model).load(tmp_path / "model")
    asked = {"n": 12, "covariates": {"condition": ["stim", "ctrl"], "dose": 4}, "seed": 0}
    before, after = model.generate(**asked), again.generate(**asked)
    np.testing.assert_array_equal(before.X.toarray(), after.X.toarray())
    pd.testing.assert_frame_equal(before.obs, after.obs)
    # other cells are encoded by their own covariates, and have to have them
    other = cells(60, seed=1)
    assert again.get_latent_representation(other).shape == (other.n_obs, 4)
    del other.obs["dose"]
    with pytest.raises((KeyError, ValueError), match="dose"):
        again.get_latent_representation(other.copy())


def test_a_mudata_has_them_too():
    adata = cells(90)
    adata.obs_names = [f"c{i}" for i in range(adata.n_obs)]
    mdata = MuData({"rna": adata})
    modalities = dict.fromkeys(("rna_layer", *KEYS), "rna")
    sm.ACTIVA.setup_mudata(mdata, modalities=modalities, **KEYS)
    model = sm.ACTIVA(mdata, n_latent=2, n_hidden=(8,))
    model.train(1, **QUIET)
    new = model.generate(8, covariates={"condition": "stim", "dose": 1}, seed=0).obs
    assert (new["condition"] == "stim").all() and (new["dose"] == 1).all()


@pytest.mark.parametrize("cls", [sm.ACTIVA, sm.BetaTCVAE])
def test_cells_are_what_is_asked(cls):
    """The genes that condition and dose change are changed in generated cells, and in no other way."""
    scvi.settings.seed = 0
    adata = cells(1200)
    cls.setup_anndata(adata, labels_key="cell_type", categorical_covariate_keys=["condition"],
                      continuous_covariate_keys=["dose"])  # fmt: skip
    model = cls(adata, n_latent=4, n_hidden=(32,), gene_likelihood="nb")
    model.train(40, **QUIET)

    def mean(condition, dose):
        new = model.generate(600, "type_1", covariates={"condition": condition, "dose": dose}, seed=0)
        return np.asarray(new.X.mean(axis=0)).ravel()

    base = mean("ctrl", 0)
    stim, dosed = mean("stim", 0) / base, mean("ctrl", 4) / base
    assert stim[:5].min() > 1.5 * stim[5:].max()
    assert dosed[5:10].min() > 1.3 * np.delete(dosed, np.arange(5, 10)).max()


def test_the_design_is_standardised_by_the_training_cells(activa):
    obs = activa.adata.obs[["dose", "hours"]].to_numpy(dtype=float)
    np.testing.assert_allclose(activa.module.design.mean, obs.mean(0), rtol=1e-5)
    np.testing.assert_allclose(activa.module.design.std, obs.std(0), rtol=1e-5)


def test_decode_is_told_covariates(activa):
    z = np.zeros((30, 4))
    new = activa.decode(z, labels="type_1", covariates={"condition": "stim", "dose": 4}, seed=0).obs
    assert (new["condition"] == "stim").all() and (new["dose"] == 4).all()
    one, other = (
        activa.expected_expression(z[:1], labels="type_1", covariates={"condition": c}) for c in ("stim", "ctrl")
    )
    assert not np.allclose(one, other)
    with pytest.raises(ValueError, match="one value for each column"):
        activa.decode(z, covariates={"condition": ["stim", "ctrl"]})
