"""Checks of a real / synthetic pair that the tools share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scmimic._arguments import POSITIVE, check_ranges
from scmimic.cells._columns import ObsColumn, check_column
from scmimic.cells._layers import layer_names
from scmimic.metrics._arrays import Matrix, as_matrix, in_memory, log_normalise
from scmimic.model._count_units import UNIT_NAMES, expression_space
from scmimic.model._representation import recorded_space

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


def check_units(adata: AnnData, synthetic: AnnData, layer: str | None, *, log1p: bool) -> None:
    """Raise ValueError where the record of generated cells says that they cannot be compared with the real ones so.

    Parameters
    ----------
    adata
        Real cells.
    synthetic
        Generated cells; others are not looked at.
    layer
        Layer of the real cells.
    log1p
        Whether both are about to be scaled and logged.
    """
    made = recorded_space(synthetic)
    if made is None or made.units is None or layer in layer_names(synthetic):
        return
    if log1p and made.units == "log1p":
        raise ValueError(
            "`synthetic` holds log1p values already (`synthetic.uns['scmimic']`), which would be logged again: pass "
            "`log1p=False`, and `layer` with the logarithms of the real cells."
        )
    real = expression_space(get_matrix(adata, layer), layer).units
    logged = [units == "log1p" for units in (real, made.units)]
    if real is not None and (logged[0] != logged[1] or (not log1p and real != made.units)):
        where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        raise ValueError(
            f"`{where}` holds {UNIT_NAMES[real]} and `synthetic` {UNIT_NAMES[made.units]} by its record. These "
            "cannot be compared: name the layer of the real cells in the units of the generated ones, `layer=...`."
        )


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
    check_ranges({"target_sum": target_sum}, {"target_sum": POSITIVE})
    if (x.data if sp.issparse(x) else x).min(initial=0) < 0:
        raise ValueError(
            f"`{name}` holds negative values, which have no logarithm. If they are logged or standardised already, "
            "pass `log1p=False`."
        )
    return log_normalise(x, target_sum)


def label_array(adata: AnnData, labels_key: str, name: str = "adata", *, argument: str = "labels_key") -> np.ndarray:
    """Labels of the cells as text, after checking that the column is there and complete.

    `name` is what to call the cells, and `argument` what names the column.
    """
    column, codes = label_column(adata, labels_key, name, argument=argument)
    return np.array(column.names, dtype=str)[codes]


def label_column(
    adata: AnnData, labels_key: str, name: str = "adata", *, argument: str = "labels_key"
) -> tuple[ObsColumn, np.ndarray]:
    """The column of labels and the code of each cell; arguments as :func:`label_array`."""
    values = check_column(adata.obs, labels_key, argument, name=name)
    return ObsColumn.read(values, colors=adata.uns.get(f"{labels_key}_colors"))
