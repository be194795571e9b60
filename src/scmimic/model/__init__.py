"""The models: registration, training, generation, save and load."""

from scmimic.model._actinn import ACTINN
from scmimic.model._activa import ACTIVA

__all__ = ["ACTINN", "ACTIVA"]
