"""scvi-tools' negative binomial with a likelihood that is cheap where counts are zero.

With counts x, mean mu, inverse dispersion theta and s = theta + mu,

    log p(x) = theta log(theta / s) + x log(mu / s) + lgamma(x + theta) - lgamma(theta) - lgamma(x + 1).

All but the first term vanish at x = 0, which is what most of the entries are: the gamma functions, and in the
derivative the digamma functions, are taken of the others alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scvi.distributions import NegativeBinomial

# what scvi-tools adds before it takes a logarithm
_EPS = 1e-8


class SparseNegativeBinomial(NegativeBinomial):
    """:class:`scvi.distributions.NegativeBinomial` whose :meth:`log_prob` skips zeros on the CPU.

    Parameters
    ----------
    mu
        Means, ``(..., n_genes)``.
    theta
        Inverse dispersion, of the same shape or of one that broadcasts to it.
    scale
        Proportions of the genes.
    """

    def __init__(self, mu: torch.Tensor, theta: torch.Tensor, scale: torch.Tensor | None = None):
        super().__init__(mu=mu, theta=theta, scale=scale, validate_args=False)
        self._given_theta = theta

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log probability of counts, of the shape of ``mu``."""
        # samples of several codes broadcast over the cells; a GPU has more to lose from gathering than from gammas
        if value.shape != self.mu.shape or value.device.type != "cpu":
            return super().log_prob(value)
        return _LogProbability.apply(value, self.mu, self._given_theta)


class _LogProbability(torch.autograd.Function):
    """Value and derivatives with respect to the mean and the inverse dispersion."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mu: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        total = mu + (theta + _EPS)
        log_total = total.log()
        log_theta = (theta + _EPS).log()
        result = torch.sub(log_theta, log_total).mul_(theta)
        where = x.reshape(-1).nonzero().squeeze(1)
        count, mean, size, log_sum = (entries(values.expand(x.shape), where) for values in (x, mu, theta, log_total))
        gammas = torch.lgamma(count + size) - _of_entries(torch.lgamma, theta, size, where) - torch.lgamma(count + 1)
        result.view(-1)[where] += count * ((mean + _EPS).log() - log_sum) + gammas
        ctx.save_for_backward(total, log_total, log_theta, theta, where, count, mean, size)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor | None, torch.Tensor | None]:
        total, log_total, log_theta, theta, where, count, mean, size = ctx.saved_tensors
        of_mu = of_theta = None
        share = theta / total
        over = count / entries(total, where)
        if ctx.needs_input_grad[1]:
            of_mu = share.neg()
            of_mu.view(-1)[where] += count / (mean + _EPS) - over
            of_mu.mul_(gradient)
        if ctx.needs_input_grad[2]:
            of_theta = torch.sub(log_theta + theta / (theta + _EPS), log_total).sub_(share)
            digamma = _of_entries(torch.digamma, theta, size, where)
            of_theta.view(-1)[where] += torch.digamma(count + size) - digamma - over
            of_theta = of_theta.mul_(gradient).sum_to_size(theta.shape)
        return None, of_mu, of_theta


def entries(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Entries at flat positions; one row may stand for all, and is not copied for them."""
    if not values.is_contiguous() and not any(values.stride()[:-1]):
        return values[(0,) * (values.dim() - 1)][where % values.shape[-1]]
    return values.reshape(-1)[where]


def _of_entries(
    function: Callable[[torch.Tensor], torch.Tensor], theta: torch.Tensor, size: torch.Tensor, where: torch.Tensor
) -> torch.Tensor:
    """`function` of the entries `size` of `theta`, computed once for each gene where all cells share them."""
    if theta.numel() == theta.shape[-1]:
        return function(theta).reshape(-1)[where % theta.shape[-1]]
    return function(size)
