"""The only place that imports names which scvi-tools keeps private.

scvi-tools 1.4 and 1.5 both carry them; a release that moves one is mended here and nowhere else.
"""

from scvi.data.fields._scanvi import MuDataLabelsWithUnlabeledObsField
from scvi.model._utils import use_distributed_sampler
from scvi.module._constants import MODULE_KEYS

__all__ = [
    "MODULE_KEYS",
    "MuDataLabelsWithUnlabeledObsField",
    "use_distributed_sampler",
]
