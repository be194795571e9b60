"""Realistic synthetic single cells: generative models, tools and measures for AnnData.

>>> import scmimic as sm
>>> sm.ACTIVA.__name__
'ACTIVA'
"""

from scmimic import baselines, datasets, metrics, model, pl, pp, tl
from scmimic._report import report
from scmimic.cells._generated import package_version
from scmimic.model import ACTINN, ACTIVA, WGANGP, BetaTCVAE, InfoWGANGP, MichiGAN

__version__ = package_version()

__all__ = [
    "ACTINN",
    "ACTIVA",
    "InfoWGANGP",
    "MichiGAN",
    "WGANGP",
    "BetaTCVAE",
    "__version__",
    "baselines",
    "datasets",
    "metrics",
    "model",
    "pl",
    "pp",
    "report",
    "tl",
]
