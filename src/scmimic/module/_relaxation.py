"""Counts that a discriminator can judge and a generator can learn from.

An integer draw has no gradient. The draw is therefore written as a gamma-Poisson mixture: the gamma factor scales the
rate (its path derivative is exact), and the Poisson step passes the gradient straight through (Bengio et al. 2013). The
discriminator sees true integers; the generator receives the gradient of the rate behind them. The dispersion receives
none: it is learned from the likelihood.
"""

from __future__ import annotations

import torch
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from torch.distributions import Distribution


def draw_counts(px: Distribution, generator: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Integer counts of ``px`` and the factor by which each entry's draw multiplied its rate.

    Parameters
    ----------
    px
        scvi-tools' ``Poisson``, ``NegativeBinomial`` or ``ZeroInflatedNegativeBinomial``.
    generator
        Source of randomness; None uses torch's global one.
    """
    with torch.no_grad():
        rate = px.rate if isinstance(px, Poisson) else px.mu
        factor = None
        if isinstance(px, NegativeBinomial):
            theta = px.theta.expand_as(rate)
            factor = torch._standard_gamma(theta.contiguous(), generator=generator) / theta
        counts = torch.poisson(rate if factor is None else rate * factor, generator=generator)
        if isinstance(px, ZeroInflatedNegativeBinomial):
            drop = torch.rand(rate.shape, generator=generator, device=rate.device) < torch.sigmoid(px.zi_logits)
            counts = counts.masked_fill(drop, 0.0)
    return counts, factor


def straight_through_counts(px: Distribution) -> torch.Tensor:
    """Integer counts whose gradient is that of the rate behind them."""
    counts, factor = draw_counts(px)
    rate = px.rate if isinstance(px, Poisson) else px.mu
    if factor is not None:
        rate = rate * factor
    if isinstance(px, ZeroInflatedNegativeBinomial):
        rate = rate * torch.sigmoid(-px.zi_logits)
    return rate + (counts - rate).detach()
