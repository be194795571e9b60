"""Tensors and losses."""

from scmimic.module._actinn import ACTINNModule, labelled_cross_entropy
from scmimic.module._activa import COUNT_LIKELIHOODS, ACTIVAModule
from scmimic.module._losses import cell_type_loss, hinge, kl_standard_normal, squared_error
from scmimic.module._relaxation import draw_counts, sample_counts, straight_through_counts

__all__ = [
    "COUNT_LIKELIHOODS",
    "ACTINNModule",
    "ACTIVAModule",
    "cell_type_loss",
    "draw_counts",
    "hinge",
    "kl_standard_normal",
    "labelled_cross_entropy",
    "sample_counts",
    "squared_error",
    "straight_through_counts",
]
