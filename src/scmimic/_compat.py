"""The only place that imports names which scvi-tools keeps private.

scvi-tools 1.4 and 1.5 both carry them; a release that moves one is mended here and nowhere else.
"""

from scvi.data._download import _download as download
from scvi.model._utils import scrna_raw_counts_properties
from scvi.model.base._de_core import _de_core as de_core
from scvi.module._constants import MODULE_KEYS

__all__ = [
    "MODULE_KEYS",
    "de_core",
    "download",
    "scrna_raw_counts_properties",
]
