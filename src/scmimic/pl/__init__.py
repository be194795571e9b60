"""Plots: they take `ax`, `show`, `return_fig` and `save`, and never change the data."""

from scmimic.pl._augmentation import augmentation
from scmimic.pl._code_faithfulness import code_factor_correlation, code_faithfulness
from scmimic.pl._disentanglement import disentanglement
from scmimic.pl._embedding import embedding
from scmimic.pl._evaluate_perturbation import evaluate_perturbation
from scmimic.pl._gene_statistics import gene_statistics
from scmimic.pl._holdout_arithmetic import holdout_arithmetic
from scmimic.pl._latent import latent
from scmimic.pl._latent_arithmetic import latent_arithmetic
from scmimic.pl._latent_traversal import latent_traversal
from scmimic.pl._markers import markers
from scmimic.pl._report import report
from scmimic.pl._roc import roc
from scmimic.pl._self_distance import self_distance
from scmimic.pl._training import training

__all__ = [
    "augmentation",
    "code_factor_correlation",
    "code_faithfulness",
    "disentanglement",
    "embedding",
    "evaluate_perturbation",
    "gene_statistics",
    "holdout_arithmetic",
    "latent",
    "latent_arithmetic",
    "latent_traversal",
    "markers",
    "report",
    "roc",
    "self_distance",
    "training",
]


def __dir__() -> list[str]:
    return sorted(__all__)
