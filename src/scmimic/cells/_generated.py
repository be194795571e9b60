"""What generated cells are called, and what of the training genes' table they keep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from scmimic import _keys

STATISTICS = frozenset(
    {
        # sc.pp.filter_genes
        *("n_cells", "n_counts"),
        # sc.pp.highly_variable_genes, all flavours and Pearson residuals
        *("means", "dispersions", "dispersions_norm", "variances", "variances_norm", "residual_variances"),
        *("highly_variable_rank", "highly_variable_nbatches"),
        # sc.pp.scale
        *("mean", "std"),
        # scvi.data.poisson_gene_selection
        *("observed_fraction_zeros", "expected_fraction_zeros"),
        *("prob_zero_enrichment", "prob_zero_enrichment_rank", "prob_zero_enriched_nbatches"),
        # Seurat, by way of a converter
        *("vst.mean", "vst.variance", "vst.variance.expected", "vst.variance.standardized"),
        # the truth behind the cells of scmimic.datasets.splat
        *_keys.VAR_SPLAT,
    }
)
"""Columns of ``.var`` that are computed from cells, by the functions that write them."""

# sc.pp.calculate_qc_metrics writes these for what it calls the values, "counts" by default.
_QC = ("n_cells_by_", "mean_", "log1p_mean_", "pct_dropout_by_", "total_", "log1p_total_")


def gene_annotation(var: pd.DataFrame) -> pd.DataFrame:
    """The columns of ``.var`` that say what a gene is, without those that say how it was in the training cells.

    Left out are numbers under the names in :data:`STATISTICS`, under those of ``sc.pp.calculate_qc_metrics``, and the
    factors of :func:`scmimic.datasets.splat`. All else is kept: text, truth values such as ``highly_variable``, and
    numbers such as a gene's length.

    Parameters
    ----------
    var
        Table of the training genes; not changed.

    Examples
    --------
    >>> var = pd.DataFrame({"symbol": ["A"], "gene_length": [900], "n_cells": [12], "mean_counts": [0.4]})
    >>> list(gene_annotation(var))
    ['symbol', 'gene_length']
    """
    kinds = {"counts", *(str(name)[len(_QC[0]) :] for name in var.columns if str(name).startswith(_QC[0]))}
    left_out = STATISTICS | {f"{beginning}{kind}" for beginning in _QC for kind in kinds}
    kept = [
        not (str(name) in left_out or str(name).startswith(_keys.VAR_SPLAT_PREFIXES))
        or not is_numeric_dtype(dtype)
        or is_bool_dtype(dtype)
        for name, dtype in zip(var.columns, var.dtypes, strict=True)
    ]
    return var.loc[:, kept].copy()


def fingerprint(*parts: Any) -> str:
    """Short text that differs where arrays, numbers or text differ.

    Examples
    --------
    >>> fingerprint("ACTIVA", 0, np.zeros(2)) == fingerprint("ACTIVA", 0, np.zeros(2))
    True
    >>> fingerprint("ACTIVA", 0) == fingerprint("ACTIVA", 1)
    False
    """
    found = hashlib.blake2b(digest_size=4)
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).tobytes())
        else:
            found.update(json.dumps(part, sort_keys=True, default=_as_list).encode())
    return found.hexdigest()


def _as_list(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def cell_names(n: int, record: Mapping[str, Any], source: str = "") -> pd.Index:
    """Names of `n` generated cells: ``synthetic_<token>_0``, ``synthetic_<token>_1``, ...

    The token stands for the generator and what it was asked for: cells of two calls can be put together, and the same
    seed and request give the same names.

    Parameters
    ----------
    n
        Number of cells.
    record
        What ``uns["scmimic"]`` says of them. The version of the package does not enter.
    source
        Fingerprint of the generator, and of what the record does not say of the request.
    """
    asked = {name: value for name, value in record.items() if name != "version"}
    token = fingerprint(asked, source)
    return pd.Index([f"synthetic_{token}_{i}" for i in range(n)], dtype=object)
