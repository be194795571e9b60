"""Training plans, optimisers and the train runner."""

from scmimic.model.actinn._plan import ClassifierTrainingPlan
from scmimic.model.activa._gradients import GameWeights, introspective_gradients
from scmimic.model.activa._plan import IntrospectiveTrainingPlan
from scmimic.model.activa._softadapt import softadapt_weights
from scmimic.model.base._realism_callback import RealismCallback
from scmimic.model.base._runner import DIVERGENCE_ADVICE, KeepFiniteWeights, KeepingTrainRunner, n_epochs
from scmimic.model.base._streamed import StreamedCells
from scmimic.model.beta_tcvae._plan import BetaTCVAETrainingPlan
from scmimic.model.gan._critic_gradients import critic_gradients, generator_gradient
from scmimic.model.gan._plan import WassersteinTrainingPlan
from scmimic.model.gan._prediction import Prediction

__all__ = [
    "DIVERGENCE_ADVICE",
    "BetaTCVAETrainingPlan",
    "ClassifierTrainingPlan",
    "GameWeights",
    "IntrospectiveTrainingPlan",
    "KeepFiniteWeights",
    "KeepingTrainRunner",
    "Prediction",
    "RealismCallback",
    "StreamedCells",
    "WassersteinTrainingPlan",
    "critic_gradients",
    "generator_gradient",
    "introspective_gradients",
    "n_epochs",
    "softadapt_weights",
]


def __dir__() -> list[str]:
    return sorted(__all__)
