"""What generated cells are called, and what of the training genes' table they keep."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from scmimic import _keys
from scmimic._version import package_version
from scmimic.cells._attributes import Attributes, AttributeValues
from scmimic.cells._columns import ObsColumn, Value, Values, as_list

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


ALL_CELLS = ""
"""Key of :func:`resolve_counts` that holds all cells where the model knows no labels."""

Labels: TypeAlias = Values | Mapping[Value, int] | pd.Series | None


def _as_count(value: Any, what: str, *, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`, or say what is wrong with it."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer number of cells, got {value!r} ({type(value).__name__}).") from None
    if count < minimum:
        raise ValueError(f"{what} must be at least {minimum}, got {count}.")
    return count


def _largest_remainder(n: int, proportions: np.ndarray) -> np.ndarray:
    """Integer shares of `n` closest to `proportions` that sum to `n` exactly (Hamilton's method)."""
    quota = n * proportions
    shares = np.floor(quota).astype(np.int64)
    # a stable sort gives ties to the first category, so that the result does not depend on the platform
    order = np.argsort(-(quota - shares), kind="stable")
    shares[order[: n - shares.sum()]] += 1
    return shares


def resolve_counts(
    n: int | None,
    labels: Labels,
    categories: ObsColumn | Sequence[str] | None,
    proportions: np.ndarray | None,
) -> dict[str, int]:
    """Turn the arguments `n` and `labels` of a ``.generate`` call into a number of cells per label.

    Parameters
    ----------
    n
        Total number of cells. ``None`` only where `labels` is a dict.
    labels
        ``None`` for all labels in the given `proportions`, one label, a list of labels (`n` is shared evenly, the
        remainder goes to the first ones), or a dict (or Series, such as ``obs[key].value_counts()``) from label to
        number of cells.
    categories
        The labels that the model knows, as a column of any kind or as text, or ``None`` if it was trained without
        labels.
    proportions
        Share of each category, shape ``(len(categories),)``; scaled to sum to 1. Read only where `labels` is ``None``
        and the model knows labels.

    Returns
    -------
    Name of the label to number of cells, in the order asked for (`categories` where `labels` is ``None``). Labels with
    no cell are left out. Without `categories` the single key is :data:`ALL_CELLS`. The values sum to `n`.

    Raises
    ------
    TypeError
        If a number of cells is no integer.
    ValueError
        If a number of cells is too small, a label is unknown, missing or repeated, or the arguments contradict.

    Examples
    --------
    >>> import numpy as np
    >>> resolve_counts(10, None, ["B", "NK", "T"], np.array([0.25, 0.25, 0.5]))
    {'B': 3, 'NK': 2, 'T': 5}
    >>> resolve_counts(10, ["T", "B", "NK"], ["B", "NK", "T"], np.array([0.25, 0.25, 0.5]))
    {'T': 4, 'B': 3, 'NK': 3}
    """
    if categories is not None and not isinstance(categories, ObsColumn):
        categories = ObsColumn.named("labels", categories)
    if isinstance(labels, Mapping | pd.Series):
        return _resolve_mapping(n, labels, categories)
    if n is None:
        raise ValueError("`n` is missing: give the number of cells to generate, or labels={label: number of cells}.")
    n = _as_count(n, "`n`", minimum=1)
    if categories is None:
        if labels is not None:
            raise ValueError(
                f"labels={labels!r} was asked for, but the model was trained without labels. "
                "Set labels_key when the data are registered, or leave labels out."
            )
        return {ALL_CELLS: n}
    if labels is None:
        shares = _largest_remainder(n, _check_proportions(proportions, categories.names))
        return {name: int(k) for name, k in zip(categories.names, shares, strict=True) if k > 0}
    asked = as_list(labels)
    if not asked:
        raise ValueError("labels is an empty list. Give at least one label, or None for all of them.")
    names = [categories.names[code] for code in categories.find(asked, "labels")]
    if len(set(names)) < len(names):
        raise ValueError(f"labels names a label more than once: {names}. Use a dict for unequal shares.")
    base, rest = divmod(n, len(names))
    return {name: base + (i < rest) for i, name in enumerate(names) if base + (i < rest) > 0}


def _resolve_mapping(
    n: int | None, labels: Mapping[Value, int] | pd.Series, categories: ObsColumn | None
) -> dict[str, int]:
    if n is not None:
        kind = "dict" if isinstance(labels, Mapping) else "Series"
        raise ValueError(
            f"n={n} and a {kind} from label to number of cells were both given. The {kind} says how many cells: leave "
            "n out, or give the labels as a list."
        )
    if len(labels) == 0:
        raise ValueError("labels is empty. Give at least one label with its number of cells.")
    if categories is None:
        raise ValueError(
            f"labels={dict(labels)!r} was asked for, but the model was trained without labels. "
            "Set labels_key when the data are registered, or give n alone."
        )
    names = [categories.names[code] for code in categories.find(list(labels.keys()), "labels")]
    if len(set(names)) < len(names):
        raise ValueError(f"labels names a label more than once: {names}.")
    numbers = zip(names, labels.items(), strict=True)
    counts = {name: _as_count(k, f"labels[{asked!r}]", minimum=0) for name, (asked, k) in numbers}
    if sum(counts.values()) == 0:
        raise ValueError(f"labels asks for no cell at all: {counts}.")
    return {name: k for name, k in counts.items() if k > 0}


def _check_proportions(proportions: np.ndarray | None, categories: list[str]) -> np.ndarray:
    if proportions is None:
        raise ValueError("proportions is missing: labels=None needs the share of each label.")
    share = np.asarray(proportions, dtype=np.float64)
    if share.shape != (len(categories),):
        raise ValueError(f"proportions has shape {share.shape}, but there are {len(categories)} labels.")
    if not np.all(np.isfinite(share)) or (share < 0).any() or share.sum() <= 0:
        raise ValueError(f"proportions must be finite, non-negative and not all zero, got {share}.")
    return share / share.sum()


# Bytes of the name of a file: in zarr each key is one.
_LONGEST_NAME = 255


def storable(value: Any) -> Any:
    """Return `value` in a form that ``write_h5ad`` keeps: scalars, strings, flat arrays and dicts of these.

    ``None`` becomes ``"None"``. What has no such form (nested lists, dicts whose keys hold a slash or are
    longer than the name of a file) becomes JSON text.

    Examples
    --------
    >>> storable({"seed": None, "n_hidden": (128, 64)})
    {'seed': 'None', 'n_hidden': array([128,  64])}
    """
    if value is None:
        return "None"
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) or not key or "/" in key or len(key.encode()) > _LONGEST_NAME for key in value):
            return json.dumps({str(key): item for key, item in value.items()}, default=str, ensure_ascii=False)
        return {key: storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        kinds = {type(item) for item in value}
        if len(kinds) == 1 and kinds <= {str, bool, int, float}:
            return np.array(value)
        return json.dumps(list(value), default=str, ensure_ascii=False)
    return str(value)


def generation_record(model_name: str, parameters: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    """Return what ``uns["scmimic"]`` says of generated cells; a `seed` of ``None`` is stored as ``"None"``."""
    return {
        "model": model_name,
        "version": package_version(),
        "parameters": storable(dict(parameters)),
        "seed": storable(seed),
    }


def assemble(
    x: sp.spmatrix | np.ndarray,
    var: pd.DataFrame,
    columns: Attributes | None = None,
    values: AttributeValues | None = None,
    *,
    model_name: str,
    parameters: Mapping[str, Any],
    seed: int | None,
    source: str = "",
    obsm: Mapping[str, np.ndarray] | None = None,
    dtype: np.dtype | type | None = None,
) -> AnnData:
    """Build the AnnData that every ``.generate`` returns.

    Parameters
    ----------
    x
        Generated values, shape ``(n, n_vars)``, in the space of the training layer.
    var
        The training ``.var``, in the training order; not changed.
    columns
        Columns of ``.obs``, such as that of the labels; None: there are none.
    values
        What every cell has in them.
    model_name
        Name of the generating class.
    parameters
        Its settings. Stored through :func:`storable`.
    seed
        Seed of the draw. ``None`` is stored as ``"None"``, since h5ad files have no portable null.
    source
        Fingerprint of the generator, which the cells' names depend on.
    obsm
        Arrays with one row per cell, such as the latent codes.
    dtype
        Type of ``.X``. Default: that of `x`.

    Returns
    -------
    AnnData with

    ``.X`` : CSR matrix
    ``.obs``
        The columns in the types they had in the training cells.
    ``.obs_names`` : ``synthetic_<token>_0``, ``synthetic_<token>_1``, ...
    ``.var``
        What says what the genes are; no statistics of the training cells.
    ``.uns["scmimic"]`` : dict with ``model``, ``version``, ``parameters`` and ``seed``
    ``.uns["<column>_colors"]``
        Where the training cells have them.

    Raises
    ------
    ValueError
        If the shapes do not match, or `dtype` does not hold the values.
    """
    x = in_type(x, dtype)
    n, n_vars = x.shape
    if n_vars != len(var):
        raise ValueError(f"x has {n_vars} columns, but var has {len(var)} rows.")
    record = generation_record(model_name, parameters, seed)
    obs = pd.DataFrame(index=cell_names(n, record, source))
    colors: dict[str, list[str]] = {}
    if columns is not None and values is not None:
        if values.n != n:
            raise ValueError(f"x has {n} rows, but there are attributes of {values.n} cells.")
        for name, column, shades in columns.restore(values, obs.index):
            obs[name] = column
            colors |= shades
    result = AnnData(X=x, obs=obs, var=gene_annotation(var))
    for key, array in (obsm or {}).items():
        result.obsm[key] = np.asarray(array)
    result.uns.update({**colors, _keys.UNS: record})
    return result


def roles_warning(adata: AnnData, synthetic: AnnData) -> str:
    """What to tell the user where the real cells say that they were generated and the synthetic ones do not, or ""."""
    if _keys.UNS not in adata.uns or _keys.UNS in synthetic.uns:
        return ""
    return (
        f"`adata` holds cells that {adata.uns[_keys.UNS].get('model', 'scmimic')} generated, and `synthetic` holds "
        "none: real cells come first. Are the two the wrong way round?"
    )


def generated_type(dtype: np.dtype | type) -> np.dtype:
    """Type of generated values beside training values of a type: integers have 32 bits or more, and so have floats.

    New cells may hold more counts than those of a layer whose type just holds them.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "biu" and dtype.itemsize < 4:
        return np.dtype(np.int32)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def in_type(x: Any, dtype: np.dtype | type | None) -> sp.csr_matrix:
    """Generated values as CSR in the type that goes with one, after checking that it holds them.

    Parameters
    ----------
    x
        Values, dense or sparse.
    dtype
        As in :func:`generated_type`; None: that of the values.
    """
    x = sp.csr_matrix(x)
    dtype = x.dtype if dtype is None else generated_type(dtype)
    if dtype.kind in "iu" and x.nnz:
        largest = x.data.max()
        # as Python's numbers, since single precision rounds what it is compared with
        if not largest.item() <= np.iinfo(dtype).max:
            raise ValueError(
                f"A generated cell has {largest:.4g} counts of a gene, more than {dtype} holds, the type of the "
                "training layer. Ask for a smaller `library_size`, or train on a layer of another type: "
                "`adata.X.astype('float64')`."
            )
    return x.astype(dtype, copy=False)
