import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.metrics._arrays import as_matrix, check_same_features, fit_pca, subsample


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_input_becomes_csr_with_the_same_values(container):
    dense = np.arange(6, dtype=np.int64).reshape(2, 3)
    out = as_matrix(container(dense), "x")
    assert isinstance(out, sp.csr_matrix)
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out.toarray(), dense)


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
