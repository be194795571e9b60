import logging

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData, ImplicitModificationWarning

import scmimic.pp as pp
from scmimic.datasets import synthetic_counts


def reference_recipe(counts, min_cells, min_genes, target_sum):
    """The recipe on a dense array; returns values, kept cells and kept genes."""
    cells = np.flatnonzero((counts > 0).sum(axis=1) >= min_genes)
    genes = np.flatnonzero((counts[cells] > 0).sum(axis=0) >= min_cells)
    cells = cells[counts[np.ix_(cells, genes)].sum(axis=1) > 0]
    kept = counts[np.ix_(cells, genes)].astype(float)
    return kept / kept.sum(axis=1, keepdims=True) * target_sum, cells, genes


@pytest.fixture
def sparse_counts():
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(0.3, 0.5, 60) * rng.gamma(1, 1, (80, 1)))


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, np.array])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_equals_dense_reference(sparse_counts, kind, dtype):
    adata = AnnData(kind(sparse_counts.astype(dtype)))
    expected, cells, genes = reference_recipe(sparse_counts, 3, 5, 20_000)
    assert 0 < len(cells) < 80
    assert 0 < len(genes) < 60
    assert pp.recipe_marouf20(adata, min_genes=5) is None
    assert list(adata.obs_names) == [str(i) for i in cells]
    assert list(adata.var_names) == [str(i) for i in genes]
    x, counts = (m.toarray() if sp.issparse(m) else m for m in (adata.X, adata.layers["counts"]))
    np.testing.assert_allclose(x, expected, rtol=1e-5)
    np.testing.assert_array_equal(counts, sparse_counts[np.ix_(cells, genes)])
    assert sp.issparse(adata.X) == (kind is not np.array)


def test_cells_are_filtered_before_genes():
    """Gene 3 is in three cells, one of which is too poor: in the other order gene 3 would stay."""
    counts = np.zeros((6, 4), dtype=np.float32)
    counts[:5, :3] = 1
    counts[[0, 1, 5], 3] = 1
    adata = AnnData(sp.csr_matrix(counts))
    pp.recipe_marouf20(adata, min_genes=3, min_cells=3)
    assert list(adata.var_names) == ["0", "1", "2"]
    assert adata.n_obs == 5


def test_cells_emptied_by_the_gene_filter_go(caplog):
    counts = np.zeros((5, 5), dtype=np.float32)
    counts[:4, :2] = 2
    counts[4, 3:] = 1
    adata = AnnData(sp.csr_matrix(counts))
    with caplog.at_level(logging.WARNING, logger="scmimic"):
        pp.recipe_marouf20(adata, min_genes=2, min_cells=3)
    assert adata.shape == (4, 2)
    assert "1 cells" in caplog.text


def test_copy_leaves_the_original():
    adata = synthetic_counts()
    before = adata.X.copy()
    out = pp.recipe_marouf20(adata, target_sum=100, copy=True)
    assert (adata.X != before).nnz == 0
    assert "counts" not in adata.layers
    np.testing.assert_allclose(np.asarray(out.X.sum(axis=1)).ravel(), 100, rtol=1e-5)


def test_view_is_filtered_in_place():
    adata = synthetic_counts()
    view = adata[:100]
    # anndata says that the view becomes an object of its own
    with pytest.warns(ImplicitModificationWarning):
        pp.recipe_marouf20(view)
    assert not view.is_view
    assert "counts" in view.layers
    assert "counts" not in adata.layers


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN"), (-1, "negative"), (0.5, "no integers"), (np.inf, "infinite")]
)
@pytest.mark.parametrize("dense", [True, False])
def test_what_is_not_counts_is_refused_and_nothing_changes(value, message, dense):
    adata = synthetic_counts()
    x = adata.X.toarray()
    x[3, 4] = value
    adata.X = x if dense else sp.csr_matrix(x)
    with pytest.raises(ValueError, match=message):
        pp.recipe_marouf20(adata)
    assert adata.shape == (300, 100)
    assert not adata.layers


def test_second_run_points_to_the_counts_layer():
    adata = synthetic_counts()
    pp.recipe_marouf20(adata)
    with pytest.raises(ValueError, match=r"layers\['counts'\]"):
        pp.recipe_marouf20(adata)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"min_genes": 1000}, "No cell"), ({"min_cells": 1000}, "No gene"), ({"target_sum": 0}, "target_sum")],
)
def test_empty_results_are_refused_before_anything_changes(kwargs, message):
    adata = synthetic_counts()
    with pytest.raises(ValueError, match=message):
        pp.recipe_marouf20(adata, **kwargs)
    assert adata.shape == (300, 100)
    assert "n_genes" not in adata.obs


def test_no_data():
    with pytest.raises(ValueError, match="empty"):
        pp.recipe_marouf20(AnnData(shape=(3, 3)))
