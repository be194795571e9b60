"""Embeddings that two objects hold by one name: are they one map, or two that were fitted apart?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scmimic import _keys

# What scanpy draws from principal components, and what it draws from a graph of neighbours.
_OF_COMPONENTS = ("X_pca", "X_umap", "X_tsne", "X_diffmap", "X_draw_graph")
_OF_GRAPH = ("X_umap", "X_diffmap", "X_draw_graph")


def check_one_map(adata: AnnData, other: AnnData, key: str, *, name: str = "synthetic") -> None:
    """Raise ValueError where an embedding was fitted to each of two objects apart, so that places mean two things.

    Parameters
    ----------
    adata, other
        Cells that both have the embedding.
    key
        Its key in `.obsm`.
    name
        What messages call `other`.
    """
    if why := _joint_apart(adata, other, key) or _scanpy_apart(adata, other, key):
        basis = key.removeprefix("X_").removeprefix("joint_")
        asked = f", basis={basis!r}" if basis in ("umap", "tsne", "pca") else ""
        raise ValueError(
            f"`.obsm[{key!r}]` of `adata` and of `{name}` are two embeddings, fitted apart: {why}. The same place "
            f"means different cells in them. Run `sm.tl.joint_embedding(adata, {name}{asked})`: it places both in one."
        )


def _joint_apart(adata: AnnData, other: AnnData, key: str) -> str:
    """Why two results of `joint_embedding` are not one map; empty where they are, or nothing is known."""
    added, _, basis = key.removeprefix("X_").rpartition("_")
    records = [a.uns.get(_keys.JOINT_EMBEDDING if added == "joint" else added) for a in (adata, other)]
    maps = [_at(record, "maps", basis) for record in records]
    if None in maps or maps[0] == maps[1]:
        return ""
    return "they come from two calls of `joint_embedding`, with other cells or settings"


def _scanpy_apart(adata: AnnData, other: AnnData, key: str) -> str:
    """Why two embeddings of scanpy are not one map; empty where they are, or nothing is known."""
    if not key.startswith(_OF_COMPONENTS):
        return ""
    components = [a.varm.get("PCs") for a in (adata, other)]
    if all(found is not None for found in components):
        one, two = map(np.asarray, components)
        return (
            "" if one.shape == two.shape and np.allclose(one, two, atol=1e-4) else "their principal components differ"
        )
    if key.startswith(_OF_GRAPH) and _has_whole_graph(adata) and _has_whole_graph(other):
        return "each has a graph of neighbours of its own"
    return ""


def _has_whole_graph(adata: AnnData) -> bool:
    """Whether all neighbours of all cells are in the object, as is hardly so in one that was cut out of a larger."""
    graph = adata.uns.get("neighbors")
    # old files hold it as an array
    n_neighbors = _at(graph, "params", "n_neighbors")
    distances = adata.obsp.get(_at(graph, "distances_key") or "distances")
    if n_neighbors is None or not sp.issparse(distances):
        return False
    return bool((np.diff(sp.csr_matrix(distances).indptr) >= int(np.ravel(n_neighbors)[0]) - 1).all())


def _at(record: Any, *names: str) -> Any:
    """An entry of nested records; None where there is none."""
    for name in names:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record
