"""Realism, disentanglement and privacy metrics: arrays in, numbers out."""

from scmimic.metrics._closest_record import ClosestRecord, distance_to_closest_record
from scmimic.metrics._correlation import correlation_distance
from scmimic.metrics._coverage import PRDC, precision_recall_density_coverage
from scmimic.metrics._discriminator import DiscriminatorResult, RocFold, discriminator_auc, random_forest_error
from scmimic.metrics._discriminator_protocols import discriminator_auc_per_label, split_discriminator_auc
from scmimic.metrics._energy import energy_distance
from scmimic.metrics._expression_change import DifferentialExpression, differential_expression
from scmimic.metrics._genes import GeneStatistics, gene_statistics_distance
from scmimic.metrics._inception import inception_score
from scmimic.metrics._label_agreement import LabelAgreement, fit_label_classifier, label_agreement
from scmimic.metrics._mmd import mmd
from scmimic.metrics._neighbors import lisi_mixing, one_nn_accuracy
from scmimic.metrics._privacy import (
    MembershipInference,
    NearestNeighborDistanceRatio,
    duplicate_fraction,
    membership_inference,
    nearest_neighbor_distance_ratio,
)
from scmimic.metrics._transport import wasserstein

__all__ = [
    "ClosestRecord",
    "DifferentialExpression",
    "DiscriminatorResult",
    "GeneStatistics",
    "LabelAgreement",
    "MembershipInference",
    "NearestNeighborDistanceRatio",
    "PRDC",
    "RocFold",
    "correlation_distance",
    "differential_expression",
    "discriminator_auc",
    "discriminator_auc_per_label",
    "distance_to_closest_record",
    "duplicate_fraction",
    "energy_distance",
    "fit_label_classifier",
    "gene_statistics_distance",
    "inception_score",
    "label_agreement",
    "lisi_mixing",
    "membership_inference",
    "mmd",
    "nearest_neighbor_distance_ratio",
    "one_nn_accuracy",
    "precision_recall_density_coverage",
    "random_forest_error",
    "split_discriminator_auc",
    "wasserstein",
]
