"""The only place that imports names which scvi-tools keeps private.

scvi-tools 1.4 and 1.5 both carry them; a release that moves one is mended here and nowhere else.
"""

from scvi.data._utils import _validate_adata_dataloader_input as validate_adata_dataloader_input
from scvi.data.fields._scanvi import MuDataLabelsWithUnlabeledObsField
from scvi.model._utils import get_max_epochs_heuristic, use_distributed_sampler
from scvi.module._constants import MODULE_KEYS
from scvi.train._config import merge_kwargs
from scvi.utils._docstrings import devices_dsp

__all__ = [
    "MODULE_KEYS",
    "MuDataLabelsWithUnlabeledObsField",
    "devices_dsp",
    "get_max_epochs_heuristic",
    "merge_kwargs",
    "use_distributed_sampler",
    "validate_adata_dataloader_input",
]
