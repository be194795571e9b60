"""Checks of a real / synthetic pair that the tools share."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scmimic import _keys
from scmimic._arguments import POSITIVE
from scmimic._arrays import Matrix, as_matrix, in_memory, log_normalise
from scmimic.cells._columns import ObsColumn, check_column
from scmimic.cells._layers import layer_names
from scmimic.cells._units import (
    BASES,
    UNIT_NAMES,
    ExpressionSpace,
    check_same_units,
    expression_space,
    place,
    recorded_space,
)

if TYPE_CHECKING:
    from anndata import AnnData


def check_same_genes(adata: AnnData, other: AnnData, *, name: str = "synthetic") -> None:
    """Raise ValueError unless both objects have the same genes in the same order; `name` is what to call `other`."""
    first, second = adata.var_names, other.var_names
    if first.equals(second):
        return
    if len(first) == len(second) and set(first) == set(second):
        raise ValueError(
            f"`adata` and `{name}` have the same genes in another order: pass `{name}[:, adata.var_names].copy()`."
        )
    only_first, only_second = first.difference(second), second.difference(first)
    raise ValueError(
        f"`adata` and `{name}` must have the same genes: {len(only_first)} only in `adata` {list(only_first[:3])}, "
        f"{len(only_second)} only in `{name}` {list(only_second[:3])}, {len(first)} and {len(second)} in all. "
        "Cut the real cells to the genes that the generator was trained on: `adata[:, synthetic.var_names].copy()`."
    )


def get_matrix(adata: AnnData, layer: str | None, *, optional: bool = False) -> Any:
    """`.layers[layer]`, or `.X` where `layer` is `None`; with `optional`, also where there is no such layer.

    What lies in a file is read.
    """
    if layer is None or (optional and layer not in adata.layers):
        return in_memory(adata.X)
    if layer not in adata.layers:
        raise KeyError(f"`layer={layer!r}` is not in `adata.layers`; there are {layer_names(adata)}.")
    return adata.layers[layer]


def loaded(adata: AnnData) -> AnnData:
    """`adata`, or a copy in memory where its matrix lies in a file."""
    return adata.to_memory() if adata.isbacked or hasattr(adata.X, "to_memory") else adata


def check_writable(adata: AnnData) -> None:
    """Raise ValueError if `adata` is a view."""
    if adata.is_view:
        raise ValueError("`adata` is a view, to which no result can be written: pass `adata.copy()`.")


def space_of_cells(adata: AnnData, layer: str | None, *, optional: bool = False) -> ExpressionSpace:
    """The space of a layer by its values, or what their record says of generated cells whose values do not show it.

    Parameters
    ----------
    adata
        Real or generated cells.
    layer
        Layer; None: `.X`.
    optional
        Take `.X` where there is no such layer.
    """
    found = expression_space(get_matrix(adata, layer, optional=optional), layer)
    made = recorded_space(adata)
    if found.units is not None or made is None or layer in layer_names(adata):
        return found
    return made


def check_units(
    adata: AnnData, synthetic: AnnData, layer: str | None, *, log1p: bool, name: str = "synthetic"
) -> tuple[ExpressionSpace, ExpressionSpace]:
    """Raise ValueError where real and generated cells cannot be compared so, by their values or by their record.

    Parameters
    ----------
    adata
        Real cells.
    synthetic
        Cells to compare with them, whose `.X` is taken where they have no such layer.
    layer
        Layer of the real cells.
    log1p
        Whether both are about to be scaled and logged.
    name
        What messages call `synthetic`.

    Returns
    -------
    Both spaces.
    """
    real = space_of_cells(adata, layer)
    made = space_of_cells(synthetic, layer, optional=True)
    if log1p and made.units in BASES:
        raise ValueError(
            f"`{name}` holds {UNIT_NAMES[made.units]} already, which would be logged again: pass `log1p=False`, and "
            "`layer` with the logarithms of the real cells."
        )
    check_same_units(real, made, place(layer), any_scale=log1p, name=name)
    return real, made


def warn_of_logarithms(adata: AnnData, layer: str | None, way_out: str) -> None:
    """Warn where cells that are about to be logged show logarithms, or scanpy has marked them so.

    Parameters
    ----------
    adata
        Real cells.
    layer
        Their layer.
    way_out
        What to pass instead.
    """
    marked = layer is None and "log1p" in adata.uns
    units = space_of_cells(adata, layer).units
    if units in BASES or (marked and units is None):
        what = "is marked as log-transformed (`adata.uns['log1p']`)" if marked else f"holds {UNIT_NAMES[units]}"
        warnings.warn(f"`{place(layer)}` {what} and is logged again: {way_out}.", UserWarning, stacklevel=3)


def prepare_expression(x: Any, name: str, log1p: bool, target_sum: float) -> Matrix:
    """Scale each cell to `target_sum` and take log(1 + x), in single precision; the values as they are without `log1p`.

    Parameters
    ----------
    x
        Cells x genes, dense or sparse.
    name
        How error messages call it.
    log1p
        Scale and take the logarithm.
    target_sum
        Total per cell before the logarithm.
    """
    x = as_matrix(x, name, dtype=np.float32)
    if not log1p:
        return x
    POSITIVE.check(target_sum=target_sum)
    if (x.data if sp.issparse(x) else x).min(initial=0) < 0:
        raise ValueError(
            f"`{name}` holds negative values, which have no logarithm. If they are logged or standardised already, "
            "pass `log1p=False`."
        )
    return log_normalise(x, target_sum)


def label_array(
    adata: AnnData,
    labels_key: str,
    name: str = "adata",
    *,
    argument: str = "labels_key",
    like: AnnData | None = None,
) -> np.ndarray:
    """Labels of the cells as text, after checking that the column is there, complete and of one kind.

    Parameters
    ----------
    adata
        The cells.
    labels_key
        The column.
    name
        What to call the cells.
    argument
        What names the column.
    like
        Cells to whose labels these are compared: 1.0 has the text of their 1.
    """
    column, codes = label_column(adata, labels_key, name, argument=argument)
    names = column.names
    if like is not None and like is not adata:
        other, _ = label_column(like, labels_key, argument=argument)
        found = [other.code(value) for value in column.values]
        names = [own if code is None else other.names[code] for own, code in zip(names, found, strict=True)]
    return np.array(names, dtype=str)[codes]


def label_column(
    adata: AnnData, labels_key: str, name: str = "adata", *, argument: str = "labels_key"
) -> tuple[ObsColumn, np.ndarray]:
    """The column of labels and the code of each cell; arguments as :func:`label_array`."""
    values = check_column(adata.obs, labels_key, argument, name=name)
    return ObsColumn.read(values, colors=adata.uns.get(_keys.colors(labels_key)))
