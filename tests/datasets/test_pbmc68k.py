import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from scmimic.datasets import pbmc68k_reduced


@pytest.fixture(scope="module")
def source():
    return sc.datasets.pbmc68k_reduced()


def test_forward_transform_gives_the_packaged_values_back(source):
    adata = pbmc68k_reduced()
    n_counts = source.obs["n_counts"].to_numpy(dtype=float)[:, None]
    forward = np.log1p(adata.X.toarray().astype(float) / n_counts * 1e4)
    # the package keeps three decimals
    assert np.abs(forward - source.raw.X.toarray()).max() < 0.0005 + 1e-6


def test_counts_before_rounding_are_nearly_integers(source):
    n_counts = source.obs["n_counts"].to_numpy(dtype=float)[:, None]
    raw = np.expm1(source.raw.X.toarray().astype(float)) * n_counts / 1e4
    deviation = np.abs(raw - np.rint(raw))[raw > 0]
    assert np.median(deviation) < 0.001
    assert deviation.max() < 0.1


def test_contents(source):
    adata = pbmc68k_reduced()
    assert adata.shape == (700, 765)
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert adata.X.has_sorted_indices
    assert adata.X.data.min() == 1
    assert adata.X.nnz == source.raw.X.nnz
    assert list(adata.var_names) == list(source.raw.var_names)
    assert adata.obs["bulk_labels"].nunique() == 10
    assert adata.obs["louvain"].nunique() == 11
    assert (np.asarray(adata.X.sum(axis=1)).ravel() < adata.obs["n_counts"]).all()
    assert list(adata.obsm) == ["X_umap"]
    assert set(adata.uns) == {"bulk_labels_colors", "louvain_colors"}
    assert adata.raw is None
