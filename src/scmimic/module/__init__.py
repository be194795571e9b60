"""Tensors and losses."""

from scmimic.module._actinn import ACTINNModule, labelled_cross_entropy
from scmimic.module._activa import ACTIVAModule
from scmimic.module._beta_tcvae import BetaTCVAEModule
from scmimic.module._cell_vae import COUNT_LIKELIHOODS, SMALLEST_SIZE, CellVAEModule
from scmimic.module._gan import (
    CODE_KEY,
    CODE_VAR_KEY,
    COUNTS_TARGET_SUM,
    Draw,
    GANModule,
    MichiGANModule,
    drawn_log_counts,
)
from scmimic.module._infogan import InfoGANModule
from scmimic.module._losses import cell_type_loss, hinge, kl_standard_normal, squared_error
from scmimic.module._relaxation import draw_counts, sample_counts, straight_through_counts
from scmimic.module._total_correlation import (
    AggregateDensity,
    Decomposition,
    PosteriorMemory,
    decompose_kl,
    log_weights,
)

__all__ = [
    "ACTINNModule",
    "ACTIVAModule",
    "AggregateDensity",
    "BetaTCVAEModule",
    "CODE_KEY",
    "CODE_VAR_KEY",
    "COUNTS_TARGET_SUM",
    "COUNT_LIKELIHOODS",
    "SMALLEST_SIZE",
    "CellVAEModule",
    "Decomposition",
    "Draw",
    "GANModule",
    "InfoGANModule",
    "MichiGANModule",
    "PosteriorMemory",
    "cell_type_loss",
    "decompose_kl",
    "draw_counts",
    "drawn_log_counts",
    "hinge",
    "kl_standard_normal",
    "labelled_cross_entropy",
    "log_weights",
    "sample_counts",
    "squared_error",
    "straight_through_counts",
]
