"""The layers of an AnnData, whatever its version."""

from __future__ import annotations

from anndata import AnnData


def layer_names(adata: AnnData) -> list[str]:
    """Names of the layers, without `.X`, which anndata counts among them under the name None from version 0.13 on."""
    return [name for name in adata.layers if name is not None]
