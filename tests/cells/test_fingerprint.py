import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, fields

from scmimic.cells import _fingerprint
from scmimic.cells._fingerprint import changes, take_fingerprint


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    x = sp.csr_matrix(rng.poisson(0.5, (1000, 40)).astype(np.float32))
    obs = pd.DataFrame({"kind": rng.choice(["a", "b"], 1000), "size": rng.random(1000)}, index=map(str, range(1000)))
    return ad.AnnData(x, obs=obs, obsm={"X_code": rng.normal(size=(1000, 3))})


def register(cells):
    manager = AnnDataManager(
        fields=[
            fields.LayerField(REGISTRY_KEYS.X_KEY, None, is_count_data=False),
            fields.CategoricalObsField(REGISTRY_KEYS.LABELS_KEY, "kind"),
            fields.CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, None),
            fields.NumericalObsField(REGISTRY_KEYS.SIZE_FACTOR_KEY, "size"),
            fields.ObsmField("code", "X_code"),
        ],
        setup_method_args={},
    )
    manager.register_fields(cells)
    return manager


def test_what_it_holds(cells):
    found = take_fingerprint(register(cells))
    assert (found["n_obs"], found["n_vars"]) == (1000, 40)
    assert set(found["values"]) == {"adata.X", "adata.obsm['X_code']"}
    # what scvi-tools makes where no batch is named is not the user's
    assert set(found["columns"]) == {"adata.obs['kind']", "adata.obs['size']"}
    assert found["values"]["adata.X"][0] == cells.X.sum()
    # it is saved with models
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.toarray(),
        lambda x: x.tocsc(),
        lambda x: x.astype(np.int16),
        lambda x: x.astype(np.float64).toarray(order="F"),
    ],
)
def test_form_does_not_matter(cells, form):
    manager = register(cells)
    before = take_fingerprint(manager)
    cells.X = form(cells.X)
    assert not changes(before, take_fingerprint(manager))


def test_type_of_a_column_does_not_matter(cells):
    cells.obs["kind"] = np.random.default_rng(0).integers(3, size=1000)
    manager = register(cells)
    before = take_fingerprint(manager)
    for kind in (str, "category", float, object):
        cells.obs["kind"] = cells.obs["kind"].astype(int).astype(kind)
        assert bool(changes(before, take_fingerprint(manager))) == (kind is float)
    cells.obs["kind"] = pd.Categorical(cells.obs["kind"].astype(int), categories=[5, 2, 1, 0])
    assert not changes(before, take_fingerprint(manager))
    cells.obs["kind"] = cells.obs["kind"].to_numpy()[::-1]
    assert list(changes(before, take_fingerprint(manager)).columns) == ["adata.obs['kind']"]


def test_sum_and_sample_notice_what_the_other_cannot(cells):
    manager = register(cells)
    before = take_fingerprint(manager)
    # in a cell that is not looked at
    sampled = set(np.linspace(0, 999, 256).astype(int))
    row = next(i for i in range(1000) if i not in sampled)
    x = cells.X.copy()
    cells.X[row, cells.X[row].indices[0]] += 1
    now = take_fingerprint(manager)
    assert now["values"]["adata.X"][1] == before["values"]["adata.X"][1]
    assert "sum of" in str(changes(before, now))
    # values that change places
    cells.X = x[::-1].copy()
    now = take_fingerprint(manager)
    assert now["values"]["adata.X"][0] == before["values"]["adata.X"][0]
    found = changes(before, now)
    assert str(found) == "the values of `adata.X` changed"
    assert not found.genes
    assert not found.columns


def test_rounding_of_large_sums_is_no_change(cells):
    manager = register(cells)
    cells.X = cells.X.toarray().astype(np.float64) * np.pi
    before = take_fingerprint(manager)
    cells.X = cells.X.astype(np.float32)
    assert not changes(before, take_fingerprint(manager))
    cells.X = cells.X * np.float32(1 + 1e-6)
    assert changes(before, take_fingerprint(manager))


def test_size_factors_codes_and_genes(cells):
    manager = register(cells)
    before = take_fingerprint(manager)
    cells.obs["size"] *= 2
    cells.obsm["X_code"] = cells.obsm["X_code"][:, ::-1].copy()
    cells.var_names = cells.var_names[::-1]
    found = changes(before, take_fingerprint(manager))
    assert list(found.columns) == ["adata.obs['size']"]
    assert list(found.values) == ["adata.obsm['X_code']"]
    assert found.genes
    assert not found.cells


def test_columns_alone(cells):
    manager = register(cells)
    found = take_fingerprint(manager, columns_only=True)
    assert set(found) == {"columns"}
    cells.X = cells.X * 2
    assert not changes(found, take_fingerprint(manager))


def test_sums_of_many_values_are_precise(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.gamma(0.3, 3, (400, 3000)).astype(np.float32)
    for form in (x, np.asfortranarray(x)):
        assert _fingerprint._sum(form) == pytest.approx(x.sum(dtype=np.float64), rel=2e-8)
        monkeypatch.setattr(_fingerprint, "_MANY", 2_000_000)
        assert _fingerprint._sum(form) == pytest.approx(x.sum(dtype=np.float64), rel=1e-12)
        monkeypatch.undo()
