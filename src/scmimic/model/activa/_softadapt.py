"""SoftAdapt: loss weights that follow each loss's rate of change (Heydari, Thompson, Mehmood 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np


def softadapt_weights(
    losses: Sequence[Sequence[float]],
    *,
    beta: float = 0.1,
    variant: Literal["original", "normalized", "loss-weighted"] = "original",
    slope_at: Literal["newest", "oldest"] = "newest",
) -> np.ndarray:
    """Weights that sum to one and favour the losses that fall slowest (``beta > 0``).

    Parameters
    ----------
    losses
        One sequence per loss with its last values, oldest first; at least two values each.
    beta
        Sharpness; 0 weighs all alike, negative values favour the losses that fall fastest.
    variant
        ``"original"``: softmax of ``beta * slope``. ``"normalized"``: slopes divided by the sum of their absolute
        values first, so that the losses' units cancel. ``"loss-weighted"``: the softmax's terms are also multiplied by
        the mean of each loss.
    slope_at
        Where the slope is taken. The published program's coefficients give it at the oldest of the values.

    Returns
    -------
    Weights of shape ``(n_losses,)``.

    Notes
    -----
    The slope is a one-sided finite difference of fourth order (first order with fewer than five values). The published
    program divides by the signed sum of the slopes, which may be zero or flip every sign; the absolute sum agrees with
    it where all slopes have one sign, up to that sign.
    """
    values = np.asarray(losses, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"`losses` must hold at least two values for each loss, but has shape {values.shape}.")
    slope = _slope(values, slope_at)
    if variant == "normalized":
        slope = slope / max(np.abs(slope).sum(), 1e-12)
    elif variant not in ("original", "loss-weighted"):
        raise ValueError(f"`variant` must be 'original', 'normalized' or 'loss-weighted', not {variant!r}.")
    terms = np.exp(beta * (slope - slope.max()))
    if variant == "loss-weighted":
        terms = terms * np.maximum(values.mean(axis=1), 0)
    total = terms.sum()
    return terms / total if total > 0 else np.full(len(values), 1 / len(values))


def _slope(values: np.ndarray, slope_at: str) -> np.ndarray:
    backward = np.array([3.0, -16.0, 36.0, -48.0, 25.0]) / 12.0 if values.shape[1] >= 5 else np.array([-1.0, 1.0])
    coefficients = backward if slope_at == "newest" else -backward[::-1]
    return values[:, -len(coefficients) :] @ coefficients
