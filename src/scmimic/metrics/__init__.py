"""Realism, disentanglement and privacy metrics: arrays in, numbers out."""

from scmimic.metrics._closest_record import ClosestRecord, distance_to_closest_record
from scmimic.metrics._correlation import correlation_distance
from scmimic.metrics._coverage import PRDC, precision_recall_density_coverage
from scmimic.metrics._dci import DCI, dci
from scmimic.metrics._discriminator import DiscriminatorResult, RocFold, discriminator_auc, random_forest_error
from scmimic.metrics._discriminator_protocols import discriminator_auc_per_label, split_discriminator_auc
from scmimic.metrics._energy import energy_distance
from scmimic.metrics._errors import TooFewCellsError
from scmimic.metrics._expression_change import DifferentialExpression, differential_expression
from scmimic.metrics._factor_vae import factor_vae_score
from scmimic.metrics._factors import FactorScores
from scmimic.metrics._genes import GeneStatistics, gene_statistics_distance
from scmimic.metrics._inception import inception_score
from scmimic.metrics._label_agreement import LabelAgreement, fit_label_classifier, label_agreement
from scmimic.metrics._latent_entropy import latent_entropy
from scmimic.metrics._latent_matching import LatentMatching, latent_matching_score
from scmimic.metrics._mmd import mmd
from scmimic.metrics._modularity import modularity
from scmimic.metrics._mutual_information import mutual_information_gap, normalized_mutual_information
from scmimic.metrics._neighbors import lisi_mixing, one_nn_accuracy
from scmimic.metrics._privacy import (
    MembershipInference,
    NearestNeighborDistanceRatio,
    duplicate_fraction,
    membership_inference,
    nearest_neighbor_distance_ratio,
)
from scmimic.metrics._sap import sap_score
from scmimic.metrics._self_distance import SelfDistance, self_distance_ratio
from scmimic.metrics._spearman import spearman_correlation, spearman_gap
from scmimic.metrics._transport import wasserstein
from scmimic.metrics._unsupervised_ranking import DisentanglementRanking, unsupervised_disentanglement_ranking

__all__ = [
    "ClosestRecord",
    "DCI",
    "DifferentialExpression",
    "DiscriminatorResult",
    "DisentanglementRanking",
    "FactorScores",
    "GeneStatistics",
    "LabelAgreement",
    "LatentMatching",
    "MembershipInference",
    "NearestNeighborDistanceRatio",
    "PRDC",
    "RocFold",
    "SelfDistance",
    "TooFewCellsError",
    "correlation_distance",
    "dci",
    "differential_expression",
    "discriminator_auc",
    "discriminator_auc_per_label",
    "distance_to_closest_record",
    "duplicate_fraction",
    "energy_distance",
    "factor_vae_score",
    "fit_label_classifier",
    "gene_statistics_distance",
    "inception_score",
    "label_agreement",
    "latent_entropy",
    "latent_matching_score",
    "lisi_mixing",
    "membership_inference",
    "mmd",
    "modularity",
    "mutual_information_gap",
    "nearest_neighbor_distance_ratio",
    "normalized_mutual_information",
    "one_nn_accuracy",
    "precision_recall_density_coverage",
    "random_forest_error",
    "sap_score",
    "self_distance_ratio",
    "spearman_correlation",
    "spearman_gap",
    "split_discriminator_auc",
    "unsupervised_disentanglement_ranking",
    "wasserstein",
]


def __dir__() -> list[str]:
    return sorted(__all__)
