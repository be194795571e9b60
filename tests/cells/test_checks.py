"""Each check names what is wrong, where, and the way out; and passes what is right."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import scmimic as sm
from scmimic.cells._checks import (
    LARGEST_COUNT,
    check_counts,
    check_genes,
    check_no_empty_cells,
    check_registered_counts,
    check_same_genes,
    read_counts,
)


def _cells(names):
    return AnnData(np.ones((2, len(names)), dtype=np.float32), var=pd.DataFrame(index=list(names)))


TAKE, SHARE = r"`drawn\[:, adata.var_names\]", r"`adata\[:, genes\].copy\(\)` and `drawn\[:, genes\]"


@pytest.mark.parametrize(
    ("names", "message", "way_out"),
    [
        ("cba", "has them in another order", TAKE),
        ("ab", r"lacks 1 of the 3 genes, such as \['c'\]", SHARE),
        ("abcde", r"has 2 others, such as \['d', 'e'\]", TAKE),
        ("abx", r"lacks 1 of the 3 genes, such as \['c'\], and has 1 others, such as \['x'\]", SHARE),
        ("abcc", "repeats some of them", TAKE),
        ("ABC", r"lacks 3 of the 3 genes", "same kind of `.var_names`"),
    ],
)
def test_other_genes(names, message, way_out):
    with pytest.raises(ValueError, match=f"`drawn` {message}.*{way_out}"):
        check_same_genes(_cells("abc"), _cells(names), name="drawn")
    with pytest.raises(ValueError, match=f"`adata` .* it {message}.*model.get_var_names"):
        check_genes(pd.Index(list(names)), np.array(list("abc")))


def test_the_same_genes():
    check_same_genes(_cells("abc"), _cells("abc"))
    check_genes(pd.Index([0, 1]), np.array(["0", "1"]))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "1 or more values that are NaN or infinite"),
        (-2, r"negative values \(smallest -2\).*LOOK"),
        (0.5, "no integers, such as 0.5.*LOOK"),
        (2.0 * LARGEST_COUNT, "counts up to 4.29e"),
    ],
)
def test_no_counts(form, value, message):
    x = np.arange(12.0).reshape(4, 3)
    check_counts(form(x), "x", hint="LOOK")
    x[1, 1] = value
    with pytest.raises(ValueError, match=f"`x` holds .*{message}"):
        check_counts(form(x), "x", hint="LOOK")


def test_no_matrix_of_counts():
    for x, message in (
        (np.zeros((0, 3)), "`x` is empty: 0 cells x 3 genes"),
        (np.array([["1", "2"]]), "`x` must hold numbers, not <U1. LOOK"),
        (np.ma.masked_less(np.arange(6).reshape(2, 3), 1), "1 masked values"),
    ):
        with pytest.raises(ValueError, match=message):
            check_counts(x, "x", hint="LOOK")


def test_cells_without_counts():
    x = sp.csr_matrix(np.diag([0, 1, 2]))
    check_no_empty_cells(x[1:], "x")
    with pytest.raises(ValueError, match="1 cells of `x` have no counts. Drop them"):
        check_no_empty_cells(x, "x")


def test_counts_are_read_as_a_matrix_of_their_own():
    x = sp.csr_matrix(np.array([[0, 2], [1, 0]], dtype=np.int32))
    x.data[0] = 0
    adata = AnnData(x.copy(), layers={"raw": x})
    counts = read_counts(adata, "raw")
    assert (counts.nnz, counts.dtype) == (1, np.int32)
    counts.data[:] = 7
    assert adata.layers["raw"].nnz == 2
    assert adata.layers["raw"].data.max() == 1
    assert read_counts(adata, None, dtype=np.float64).dtype == np.float64
    with pytest.raises(KeyError, match="no layer 'nope'"):
        read_counts(adata, "nope")


LOGGED = "`adata.X` holds values that are no integers, such as .* .log1p values., but raw counts are needed. "


@pytest.mark.parametrize(
    ("place", "way"),
    [
        ("layer", "register layer='spliced', which holds them, or use"),
        ("raw", r"`adata\.raw` holds them, so make it a layer, `.*`, and register layer='counts', or use"),
        ("raw of fewer genes", r"register the layer with counts \(`layer=\.\.\.`\), or use"),
        (None, r"register the layer with counts \(`layer=\.\.\.`\), or use"),
    ],
)
def test_counts_are_found_elsewhere(place, way):
    adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    counts = adata.X.copy()
    if place == "layer":
        adata.layers["spliced"] = counts
    elif place is not None:
        adata.raw = adata[:, 1:].copy() if "fewer" in place else adata.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.layers["log"] = adata.X.copy()
    with pytest.raises(ValueError, match=f"{LOGGED}gene_likelihood='nb' is one of counts: {way}") as raised:
        check_registered_counts(adata, None, "nb")
    if place == "raw":
        adata = adata[:, 5:15].copy()
        (line,) = [part for part in str(raised.value).split("`") if part.startswith("adata.layers")]
        exec(line, {"adata": adata})
        assert (adata.layers["counts"] != counts[:, 5:15]).nnz == 0
        check_registered_counts(adata, "counts", "nb")
    adata.X = counts[:, : adata.n_vars]
    with pytest.raises(ValueError, match=r"layers\['log'\]` .* register `adata.X`, which .* \(without `layer`\)"):
        check_registered_counts(adata, "log", "nb")
    check_registered_counts(adata, None, "nb")


def test_the_example_of_a_fraction_shows_it():
    x = np.array([[1.0, 136.986, 2.0], [1562.5, 0.0, 3.0001]], dtype=np.float32)
    with pytest.raises(ValueError, match=r"no integers, such as 1562\.5[, ]"):
        check_counts(x, "x", hint="LOOK")
    with pytest.raises(ValueError, match=r"no integers, such as 136\.986[, ]"):
        check_counts(x[:1], "x", hint="LOOK")


@pytest.mark.parametrize("make", [str, Path])
def test_a_path_is_no_anndata(make):
    with pytest.raises(TypeError, match=r"not its path\. Read it first: `ad\.read_h5ad\('cells\.h5ad'\)`"):
        sm.ACTIVA.setup_anndata(make("cells.h5ad"), labels_key="cell_type")
