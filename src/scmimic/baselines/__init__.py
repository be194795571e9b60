"""Reference generators and a reference representation: the bar that every claim about a model is compared with.

The memoriser and the bootstrap win every measure of realism and lose every check for copies; the others know each
gene's margin, and the copula also the correlations, but none of them learns a latent space.
"""

from scmimic.baselines._base import ReferenceGenerator
from scmimic.baselines._bootstrap import Bootstrap
from scmimic.baselines._copula import GaussianCopula
from scmimic.baselines._memoriser import Memoriser
from scmimic.baselines._multinomial import Multinomial
from scmimic.baselines._nb import IndependentNB
from scmimic.baselines._ppca import PPCA
from scmimic.baselines._scdesigner import ScDesigner
from scmimic.baselines._scvi import SCVIReference

__all__ = [
    "Bootstrap",
    "GaussianCopula",
    "IndependentNB",
    "Memoriser",
    "Multinomial",
    "PPCA",
    "ReferenceGenerator",
    "SCVIReference",
    "ScDesigner",
]


def __dir__() -> list[str]:
    return sorted(__all__)
