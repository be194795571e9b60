"""Fixed projections of the genes on a few directions, and back, which a model takes from its data."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class GeneProjection(nn.Module):
    """Linear map without parameters to learn.

    Parameters
    ----------
    n_genes
        Number of genes.
    n_comps
        Number of directions. Until :meth:`set` is called, everything is mapped to 0.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, n_genes: int, n_comps: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_comps, n_genes))
        self.register_buffer("bias", torch.zeros(n_comps))

    def set(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Write the first rows of the map, ``(k, n_genes)`` and ``(k,)``; the others stay 0."""
        self.weight[: len(weight)] = weight
        self.bias[: len(bias)] = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, n_genes)`` to ``(n, n_comps)``."""
        return F.linear(x, self.weight, self.bias)


class GeneExpansion(nn.Module):
    """Linear map from a few directions to the genes, without parameters to learn.

    Parameters
    ----------
    n_genes
        Number of genes.
    n_comps
        Number of directions. Until :meth:`set` is called, everything is mapped to 0.
    """

    weight: torch.Tensor

    def __init__(self, n_genes: int, n_comps: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_genes, n_comps))

    def set(self, axes: torch.Tensor) -> None:
        """Write the first directions, ``(k, n_genes)``; the others stay 0."""
        self.weight[:, : len(axes)] = axes.t()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map ``(..., n_comps)`` to ``(..., n_genes)``."""
        return F.linear(values, self.weight)
