"""The models: registration, training, generation, save and load."""

from scmimic.model.actinn._model import ACTINN
from scmimic.model.activa._model import ACTIVA
from scmimic.model.beta_tcvae._model import BetaTCVAE
from scmimic.model.gan._infowgangp import InfoWGANGP
from scmimic.model.gan._michigan import MichiGAN
from scmimic.model.gan._wgangp import WGANGP

__all__ = [
    "ACTINN",
    "ACTIVA",
    "BetaTCVAE",
    "InfoWGANGP",
    "MichiGAN",
    "WGANGP",
]


def __dir__() -> list[str]:
    return sorted(__all__)
