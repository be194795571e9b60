import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.datasets import synthetic_counts


def test_shape_type_and_columns():
    adata = synthetic_counts(n_obs=120, n_vars=40, n_labels=4, n_batches=3)
    assert adata.shape == (120, 40)
    assert sp.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert (adata.X.data == np.rint(adata.X.data)).all()
    assert adata.X.data.min() >= 1
    assert adata.obs["cell_type"].nunique() == 4
    assert adata.obs["batch"].value_counts().tolist() == [40, 40, 40]
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique


def test_seed():
    assert (synthetic_counts(seed=1).X != synthetic_counts(seed=1).X).nnz == 0
    assert (synthetic_counts(seed=1).X != synthetic_counts(seed=2).X).nnz > 0


def test_totals_follow_the_library_size_and_scatter_more_than_poisson():
    adata = synthetic_counts(n_obs=2000, n_vars=60, n_labels=1)
    total = np.asarray(adata.X.sum(axis=1)).ravel()
    library = adata.obs["library_size"].to_numpy()
    assert (total / library).mean() == pytest.approx(1, abs=0.02)
    # negative-binomial: variance mu + 0.3 mu^2 around the gene's share of the library
    x = adata.X.toarray()
    mu = library[:, None] * (x.sum(axis=0) / library.sum())
    dispersion = (((x - mu) ** 2 - mu).sum(axis=0) / (mu**2).sum(axis=0))[x.mean(axis=0) > 2]
    assert np.median(dispersion) == pytest.approx(0.3, abs=0.05)


def test_labels_and_batches_shift_genes():
    adata = synthetic_counts(n_obs=1500, n_vars=60, n_labels=3, n_batches=2)
    share = adata.X.toarray() / adata.obs["library_size"].to_numpy()[:, None]

    def fold(mask):
        return share[mask].mean(axis=0) / share[~mask].mean(axis=0)

    labels = np.array([fold((adata.obs["cell_type"] == f"type_{i}").to_numpy()) for i in range(3)])
    # every gene belongs to the program of one type, which raises it several times
    assert (labels.max(axis=0) > 2).all()
    assert np.bincount(labels.argmax(axis=0)).tolist() == [20, 20, 20]
    batches = np.log(fold((adata.obs["batch"] == "batch_0").to_numpy()))
    assert 0.1 < batches.std() < 0.6


@pytest.mark.parametrize("n_obs", [3, 20])
def test_rare_and_tiny(n_obs):
    adata = synthetic_counts(n_obs=n_obs, n_vars=3, n_labels=3)
    assert adata.obs["cell_type"].value_counts().min() >= 1
    assert adata.X.sum(axis=1).min() >= 1


@pytest.mark.parametrize("kwargs", [{"n_obs": 0}, {"n_obs": 2}, {"n_vars": 2}, {"n_obs": 3, "n_batches": 4}])
def test_impossible_numbers(kwargs):
    with pytest.raises(ValueError, match="n_obs[=`]"):
        synthetic_counts(**kwargs)
