"""Index-code mutual information, total correlation and dimension-wise KL from a minibatch.

Chen, Li, Grosse, Duvenaud (2018) Isolating sources of disentanglement in variational autoencoders, equation 2 and
appendices C.1 and C.2. The aggregate posterior q(z) is a mixture of the posteriors of all cells, of which a step sees a
few. Two things differ from the paper and from the programs of its authors and of MichiGAN's:

- Beside the batch, the mixture may hold the posteriors of cells of recent steps (a memory). With a batch of 128 alone,
  the estimate of narrow posteriors falls below zero, and a large beta then rewards the encoder for that error.
- The gradient runs through the sample z alone. E_q(z)[d log q(z)] = 0 for the parameters of any density, so the rest of
  the gradient is noise, and the way by which the error above is learned.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from scmimic.model.base._losses import log_normal

Estimator = Literal["mss", "mws"]


class Decomposition(NamedTuple):
    """KL(q(z|x) || p(z)), on average over cells, in three terms that add up to it; nats.

    Attributes
    ----------
    mutual_information
        Between cell and code.
    total_correlation
        KL of q(z) from the product of its marginals: what the latents tell of each other.
    dimension_wise_kl
        KL of the marginals of q(z) from the prior's, summed.
    """

    mutual_information: torch.Tensor
    total_correlation: torch.Tensor
    dimension_wise_kl: torch.Tensor


def log_weights(n_batch: int, n_components: int, n_obs: int, estimator: Estimator = "mss") -> torch.Tensor:
    """Log weight of every posterior in the estimate of q(z) at every sample, ``(n_batch, n_components)``.

    Parameters
    ----------
    n_batch
        Number of samples; sample i comes from posterior i.
    n_components
        Number of posteriors, the batch's first.
    n_obs
        Number of cells in the data.
    estimator
        ``"mss"``, minibatch stratified sampling: 1 / n_obs for the sample's own posterior, of which q(z) holds one, and
        equal shares of the rest for the others. The paper gives one of the others a smaller share than the rest; which
        one is arbitrary, and this is the mean over the choices. ``"mws"``, minibatch weighted sampling:
        1 / (n_obs n_components) for all; the total correlation then carries a constant of (n_latent - 1) times
        log(n_obs) or so.
    """
    if estimator == "mws":
        return torch.full((n_batch, n_components), -math.log(n_obs * n_components))
    if estimator != "mss":
        raise ValueError(f"`estimator` must be 'mss' or 'mws', not {estimator!r}.")
    if n_components == 1 or n_obs == 1:
        return torch.zeros(n_batch, n_components)
    others = math.log((n_obs - 1) / n_obs / (n_components - 1))
    weights = torch.full((n_batch, n_components), others)
    weights[:, :n_batch].fill_diagonal_(-math.log(n_obs))
    return weights


class AggregateDensity:
    """Log density of a mixture of diagonal normals and of its marginals.

    The exponentials of (latents x samples x components) take as long as a layer beside the genes, and so does fresh
    memory for them; two arrays are therefore kept from call to call.
    """

    def __init__(self):
        self._spare: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(
        self, z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log q(z), ``(n,)``, and log q(z_j), ``(n, n_latent)``; differentiable in ``z`` alone.

        Parameters
        ----------
        z
            Samples, ``(n, n_latent)``.
        mean, log_var
            Components, ``(k, n_latent)``.
        weights
            Log weights, ``(n, k)``.
        """
        return _LogDensity.apply(z, mean.detach(), log_var.detach(), weights, self)

    def arrays(self, like: torch.Tensor, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Two arrays to write into."""
        spare = self._spare
        if spare is None or spare[0].shape != shape or spare[0].dtype != like.dtype or spare[0].device != like.device:
            self._spare = spare = (like.new_empty(shape), like.new_empty(shape))
        return spare

    def __getstate__(self) -> dict[str, Any]:
        """Leave the arrays out of copies and files."""
        return {"_spare": None}


class _LogDensity(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: torch.Tensor,
        mean: torch.Tensor,
        log_var: torch.Tensor,
        weights: torch.Tensor,
        memory: AggregateDensity,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n, d = z.shape
        # components along the last axis, so that every sum runs over neighbours in memory
        z, mean, log_var = (v.t().contiguous() for v in (z, mean, log_var))
        inverse_std = (-0.5 * log_var).exp().unsqueeze(1)
        constant = (-0.5 * (math.log(2 * math.pi) + log_var)).unsqueeze(1)
        distance, density = memory.arrays(z, (d, n, mean.shape[1]))
        torch.sub(z.unsqueeze(2), mean.unsqueeze(1), out=distance).mul_(inverse_std)
        torch.mul(distance, distance, out=density).mul_(-0.5).add_(constant)
        joint = density.sum(0).add_(weights)
        log_q = torch.logsumexp(joint, 1)
        # no underflow: every sample lies a few standard deviations from its own component
        density.exp_().mul_(weights.exp())
        marginal = density.sum(2)
        if ctx.needs_input_grad[0]:
            # d log N / dz = -(z - mean) / std^2, averaged over components by their share of the density
            distance.mul_(inverse_std)
            for_each = -density.mul_(distance).sum(2).div_(marginal)
            for_joint = -distance.mul_(joint.softmax(1)).sum(2)
            ctx.save_for_backward(for_joint, for_each)
        return log_q, marginal.log_().t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, for_q: torch.Tensor, for_each: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        joint, each = ctx.saved_tensors
        return (joint * for_q + each * for_each.t()).t(), None, None, None, None


def log_density_with_posteriors(
    z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :class:`AggregateDensity`, but differentiable in the posteriors too, as in the authors' programs."""
    each = log_normal(z.unsqueeze(1), mean, log_var) + weights.unsqueeze(2)
    joint = each.sum(2) - (z.shape[1] - 1) * weights
    return torch.logsumexp(joint, 1), torch.logsumexp(each, 1)


def decompose_kl(
    z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor, log_q: torch.Tensor, log_q_each: torch.Tensor
) -> Decomposition:
    """The three terms, from one sample of each posterior and the log densities of the aggregate posterior at it.

    Parameters
    ----------
    z
        Samples, ``(n, n_latent)``.
    mean, log_var
        Their posteriors, ``(n, n_latent)``.
    log_q
        Log q(z), ``(n,)``.
    log_q_each
        Log q(z_j), ``(n, n_latent)``.
    """
    log_posterior = log_normal(z, mean, log_var).sum(-1)
    log_prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z)).sum(-1)
    log_product = log_q_each.sum(-1)
    return Decomposition((log_posterior - log_q).mean(), (log_q - log_product).mean(), (log_product - log_prior).mean())


class PosteriorMemory:
    """The posteriors of the cells of recent steps: a ring of fixed size.

    Parameters
    ----------
    size
        Number of cells; 0 remembers nothing.
    """

    def __init__(self, size: int):
        self.size = size
        self._values: torch.Tensor | None = None
        self._filled = 0
        self._next = 0

    def __len__(self) -> int:
        return self._filled

    def read(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Means and log variances, each ``(len, n_latent)``, in no particular order; None while there are none."""
        if self._values is None:
            return None
        return self._values[0, : self._filled], self._values[1, : self._filled]

    @torch.no_grad()
    def push(self, mean: torch.Tensor, log_var: torch.Tensor) -> None:
        """Remember cells in place of the oldest; both ``(n, n_latent)``."""
        new = torch.stack([mean.detach(), log_var.detach()])[:, -self.size :] if self.size else None
        if new is None:
            return
        if self._values is None:
            self._values = new.new_empty(2, self.size, mean.shape[1])
        where = (self._next + torch.arange(new.shape[1], device=new.device)) % self.size
        self._values[:, where] = new
        self._next = (self._next + new.shape[1]) % self.size
        self._filled = min(self._filled + new.shape[1], self.size)
