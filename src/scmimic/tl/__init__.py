"""Tools that work on AnnData objects of real and synthetic cells."""

from scmimic.tl._augment import augment
from scmimic.tl._code_faithfulness import code_factor_correlation, code_faithfulness
from scmimic.tl._disentanglement import disentanglement
from scmimic.tl._evaluate import evaluate
from scmimic.tl._evaluate_perturbation import evaluate_perturbation
from scmimic.tl._generate_distributed import generate_distributed
from scmimic.tl._holdout_arithmetic import holdout_arithmetic
from scmimic.tl._joint_embedding import joint_embedding
from scmimic.tl._latent_arithmetic import latent_arithmetic
from scmimic.tl._latent_entropy import latent_entropy
from scmimic.tl._latent_genes import rank_latent_genes
from scmimic.tl._latent_traversal import latent_traversal
from scmimic.tl._privacy import privacy
from scmimic.tl._rare_augmentation import rare_augmentation
from scmimic.tl._rare_classification import rare_classification

__all__ = [
    "augment",
    "code_factor_correlation",
    "code_faithfulness",
    "disentanglement",
    "evaluate",
    "evaluate_perturbation",
    "generate_distributed",
    "holdout_arithmetic",
    "joint_embedding",
    "latent_arithmetic",
    "latent_entropy",
    "latent_traversal",
    "privacy",
    "rank_latent_genes",
    "rare_augmentation",
    "rare_classification",
]


def __dir__() -> list[str]:
    return sorted(__all__)
