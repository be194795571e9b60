"""The models: registration, training, generation, save and load."""

from scmimic.model._actinn import ACTINN
from scmimic.model._activa import ACTIVA
from scmimic.model._beta_tcvae import BetaTCVAE

__all__ = ["ACTINN", "ACTIVA", "BetaTCVAE"]
