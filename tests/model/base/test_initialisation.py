"""What a model takes from its data before it learns."""

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from learning import SEED
from sklearn.linear_model import LogisticRegression

import scmimic as sm
from scmimic.model.base._initialisation import label_profiles


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix, sp.csr_array, sp.csc_matrix])
def test_profiles(make):
    x = np.array([[4.0, 0.0], [2.0, 2.0], [0.0, 4.0]])
    profiles = label_profiles(make(x), np.array([0, 0, 2]), 3)
    average = (x.sum(0) + 0.5) / 13
    np.testing.assert_allclose(profiles[0], (x[:2].sum(0) + 4 * average) / 12)
    np.testing.assert_allclose(profiles[1], average)
    np.testing.assert_allclose(profiles.sum(1), 1)


def make(adata, **kwargs):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    return sm.ACTIVA(adata, n_latent=4, n_hidden=(16,), **kwargs)


def test_library_statistics():
    adata = sm.datasets.synthetic_counts(n_obs=100, n_vars=30, seed=0)
    log_total = np.log(np.asarray(adata.X.sum(1)).ravel())
    decoder = make(adata, label_baseline=0).module.decoder
    assert decoder.log_library_mean.item() == pytest.approx(log_total.mean(), rel=1e-5)
    assert decoder.log_library_std.item() == pytest.approx(log_total.std(), rel=1e-5)
    assert decoder.label_baseline is None


def test_baseline_gives_types_from_the_first_epoch(learned):
    """After one epoch the code says little; with a baseline the cells are of the requested types all the same."""
    adata = sm.datasets.synthetic_counts(n_obs=400, n_vars=60, seed=0)
    log = lambda a: np.log1p(a.X.toarray() / np.asarray(a.X.sum(1)).reshape(-1, 1) * 1e4)  # noqa: E731
    judge = LogisticRegression(max_iter=500).fit(log(adata), adata.obs["cell_type"])
    right = {}
    for baseline in (1.0, 0.0):
        scvi.settings.seed = SEED
        model = make(adata, label_baseline=baseline)
        model.train(max_epochs=1, warmup_epochs=1, enable_progress_bar=False)
        cells = model.generate(400, seed=0, match_margins=False)
        right[baseline] = judge.score(log(cells), cells.obs["cell_type"].astype(str))
        assert model.decode(np.zeros((3, 4)), seed=0).obs["cell_type"].notna().all()
        assert model.generate(20, method="prior", seed=0).n_obs == 20
    learned("accuracy", right[1.0], above=0.9, off=right[0.0])


def test_baseline_is_a_share_of_the_log_ratio():
    adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30, seed=0)
    full, part = (make(adata, label_baseline=share).module.decoder.label_baseline for share in (1.0, 0.25))
    torch.testing.assert_close(part, 0.25 * full)
    first = (adata.obs["cell_type"] == adata.obs["cell_type"].cat.categories[0]).to_numpy()
    counts = adata.X[first].sum(0) / adata.X[first].sum()
    assert np.corrcoef(full[0], np.log(np.asarray(counts).ravel() + 1e-4))[0, 1] > 0.5


def test_baseline_is_saved(tmp_path):
    adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30, seed=0)
    model = make(adata, label_baseline=0.5)
    model.train(max_epochs=4, warmup_epochs=2, enable_progress_bar=False, plan_kwargs={"alpha1": 0.1})
    model.save(tmp_path / "model")
    for again in (sm.ACTIVA.load(tmp_path / "model", adata=adata), sm.ACTIVA.load(tmp_path / "model", adata=None)):
        a, b = (m.generate(30, seed=1).X.toarray() for m in (model, again))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_share_out_of_range(share):
    with pytest.raises(ValueError, match="label_baseline"):
        make(sm.datasets.synthetic_counts(n_obs=50, n_vars=20, seed=0), label_baseline=share)
