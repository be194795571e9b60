import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch

import scmimic as sm

QUIET = {"enable_progress_bar": False}


def equal(a, b):
    return (
        (a.X != b.X).nnz == 0
        and (a.obs == b.obs).all(axis=None)
        and np.array_equal(a.obsm["X_activa"], b.obsm["X_activa"])
    )


def test_contract(trained):
    new = trained.generate(n=50, seed=1)
    assert new.shape == (50, 60)
    assert isinstance(new.X, sp.csr_matrix)
    assert new.X.dtype == trained.adata.X.dtype
    assert (new.X.data == np.rint(new.X.data)).all()
    assert list(new.var_names) == list(trained.adata.var_names)
    assert new.var.equals(trained.adata.var)
    assert new.obs_names.is_unique
    assert new.obsm["X_activa"].shape == (50, 8)
    record = new.uns["scmimic"]
    assert record["model"] == "ACTIVA"
    assert record["seed"] == 1
    assert record["parameters"]["n"] == 50
    assert list(new.obs["cell_type"].cat.categories) == list(trained.label_categories_)


def test_labels(trained):
    a, b, c = trained.label_categories_
    assert (trained.generate(7, a, seed=0).obs["cell_type"] == a).all()
    shared = trained.generate(8, [b, c, a], seed=0).obs["cell_type"].value_counts()
    assert shared.to_dict() == {b: 3, c: 3, a: 2}
    exact = trained.generate(labels={c: 5, a: 2}, seed=0).obs["cell_type"].value_counts()
    assert {k: v for k, v in exact.items() if v} == {c: 5, a: 2}
    everything = trained.generate(300, seed=0).obs["cell_type"].value_counts()
    assert everything.to_dict() == trained.adata.obs["cell_type"].value_counts().to_dict()


@pytest.mark.parametrize("method", ["posterior", "prior"])
def test_same_seed_same_cells_whatever_the_batch_size(trained, method):
    a = trained.generate(300, method=method, seed=3, batch_size=7)
    b = trained.generate(300, method=method, seed=3, batch_size=4096)
    assert equal(a, b)
    assert not equal(a, trained.generate(300, method=method, seed=4))


def test_seed_none_follows_scvi(trained):
    scvi.settings.seed = 5
    a = trained.generate(20)
    scvi.settings.seed = 5
    assert equal(a, trained.generate(20))
    assert equal(a, trained.generate(20, seed=a.uns["scmimic"]["seed"]))


def test_types_are_the_requested_ones(trained, learned):
    """A classifier that never saw the model agrees with the requested types."""
    from sklearn.linear_model import LogisticRegression

    def lognorm(x):
        x = x.toarray()
        return np.log1p(x / x.sum(1, keepdims=True) * 1e4)

    real = trained.adata
    judge = LogisticRegression(max_iter=500).fit(lognorm(real.X), real.obs["cell_type"].astype(str))
    own = judge.score(lognorm(real.X), real.obs["cell_type"].astype(str))
    new = trained.generate(300, seed=0)
    found = judge.score(lognorm(new.X), new.obs["cell_type"].astype(str))
    learned("accuracy less that of real cells", found - own, above=-0.1, off=1 / 3 - own)


@pytest.fixture(scope="module")
def mixed():
    """An ACTIVA whose prior codes give any of three types; two of them differ in few genes, and it confuses them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=600)
    rate = np.full((3, 40), 3.0)
    rate[0, :20] = 12
    rate[1:, 20:] = 8
    rate[2, 30:] = 2
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rate[labels] * rng.gamma(10, 0.1, (600, 1))).astype(np.float32)))
    adata.obs["cell_type"] = np.array(["far", "near", "like it"])[labels]
    scvi.settings.seed = 0
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=3, n_hidden=(16,), label_baseline=0, dispersion="gene")
    plan_kwargs = {"lr": 3e-3, "lr_classifier": 1e-3, "n_epochs_classifier": 20}
    model.train(40, warmup_epochs=40, calibrate_margins=False, plan_kwargs=plan_kwargs, **QUIET)
    return model


@pytest.mark.parametrize(("confidence", "least"), [(None, 0.7), (0.8, 0.9)])
def test_accepted_cells_are_of_the_type_by_another_judge(mixed, confidence, least):
    """The codes of the prior give every type: what is asked for is found by rejection alone."""
    from sklearn.linear_model import LogisticRegression

    real = mixed.adata
    judge = LogisticRegression(max_iter=500).fit(np.log1p(real.X.toarray()), real.obs["cell_type"].astype(str))

    def seen(cells):
        return judge.predict(np.log1p(cells.X.toarray()))

    anything = seen(mixed.generate(300, method="prior", seed=0))
    shares = [np.mean(anything == name) for name in mixed.label_categories_]
    assert max(shares) < 0.65
    for name in mixed.label_categories_:
        cells = mixed.generate(150, name, method="prior", min_confidence=confidence, seed=1)
        assert (cells.obs["cell_type"] == name).all()
        assert np.mean(seen(cells) == name) > least, name


def test_prior_needs_acceptance_by_the_classifier(trained):
    a = trained.label_categories_[0]
    new = trained.generate(30, a, method="prior", min_confidence=0.5, seed=0)
    assert new.n_obs == 30
    assert (new.obs["cell_type"] == a).all()


def test_min_confidence_is_kept(trained, learned):
    new = trained.generate(60, method="posterior", min_confidence=0.9, seed=0)
    assert new.n_obs == 60
    right = trained.classify(new).astype(str).eq(new.obs["cell_type"].astype(str)).mean()
    learned("accuracy", right, above=0.8, off=1 / 3)


def test_unreachable_confidence_names_type_and_rate(trained):
    with pytest.raises(RuntimeError, match=r"were accepted as 'type_.*max_draws"):
        trained.generate(50, trained.label_categories_[1], min_confidence=1.0, max_draws=256, seed=0)


def test_library_size(trained):
    fixed = trained.generate(200, library_size=5000, seed=0)
    assert np.asarray(fixed.X.sum(1)).mean() == pytest.approx(5000, rel=0.05)
    each = np.repeat([100.0, 1000.0], 200)
    totals = np.asarray(trained.generate(400, library_size=each, seed=0).X.sum(1)).ravel()
    assert totals[:200].mean() == pytest.approx(100, rel=0.1)
    assert totals[200:].mean() == pytest.approx(1000, rel=0.1)
    real = np.asarray(trained.adata.X.sum(1)).ravel()
    own = np.asarray(trained.generate(300, seed=0).X.sum(1)).ravel()
    assert np.median(own) == pytest.approx(np.median(real), rel=0.1)


def test_transform_batch(trained):
    batch = trained.batch_categories_[1]
    new = trained.generate(30, transform_batch=batch, seed=0)
    assert (new.obs["batch"].astype(str) == batch).all()
    assert set(trained.generate(100, seed=0).obs["batch"].astype(str)) == set(trained.batch_categories_)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_path_streams_the_same_cells(trained, tmp_path, suffix):
    path = tmp_path / f"new.{suffix}"
    streamed = trained.generate(200, seed=2, path=path, batch_size=64)
    memory = trained.generate(200, seed=2)
    loaded = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    assert equal(loaded, memory)
    assert loaded.uns["scmimic"]["seed"] == 2
    assert list(loaded.obs_names) == list(memory.obs_names)
    assert streamed.shape == memory.shape
    assert (streamed[:10].to_memory().X != memory[:10].X).nnz == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_failing_stream_keeps_the_old_file(trained, tmp_path, monkeypatch):
    path = tmp_path / "new.h5ad"
    trained.generate(20, seed=0, path=path).file.close()
    before = path.read_bytes()

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("scmimic.model.generation._output.write_elem", broken)
    with pytest.raises(OSError, match="disk full"):
        trained.generate(20, seed=1, path=path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_decode_with_one_library_size_and_batch(trained, learned):
    a, b, _ = trained.label_categories_
    z = trained.get_latent_representation()[:100].repeat(4, axis=0)
    cells = trained.decode(z, labels=[a, b] * 200, share_noise=True, seed=0)
    assert (cells.obs.groupby("cell_type", observed=True)["batch"].nunique() == 1).all()
    total = np.asarray(cells.X.sum(axis=1)).ravel()
    own = np.asarray(trained.decode(z, labels=[a, b] * 200, seed=0).X.sum(axis=1)).ravel()
    learned("spread of totals, one over many", total[::2].std() / own[::2].std(), below=0.5, off=1)
    fixed = trained.decode(z, library_size=1000, share_noise=True, seed=0)
    assert np.asarray(fixed.X.sum(axis=1)).mean() == pytest.approx(1000, rel=0.05)


def test_decode(trained):
    z = trained.get_latent_representation()[:10]
    label = trained.label_categories_[0]
    cells = trained.decode(z, labels=label, library_size=1000, seed=0)
    assert cells.shape == (10, 60)
    assert (cells.obs["cell_type"] == label).all()
    np.testing.assert_array_equal(cells.obsm["X_activa"], z)
    mixed = trained.decode(z, labels=[trained.label_categories_[i % 3] for i in range(10)], seed=0)
    assert mixed.obs["cell_type"].astype(str).tolist() == [trained.label_categories_[i % 3] for i in range(10)]
    np.testing.assert_array_equal(mixed.obsm["X_activa"], z)
    assert trained.decode(z, seed=0).n_obs == 10


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n": 0}, "at least 1"),
        ({"n": -3}, "at least 1"),
        ({"n": 5, "labels": "nobody"}, "nobody"),
        ({"n": 5, "method": "magic"}, "method"),
        ({"n": 5, "library_size": -1}, "positive"),
        ({"n": 5, "library_size": [1.0, 2.0]}, "library_size"),
        ({"n": 5, "library_size": [9.0] * 5, "min_confidence": 0.5}, "may be rejected"),
        ({"n": 5, "library_size": [9.0] * 5, "method": "prior", "labels": "type_1"}, "may be rejected"),
        ({"n": 5, "min_confidence": 2}, "`min_confidence` must be"),
        ({"n": 5, "transform_batch": "nowhere"}, "batches: \\['batch_0', 'batch_1'\\]"),
        ({"n": 5, "path": "cells.csv"}, "h5ad or .zarr"),
        ({}, "`n` is missing"),
    ],
)
def test_bad_requests(trained, kwargs, message):
    with pytest.raises(ValueError, match=message):
        trained.generate(**kwargs)


@pytest.mark.parametrize(
    ("z", "message"), [(np.zeros((3, 5)), "shape"), (np.zeros((0, 8)), "shape"), (np.full((2, 8), np.nan), "NaN")]
)
def test_bad_codes(trained, z, message):
    with pytest.raises(ValueError, match=message):
        trained.decode(z)


def test_without_labels(adata):
    sm.ACTIVA.setup_anndata(adata)
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    assert model.module.classifier is None
    model.train(max_epochs=3, warmup_epochs=2, **QUIET)
    new = model.generate(10, seed=0)
    assert new.obs.shape == (10, 0)
    assert model.generate(10, method="prior", seed=0).n_obs == 10
    with pytest.raises(ValueError, match="trained without labels"):
        model.generate(10, "type_0")
    with pytest.raises(ValueError, match="no classifier"):
        model.generate(10, min_confidence=0.5)
    with pytest.raises(ValueError, match="no classifier"):
        model.classify()


def test_integer_layer_keeps_its_dtype(adata):
    adata.layers["ints"] = adata.X.astype(np.int32)
    sm.ACTIVA.setup_anndata(adata, layer="ints", labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=1, **QUIET)
    assert model.generate(10, seed=0).X.dtype == np.int32


def test_cells_of_a_narrow_integer_layer_do_not_overflow(adata, tmp_path):
    adata.layers["narrow"] = adata.X.minimum(200).astype(np.uint8)
    sm.ACTIVA.setup_anndata(adata, layer="narrow", labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=1, **QUIET)
    for path in (None, tmp_path / "new.h5ad"):
        new = model.generate(200, library_size=20_000, seed=0, path=path)
        assert new.X[:].sum(1).mean() == pytest.approx(20_000, rel=0.05)


def test_unlabelled_cells_are_no_type(adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[adata.obs_names[:50], "cell_type"] = "Unknown"
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=3, calibrate_margins=False, **QUIET)
    assert "Unknown" not in model.label_categories_
    assert "Unknown" not in set(model.generate(100, seed=0).obs["cell_type"])
    with pytest.raises(ValueError, match="Known labels"):
        model.generate(5, "Unknown")
    assert set(model.classify().astype(str)) <= set(model.label_categories_)
    codes = model.posterior_.mean[model.posterior_.labels == len(model.label_categories_)]
    assert len(codes) == 50
    assert not model.decode(codes, seed=0).obs["cell_type"].isna().any()
    assert not model.generate(100, method="prior", seed=0).obs["cell_type"].isna().any()


def test_cells_of_any_type_are_named_by_the_classifier(mixed):
    """Without a type of its own in the decoder, a cell is what the classifier sees in it, not what its code is near."""
    z = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * 1.5
    library, batch = torch.full((400, 1), 5.0), torch.zeros(400, 1, dtype=torch.long)
    told = mixed.module.design(batch)
    with torch.inference_mode():
        px = mixed.module.decode(z, library, told, torch.zeros_like(batch))
        judged = mixed.module.classifier(mixed.module.expected(px)).argmax(1)
        found = mixed._sampler(seed=0).find_labels(z, library, told)
    assert (found == judged).all()
    near = mixed.posterior_.nearest_labels(z.numpy(), 3)
    assert (near != judged.numpy()).any()


def test_a_type_that_a_batch_does_not_hold_is_drawn_from_the_others(adata):
    """Its codes and library sizes are those of its cells elsewhere; the decoder is told the batch asked for."""
    first = adata.obs["cell_type"].cat.categories[0]
    batch = adata.obs["batch"].cat.categories[0]
    adata = adata[(adata.obs["cell_type"] != first) | (adata.obs["batch"] != batch)].copy()
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", batch_key="batch")
    model = sm.ACTIVA(adata, n_latent=3, n_hidden=(8,))
    model.train(2, warmup_epochs=2, calibrate_margins=False, calibrate_spread=False, **QUIET)
    code = model.batch_categories_.index(batch)
    label = model.label_categories_.index(first)
    pool = model.posterior_.pool(np.array([label, code]))
    np.testing.assert_array_equal(pool, np.flatnonzero(adata.obs["cell_type"] == first))
    other = model.posterior_.pool(np.array([label + 1, code]))
    assert set(adata.obs["batch"].iloc[other]) == {batch}
    cells = model.generate(20, first, transform_batch=batch, seed=0)
    assert (cells.obs["batch"] == batch).all() and (cells.obs["cell_type"] == first).all()
    assert not cells.obs["seen"].any()
    assert cells.uns["scmimic"]["unseen"] == {f"{first}, {batch}": 20}
