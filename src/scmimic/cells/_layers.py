"""Layers of an AnnData, whatever its version: which there are, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scmimic._arrays import in_memory


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers, without `.X`, which anndata counts among them under the name None from version 0.13 on."""
    names: Iterable[str | None] = adata.layers
    return [name for name in names if name is not None]


def where_is(layer: str | None, name: str = "adata") -> str:
    """Where the values of a layer are, as messages say it; `name` is what they call the cells."""
    return f"{name}.X" if layer is None else f"{name}.layers[{layer!r}]"


def get_matrix(adata: AnnData, layer: str | None, *, optional: bool = False) -> Any:
    """``adata.layers[layer]``; ``adata.X`` where `layer` is None, with `optional` also where there is no such layer.

    Raises
    ------
    KeyError
        If there is no such layer; the message names those that there are.
    ValueError
        If there is no ``.X``.
    """
    if layer is None or (optional and layer not in layer_names(adata)):
        if adata.X is None:
            raise ValueError("`adata.X` is empty. Name a layer that holds the expression: `layer=...`.")
        return adata.X
    if layer not in layer_names(adata):
        raise KeyError(f"There is no layer {layer!r} in `adata.layers`. Layers: {layer_names(adata)}.")
    return adata.layers[layer]


def read_matrix(adata: AnnData, layer: str | None, *, optional: bool = False) -> Any:
    """As :func:`get_matrix`; what lies in a file is read."""
    return in_memory(get_matrix(adata, layer, optional=optional))


# Cells of a file that are read at a time.
_PIECE = 4096


def read_pieces(adata: AnnData, layer: str | None, *, optional: bool = False) -> Iterator[Any]:
    """As :func:`read_matrix`, some cells at a time; without cells one empty piece."""
    x = _by_rows(get_matrix(adata, layer, optional=optional))
    return (x[start : start + _PIECE] for start in range(0, max(x.shape[0], 1), _PIECE))


def is_stored(adata: AnnData) -> bool:
    """Whether the cells' `.X` lies in a file."""
    return adata.isbacked or hasattr(adata.X, "to_memory")


def read_stored(adata: AnnData, layer: str | None, rows: np.ndarray, *, further: Sequence[str] = ()) -> AnnData:
    """Some cells of a file, in memory: their values, and all that stands beside these.

    The file is read in pieces, of which the rows that are wanted are kept.

    Parameters
    ----------
    adata
        Cells whose `.X` lies in a file.
    layer
        What of them is read; `.X` where they have no such layer.
    rows
        Which cells, ascending.
    further
        Other layers that are read, where there are such.
    """
    found = AnnData(obs=adata.obs.iloc[rows].copy(), var=adata.var.copy())
    found.uns.update(adata.uns)
    names = layer_names(adata)
    if layer not in names:
        found.X = _rows_of(get_matrix(adata, None), rows)
    for name in {layer, *further}.intersection(names):
        found.layers[name] = _rows_of(adata.layers[name], rows)
    return found


def _rows_of(x: Any, rows: np.ndarray) -> Any:
    x = _by_rows(x)
    if isinstance(x, np.ndarray) or sp.issparse(x):
        return x[rows]
    bounds = np.searchsorted(rows, np.arange(0, x.shape[0] + _PIECE, _PIECE))
    pieces = [
        x[number * _PIECE : (number + 1) * _PIECE][rows[start:stop] - number * _PIECE]
        for number, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True))
        if stop > start
    ]
    return sp.vstack(pieces, format="csr") if sp.issparse(pieces[0]) else np.concatenate(pieces)


def _by_rows(x: Any) -> Any:
    """Columns cannot be read by rows: they are read at once."""
    return in_memory(x).tocsr() if getattr(x, "format", "csr") != "csr" else x
