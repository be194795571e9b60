"""Cells that lie in files: the same table as of those in memory, and no more is read than is compared."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from anndata.io import read_elem, sparse_dataset

import scmimic as sm
from scmimic.cells import _layers, _units
from scmimic.tl.evaluation import _cells

SETTINGS = {"labels_key": "cell_type", "metrics": ["mmd", "mean_log_ratio"], "min_cells": 15, "max_cells": 40}


@pytest.fixture(scope="module")
def cells():
    """300 real, 260 synthetic and 240 training cells."""
    whole = sm.datasets.synthetic_counts(n_obs=800, n_vars=40, n_labels=2, seed=0)
    return {"adata": whole[:300].copy(), "synthetic": whole[300:560].copy(), "train": whole[560:].copy()}


def stored(cells, folder, kind):
    """The cells in files of a kind."""
    found = {}
    for name, one in cells.items():
        one = one.copy()
        path = folder / f"{name}.{kind.split()[0]}"
        if kind == "h5ad dense":
            one.X = one.X.toarray()
        if kind == "h5ad columns":
            one.X = sp.csc_matrix(one.X)
        if kind == "zarr":
            one.write_zarr(path)
            group = zarr.open_group(path, mode="r")
            found[name] = ad.AnnData(sparse_dataset(group["X"]), obs=read_elem(group["obs"]), var=one.var)
        else:
            one.write_h5ad(path)
            found[name] = ad.read_h5ad(path, backed="r")
    return found


@pytest.mark.parametrize("kind", ["h5ad", "h5ad dense", "h5ad columns", "zarr"])
def test_files_give_the_table_and_the_page_of_memory(cells, tmp_path, kind):
    expected = sm.tl.evaluate(**{name: one.copy() for name, one in cells.items()}, **SETTINGS)
    files = stored(cells, tmp_path, kind)
    found = sm.tl.evaluate(**files, **SETTINGS)
    pd.testing.assert_frame_equal(found, expected)
    assert "realism" in files["adata"].uns
    adata, synthetic, train = files.values()
    page = sm.report(adata, synthetic, tmp_path / "page.html", train=train, basis="pca", **SETTINGS)
    assert "Real and synthetic cells in one PCA" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_of_a_large_file_some_cells_are_read(cells, tmp_path, monkeypatch, kind):
    """At random, in pieces, and the training cells whole."""
    monkeypatch.setattr(_cells, "_MAX_CELLS_READ", 100)
    monkeypatch.setattr(_cells, "_MORE_READ", 3)
    monkeypatch.setattr(_layers, "_PIECE", 16)
    files, settings = stored(cells, tmp_path, kind), SETTINGS | {"seed": 3}
    with pytest.warns(UserWarning, match="`adata` lies in a file: 120 of its 300 cells, drawn at random, were read"):
        found = sm.evaluate(**files, **settings)
    rng = {name: np.random.default_rng(3) for name in ("adata", "synthetic")}
    rows = {name: np.sort(one.choice(cells[name].n_obs, 120, replace=False)) for name, one in rng.items()}
    some = {name: cells[name][rows[name]].copy() for name in rows}
    expected = sm.evaluate(**some, train=cells["train"].copy(), **settings)
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.adata.n_obs == found.synthetic.n_obs == 120
    assert found.params["n_real"] == 300 and found.params["n_train"] == 240
    assert len([text for text in found.faults if "lies in a file" in text]) == 2


@pytest.fixture
def pieces(cells, tmp_path, monkeypatch):
    """The cells in files, read 16 at a time, and how many were read each time; reading a file at once fails."""
    monkeypatch.setattr(_layers, "_PIECE", 16)
    files = stored(cells, tmp_path, "h5ad")
    kind = type(files["synthetic"].X)

    def whole(self):
        raise AssertionError("read at once")

    read, heights = kind.__getitem__, []

    def noted(self, index):
        found = read(self, index)
        heights.append(found.shape[0])
        return found

    monkeypatch.setattr(kind, "to_memory", whole)
    monkeypatch.setattr(kind, "__getitem__", noted)
    return files, heights


def test_a_file_is_not_read_at_once(pieces, monkeypatch):
    files, heights = pieces
    monkeypatch.setattr(_cells, "_MAX_CELLS_READ", 100)
    monkeypatch.setattr(_cells, "_MORE_READ", 1)
    with pytest.warns(UserWarning, match="100 of its 260 cells"):
        sm.evaluate(files["adata"], files["synthetic"], baselines=(), **SETTINGS)
    assert max(heights) == 16


def test_cells_are_placed_in_an_embedding_in_pieces(cells, pieces, monkeypatch):
    """All but those that it is fitted on."""
    files, heights = pieces
    monkeypatch.setattr(_units, "_SHOWN", 10)
    reference, settings = cells["train"], {"basis": "pca", "n_comps": 5}
    adata, synthetic = (cells[name].copy() for name in ("adata", "synthetic"))
    sm.tl.joint_embedding(adata, synthetic, reference=reference, **settings)
    sm.tl.joint_embedding(files["adata"], files["synthetic"], reference=reference, **settings)
    for one, name in ((adata, "adata"), (synthetic, "synthetic")):
        np.testing.assert_allclose(files[name].obsm["X_joint_pca"], one.obsm["X_joint_pca"], atol=1e-5)
    assert heights.count(16) >= 300 // 16 + 260 // 16 and max(heights) == 16


def test_only_the_layer_that_is_compared_is_read(cells):
    one = cells["adata"].copy()
    one.layers["log"], one.layers["other"] = one.X.log1p(), one.X * 2
    rows = np.array([0, 7, 8])
    found = _layers.read_stored(one, "log", rows, further=("other", "none"))
    assert found.X is None and set(_layers.layer_names(found)) == {"log", "other"}
    assert (found.layers["log"] != one.layers["log"][rows]).nnz == 0
    found = _layers.read_stored(one, "none", rows)
    assert (found.X != one.X[rows]).nnz == 0 and not _layers.layer_names(found)
    assert found.obs_names.equals(one.obs_names[rows])


def test_copies_of_cells_in_files_are_in_memory(cells, tmp_path):
    files = stored(cells, tmp_path, "h5ad")
    real, synthetic = sm.tl.joint_embedding(files["adata"], files["synthetic"], basis="pca", n_comps=5, copy=True)
    assert not real.isbacked and not synthetic.isbacked
    assert "X_joint_pca" not in files["adata"].obsm
