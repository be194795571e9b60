"""What the GANs share: the contract of `generate`, units, conditioning, errors."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import scvi
from small_gans import MODELS, QUIET, SMALL, fit, normalised

import scmimic as sm


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """A GAN of each kind on log1p values of normalised counts; tests must not change it."""
    scvi.settings.seed = 0
    data = normalised(sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, seed=0))
    return fit(data, request.param, layer="log")


def equal(a, b):
    key = f"X_{a.uns['scmimic']['model'].lower()}"
    return (a.X != b.X).nnz == 0 and (a.obs == b.obs).all(axis=None) and np.array_equal(a.obsm[key], b.obsm[key])


def test_contract(model):
    new = model.generate(n=50, seed=1)
    assert new.shape == (50, 60)
    assert isinstance(new.X, sp.csr_matrix)
    assert new.X.dtype == model.adata.layers["log"].dtype
    assert (new.X.data > 0).all()
    assert new.var.equals(model.adata.var)
    assert new.obs_names.is_unique
    name = type(model).__name__
    assert new.obsm[f"X_{name.lower()}"].shape == (50, model.module.n_latent)
    record = new.uns["scmimic"]
    assert (record["model"], record["seed"], record["parameters"]["n"]) == (name, 1, 50)
    assert list(new.obs["cell_type"].cat.categories) == list(model.label_categories_)


def test_labels(model):
    a, b, c = model.label_categories_
    assert (model.generate(7, a, seed=0).obs["cell_type"] == a).all()
    shared = model.generate(8, [b, c, a], seed=0).obs["cell_type"].value_counts()
    assert shared.to_dict() == {b: 3, c: 3, a: 2}
    exact = model.generate(labels={c: 5, a: 2}, seed=0).obs["cell_type"].value_counts()
    assert {k: v for k, v in exact.items() if v} == {c: 5, a: 2}
    everything = model.generate(300, seed=0).obs["cell_type"].value_counts()
    assert everything.to_dict() == model.adata.obs["cell_type"].value_counts().to_dict()
    with pytest.raises(ValueError, match="not seen in training"):
        model.generate(3, "type_9")


def test_same_seed_same_cells_whatever_the_batch_size(model):
    a = model.generate(300, seed=3, batch_size=7)
    assert equal(a, model.generate(300, seed=3, batch_size=4096))
    assert not equal(a, model.generate(300, seed=4))
    scvi.settings.seed = 5
    b = model.generate(20)
    scvi.settings.seed = 5
    assert equal(b, model.generate(20))


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_path_streams_the_same_cells(model, tmp_path, suffix):
    streamed = model.generate(200, seed=2, path=tmp_path / f"new.{suffix}", batch_size=64)
    memory = model.generate(200, seed=2)
    assert (sp.csr_matrix(streamed.X[:]) != memory.X).nnz == 0
    assert (streamed.obs["cell_type"].astype(str) == memory.obs["cell_type"].astype(str)).all()


def test_decode_depends_on_code_label_and_seed(model):
    z = np.random.default_rng(0).normal(size=(200, model.module.n_latent))
    a, b, _ = model.label_categories_
    first = model.decode(z, labels=a, seed=0)
    key = f"X_{type(model).__name__.lower()}"
    np.testing.assert_allclose(first.obsm[key], z, rtol=1e-6)
    assert (first.obs["cell_type"] == a).all()
    assert equal(first, model.decode(z, labels=a, seed=0))
    assert (first.X != model.decode(z, labels=b, seed=0).X).nnz > 0
    assert (first.X != model.decode(-z, labels=a, seed=0).X).nnz > 0
    assert model.decode(z, seed=0).obs["cell_type"].nunique() == 3
    with pytest.raises(ValueError, match="must have shape"):
        model.decode(z[:, 1:])
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.decode(np.full_like(z, np.nan))


def test_labels_may_be_numbers(adata):
    adata.obs["cluster"] = adata.obs["cell_type"].cat.codes.astype("int64")
    model = fit(adata, labels_key="cluster", max_epochs=1)
    assert set(model.generate(4, 0).obs["cluster"]) == {0}
    assert set(model.generate(4, [0, 1]).obs["cluster"]) == {0, 1}
    counts = adata.obs["cluster"].value_counts()
    made = model.generate(labels=counts).obs["cluster"].value_counts()
    assert made.to_dict() == counts.to_dict()
    assert set(model.decode(np.zeros((3, 8)), labels=2).obs["cluster"]) == {2}


def test_decode_of_the_generated_codes_gives_the_cells(adata):
    """WGAN-GP has no noise besides its code, so code and label say everything."""
    model = fit(normalised(adata), layer="log")
    new = model.generate(50, seed=0)
    again = model.decode(new.obsm["X_wgangp"], labels=list(new.obs["cell_type"]), seed=9)
    np.testing.assert_allclose(again.X.toarray(), new.X.toarray(), rtol=1e-4, atol=1e-5)


def test_counts_from_a_normalised_layer(model):
    cells = model.generate(300, seed=0, as_counts=True)
    assert (cells.X.data == np.rint(cells.X.data)).all()
    real = np.asarray(model.adata.X.sum(1)).ravel()
    assert np.median(np.asarray(cells.X.sum(1))) == pytest.approx(np.median(real), rel=0.05)
    fixed = np.asarray(model.generate(100, seed=0, as_counts=True, library_size=5000).X.sum(1)).ravel()
    assert fixed.mean() == pytest.approx(5000, rel=0.01)
    each = np.repeat([100.0, 1000.0], 50)
    totals = np.asarray(model.generate(100, seed=0, as_counts=True, library_size=each).X.sum(1)).ravel()
    assert totals[:50].mean() == pytest.approx(100, rel=0.05)
    assert totals[50:].mean() == pytest.approx(1000, rel=0.05)
    with pytest.raises(ValueError, match="`library_size` needs counts"):
        model.generate(5, library_size=1000)


def test_raw_counts_in_counts_out(adata):
    adata.X = adata.X.astype("int64")
    model = fit(adata)
    cells = model.generate(300, seed=0)
    assert cells.X.dtype == np.int64
    assert (cells.X.data == np.rint(cells.X.data)).all()
    real = np.asarray(adata.X.sum(1)).ravel()
    assert np.median(np.asarray(cells.X.sum(1))) == pytest.approx(np.median(real), rel=0.05)
    assert model.generate(50, seed=0, library_size=2000).X.sum(1).mean() == pytest.approx(2000, rel=0.02)
    smooth = model.generate(50, seed=0, as_counts=False)
    assert smooth.X.dtype.kind == "f"
    assert (smooth.X.data != np.rint(smooth.X.data)).any()


def test_units_without_counts(adata):
    adata.layers["other"] = np.random.default_rng(0).gamma(1.0, size=adata.shape).astype(np.float32)
    model = fit(adata, layer="other", labels_key=None)
    assert model.generate(20, seed=0).X.dtype == np.float32
    with pytest.raises(ValueError, match="`as_counts` needs a training layer"):
        model.generate(20, as_counts=True)


@pytest.mark.parametrize("conditioning", ["projection", "concat", "batch_norm"])
@pytest.mark.parametrize("preset", ["michigan", "scgan"])
def test_every_conditioning(adata, conditioning, preset):
    model = fit(normalised(adata), layer="norm", conditioning=conditioning, preset=preset, max_epochs=3)
    for name in ("critic_loss", "wasserstein", "gradient_penalty", "generator_loss"):
        values = model.history[f"{name}_train"].to_numpy(dtype=float).ravel()
        assert len(values) == 3
        # three batches an epoch with "scgan": the generator's only step is in the second one
        some = slice(1, 2) if preset == "scgan" and name == "generator_loss" else slice(None)
        assert np.isfinite(values[some]).all(), name
    cells = model.generate(40, seed=0)
    assert cells.obs["cell_type"].nunique() == 3
    if preset == "scgan":
        np.testing.assert_allclose(cells.X.sum(1), 1000, rtol=1e-3)


def test_without_labels(adata):
    model = fit(normalised(adata), layer="log", labels_key=None)
    cells = model.generate(20, seed=0)
    assert list(cells.obs) == []
    with pytest.raises(ValueError, match="trained without labels"):
        model.generate(20, "type_0")
    with pytest.raises(ValueError, match="without `labels_key`"):
        model.decode(np.zeros((2, 8)), labels="type_0")


def test_dense_and_sparse_are_the_same(adata):
    adata, cells = adata[:100].copy(), []
    for x in (adata.X, adata.X.toarray()):
        scvi.settings.seed = 0
        cells.append(fit(ad.AnnData(x, obs=adata.obs, var=adata.var)).generate(30, seed=0))
    assert equal(*cells)


def test_validation_cells(adata):
    sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    model = sm.WGANGP(adata, n_latent=8, **SMALL)
    model.train(2, train_size=0.8, validation_size=0.2, check_val_every_n_epoch=1, **QUIET)
    assert np.isfinite(model.history["wasserstein_validation"].to_numpy(dtype=float)).all()
    assert len(model.posterior_) == 240


def test_plan_settings_act(adata):
    adata = normalised(adata[:100].copy())
    base = {"lr": 1e-3, "average_decay": 0.0, "prediction": 0.0}

    def cells(**changes):
        scvi.settings.seed = 0
        return fit(adata, layer="log", plan_kwargs={**base, **changes}, max_epochs=4).generate(20, seed=0)

    first = cells()
    assert equal(first, cells())
    for changes in (
        {"n_critic": 2},
        {"gradient_penalty": 1.0},
        {"prediction": 1.0},
        {"average_decay": 0.9},
        {"lr_decay_steps": 10},
        {"betas": (0.9, 0.999), "amsgrad": True},
    ):
        assert not equal(first, cells(**changes)), changes
    with pytest.raises(TypeError, match="does not take"):
        cells(learning_rate=1.0)


def test_errors(adata):
    sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(ValueError, match="`gene_likelihood` must be 'normal'"):
        sm.WGANGP(adata, gene_likelihood="nb")
    with pytest.raises(ValueError, match="`conditioning`"):
        sm.WGANGP(adata, conditioning="none")
    with pytest.raises(ValueError, match="`preset`"):
        sm.WGANGP(adata, preset="gan")
    with pytest.raises(ValueError, match="`output`"):
        sm.WGANGP(adata, output="exp")
    model = sm.WGANGP(adata, n_latent=8, **SMALL)
    with pytest.raises(RuntimeError, match="not trained yet"):
        model.generate(5)
    with pytest.raises(RuntimeError, match="not trained yet"):
        model.decode(np.zeros((2, 8)))
    with pytest.raises(ValueError, match="`max_epochs`"):
        model.train(0)
    with pytest.raises(ValueError, match="`early_stopping`"):
        model.train(1, early_stopping=True)
    for more in ({"devices": 2}, {"devices": [0, 1]}, {"devices": -1}, {"num_nodes": 2}):
        with pytest.raises(ValueError, match=f"one device: .* written by hand.*`{next(iter(more))}=1`"):
            model.train(1, **more)
    for precision in ("bf16-mixed", 16):
        with pytest.raises(ValueError, match="single precision"):
            model.train(1, precision=precision)
    with pytest.raises(KeyError, match="no such column"):
        sm.WGANGP.setup_anndata(adata, labels_key="nothing")
    adata.layers["scaled"] = -adata.X
    with pytest.raises(ValueError, match="negative values"):
        sm.WGANGP.setup_anndata(adata, layer="scaled")
    adata.layers["same"] = np.full(adata.shape, 0.5)
    sm.WGANGP.setup_anndata(adata, layer="same")
    with pytest.raises(ValueError, match="are the same"):
        sm.WGANGP(adata)


def test_codes_of_cells_in_any_layer_and_units(adata):
    model = fit(normalised(adata), "InfoWGANGP", layer="log", labels_key=None)
    logs, counts = model.generate(30, seed=0), model.generate(30, seed=0, as_counts=True)
    scaled = np.log1p(sc.pp.normalize_total(counts, target_sum=1_000, inplace=False)["X"])
    for cells, values in ((logs, logs.X), (counts, scaled)):
        told = ad.AnnData(cells.X, var=cells.var, layers={"log": values})
        np.testing.assert_allclose(
            model.get_latent_representation(cells), model.get_latent_representation(told), rtol=1e-4, atol=1e-5
        )
    counts.X = counts.X.log1p()
    with pytest.raises(ValueError, match="`adata.X` holds log1p values, but these cells were generated as counts"):
        model.get_latent_representation(counts)
    adata.layers["log"] = adata.X.copy()
    with pytest.raises(ValueError, match=r"`adata.layers\['log'\]` holds counts, .* trained on log1p values"):
        model.get_latent_representation(adata.copy())

    model = fit(adata, "InfoWGANGP", labels_key=None)
    with pytest.raises(ValueError, match="`adata.X` holds scaled counts, .* trained on counts"):
        model.get_latent_representation(ad.AnnData(adata.layers["norm"], var=adata.var))
    with pytest.raises(ValueError, match="the encoder reads raw counts"):
        model.get_latent_representation(logs)
