"""Tensors and losses."""

from scmimic.module._actinn import ACTINNModule, labelled_cross_entropy
from scmimic.module._activa import COUNT_LIKELIHOODS, ACTIVAModule
from scmimic.module._gan import (
    CODE_KEY,
    CODE_VAR_KEY,
    COUNTS_TARGET_SUM,
    Draw,
    GANModule,
    InfoGANModule,
    MichiGANModule,
    drawn_log_counts,
)
from scmimic.module._losses import cell_type_loss, hinge, kl_standard_normal, squared_error
from scmimic.module._relaxation import draw_counts, sample_counts, straight_through_counts

__all__ = [
    "CODE_KEY",
    "CODE_VAR_KEY",
    "COUNTS_TARGET_SUM",
    "COUNT_LIKELIHOODS",
    "ACTINNModule",
    "ACTIVAModule",
    "Draw",
    "GANModule",
    "InfoGANModule",
    "MichiGANModule",
    "cell_type_loss",
    "draw_counts",
    "drawn_log_counts",
    "hinge",
    "kl_standard_normal",
    "labelled_cross_entropy",
    "sample_counts",
    "squared_error",
    "straight_through_counts",
]
