"""Losses of the autoencoders, per cell, with the names and numbers that ACTIVA's have (Heydari et al. 2022).

The paper sums over the cells of a batch. Here every term is given per cell and averaged by the caller, so that learning
rates and weights mean the same for any batch size.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def kl_standard_normal(mean: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """L_REG: KL(N(mean, exp(log_var)) || N(0, I)) in nats, summed over the latent dimensions; shape ``(n,)``."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1)


def log_normal(z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """Log density of N(mean, exp(log_var)) at ``z``, dimension by dimension."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mean).square() * (-log_var).exp())


def squared_error(x: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """L_AE, equation 2: half the squared distance, summed over genes; shape ``(n,)``."""
    return 0.5 * (x - reconstruction).square().sum(-1)


def cell_type_loss(logits: torch.Tensor, logits_reconstruction: torch.Tensor) -> torch.Tensor:
    """L_CT, equation 5: half the squared distance between the classifier's logits; shape ``(n,)``."""
    return 0.5 * (logits - logits_reconstruction).square().sum(-1)


def hinge(kl: torch.Tensor, m: float | torch.Tensor) -> torch.Tensor:
    """[m - KL]+ of equation 3, on the batch mean of the KL as in the authors' program; a scalar."""
    return F.relu(m - kl.mean())
