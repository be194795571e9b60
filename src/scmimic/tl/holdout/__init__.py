"""Combinations that are held out, and how well they are predicted."""

from scmimic.tl.holdout._trial import CONTROL, LINEAR, MEAN_SHIFT, SCORES, VAE

__all__ = [
    "CONTROL",
    "LINEAR",
    "MEAN_SHIFT",
    "SCORES",
    "VAE",
]
