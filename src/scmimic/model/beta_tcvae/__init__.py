"""BetaTCVAE: networks and loss, training plan, and the model that users have."""

from scmimic.model.beta_tcvae._model import ACTIVE_VARIANCE

__all__ = [
    "ACTIVE_VARIANCE",
]
