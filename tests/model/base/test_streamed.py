"""Cells that stay on disk: the same cells, the same calibration, and trainings that learn from them."""

import sys

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SIZES = {"n_latent": 4, "n_hidden": (16,)}
KEYS = {"labels_key": "cell_type", "batch_key": "batch", "continuous_covariate_keys": ["dose"]}


def needs_annbatch():
    pytest.importorskip("annbatch")
    pytest.importorskip("zarrs")


@pytest.fixture
def files(tmp_path):
    """700 cells of 40 genes in two files, an .h5ad and a .zarr; each knows its number."""
    needs_annbatch()
    cells = sm.datasets.synthetic_counts(n_obs=700, n_vars=40, n_labels=3, n_batches=2, seed=0)
    cells.obs["number"], cells.obs["dose"] = np.arange(700), np.linspace(0, 1, 700)
    cells.layers["log"] = cells.X.log1p()
    paths = [tmp_path / "first.h5ad", tmp_path / "second.zarr"]
    cells[:300].copy().write_h5ad(paths[0])
    # the same genes in another order
    cells[300:, ::-1].copy().write_zarr(paths[1])
    return cells, paths


def stream(files, tmp_path, cls=sm.ACTIVA, **settings):
    return cls.setup_annbatch(tmp_path / "cells.zarr", files[1], **{"labels_key": "cell_type"} | settings)


def order(cells):
    """Number of each cell of a collection."""
    return cells._collection.obs["number"].to_numpy()


def values(batches):
    return np.concatenate([tensors["X"].numpy() for tensors in batches])


def test_the_cells_are_those_of_the_files(files, tmp_path):
    adata, _ = files
    cells = stream(files, tmp_path, **{key: KEYS[key] for key in KEYS if key != "labels_key"})
    numbers = order(cells)
    assert sorted(numbers) == list(range(700)) and (np.diff(numbers) != 1).mean() > 0.9
    tensors = list(cells.training_cells())
    np.testing.assert_array_equal(values(tensors), adata.X.toarray()[numbers])
    labels = np.concatenate([part["labels"].numpy() for part in tensors]).ravel()
    names = cells.registry["field_registries"]["labels"]["state_registry"]["categorical_mapping"]
    assert names[labels].tolist() == adata.obs["cell_type"].astype(str).iloc[numbers].tolist()
    dose = np.concatenate([part["extra_continuous_covs"].numpy() for part in tensors]).ravel()
    np.testing.assert_allclose(dose, adata.obs["dose"].to_numpy()[numbers], rtol=1e-6)
    some = np.array([690, 3, 200])
    np.testing.assert_array_equal(values(cells.training_cells(some)), adata.X.toarray()[numbers[np.sort(some)]])


def test_each_pass_has_every_cell_in_another_order(files, tmp_path):
    cells = stream(files, tmp_path)
    cells.batch_size = 64
    everything = np.sort(values(cells.training_cells()).sum(1))

    def passes():
        scvi.settings.seed = 5
        loader = cells.train_dataloader()
        return [values(loader), values(loader)]

    (first, second), (again, _) = passes(), passes()
    for found in (first, second):
        np.testing.assert_array_equal(np.sort(found.sum(1)), everything)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_batches_too_small_for_batch_norm_are_left_out(files, tmp_path):
    cells = stream(files, tmp_path)
    cells.batch_size = 349
    loader = cells.train_dataloader()
    assert [len(tensors["X"]) for tensors in loader] == [349, 349] and len(loader) == 2


def test_a_layer_and_dense_values(files, tmp_path):
    adata, _ = files
    dense = adata[:50].copy()
    dense.layers["log"] = dense.layers["log"].toarray()
    dense.write_h5ad(tmp_path / "dense.h5ad")
    cells = sm.BetaTCVAE.setup_annbatch(tmp_path / "dense.zarr", tmp_path / "dense.h5ad", layer="log")
    np.testing.assert_allclose(values(cells.training_cells()), dense.layers["log"][order(cells)], rtol=1e-6)
    model = sm.BetaTCVAE(registry=cells.registry, n_comps=10, **SIZES)
    model.train(1, datamodule=cells, **QUIET)
    assert model.expression_space_.units == "log1p"


@pytest.fixture
def trained(files, tmp_path):
    cells = stream(files, tmp_path, **KEYS)
    scvi.settings.seed = 0
    model = sm.ACTIVA(registry=cells.registry, **SIZES)
    model.train(8, warmup_epochs=6, datamodule=cells, **QUIET)
    return model, cells


def test_what_generation_needs_is_that_of_all_cells(files, tmp_path, trained):
    """A model in memory with the same weights takes the same from the same cells."""
    model, cells = trained
    model.save(tmp_path / "model")
    memory = sm.ACTIVA.load(tmp_path / "model", adata=files[0][order(cells)].copy())
    assert len(model.posterior_) == 700
    batches = memory._training_batches

    def without_a_draw(rows=None):
        # torch's loaders draw a number at each pass
        with torch.random.fork_rng():
            return list(batches(rows))

    memory._training_batches = without_a_draw
    torch.manual_seed(1)
    memory._prepare_generation()
    memory._calibrate(dispersion=False, spread=True, margins=True)
    torch.manual_seed(1)
    model._stream = cells
    model._prepare_generation()
    model._calibrate(dispersion=False, spread=True, margins=True)
    np.testing.assert_allclose(model.posterior_.mean, memory.posterior_.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.posterior_.attributes.codes, memory.posterior_.attributes.codes)
    assert (model.generate(300, seed=0).X != memory.generate(300, seed=0).X).nnz == 0


def test_start_values_are_those_of_the_sample(files, tmp_path):
    """With a sample of all cells, those of a model in memory."""
    cells = stream(files, tmp_path, **KEYS)
    model = sm.ACTIVA(registry=cells.registry, **SIZES)
    model.train(1, datamodule=cells, plan_kwargs={"lr": 1e-12}, **QUIET)
    adata = files[0][order(cells)].copy()
    sm.ACTIVA.setup_anndata(adata, **KEYS)
    memory = sm.ACTIVA(adata, **SIZES)
    for name in ("label_baseline", "log_library_mean", "log_library_std"):
        torch.testing.assert_close(getattr(model.module.decoder, name), getattr(memory.module.decoder, name))
    torch.testing.assert_close(model.module.design.mean, memory.module.design.mean)
    assert cells.sample.n_obs == 700
    assert stream(files, tmp_path, rebuild=True, sample_size=50).sample.n_obs == 50


def test_it_learns(files, tmp_path, learned):
    cells = stream(files, tmp_path, sm.ACTINN)
    model = sm.ACTINN(registry=cells.registry, n_hidden=(16,))
    model.train(40, datamodule=cells, plan_kwargs={"lr": 1e-2}, **QUIET)
    adata = files[0]
    found = model.predict(adata)
    learned("accuracy", (found.astype(str) == adata.obs["cell_type"].astype(str)).mean(), above=0.8)


def test_same_seed_same_model(files, tmp_path):
    def run():
        scvi.settings.seed = 3
        cells = stream(files, tmp_path, rebuild=True)
        model = sm.ACTIVA(registry=cells.registry, **SIZES)
        model.train(2, datamodule=cells, **QUIET)
        return model.generate(100, seed=0).X

    assert (run() != run()).nnz == 0


def test_validation_cells_are_not_trained_on(files, tmp_path):
    cells = stream(files, tmp_path)
    model = sm.ACTIVA(registry=cells.registry, **SIZES)
    model.train(3, train_size=0.8, early_stopping=True, datamodule=cells, **QUIET)
    assert len(model.history["elbo_validation"]) == 3
    assert len(model.posterior_) == cells.n_train == 560 and cells.n_val == 140
    assert sum(len(tensors["X"]) for tensors in cells.val_dataloader()) == 140


def test_class_weights_are_those_of_all_cells(files, tmp_path):
    cells = stream(files, tmp_path, sm.ACTINN, sample_size=20)
    model = sm.ACTINN(registry=cells.registry, class_weights="balanced", filter_genes=True)
    model.train(1, datamodule=cells, **QUIET)
    counts = files[0].obs["cell_type"].value_counts().sort_index().to_numpy()
    np.testing.assert_allclose(model.module.class_weights, 700 / (3 * counts), rtol=1e-5)
    assert 0 < model.module.classifier.gene_mask.sum() < 40


def test_restarts(files, tmp_path):
    cells = stream(files, tmp_path, sm.BetaTCVAE)
    model = sm.BetaTCVAE(registry=cells.registry, gene_likelihood="nb", **SIZES)
    model.train(2, n_restarts=3, restart_epochs=1, datamodule=cells, **QUIET)
    assert model.restarts_["chosen"].sum() == 1 and len(model.posterior_) == 700


def test_a_model_goes_on_after_loading(files, tmp_path, trained):
    model, cells = trained
    model.save(tmp_path / "model")
    loaded = sm.ACTIVA.load(tmp_path / "model")
    assert (loaded.generate(50, seed=0).X != model.generate(50, seed=0).X).nnz == 0
    before = loaded.module.decoder.label_baseline.clone()
    loaded.train(1, datamodule=cells, plan_kwargs={"lr": 1e-12}, **QUIET)
    assert len(loaded.history["train_loss"]) == 9
    torch.testing.assert_close(loaded.module.decoder.label_baseline, before)
    with pytest.raises(RuntimeError, match="trained on cells on disk. Give cells"):
        model.get_latent_representation()
    assert model.get_latent_representation(files[0]).shape == (700, 4)


def test_a_collection_is_used_again_and_replaced_when_asked(files, tmp_path):
    path = tmp_path / "cells.zarr"
    first = order(stream(files, tmp_path))
    np.testing.assert_array_equal(order(sm.ACTIVA.setup_annbatch(path, batch_key="batch")), first)
    with pytest.raises(OSError, match="exists already.*`rebuild=True`"):
        stream(files, tmp_path)
    with pytest.raises(ValueError, match=r"needs the files.*`paths=\[...\]`"):
        sm.ACTIVA.setup_annbatch(path, rebuild=True)
    assert stream((None, files[1][:1]), tmp_path, rebuild=True).n_obs == 300
    # what fails leaves the old one
    files[0][:, :30].copy().write_h5ad(tmp_path / "broken.h5ad")
    with pytest.raises(ValueError, match="has other genes"):
        sm.ACTIVA.setup_annbatch(path, [files[1][0], tmp_path / "broken.h5ad"], rebuild=True)
    assert sm.ACTIVA.setup_annbatch(path).n_obs == 300


def test_a_collection_in_the_order_of_the_files(files, tmp_path):
    assert (np.diff(order(stream(files, tmp_path, shuffle=False))) == 1).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: a[:, :30].copy(), ValueError, "has other genes.*0 that the first lacks, 10 that it lacks"),
        (lambda a: ad.AnnData(a.X.tocsc(), a.obs, a.var), ValueError, r"stored by gene \(CSC\).*tocsr"),
        (lambda a: ad.AnnData(-a.X, a.obs, a.var), ValueError, "negative values"),
        (lambda a: ad.AnnData(a.X * np.nan, a.obs, a.var), ValueError, "NaN"),
        (lambda a: ad.AnnData(a.X, a.obs[["batch"]], a.var), (KeyError, ValueError), "cell_type"),
        (lambda a: ad.AnnData(a.X, a.obs, a.var.rename(index={"gene_1": "gene_0"})), ValueError, "repeats"),
    ],
)
def test_files_that_cannot_be_streamed(files, tmp_path, change, error, message):
    adata, paths = files
    change(adata[300:].copy()).write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(error, match=message):
        stream((None, [paths[0], tmp_path / "other.h5ad"]), tmp_path)


def test_missing_files_and_layers(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere.h5ad"):
        stream((None, [tmp_path / "nowhere.h5ad"]), tmp_path)
    with pytest.raises(KeyError, match=r"no .*counts.*Layers: \['log'\]"):
        stream(files, tmp_path, layer="counts")
    with pytest.raises(ValueError, match="would overwrite `paths`"):
        sm.ACTIVA.setup_annbatch(files[1][1], [files[1][1]], rebuild=True)


def test_counts_are_checked_in_all_cells(files, tmp_path):
    """One cell in a thousand is enough."""
    adata, paths = files
    x = adata.X.tolil()
    x[650, 7] = 2.5
    ad.AnnData(sp.csr_matrix(x), adata.obs, adata.var).write_h5ad(tmp_path / "half.h5ad")
    cells = stream((None, [tmp_path / "half.h5ad"]), tmp_path, sample_size=10)
    model = sm.ACTIVA(registry=cells.registry, **SIZES)
    with pytest.raises(ValueError, match="integer"):
        model.train(1, datamodule=cells, **QUIET)
    assert not model.is_trained and model.adata is None


def test_what_does_not_fit_is_refused(files, tmp_path, trained):
    model, cells = trained
    adata = files[0]
    sm.ACTIVA.setup_anndata(adata, **KEYS)
    memory = sm.ACTIVA(adata, **SIZES)
    with pytest.raises(ValueError, match=r"cells in memory.*`ACTIVA\(registry=datamodule.registry\)`"):
        memory.train(1, datamodule=cells)
    with pytest.raises(RuntimeError, match=r"has no data.*`train\(datamodule=...\)`"):
        model.train(1)
    with pytest.raises(TypeError, match="`datamodule` must be of type StreamedCells"):
        model.train(1, datamodule=adata)
    with pytest.raises(ValueError, match="`datasplitter_kwargs` are for cells in memory"):
        model.train(1, datamodule=cells, datasplitter_kwargs={"drop_last": True})
    for several in ({"devices": 2}, {"devices": [0, 1]}, {"devices": -1}, {"strategy": "ddp"}):
        with pytest.raises(ValueError, match="one process"):
            model.train(1, datamodule=cells, accelerator="cpu", **several)
    callback = sm.train.RealismCallback(every_n_epochs=1)
    with pytest.raises(ValueError, match="compares cells in memory"):
        model.train(1, datamodule=cells, callbacks=[callback], **QUIET)
    other = sm.ACTIVA.setup_annbatch(tmp_path / "cells.zarr", labels_key="batch")
    with pytest.raises(ValueError, match="other genes, types or covariates"):
        model.train(1, datamodule=other)
    with pytest.raises(TypeError, match=r"no \['batch_key'\]"):
        sm.ACTINN.setup_annbatch(tmp_path / "cells.zarr", labels_key="cell_type", batch_key="batch")


@pytest.mark.parametrize("name", ["WGANGP", "InfoWGANGP", "MichiGAN"])
def test_models_in_memory_alone(name, tmp_path):
    with pytest.raises(TypeError, match=f"{name} trains on cells in memory alone"):
        getattr(sm, name).setup_annbatch(tmp_path / "cells.zarr")


def test_without_annbatch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "annbatch", None)
    with pytest.raises(ImportError, match="ACTIVA.setup_annbatch` needs annbatch, .*extra 'annbatch'"):
        sm.ACTIVA.setup_annbatch(tmp_path / "cells.zarr")
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    with pytest.raises(ImportError, match="for Python 3.12 or newer"):
        sm.ACTIVA.setup_annbatch(tmp_path / "cells.zarr")


def test_a_backed_anndata_is_told_the_way(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match="setup_annbatch"):
        sm.ACTIVA.setup_anndata(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"), labels_key="cell_type")
