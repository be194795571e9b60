from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmimic import _keys
from scmimic.cells._attributes import Attributes, AttributeValues
from scmimic.cells._columns import ObsColumn
from scmimic.cells._generated import ALL_CELLS, assemble, resolve_counts, storable

TYPES = ["B", "NK", "T"]
SHARES = np.array([0.2, 0.3, 0.5])


def test_proportions_round_to_exactly_n():
    rng = np.random.default_rng(0)
    for _ in range(200):
        k = int(rng.integers(1, 12))
        names, shares = [str(i) for i in range(k)], rng.dirichlet(np.full(k, 0.3))
        n = int(rng.integers(1, 500))
        got = resolve_counts(n, None, names, shares)
        assert sum(got.values()) == n
        full = np.array([got.get(name, 0) for name in names])
        assert np.all(np.abs(full - n * shares) < 1)


def test_proportions_need_not_sum_to_one():
    assert resolve_counts(10, None, TYPES, np.array([20, 30, 50])) == {"B": 2, "NK": 3, "T": 5}


@pytest.mark.parametrize(
    ("n", "labels", "expected"),
    [
        (7, "NK", {"NK": 7}),
        (7, ["T", "B"], {"T": 4, "B": 3}),
        (np.int64(2), ["T", "B", "NK"], {"T": 1, "B": 1}),
        (None, {"T": 3, "B": np.int32(1), "NK": 0}, {"T": 3, "B": 1}),
        (None, pd.Series({"T": 3, "B": 1}), {"T": 3, "B": 1}),
        (7, pd.Index(["T", "B"]), {"T": 4, "B": 3}),
    ],
)
def test_requested_labels(n, labels, expected):
    got = resolve_counts(n, labels, TYPES, SHARES)
    assert got == expected
    assert list(got) == list(expected)
    assert all(type(v) is int for v in got.values())


@pytest.mark.parametrize(
    ("n", "labels", "expected"),
    [
        (4, 0, {"0": 4}),
        (4, np.int64(10), {"10": 4}),
        (4, np.array([10, 0]), {"10": 2, "0": 2}),
        (None, {0: 2}, {"0": 2}),
        (None, pd.Series([10, 0, 10]).value_counts(), {"10": 2, "0": 1}),
        (None, pd.Series([10, 0, 10], dtype="category").value_counts(), {"10": 2, "0": 1}),
    ],
)
def test_labels_may_be_numbers(n, labels, expected):
    assert resolve_counts(n, labels, ["0", "10"], None) == expected


def test_no_categories():
    assert resolve_counts(5, None, None, None) == {ALL_CELLS: 5}


@pytest.mark.parametrize(
    ("n", "labels", "categories", "error", "match"),
    [
        (0, None, TYPES, ValueError, "`n` must be at least 1"),
        (-3, "B", TYPES, ValueError, "`n` must be at least 1"),
        (2.5, None, TYPES, TypeError, "integer"),
        (10.0, None, TYPES, TypeError, "integer"),
        (True, None, TYPES, TypeError, "integer"),
        ("10", None, TYPES, TypeError, "integer"),
        (None, None, TYPES, ValueError, "`n` is missing"),
        (None, "B", TYPES, ValueError, "`n` is missing"),
        (5, "Platelet", TYPES, ValueError, r"Platelet.*Known labels: \['B', 'NK', 'T'\]"),
        (5, ["B", "x"], TYPES, ValueError, "'x'.*Known labels"),
        (None, {"x": 1}, TYPES, ValueError, "'x'.*Known labels"),
        (5, {"B": 5}, TYPES, ValueError, "a dict .* leave n out"),
        (5, pd.Series(["B", "T"]), TYPES, ValueError, "a Series .* as a list"),
        (None, pd.Series([1, 2], index=["B", "B"]), TYPES, ValueError, "more than once"),
        (None, {}, TYPES, ValueError, "empty"),
        (5, [], TYPES, ValueError, "empty"),
        (5, ["B", "B"], TYPES, ValueError, "more than once"),
        (None, {"B": -1}, TYPES, ValueError, r"labels\['B'\]"),
        (None, {"B": 1.5}, TYPES, TypeError, r"labels\['B'\]"),
        (None, {"B": 0}, TYPES, ValueError, "no cell at all"),
        (5, "B", None, ValueError, "without labels"),
        (None, {"B": 5}, None, ValueError, "without labels"),
    ],
)
def test_clear_errors(n, labels, categories, error, match):
    with pytest.raises(error, match=match):
        resolve_counts(n, labels, categories, SHARES)


@pytest.mark.parametrize("shares", [None, [0.5, 0.5], [0, 0, 0], [-1, 1, 1], [np.nan, 1, 1]])
def test_bad_proportions(shares):
    with pytest.raises(ValueError, match="proportions"):
        resolve_counts(5, None, TYPES, None if shares is None else np.array(shares))


def _attributes(key, names, codes):
    columns = Attributes(ObsColumn.named(key, names))
    return columns, AttributeValues(
        np.column_stack([codes, np.zeros(len(codes), dtype=int)]), np.empty((len(codes), 0))
    )


def _cells(seed=None, parameters=None):
    var = pd.DataFrame({"symbol": ["x", "y", "z"]}, index=["g2", "g0", "g1"])
    x = np.array([[0, 1, 2], [3, 0, 0]])
    return assemble(
        x,
        var,
        *_attributes("cell_type", TYPES, [2, 0]),
        model_name="Toy",
        parameters=parameters or {},
        seed=seed,
        obsm={"X_toy": np.ones((2, 4))},
        dtype=np.float32,
    )


def test_assemble_contract():
    adata = _cells()
    assert sp.issparse(adata.X)
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.float32
    assert list(adata.var_names) == ["g2", "g0", "g1"]
    assert list(adata.var["symbol"]) == ["x", "y", "z"]
    token = adata.obs_names[0].split("_")[1]
    assert list(adata.obs_names) == [f"synthetic_{token}_0", f"synthetic_{token}_1"]
    assert list(adata.obs["cell_type"]) == ["T", "B"]
    assert list(adata.obs["cell_type"].cat.categories) == TYPES
    assert set(adata.uns[_keys.UNS]) == {"model", "version", "parameters", "seed"}


@pytest.mark.parametrize("seed", [None, 7])
def test_assemble_survives_h5ad(tmp_path, seed):
    parameters = {
        "none": None,
        "flag": True,
        "rate": np.float32(0.5),
        "widths": (8, 4),
        "names": ["a", "b"],
        "empty": [],
        "mixed": [1, "a"],
        "nested": {"per": {"CD4/CD8": 1}, "kind": np.float64},
    }
    adata = _cells(seed, parameters)
    adata.write_h5ad(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), adata.X.toarray())
    np.testing.assert_array_equal(back.obsm["X_toy"], np.ones((2, 4)))
    # text is read back in the type that the version of pandas has for it
    pd.testing.assert_frame_equal(back.obs.astype(object), adata.obs.astype(object), check_index_type=False)
    assert back.obs["cell_type"].cat.categories.tolist() == adata.obs["cell_type"].cat.categories.tolist()
    record = back.uns[_keys.UNS]
    assert record["model"] == "Toy"
    assert record["seed"] == ("None" if seed is None else seed)
    assert record["parameters"]["none"] == "None"
    assert bool(record["parameters"]["flag"]) is True
    assert float(record["parameters"]["rate"]) == 0.5
    assert list(record["parameters"]["widths"]) == [8, 4]
    assert list(record["parameters"]["names"]) == ["a", "b"]
    assert record["parameters"]["mixed"] == '[1, "a"]'
    assert record["parameters"]["nested"]["per"] == '{"CD4/CD8": 1}'


def test_assemble_refuses_what_does_not_fit():
    var = pd.DataFrame(index=["a", "b"])
    common = {"model_name": "Toy", "parameters": {}, "seed": 0}
    with pytest.raises(ValueError, match="columns"):
        assemble(np.ones((2, 3)), var, **common)
    with pytest.raises(ValueError, match="2 rows, but there are attributes of 1 cells"):
        assemble(np.ones((2, 2)), var, *_attributes("k", ["x"], [0]), **common)


def test_assemble_without_labels_leaves_training_var_alone():
    var = pd.DataFrame(index=["a", "b"])
    adata = assemble(np.ones((2, 2)), var, model_name="Toy", parameters={}, seed=0)
    assert adata.obs.shape == (2, 0)
    adata.var["new"] = 1
    assert "new" not in var


def test_storable_keeps_number_arrays():
    array = np.arange(3)
    assert storable(array) is array
