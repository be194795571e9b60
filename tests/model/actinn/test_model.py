import numpy as np
import pytest
import scipy.sparse as sp
import torch

import scmimic as sm
from scmimic.model.actinn._model import expressed_genes

QUIET = {"enable_progress_bar": False}


@pytest.fixture
def split():
    data = sm.datasets.synthetic_counts(n_obs=600, n_vars=80, n_labels=4, seed=1)
    return data[:400].copy(), data[400:].copy()


def fit(train, **kwargs):
    sm.ACTINN.setup_anndata(train, labels_key="cell_type")
    model = sm.ACTINN(train, **kwargs)
    model.train(max_epochs=60, plan_kwargs={"lr": 1e-3}, **QUIET)
    return model


def test_learns_held_out_types(split, learned):
    train, test = split
    model = fit(train)
    truth = test.obs["cell_type"].astype(str)
    del test.obs["cell_type"]
    predicted = model.predict(test)
    learned("accuracy", (predicted.astype(str) == truth).mean(), above=0.9)
    assert predicted.index.equals(test.obs_names)
    soft = model.predict(test, soft=True)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-5)
    assert (soft.idxmax(axis=1) == predicted.astype(str)).all()
    part = model.predict(test, indices=[3, 5], batch_size=1)
    assert (part == predicted.iloc[[3, 5]]).all()


def test_save_and_load(split, tmp_path):
    train, test = split
    model = fit(train, class_weights="balanced", filter_genes=True)
    model.save(tmp_path / "m")
    for loaded in (sm.ACTINN.load(tmp_path / "m"), sm.ACTINN.load(tmp_path / "m", adata=train)):
        assert (loaded.predict(test) == model.predict(test)).all()


def test_default_epochs_cover_2000_steps(split, monkeypatch):
    train, _ = split
    sm.ACTINN.setup_anndata(train, labels_key="cell_type")
    model = sm.ACTINN(train)
    seen = {}
    monkeypatch.setattr(model, "_train", seen.update)
    model.train()
    assert seen["max_epochs"] * (train.n_obs // 128) >= 2000


def test_published_optimiser(split):
    train, _ = split
    sm.ACTINN.setup_anndata(train, labels_key="cell_type")
    model = sm.ACTINN(train)
    model.train(max_epochs=3, plan_kwargs={"lr_decay_steps": 2}, **QUIET)
    optimizer = model.trainer.optimizers[0]
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["weight_decay"] == 0.005
    # 3 epochs of 4 batches: 12 steps, 6 decays
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 * 0.95**6)


def test_unlabelled_cells_do_not_train(split, learned):
    train, test = split
    train.obs["cell_type"] = train.obs["cell_type"].astype(str)
    x = train.X.toarray()
    x[:100] = np.random.default_rng(0).permuted(x[:100], axis=1)
    train.X = sp.csr_matrix(x)
    train.obs.loc[train.obs_names[:100], "cell_type"] = "Unknown"
    model = fit(train)
    assert "Unknown" not in model.label_categories_
    learned("accuracy", (model.predict(test).astype(str) == test.obs["cell_type"].astype(str)).mean(), above=0.85)


def test_class_weights(split):
    train, _ = split
    sm.ACTINN.setup_anndata(train, labels_key="cell_type")
    counts = train.obs["cell_type"].value_counts()
    model = sm.ACTINN(train, class_weights="balanced")
    expected = [len(train) / (4 * counts[name]) for name in model.label_categories_]
    np.testing.assert_allclose(model.module.class_weights, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="no weight for"):
        sm.ACTINN(train, class_weights={"nobody": 1.0})
    with pytest.raises(ValueError, match="balanced"):
        sm.ACTINN(train, class_weights="other")


def test_gene_filter_by_brute_force(split):
    train, _ = split
    x = train.X.toarray().astype(float)
    y = np.log2(1 + x / x.sum(1, keepdims=True) * 1e4)
    total = y.sum(0)
    first = (total >= np.percentile(total, 1)) & (total <= np.percentile(total, 99))
    cv = y.std(0) / y.mean(0)
    second = (cv >= np.percentile(cv[first], 1)) & (cv <= np.percentile(cv[first], 99))
    np.testing.assert_array_equal(expressed_genes(train.X), first & second)


def test_query_errors(split):
    train, test = split
    sm.ACTINN.setup_anndata(train, labels_key="cell_type")
    model = sm.ACTINN(train)
    with pytest.raises(RuntimeError, match="not trained"):
        model.predict(test)
    model = fit(train)
    with pytest.raises(ValueError, match="another order"):
        model.predict(test[:, test.var_names[::-1]])
    with pytest.raises(ValueError, match="lacks"):
        model.predict(test[:, 1:])
