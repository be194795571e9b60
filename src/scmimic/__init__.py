"""Realistic synthetic single cells: generative models, tools and measures for AnnData.

What the package names is imported when it is first used, so that ``import scmimic`` is quick.

>>> import scmimic as sm
>>> sm.ACTIVA.__name__
'ACTIVA'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scmimic import baselines, datasets, metrics, model, module, nn, pl, pp, tl, train
    from scmimic._report import report
    from scmimic.model import ACTINN, ACTIVA, WGANGP, BetaTCVAE, InfoWGANGP, MichiGAN
    from scmimic.tl.evaluation import Evaluation, evaluate

    __version__: str

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
    "train",
]

_PARTS = {"baselines", "datasets", "metrics", "model", "module", "nn", "pl", "pp", "tl", "train"}
_HOMES = {
    "ACTINN": "model",
    "ACTIVA": "model",
    "BetaTCVAE": "model",
    "InfoWGANGP": "model",
    "MichiGAN": "model",
    "WGANGP": "model",
    "Evaluation": "tl.evaluation",
    "evaluate": "tl.evaluation",
    "report": "_report",
}


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"scmimic.{name}")
    if name == "__version__":
        value = import_module("scmimic._version").package_version()
    elif name in _HOMES:
        value = getattr(import_module(f"scmimic.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'scmimic' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
