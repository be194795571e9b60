"""Layers of an AnnData, whatever its version: which there are, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
