"""Likelihoods of counts, in one table: what each needs of a model, its distribution, and how it is drawn.

A discriminator judges counts and a generator learns from its judgement, but an integer draw has no gradient. The draw
is therefore seen as a gamma-Poisson mixture: the gamma factor f scales the rate (its path derivative is exact), and the
Poisson step passes the gradient straight through (Bengio et al. 2013), so that the gradient of a count in its mean is
f. What judges the counts knows f by the count alone, and f may be replaced by its mean given the count,

    E[f | x] = (theta + x) / (theta + mu),

which leaves the mean of the gradient as it is, lowers its variance, and asks for no gamma number. The discriminator
sees true integers. The dispersion receives no gradient: it is learned from the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from scvi.distributions import NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial
from torch.autograd.function import once_differentiable

from scmimic._arguments import Choice
from scmimic.model.base._negative_binomial import SparseNegativeBinomial, entries

CountDistribution: TypeAlias = Poisson | NegativeBinomial
"""scvi-tools' distributions of counts; the zero-inflated one is a ``NegativeBinomial`` too."""
CellDistribution: TypeAlias = Normal | CountDistribution
"""What a decoder gives, with ``get_normalized``."""


def poisson_counts(rate: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Poisson counts of `rate`, and NaN where it is not finite: so a training that diverges shows it by its loss.

    torch refuses such rates, on a GPU with an error that nothing on it survives.

    Parameters
    ----------
    rate
        Rates.
    generator
        Source of randomness; None uses torch's global one.
    """
    return torch.poisson(rate.nan_to_num(nan=0.0, posinf=0.0), generator=generator) + 0 * rate


def draw_counts(px: CountDistribution, generator: torch.Generator | None = None) -> torch.Tensor:
    """Integer counts of ``px``: a gamma and a Poisson number for each.

    Parameters
    ----------
    px
        scvi-tools' ``Poisson``, ``NegativeBinomial`` or ``ZeroInflatedNegativeBinomial``.
    generator
        Source of randomness; None uses torch's global one.
    """
    with torch.no_grad():
        rate = px.rate if isinstance(px, Poisson) else px.mu
        if isinstance(px, NegativeBinomial):
            theta = px.theta.expand_as(rate)
            rate = rate * (torch._standard_gamma(theta.contiguous(), generator=generator) / theta)
        counts = poisson_counts(rate, generator)
        if not isinstance(px, ZeroInflatedNegativeBinomial):
            return counts
        uniform = torch.rand(counts.shape, generator=generator, device=counts.device)
        return counts.masked_fill(uniform < torch.sigmoid(px.zi_logits), 0.0)


# Above this mean an inversion takes more steps than a gamma and a Poisson draw.
INVERSION_LIMIT = 8.0
# A negative binomial that is Poisson in all digits.
_POISSON_THETA = 1e12
# Half the distance between two uniform numbers of single precision.
_HALF_STEP = 2.0**-25
# Most draws of an entry at a time, until one is positive.
_MOST_DRAWS = 256


class CountParameters(NamedTuple):
    """Parameters of counts, or of some of their entries, with the chance of a zero and draws of what is none.

    Attributes
    ----------
    rate
        Means, of any shape.
    theta
        Inverse dispersions of the same shape; None: a Poisson.
    zi_logits
        Logits of an extra zero, of the same shape; None: there is none.
    """

    rate: torch.Tensor
    theta: torch.Tensor | None
    zi_logits: torch.Tensor | None

    @classmethod
    def of(cls, px: CountDistribution, where: torch.Tensor | None = None) -> CountParameters:
        """Those of a distribution, or of its entries at some flat positions."""
        if isinstance(px, Poisson):
            found = cls(px.rate, None, None)
        else:
            found = cls(px.mu, px.theta.expand_as(px.mu), getattr(px, "zi_logits", None))
        return found if where is None else found.at(where)

    def at(self, where: torch.Tensor) -> CountParameters:
        """Of entries at flat positions."""
        theta, zi_logits = (None if x is None else entries(x, where) for x in (self.theta, self.zi_logits))
        return CountParameters(entries(self.rate, where), theta, zi_logits)

    def log_zero(self) -> torch.Tensor:
        """Log P(x = 0), but for extra zeros."""
        if self.theta is None:
            return self.rate.neg()
        return (self.rate / self.theta).log1p_().mul_(self.theta).neg_()

    def zero(self) -> torch.Tensor:
        """P(x = 0)."""
        zero = self.log_zero().exp_()
        if self.zi_logits is not None:
            inflation = torch.sigmoid(self.zi_logits)
            zero = inflation + (1 - inflation) * zero
        return zero

    def positive(self) -> torch.Tensor:
        """P(x > 0), in all digits where it is small."""
        positive = self.log_zero().expm1_().neg_()
        return positive if self.zi_logits is None else positive * torch.sigmoid(-self.zi_logits)

    @torch.no_grad()
    def draw_positive(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Integer counts, given that they are positive.

        Small means by inverting the distribution function, others by drawing until a count is positive.

        Parameters
        ----------
        generator
            Source of randomness; None uses torch's global one.
        """
        rate, theta = self.rate, self.theta
        uniform = torch.rand(rate.shape, generator=generator, device=rate.device)
        counts = torch.zeros_like(rate)
        is_small = rate <= INVERSION_LIMIT
        small, large = (part.nonzero().squeeze(1) for part in (is_small, ~is_small))
        of_small = torch.full_like(rate[small], _POISSON_THETA) if theta is None else theta[small]
        counts[small] = _invert_positive(uniform[small], rate[small], of_small).to(rate.dtype)
        counts[large] = _draw_positive(rate[large], None if theta is None else theta[large], generator)
        return counts


def zero_probability(px: CountDistribution, step: float | torch.Tensor = 0.0) -> torch.Tensor:
    """P(x = 0) of counts, of the shape of the rate.

    Parameters
    ----------
    px
        scvi-tools' ``Poisson``, ``NegativeBinomial`` or ``ZeroInflatedNegativeBinomial``.
    step
        What is added to the log inverse dispersion of a negative binomial.
    """
    parameters = CountParameters.of(px)
    if parameters.theta is not None and (not isinstance(step, float) or step):
        parameters = parameters._replace(theta=parameters.theta * torch.as_tensor(step).exp())
    return parameters.zero()


def sample_counts(px: CountDistribution, generator: torch.Generator | None = None) -> torch.Tensor:
    """Integer counts of ``px``, fast where most are zero.

    One uniform number per entry decides whether the count is zero, and only those that are not are drawn. The chance of
    a count is never above its mean, so that it is computed only where the number is below the mean. In single cells,
    where nine of ten counts are zero, this takes a quarter of the time of :func:`draw_counts`, and has the same
    distribution. A mean that is not finite gives NaN.

    Parameters
    ----------
    px
        scvi-tools' ``Poisson``, ``NegativeBinomial`` or ``ZeroInflatedNegativeBinomial``.
    generator
        Source of randomness; None uses torch's global one.
    """
    with torch.no_grad():
        parameters = CountParameters.of(px)
        rate = parameters.rate
        uniform = torch.rand(rate.shape, generator=generator, device=rate.device).view(-1)
        where = positions(uniform < rate.reshape(-1))
        found = parameters.at(where)
        # the middle of the step that a uniform number stands for: 0 is not below any chance
        chosen = positions(uniform[where] + _HALF_STEP < found.positive())
        counts = torch.zeros_like(rate)
        counts.view(-1)[where[chosen]] = found.at(chosen).draw_positive(generator)
        return counts.add_(rate, alpha=0.0)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Where a mask is true, of one dimension."""
    # NumPy takes a fifth of the time that torch takes on a CPU
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.nonzero().squeeze(1)


def _invert_positive(uniform: torch.Tensor, rate: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Smallest count at which the distribution function of positive counts reaches ``uniform``."""
    uniform, rate, theta = uniform.double(), rate.double(), theta.double()
    ratio = rate / (rate + theta)
    mass = (-theta * torch.log1p(rate / theta)).exp()
    # the mass of the positive counts alone, which 1 - mass loses where it is small
    uniform = uniform * -torch.expm1(-theta * torch.log1p(rate / theta))
    reached = torch.zeros_like(mass)
    result = torch.zeros_like(rate)
    active = torch.arange(len(rate), device=rate.device)
    k, width = 0, 1
    while len(active):
        # most counts are 1 or 2, and a few are in the hundreds: ever more of them at a time
        steps = torch.arange(k, k + width, dtype=torch.double, device=rate.device)
        masses = mass[:, None] * (ratio[:, None] * (theta[:, None] + steps) / (steps + 1)).cumprod(1)
        sums = reached[:, None] + masses.cumsum(1)
        # a mass this small cannot move the sum any more
        is_there = (sums >= uniform[:, None]) | (masses <= 1e-14 * uniform[:, None])
        has_one = is_there.any(1)
        result[active[has_one]] = k + 1 + is_there[has_one].to(torch.uint8).argmax(1).to(result.dtype)
        is_open = ~has_one
        active, mass, reached = active[is_open], masses[is_open, -1], sums[is_open, -1]
        uniform, ratio, theta = uniform[is_open], ratio[is_open], theta[is_open]
        k, width = k + width, min(2 * width, 64)
    return result


def _draw_positive(rate: torch.Tensor, theta: torch.Tensor | None, generator: torch.Generator | None) -> torch.Tensor:
    """Gamma-Poisson counts, drawn until they are positive."""
    result = torch.zeros_like(rate)
    open_ = torch.arange(len(rate), device=rate.device)
    n_draws = 1
    while len(open_):
        mean = rate[open_].expand(n_draws, -1)
        if theta is not None:
            size = theta[open_].expand(n_draws, -1).contiguous()
            mean = mean * torch._standard_gamma(size, generator=generator) / size
        drawn = torch.poisson(mean, generator=generator)
        first = (drawn > 0).to(torch.uint8).argmax(0, keepdim=True)
        result[open_] = drawn.gather(0, first).squeeze(0)
        open_ = open_[result[open_] == 0]
        n_draws = min(4 * n_draws, _MOST_DRAWS)
    return result


class _WithSlope(torch.autograd.Function):
    """Values, with a slope in something else that they were drawn of."""

    @staticmethod
    def forward(ctx: Any, of: torch.Tensor, values: torch.Tensor, slope: torch.Tensor | None) -> torch.Tensor:
        ctx.slope = slope
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradient if ctx.slope is None else gradient * ctx.slope, None, None


def straight_through_counts(px: CountDistribution) -> torch.Tensor:
    """Integer counts whose gradient is that of the rate behind them, times the mean of the gamma factor given each."""
    if isinstance(px, Poisson):
        return _WithSlope.apply(px.rate, _counts(px), None)
    rate, mu, theta, counts = px.mu, px.mu.detach(), px.theta.detach(), _counts(px)
    slope = (counts + theta).div_(mu + theta)
    if isinstance(px, ZeroInflatedNegativeBinomial):
        kept = torch.sigmoid(-px.zi_logits)
        rate = rate * kept
        # of an extra zero the factor is any, its mean 1
        extra, true = 1 - kept.detach(), kept.detach() * CountParameters(mu, theta.expand_as(mu), None).zero()
        slope = torch.where(counts > 0, slope, (extra + true * slope) / (extra + true))
    return _WithSlope.apply(rate, counts, slope)


def _counts(px: CountDistribution) -> torch.Tensor:
    # a GPU has more to lose from looking at where counts are than from a gamma for each
    return (sample_counts if CountParameters.of(px).rate.device.type == "cpu" else draw_counts)(px)


@dataclass(frozen=True)
class Likelihood:
    """A likelihood of counts.

    Attributes
    ----------
    distribution
        Makes it of expected counts, proportions of genes, inverse dispersion and logits of an extra zero, the last two
        None where it has none. A distribution as scvi-tools' are, with ``get_normalized``.
    has_dispersion
        Whether a model learns an inverse dispersion for it.
    zero_inflated
        Whether the decoder gives logits of an extra zero.
    judged
        Counts with the gradient of what is behind them, for a discriminator.
    """

    distribution: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None], CountDistribution]
    has_dispersion: bool = False
    zero_inflated: bool = False
    judged: Callable[[CountDistribution], torch.Tensor] = straight_through_counts


RATE_FLOOR = 1e-8
"""Added to Poisson rates; the size that scvi-tools adds in its negative binomial."""


def _poisson(
    rate: torch.Tensor, scale: torch.Tensor, theta: torch.Tensor | None, zero_logits: torch.Tensor | None
) -> CountDistribution:
    # a proportion that underflows to 0 under an observed count would make the loss infinite
    return Poisson(rate + RATE_FLOOR, scale=scale, validate_args=False)


def _nb(
    rate: torch.Tensor, scale: torch.Tensor, theta: torch.Tensor | None, zero_logits: torch.Tensor | None
) -> CountDistribution:
    assert theta is not None
    return SparseNegativeBinomial(rate, theta, scale)


def _zinb(
    rate: torch.Tensor, scale: torch.Tensor, theta: torch.Tensor | None, zero_logits: torch.Tensor | None
) -> CountDistribution:
    return ZeroInflatedNegativeBinomial(mu=rate, theta=theta, zi_logits=zero_logits, scale=scale, validate_args=False)


COUNT_LIKELIHOODS = {
    "nb": Likelihood(_nb, has_dispersion=True),
    "zinb": Likelihood(_zinb, has_dispersion=True, zero_inflated=True),
    "poisson": Likelihood(_poisson),
}
"""Likelihoods of raw counts, by the name that users give."""


def likelihood_names() -> Choice:
    """What `gene_likelihood` may be."""
    return Choice(("normal", *COUNT_LIKELIHOODS))
