"""Mean and standard deviation of every gene, fixed numbers that a model takes from its data."""

from __future__ import annotations

import torch
from torch import nn


class GeneScale(nn.Module):
    """Standardise genes, and turn standardised values back.

    Parameters
    ----------
    n_genes
        Number of genes. Until :meth:`set` is called, values pass unchanged.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, n_genes: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_genes))
        self.register_buffer("std", torch.ones(n_genes))

    def set(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Write the numbers, each ``(n_genes,)``."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Standardised values."""
        inverse = 1 / self.std
        # one pass over a batch, and one batch in memory
        return torch.addcmul(-self.mean * inverse, x, inverse)

    def invert(self, standard: torch.Tensor) -> torch.Tensor:
        """Values in the units of the data."""
        return torch.addcmul(self.mean, standard, self.std)
