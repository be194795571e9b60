from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmimic import baselines

FAST = ["Memoriser", "IndependentNB", "Multinomial", "GaussianCopula"]
pytestmark = pytest.mark.parametrize("name", FAST)


def make(name, adata, **kwargs):
    return getattr(baselines, name)(adata, labels_key="cell_type", **kwargs)


def test_contract(cells, name, tmp_path):
    before = cells.copy()
    generator = make(name, cells)
    assert generator.fit(seed=3) is generator
    synthetic = generator.generate(labels={"NK": 7, "T": 5}, seed=1)
    assert synthetic.shape == (12, 20)
    assert sp.issparse(synthetic.X)
    assert synthetic.X.format == "csr"
    assert synthetic.X.dtype == cells.X.dtype
    values = synthetic.X.toarray()
    assert values.min() >= 0
    np.testing.assert_array_equal(values, np.rint(values))
    pd.testing.assert_frame_equal(synthetic.var, cells.var)
    assert list(synthetic.obs["cell_type"]) == ["NK"] * 7 + ["T"] * 5
    assert synthetic.obs["cell_type"].dtype == cells.obs["cell_type"].dtype
    assert synthetic.obs_names.is_unique
    record = synthetic.uns["scmimic"]
    assert record["model"] == name
    assert record["seed"] == 1
    assert record["parameters"]["fit_seed"] == 3
    synthetic.write_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "x.h5ad").X.toarray(), values)
    np.testing.assert_array_equal(cells.X.toarray(), before.X.toarray())
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert not cells.uns


def test_same_seed_same_cells(cells, name):
    first, again = make(name, cells).fit(seed=0), make(name, cells).fit(seed=0)
    a, b, c = (g.generate(40, seed=s).X.toarray() for g, s in ((first, 5), (again, 5), (first, 6)))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_proportions_of_the_data(cells, name):
    synthetic = make(name, cells).fit().generate(60, seed=0)
    assert synthetic.obs["cell_type"].value_counts().to_dict() == {"T": 30, "B": 20, "NK": 10}


def test_label_decides_the_profile(cells, name):
    synthetic = make(name, cells).fit().generate(labels={"T": 400, "B": 400}, seed=0)
    for label in ("T", "B"):
        real = cells[cells.obs["cell_type"] == label].X.toarray()
        fake = synthetic[synthetic.obs["cell_type"] == label].X.toarray()
        error = real.std(0) * np.sqrt(1 / len(real) + 1 / len(fake))
        assert np.all(np.abs(real.mean(0) - fake.mean(0)) < 5 * error + 1e-9)


def test_layer_and_integer_type(cells, name):
    cells.layers["raw"] = cells.X.astype(np.int64)
    cells.X = sp.csr_matrix(np.log1p(cells.X.toarray()))
    with pytest.raises(ValueError, match="raw counts.*layer="):
        make(name, cells)
    synthetic = make(name, cells, layer="raw").fit().generate(10, seed=0)
    assert synthetic.X.dtype == np.int64


def test_without_labels(cells, name):
    synthetic = getattr(baselines, name)(cells, labels_key=None).fit().generate(10, seed=0)
    assert synthetic.shape == (10, 20)
    assert synthetic.obs.shape[1] == 0


def test_clear_errors(cells, name):
    with pytest.raises(KeyError, match=r"'nope'.*cell_type"):
        getattr(baselines, name)(cells, labels_key="nope")
    with pytest.raises(KeyError, match="no layer 'nope'"):
        make(name, cells, layer="nope")
    with pytest.raises(RuntimeError, match="call .fit"):
        make(name, cells).generate(3)
    with pytest.raises(ValueError, match="Known labels"):
        make(name, cells).fit().generate(3, "Platelet")
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(object)
    cells.obs.iloc[0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 300 cells have no value"):
        make(name, cells)
    with pytest.raises(ValueError, match="`adata.X` is empty: 0 cells"):
        make(name, cells[:0])


def test_a_type_without_counts_and_a_type_of_one_cell(name):
    x = np.array([[0, 0], [3, 1]], dtype=np.float32)
    adata = ad.AnnData(x, obs=pd.DataFrame({"cell_type": ["empty", "one"]}, index=["a", "b"]))
    synthetic = make(name, adata).fit().generate(labels={"empty": 3, "one": 4}, seed=0)
    assert synthetic.X[:3].sum() == 0
    assert synthetic.X[3:].sum() > 0
    assert synthetic.shape == (7, 2)


def test_blocks_change_the_size_of_nothing(cells, name, monkeypatch):
    monkeypatch.setattr("scmimic.baselines._base.BLOCK_ENTRIES", 20 * 7)
    synthetic = make(name, cells).fit().generate(labels={"T": 150}, seed=0)
    assert synthetic.shape == (150, 20)
    real = cells[cells.obs["cell_type"] == "T"].X.toarray()
    error = real.std(0) * np.sqrt(2 / 150)
    assert np.all(np.abs(real.mean(0) - synthetic.X.toarray().mean(0)) < 5 * error + 1e-9)
