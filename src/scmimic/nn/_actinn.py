"""The ACTINN classifier (Ma and Pellegrini 2020), the conditioner of ACTIVA (section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn


def normalize_expression(x: torch.Tensor, input_transform: Literal["log2", "none"]) -> torch.Tensor:
    """ACTINN's input: ``log2(1 + 10,000 * x / sum(x))`` per cell, or ``x`` as it is.

    The transform stands inside the classifier, so that counts of any depth, normalised expression and a generator's
    expected expression all enter on one scale.
    """
    if input_transform == "none":
        return x
    total = x.sum(-1, keepdim=True).clamp_min(1e-8)
    return torch.log2(1 + x * (1e4 / total))


class ACTINNClassifier(nn.Module):
    """Genes - 100 - 50 - 25 - types, ReLU, logits.

    Parameters
    ----------
    n_input
        Number of genes.
    n_labels
        Number of types.
    n_hidden
        Widths of the hidden layers.
    input_transform
        ``"log2"`` as published, or ``"none"`` to use values as they come.
    gene_mask
        Genes that are used; the others enter as zero.
    """

    gene_mask: torch.Tensor

    def __init__(
        self,
        n_input: int,
        n_labels: int,
        *,
        n_hidden: Sequence[int] = (100, 50, 25),
        input_transform: Literal["log2", "none"] = "log2",
        gene_mask: torch.Tensor | None = None,
    ):
        super().__init__()
        self.input_transform = input_transform
        widths = [n_input, *n_hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        layers.append(nn.Linear(widths[-1], n_labels))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.constant_(layer.bias, 0.01)
        mask = torch.ones(n_input) if gene_mask is None else gene_mask.float()
        self.register_buffer("gene_mask", mask)
        self.uses_all_genes = bool(mask.all())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, n_labels)`` of non-negative linear expression ``(n, n_input)``."""
        x = normalize_expression(x, self.input_transform)
        return self.layers(x if self.uses_all_genes else x * self.gene_mask)
