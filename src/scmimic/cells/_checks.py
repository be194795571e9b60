"""What cells must be, so that a bad input ends in one clear sentence before any work is done."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from scmimic._arguments import Instance
from scmimic._arrays import Matrix, as_dense, canonical, check_unmasked, prepare_expression, stored_values
from scmimic.cells._columns import complete_column
from scmimic.cells._layers import get_matrix, layer_names, read_matrix, where_is
from scmimic.cells._units import UNIT_NAMES, check_same_space, expression_space, space_of_cells, unit_name

ANNDATA = Instance((AnnData,))
CELLS = Instance((AnnData, MuData))
LARGEST_COUNT = 2**31 - 1
"""Most counts of a gene in a cell, and of a cell that is asked for.

No cell holds as many molecules. 32-bit integers hold it, and one 64-bit integer a gene of a label and its count.
"""

_CHUNK = 1 << 24

# Size factors of cells: of one count, and of a hundred million; in single precision.
_SPREAD, _SMALLEST = 1e8, 1e-30

# what SciPy's sparse matrices and files hold alike
_TYPES = tuple(map(np.dtype, ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))))
_TYPES += (np.dtype("float32"), np.dtype("float64"))


def check_structure(adata: AnnData, layer: str | None) -> None:
    """Reject what scvi-tools would fail on later, or silently get wrong."""
    if isinstance(adata, str | os.PathLike):
        raise TypeError(f"`adata` must be an AnnData, not its path. Read it first: `ad.read_h5ad({str(adata)!r})`.")
    if not isinstance(adata, AnnData):
        raise TypeError(
            f"`adata` must be an AnnData, not {type(adata).__name__}. Of a MuData give the modality of the expression, "
            "`mdata.mod['rna']`, or use `setup_mudata` where the model has it."
        )
    if adata.is_view:
        raise ValueError("`adata` is a view of another AnnData. Make it an object of its own first: `adata.copy()`.")
    if adata.isbacked:
        raise ValueError(
            "`adata` is backed by a file. Read it into memory first: `adata = adata.to_memory()`. ACTIVA, ACTINN and "
            "BetaTCVAE also train on cells that stay on disk: see `setup_annbatch`."
        )
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise ValueError(f"`adata` is empty: {adata.n_obs} cells x {adata.n_vars} genes.")
    check_unique_genes(adata.var_names, "`adata.var_names`")
    x = get_matrix(adata, layer)
    where = where_is(layer)
    check_unmasked(**{where: x})
    if hasattr(x, "to_memory"):
        raise ValueError(f"`{where}` lies in a file. Read it into memory first: `{where} = {where}.to_memory()`.")
    if not isinstance(x, np.ndarray | sp.spmatrix | sp.sparray) or x.dtype not in _TYPES:
        raise TypeError(
            f"`{where}` is {f'of type {x.dtype}' if hasattr(x, 'dtype') else f'a {type(x).__name__}'}, which matrices "
            f"of cells cannot be worked with. Convert it: `{where} = {where}.astype('float32')`."
        )
    if not isinstance(x, np.ndarray) and (isinstance(x, sp.sparray) or x.format not in ("csr", "csc")):
        raise TypeError(
            f"`{where}` is a {type(x).__name__}, which scvi-tools cannot load. "
            f"Convert it: `{where} = scipy.sparse.csr_matrix({where})`."
        )
    if canonical(x) is not x and x.dtype.itemsize < 4:
        raise TypeError(
            f"`{where}` holds entries several times, whose sums may be too large for {x.dtype}. Add them up first: "
            f"`{where} = {where}.astype('float32')`, then `{where}.sum_duplicates()`."
        )


def check_unique_genes(var_names: pd.Index, where: str) -> None:
    """Reject names of genes that repeat."""
    if not var_names.is_unique:
        twice = var_names[var_names.duplicated()].unique()[:5].tolist()
        raise ValueError(f"{where} repeats {twice}. Make them unique: `adata.var_names_make_unique()`.")


def _value_chunks(x: Any) -> Iterator[np.ndarray]:
    x = canonical(x)
    values = np.asarray(stored_values(x)).reshape(-1)
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def check_values(
    x: Any, where: str, *, hint: str = "Register raw counts or normalised values, not scaled ones."
) -> None:
    """Reject NaN, infinite and negative values; `hint` says what to give in place of the latter."""
    for chunk in _value_chunks(x):
        if not np.isfinite(chunk).all():
            n = int((~np.isfinite(chunk)).sum())
            raise ValueError(
                f"`{where}` holds {n} or more values that are NaN or infinite. Drop or repair these cells or genes."
            )
        if chunk.size and chunk.min() < 0:
            raise ValueError(
                f"`{where}` holds negative values (smallest {chunk.min():.3g}). Expression must be non-negative. {hint}"
            )


def check_counts(x: Any, where: str, *, hint: str) -> None:
    """Reject what is no matrix of raw counts; `hint` says where these are, or what to do without."""
    if 0 in x.shape:
        raise ValueError(f"`{where}` is empty: {x.shape[0]} cells x {x.shape[1]} genes.")
    check_unmasked(**{where: x})
    if x.dtype.kind not in "fiub":
        raise ValueError(f"`{where}` must hold numbers, not {x.dtype}. {hint}")
    check_values(x, where, hint=hint)
    for chunk in _value_chunks(x):
        check_size_of_counts(chunk, where)
        if chunk.dtype.kind in "iub":
            continue
        off = chunk != np.rint(chunk)
        if off.any():
            # the one that shows it best: 136.99 in few digits is 137
            example = float(chunk[np.argmax(np.abs(chunk - np.rint(chunk)))])
            units = expression_space(x, None).units
            what = "" if units in (None, "counts") else f" ({UNIT_NAMES[units]})"
            raise ValueError(
                f"`{where}` holds values that are no integers, such as {example:.6g}{what}, but raw counts are "
                f"needed. {hint}"
            )


def check_no_empty_cells(x: Any, where: str) -> None:
    """Reject cells without any count."""
    n = int((np.asarray(x.sum(axis=1)) <= 0).sum())
    if n:
        raise ValueError(
            f"{n} cells of `{where}` have no counts. Drop them: `sc.pp.filter_cells(adata, min_counts=1)`."
        )


def check_registered_counts(adata: AnnData, layer: str | None, gene_likelihood: str | None = None) -> None:
    """Reject registered expression from which a model of counts cannot learn."""
    x, where, hint = get_matrix(adata, layer), where_is(layer), "Register the layer with counts: `layer=...`."
    if gene_likelihood is not None:
        way = None if expression_space(x, layer).units == "counts" else _way_to_counts(adata)
        hint = (
            f"gene_likelihood={gene_likelihood!r} is one of counts: "
            f"{way or 'register the layer with counts (`layer=...`)'}, or use gene_likelihood='normal'."
        )
    check_counts(x, where, hint=hint)
    check_no_empty_cells(x, where)


def _way_to_counts(adata: AnnData) -> str | None:
    """How the counts of cells are registered, where they have any."""

    def holds_counts(x: Any) -> bool:
        return x is not None and expression_space(x, None).units == "counts"

    if holds_counts(adata.X):
        return "register `adata.X`, which holds them (without `layer`)"
    for layer in layer_names(adata):
        if holds_counts(adata.layers[layer]):
            return f"register {layer=}, which holds them"
    raw = adata.raw
    if raw is not None and holds_counts(raw.X) and adata.var_names.isin(raw.var_names).all():
        return (
            "`adata.raw` holds them, so make it a layer, `adata.layers['counts'] = adata.raw[:, adata.var_names].X`, "
            "and register layer='counts'"
        )
    return None


def read_counts(adata: AnnData, layer: str | None, *, dtype: type | None = None) -> sp.csr_matrix:
    """The raw counts of a layer, after checking that they are some, as a CSR matrix of its own without stored zeros."""
    where, values = where_is(layer), read_matrix(adata, layer)
    check_unmasked(**{where: values})
    # a copy: cells that are normalised in place later must not change what is drawn from them
    x = canonical(sp.csr_matrix(values, dtype=dtype, copy=True))
    check_counts(x, where, hint="Name the layer that holds raw counts with `layer=`.")
    # they would count as expressed
    x.eliminate_zeros()
    return x


def warn_of_counts(x: Any, where: str) -> None:
    """Warn of raw counts where log expression is expected."""
    # what is 0 and 1 alone may be a mask
    if expression_space(x, None).units == "counts" and x.max() > 1:
        warnings.warn(
            f"`{where}` holds integers only. gene_likelihood='normal' expects log expression: register a layer of it, "
            "such as `adata.layers['log'] = adata.X.log1p()`, or use gene_likelihood='nb' for raw counts.",
            UserWarning,
            stacklevel=3,
        )


def check_obsm(adata: AnnData, key: str, argument: str) -> np.ndarray:
    """``adata.obsm[key]`` as float32, if it is a finite table of numbers."""
    if key not in adata.obsm:
        raise KeyError(f"`{argument}={key!r}`: there is no such key in `adata.obsm`. Keys: {list(adata.obsm.keys())}.")
    values: Any = adata.obsm[key]
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu" or not values.shape[1]:
        raise ValueError(f"`adata.obsm[{key!r}]` must be a NumPy array of numbers, cells x dimensions.")
    if not np.isfinite(values).all():
        raise ValueError(f"`adata.obsm[{key!r}]` holds values that are NaN or infinite.")
    return values.astype(np.float32)


def check_size_factor(obs: pd.DataFrame, key: str | None) -> None:
    """Reject size factors that are not positive numbers."""
    if key is not None:
        values = complete_column(obs, key, "size_factor_key")
        values = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"`adata.obs[{key!r}]` must hold positive numbers to serve as size factors.")
        low, high = values.min(), values.max()
        if high / low > _SPREAD or not _SMALLEST < low <= high < 1 / _SMALLEST:
            raise ValueError(
                f"`adata.obs[{key!r}]` holds size factors from {low:.3g} to {high:.3g}: the largest may be "
                f"{_SPREAD:,.0f} times the smallest, and all must lie between {_SMALLEST:g} and {1 / _SMALLEST:g}. "
                "They are the cells' depths relative to each other, such as their totals over the mean total."
            )


def check_genes(var_names: pd.Index, expected: np.ndarray) -> None:
    """Reject genes other than the model's, and say how to get from one to the other."""
    difference = _gene_difference(pd.Index(var_names.astype(str)), pd.Index(expected))
    if difference:
        raise ValueError(
            f"`adata` must have the genes that the model was trained on, in the same order, but it {difference}. Where "
            "it lacks none, bring them into the model's order: `adata = adata[:, model.get_var_names()].copy()`, where "
            "`model` is loaded without data, or the training data's `var_names`."
        )


def check_same_genes(adata: AnnData, other: AnnData, *, name: str = "synthetic") -> None:
    """Raise ValueError unless both objects have the same genes in the same order; `name` is what to call `other`."""
    difference = _gene_difference(other.var_names, adata.var_names)
    if difference:
        n_shared = len(adata.var_names.intersection(other.var_names))
        if n_shared == 0:
            way_out = (
                "No name is the same: are they symbols on one side and identifiers on the other, or in another case? "
                "Give both the same kind of `.var_names`."
            )
        elif n_shared < adata.n_vars:
            way_out = (
                f"Cut both to the genes that they share: `genes = adata.var_names.intersection({name}.var_names)`, "
                f"then `adata[:, genes].copy()` and `{name}[:, genes].copy()`."
            )
        else:
            way_out = f"Take those of `adata`: `{name}[:, adata.var_names].copy()`."
        raise ValueError(
            f"`adata` and `{name}` must have the same genes in the same order, but `{name}` {difference}. {way_out}"
        )


def _gene_difference(given: pd.Index, wanted: pd.Index) -> str:
    """How genes differ from those that there must be, as the end of a sentence; empty where they do not."""
    if given.equals(wanted):
        return ""
    missing, others = wanted.difference(given), given.difference(wanted)
    parts = [f"lacks {len(missing)} of the {len(wanted)} genes, such as {missing[:3].tolist()}"] if len(missing) else []
    if len(others):
        parts.append(f"has {len(others)} others, such as {others[:3].tolist()}")
    if not parts:
        parts = ["has them in another order" if len(given) == len(wanted) else "repeats some of them"]
    return ", and ".join(parts)


def read_both(
    adata: AnnData, synthetic: AnnData, layer: str | None, *, log1p: bool, target_sum: float
) -> tuple[Matrix, Matrix]:
    """Expression of real and synthetic cells, after checking that genes and units are the same.

    Parameters
    ----------
    adata
        Real cells.
    synthetic
        Cells to compare with them, whose `.X` is taken where they have no such layer.
    layer
        Layer of the real cells.
    log1p, target_sum
        As for :func:`~scmimic._arrays.prepare_expression`.
    """
    check_same_genes(adata, synthetic)
    check_same_space(adata, synthetic, layer, log1p=log1p)
    real = prepare_expression(read_matrix(adata, layer), "adata", log1p, target_sum)
    fake = prepare_expression(read_matrix(synthetic, layer, optional=True), "synthetic", log1p, target_sum)
    return real, fake


def read_gene(
    adata: AnnData, synthetic: AnnData, gene: str, layer: str | None, *, log1p: bool | None, target_sum: float
) -> tuple[np.ndarray, np.ndarray, str]:
    """One gene in real and synthetic cells, in one unit, and what the unit is called; empty where it does not show.

    Parameters
    ----------
    adata, synthetic, layer, target_sum
        As for :func:`read_both`, but the objects may have other genes besides.
    gene
        Name of the gene.
    log1p
        As there. None: where both hold counts or scaled counts.
    """
    spaces = space_of_cells(adata, layer), space_of_cells(synthetic, layer, optional=True)
    if log1p is None:
        log1p = all(space.units in ("counts", "linear") for space in spaces)
    check_same_space(adata, synthetic, layer, log1p=log1p)
    columns = []
    for name, cells in (("adata", adata), ("synthetic", synthetic)):
        x = prepare_expression(read_matrix(cells, layer, optional=True), name, log1p, target_sum)
        columns.append(np.ravel(as_dense(x[:, [cells.var_names.get_loc(gene)]])))
    return columns[0], columns[1], "log1p" if log1p else unit_name(adata, layer)


def check_writable(adata: AnnData) -> None:
    """Raise ValueError if `adata` is a view."""
    if adata.is_view:
        raise ValueError("`adata` is a view, to which no result can be written: pass `adata.copy()`.")


def check_size_of_counts(values: np.ndarray, where: str) -> None:
    """Raise ValueError where counts are larger than any; `where` is what messages call them."""
    # as Python's number, since single precision rounds what it is compared with
    largest = float(values.max(initial=0))
    if largest > LARGEST_COUNT:
        raise ValueError(
            f"`{where}` holds counts up to {largest:.3g}, but {LARGEST_COUNT:,} is the most that can be learned, and "
            "more than any cell has. Look for what made them so large (a total, an identifier), or drop these cells or "
            "genes."
        )
