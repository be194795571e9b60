"""The only place that imports names which scvi-tools keeps private.

scvi-tools 1.4 and 1.5 both carry them; a release that moves one is mended here and nowhere else.
"""

from typing import Any

# `view_anndata_setup` of scvi-tools 1.4 uses it, and does not import it
import rich.pretty  # noqa: F401
from anndata import AnnData
from scvi.data import AnnDataManager
from scvi.data._constants import _SCVI_UUID_KEY
from scvi.data._download import _download as download
from scvi.model._utils import scrna_raw_counts_properties
from scvi.model.base._de_core import _de_core as de_core
from scvi.module._constants import MODULE_KEYS

__all__ = [
    "MODULE_KEYS",
    "de_core",
    "download",
    "manager_of",
    "scrna_raw_counts_properties",
]


def manager_of(model_class: Any, adata: AnnData) -> AnnDataManager:
    """What `model_class.setup_anndata` has registered `adata` with."""
    return model_class._setup_adata_manager_store[adata.uns[_SCVI_UUID_KEY]]
