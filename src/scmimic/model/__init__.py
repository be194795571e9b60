"""The models: registration, training, generation, save and load."""

from scmimic.model._actinn import ACTINN
from scmimic.model._activa import ACTIVA
from scmimic.model._beta_tcvae import BetaTCVAE
from scmimic.model._infowgangp import InfoWGANGP
from scmimic.model._michigan import MichiGAN
from scmimic.model._wgangp import WGANGP

__all__ = [
    "ACTINN",
    "ACTIVA",
    "BetaTCVAE",
    "InfoWGANGP",
    "MichiGAN",
    "WGANGP",
]
