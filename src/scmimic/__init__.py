"""Realistic synthetic single cells: generative models, tools and measures for AnnData.

>>> import scmimic as sm
>>> sm.ACTIVA.__name__
'ACTIVA'
"""

from scmimic import baselines, datasets, metrics, model, pl, pp, tl
from scmimic._report import report
from scmimic.cells import package_version
from scmimic.model import ACTINN, ACTIVA, WGANGP, BetaTCVAE, InfoWGANGP, MichiGAN
from scmimic.tl.evaluation import Evaluation, evaluate

__version__ = package_version()

__all__ = [
    "ACTINN",
    "ACTIVA",
    "InfoWGANGP",
    "MichiGAN",
    "WGANGP",
    "BetaTCVAE",
    "Evaluation",
    "__version__",
    "baselines",
    "datasets",
    "evaluate",
    "metrics",
    "model",
    "pl",
    "pp",
    "report",
    "tl",
]
