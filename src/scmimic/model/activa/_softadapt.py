"""SoftAdapt: loss weights that follow each loss's rate of change (Heydari, Thompson, Mehmood 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from scmimic._arguments import NUMBER, Choice

Variant = Literal["original", "normalized", "normalized-absolute", "loss-weighted"]
SlopeAt = Literal["newest", "oldest"]
VARIANTS = Choice(get_args(Variant))
SLOPES_AT = Choice(get_args(SlopeAt))


def softadapt_weights(
    losses: Sequence[Sequence[float]],
    *,
    beta: float = 0.1,
    variant: Variant = "original",
    slope_at: SlopeAt = "newest",
) -> np.ndarray:
    """Weights that sum to one and favour the losses that fall slowest (``beta > 0``).

    Parameters
    ----------
    losses
        One sequence per loss with its last values, oldest first; at least two values each.
    beta
        Sharpness; 0 weighs all alike, negative values favour the losses that fall fastest.
    variant
        ``"original"``: softmax of ``beta * slope``. ``"normalized"``: slopes divided by their sum first, so that the
        losses' units cancel. ``"normalized-absolute"``: divided by the sum of their absolute values.
        ``"loss-weighted"``: the softmax's terms are also multiplied by the mean of each loss.
    slope_at
        Where the slope is taken. The published program's coefficients give it at the oldest of the values, which is
        what its published weights need.

    Returns
    -------
    Weights of shape ``(n_losses,)``.

    Raises
    ------
    ValueError
        If there are fewer than two values of a loss, or an argument is none of its choices.

    Notes
    -----
    The slope is a one-sided finite difference of fourth order (first order with fewer than five values).

    ``"normalized"`` is the published program's: it divides by the signed sum of the slopes. Where losses fall, that sum
    is negative, and every slope changes its sign: ``beta > 0`` then favours the losses that fall fastest, against the
    other variants, and where rising and falling losses cancel one loss gets all the weight. ``"normalized-absolute"``
    keeps the order of the slopes in any case, and agrees with it where all losses rise.

    Examples
    --------
    The weights that were published with the program:

    >>> import scmimic.train as train
    >>> losses = [[1, 2, 3, 4, 5], [150, 100, 50, 10, 0.1], [1500, 1000, 500, 100, 1]]
    >>> train.softadapt_weights(losses, variant="normalized", slope_at="oldest").round(4).tolist()
    [0.3221, 0.3251, 0.3528]
    """
    VARIANTS.check(variant=variant)
    SLOPES_AT.check(slope_at=slope_at)
    NUMBER.check(beta=beta)
    values = np.asarray(losses, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"`losses` must hold at least two values for each loss, but has shape {values.shape}.")
    slope = _slope(values, slope_at)
    if variant.startswith("normalized"):
        total = slope.sum() if variant == "normalized" else np.abs(slope).sum()
        slope = slope / np.copysign(max(abs(total), 1e-12), total)
    exponent = beta * slope
    terms = np.exp(exponent - exponent.max())
    if variant == "loss-weighted":
        terms = terms * np.maximum(values.mean(axis=1), 0)
    total = terms.sum()
    return terms / total if total > 0 else np.full(len(values), 1 / len(values))


def _slope(values: np.ndarray, slope_at: SlopeAt) -> np.ndarray:
    backward = np.array([3.0, -16.0, 36.0, -48.0, 25.0]) / 12.0 if values.shape[1] >= 5 else np.array([-1.0, 1.0])
    coefficients = backward if slope_at == "newest" else -backward[::-1]
    return values[:, -len(coefficients) :] @ coefficients
