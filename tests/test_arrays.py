import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

from scmimic import _arrays
from scmimic._arrays import (
    as_labels,
    as_matrix,
    as_pair,
    check_same_features,
    column_variance,
    fit_pca,
    forest_input,
    log_normalise,
    row_keys,
    stack,
    subsample,
)
from scmimic.metrics import random_forest_error


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_input_becomes_csr_with_the_same_values(container):
    dense = np.arange(6, dtype=np.int64).reshape(2, 3)
    out = as_matrix(container(dense), "x")
    assert isinstance(out, sp.csr_matrix)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out.toarray(), dense)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, np.asarray])
def test_matrices_in_files_are_read(tmp_path, suffix, kind):
    dense = np.arange(6, dtype=np.float32).reshape(2, 3)
    file = h5py.File(tmp_path / "x.h5ad", "w") if suffix == "h5ad" else zarr.open_group(tmp_path / "x.zarr", mode="w")
    ad.io.write_elem(file, "x", kind(dense))
    x = as_matrix(file["x"] if kind is np.asarray else ad.io.sparse_dataset(file["x"]), "x")
    np.testing.assert_array_equal(x.toarray() if sp.issparse(x) else x, dense)


def test_cells_in_the_place_of_their_matrix_are_refused():
    with pytest.raises(ValueError, match=r"`real` is an object of type AnnData: pass its matrix, such as `adata.X`"):
        random_forest_error(ad.AnnData(np.ones((9, 3))), np.ones((9, 3)))


def test_float32_is_kept_and_not_copied():
    x = np.ones((2, 2), dtype=np.float32)
    assert as_matrix(x, "x") is x


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(3), "two-dimensional"),
        (np.array([["a", "b"]]), "numeric"),
        (np.ones((0, 3)), "empty"),
        (np.array([[1.0, np.nan]]), "1 NaN"),
        (sp.csr_matrix([[1.0, np.inf]]), "infinite"),
    ],
)
def test_bad_input_is_named(bad, message):
    with pytest.raises(ValueError, match=message) as error:
        as_matrix(bad, "some_array")
    assert "some_array" in str(error.value)


def test_feature_mismatch_gives_the_numbers():
    with pytest.raises(ValueError, match=r"'a': 3, 'b': 4"):
        check_same_features(a=np.ones((2, 3)), b=np.ones((2, 4)))


def test_subsample_draws_distinct_rows_in_order():
    x = np.arange(100)[:, None]
    out = subsample(x, 30, np.random.default_rng(0)).ravel()
    assert len(out) == 30
    assert (np.diff(out) > 0).all()
    assert subsample(x, 100, np.random.default_rng(0)) is x


def test_pca_equals_the_singular_value_decomposition_sparse_and_dense():
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, (60, 20)).astype(float)
    centred = x - x.mean(axis=0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    for given in (x, sp.csr_matrix(x)):
        pca = fit_pca(given, 5)
        np.testing.assert_allclose(pca.explained_variance_, s[:5] ** 2 / 59, rtol=1e-6)
        np.testing.assert_allclose(np.abs(pca.transform(given)), np.abs(centred @ vt[:5].T), atol=1e-6)


def test_pca_takes_what_the_data_allow():
    assert fit_pca(sp.csr_matrix(np.random.default_rng(0).normal(size=(6, 4))), 50).n_components_ == 4


def test_pairs_are_checked_cut_and_of_one_kind():
    real, synthetic = np.arange(40.0).reshape(20, 2), np.arange(60.0).reshape(30, 2)
    both = as_pair(real, synthetic, max_cells=25)
    assert [x.shape[0] for x in both] == [20, 25]
    balanced = as_pair(real, synthetic, balance=True, seed=1)
    assert [x.shape[0] for x in balanced] == [20, 20]
    np.testing.assert_array_equal(balanced[1], as_pair(real, synthetic, balance=True, seed=1)[1])
    assert {tuple(row) for row in balanced[1]} <= {tuple(row) for row in synthetic}
    assert all(isinstance(x, sp.csr_matrix) for x in as_pair(real, sp.coo_array(synthetic)))
    with pytest.raises(ValueError, match="columns"):
        as_pair(real, np.ones((3, 5)))
    with pytest.raises(ValueError, match="max_cells"):
        as_pair(real, synthetic, max_cells=0)


def test_labels_are_text_and_complete():
    assert as_labels(pd.Categorical(["b", "a"]), "labels", 2).tolist() == ["b", "a"]
    assert as_labels(pd.Series([3, 1]), "labels", 2).tolist() == ["3", "1"]
    for missing in (None, np.nan, pd.NA, pd.NaT):
        with pytest.raises(ValueError, match="`labels` lacks the label of 1 cells"):
            as_labels(pd.Series(["a", missing], dtype=object), "labels", 2)
    with pytest.raises(ValueError, match="each of the 3 cells"):
        as_labels(["a", "b"], "labels", 3)


@pytest.mark.parametrize("limit", [0, 2**30])
def test_input_of_a_forest_is_dense_where_small(limit, monkeypatch):
    monkeypatch.setattr(_arrays, "_DENSE_LIMIT_BYTES", limit)
    both = stack(np.eye(2), sp.csr_matrix([[3.0, 0.0]]))
    out = forest_input(both)
    assert sp.issparse(out) is (limit == 0)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.toarray() if sp.issparse(out) else out, [[1, 0], [0, 1], [3, 0]])


@pytest.mark.parametrize("container", [sp.csr_matrix, np.asarray])
def test_log_normalised_copy(container):
    x = container(np.array([[1, 3], [2, 0], [0, 0]], dtype=np.float32))
    out = log_normalise(x)
    out = out.toarray() if sp.issparse(out) else out
    np.testing.assert_allclose(out, np.log1p([[2500, 7500], [10000, 0], [0, 0]]), rtol=1e-5)
    assert x.max() == 3


def test_row_keys_are_those_of_the_values():
    x = np.random.default_rng(0).poisson(0.7, (200, 6)).astype(float)
    keys = row_keys(x)
    rows = [row.tobytes() for row in x]
    # the same partition into equal rows
    assert len(set(keys.tolist())) == len(set(rows)) == len(set(zip(keys.tolist(), rows, strict=True))) < 200
    stored = sp.csr_matrix(np.ones_like(x))
    stored.data = x.ravel().copy()
    stored.data[stored.data == 0] = -0.0
    for same in (sp.csr_matrix(x), sp.csc_matrix(x), sp.csr_array(x), x.astype(np.float32), stored):
        assert np.array_equal(row_keys(same), keys)
    assert np.array_equal(row_keys(x, chunk_values=13), keys)
    # where a value stands matters
    assert row_keys(np.eye(2))[0] != row_keys(np.eye(2))[1]


def test_cells_without_any_difference_have_no_components():
    for x in (np.ones((30, 5)), sp.csr_matrix(np.ones((30, 5))), np.zeros((4, 9))):
        with pytest.raises(ValueError, match="all the same"):
            fit_pca(x, 2)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix])
def test_column_variance_is_numpys(container):
    x = np.random.default_rng(0).poisson([[0.5, 3.0, 90.0]], (50, 3)).astype(np.float32)
    np.testing.assert_allclose(column_variance(container(x)), x.astype(float).var(axis=0), rtol=1e-9)
