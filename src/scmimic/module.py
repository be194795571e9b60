"""Tensors and losses."""

from scmimic.model.actinn._module import ACTINNModule, labelled_cross_entropy
from scmimic.model.activa._module import ACTIVAModule
from scmimic.model.base._likelihoods import COUNT_LIKELIHOODS, draw_counts, sample_counts, straight_through_counts
from scmimic.model.base._losses import cell_type_loss, hinge, kl_standard_normal, squared_error
from scmimic.model.base._vae_module import SMALLEST_SIZE, CellVAEModule
from scmimic.model.beta_tcvae._module import BetaTCVAEModule
from scmimic.model.beta_tcvae._total_correlation import (
    AggregateDensity,
    Decomposition,
    PosteriorMemory,
    decompose_kl,
    log_weights,
)
from scmimic.model.gan._module import (
    CODE_KEY,
    CODE_VAR_KEY,
    COUNTS_TARGET_SUM,
    Draw,
    GANModule,
    InfoGANModule,
    MichiGANModule,
    drawn_log_counts,
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


def __dir__() -> list[str]:
    return sorted(__all__)
