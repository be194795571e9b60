"""Checks of a real / synthetic pair that the tools share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """`.layers[layer]`, or `.X` where `layer` is `None`; with `optional`, also where there is no such layer."""
    if layer is None or (optional and layer not in adata.layers):
        return adata.X
    if layer not in adata.layers:
        raise KeyError(f"`layer={layer!r}` is not in `adata.layers`; there are {list(adata.layers)}.")
    return adata.layers[layer]
