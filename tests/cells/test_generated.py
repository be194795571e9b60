import numpy as np
import pandas as pd
import pytest

import scmimic as sm
from scmimic import _keys
from scmimic.cells._generated import STATISTICS, cell_names, fingerprint, gene_annotation


def test_statistics_of_the_named_functions_are_known():
    """Each column of numbers that scanpy writes from cells is left out, whatever is written by the release at hand."""
    import scanpy as sc

    adata = sm.datasets.splat(60, 30, seed=0)
    truth = list(adata.var)
    sc.pp.calculate_qc_metrics(adata, expr_type="molecules", percent_top=None, inplace=True)
    sc.pp.calculate_qc_metrics(adata, percent_top=None, inplace=True)
    for least in ({"min_counts": 1}, {"min_cells": 1}):
        sc.pp.filter_genes(adata, **least)
    counts = adata.copy()
    sc.experimental.pp.highly_variable_genes(counts, n_top_genes=10)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    adata.obs["b"] = pd.Categorical(np.arange(adata.n_obs) % 2)
    sc.pp.highly_variable_genes(adata, n_top_genes=10, batch_key="b")
    sc.pp.scale(adata)
    for var in (counts.var, adata.var):
        written = set(var) - set(truth)
        assert len(written) > 10
        kept = gene_annotation(var)
        assert set(kept) == {name for name in written if var[name].dtype == bool}


@pytest.mark.parametrize("name", ["n_cells", "mean", "vst.mean", "highly_variable_rank", _keys.VAR_BASE_MEAN])
def test_names_of_statistics_are_kept_for_what_is_no_number(name):
    assert name in STATISTICS
    var = pd.DataFrame({name: [0.5], "gene": ["x"]})
    assert list(gene_annotation(var)) == ["gene"]
    for values in (["text"], [True], pd.Categorical(["a"])):
        assert list(gene_annotation(var.assign(**{name: values}))) == [name, "gene"]


@pytest.mark.parametrize("name", ["entrez", "start", "end", "gene_length", "mean_length", "total_exons", "chromosome"])
def test_numbers_of_genes_are_kept(name):
    var = pd.DataFrame({name: [1]})
    pd.testing.assert_frame_equal(gene_annotation(var), var)
    assert gene_annotation(var) is not var


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((np.zeros(2),), (np.zeros(3),)),
        ((np.zeros(2),), (np.zeros(2, dtype=np.float32),)),
        ((np.zeros(2), np.zeros(2)), (np.zeros(4),)),
        ((np.array([0.0, 1.0]),), (np.array([1.0, 0.0]),)),
        ((np.zeros((2, 3)),), (np.zeros((3, 2)),)),
        (({"a": 1, "b": 2},), ({"a": 2, "b": 1},)),
        ((None,), ("None",)),
        ((1,), ("1",)),
    ],
)
def test_fingerprints_differ(first, second):
    assert fingerprint(*first) != fingerprint(*second)
    assert fingerprint(*first) == fingerprint(*first)


def test_names():
    record = {"model": "Toy", "version": "1", "parameters": {"n": 3, "size": np.ones(2)}, "seed": 0}
    names = cell_names(3, record)
    assert [name.rsplit("_", 1)[1] for name in names] == ["0", "1", "2"]
    assert names.equals(cell_names(3, record | {"version": "2"}))
    changes = ({"seed": 1}, {"model": "Other"}, {"parameters": {"n": 3, "size": np.zeros(2)}})
    found = {cell_names(1, record | change)[0] for change in changes} | {cell_names(1, record, "source")[0], names[0]}
    assert len(found) == 5
