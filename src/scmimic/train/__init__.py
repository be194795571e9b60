"""Training plans, optimisers and the train runner."""

from scmimic.train._beta_tcvae import BetaTCVAETrainingPlan
from scmimic.train._classifier import ClassifierTrainingPlan
from scmimic.train._critic_gradients import critic_gradients, generator_gradient
from scmimic.train._gradients import GameWeights, introspective_gradients
from scmimic.train._introspective import IntrospectiveTrainingPlan
from scmimic.train._prediction import Prediction
from scmimic.train._runner import DIVERGENCE_ADVICE, KeepFiniteWeights, KeepingTrainRunner, n_epochs
from scmimic.train._softadapt import softadapt_weights
from scmimic.train._wasserstein import WassersteinTrainingPlan

__all__ = [
    "DIVERGENCE_ADVICE",
    "BetaTCVAETrainingPlan",
    "ClassifierTrainingPlan",
    "GameWeights",
    "IntrospectiveTrainingPlan",
    "KeepFiniteWeights",
    "KeepingTrainRunner",
    "Prediction",
    "WassersteinTrainingPlan",
    "critic_gradients",
    "generator_gradient",
    "introspective_gradients",
    "n_epochs",
    "softadapt_weights",
]
