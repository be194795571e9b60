"""Parts of the metrics that tools put together themselves, for input that has been checked. Not public."""

from scmimic.metrics._chance import ACCURACY, AUC, ERROR, SPLIT_AUC, Chance
from scmimic.metrics._discriminator import out_of_fold, roc_result
from scmimic.metrics._factors import as_factors, as_latent, as_variance, gap, mean_scores
from scmimic.metrics._inception import score_of_types, type_forest
from scmimic.metrics._intervals import proportion_interval
from scmimic.metrics._modularity import modularity_of
from scmimic.metrics._mutual_information import Estimator, information_matrix
from scmimic.metrics._unsupervised_ranking import mean_kl

__all__ = [
    "ACCURACY",
    "AUC",
    "ERROR",
    "SPLIT_AUC",
    "Chance",
    "Estimator",
    "as_factors",
    "as_latent",
    "as_variance",
    "gap",
    "information_matrix",
    "mean_kl",
    "mean_scores",
    "modularity_of",
    "out_of_fold",
    "proportion_interval",
    "roc_result",
    "score_of_types",
    "type_forest",
]
