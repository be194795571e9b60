"""The generator of the GANs: noise, and a condition, to expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from scmimic.nn._dense import RealBatchNorm1d, layer_slopes
from scmimic.nn._wide_linear import WideLinear


class GeneratorNorm(nn.Module):
    """Batch norm whose scale and offset depend on the label, with statistics that all labels share, as in cscGAN.

    Parameters
    ----------
    n_features
        Width of the layer.
    n_labels
        Number of labels; 0 or 1 is plain batch norm.
    """

    def __init__(self, n_features: int, n_labels: int = 0):
        super().__init__()
        self.norm = RealBatchNorm1d(n_features, affine=n_labels < 2)
        self.scale = nn.Embedding.from_pretrained(torch.ones(n_labels, n_features), False) if n_labels > 1 else None
        self.offset = nn.Embedding.from_pretrained(torch.zeros(n_labels, n_features), False) if n_labels > 1 else None

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise ``(n, n_features)``; ``labels`` of shape ``(n,)``."""
        x = self.norm(x)
        return x if self.scale is None or self.offset is None else x * self.scale(labels) + self.offset(labels)


class ExpressionGenerator(nn.Module):
    """Linear, batch norm, leaky ReLU, dropout, once per hidden width; then a linear layer to the genes.

    Parameters
    ----------
    n_input
        Size of noise, codes and joined labels together.
    n_output
        Number of genes.
    n_hidden
        Widths of the hidden layers, noise to genes.
    n_labels
        Number of labels of the conditional batch norm (0: plain batch norm).
    negative_slope
        Of the leaky ReLU; 0 is the plain ReLU.
    last_slope
        That of the last hidden layer. None: the same.
    dropout_rate
        Dropout after each hidden layer.
    output
        ``"relu"``: non-negative expression. ``"linear"``: unbounded. ``"library"``: non-negative, and scaled to the
        same total in every cell, as scGAN. ``"counts"``: shares of the genes in a cell's counts, which sum to 1.
    """

    total: torch.Tensor

    def __init__(
        self,
        n_input: int,
        n_output: int,
        n_hidden: Sequence[int] = (256, 512, 1024),
        *,
        n_labels: int = 0,
        negative_slope: float = 0.2,
        last_slope: float | None = None,
        dropout_rate: float = 0.0,
        output: Literal["relu", "linear", "library", "counts"] = "relu",
    ):
        super().__init__()
        if output not in ("relu", "linear", "library", "counts"):
            raise ValueError(f"`output` must be 'relu', 'linear', 'library' or 'counts', not {output!r}.")
        widths = [n_input, *n_hidden]
        self.layers = nn.ModuleList(
            WideLinear(fan_in, fan_out) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(GeneratorNorm(width, n_labels) for width in n_hidden)
        self.dropout = nn.Dropout(dropout_rate)
        self.output = WideLinear(widths[-1], n_output)
        self.activation = output
        self.slopes = layer_slopes(len(n_hidden), negative_slope, last_slope)
        self.register_buffer("total", torch.ones(()))

    def hidden(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """The last hidden layer."""
        h = z
        for layer, norm, slope in zip(self.layers, self.norms, self.slopes, strict=True):
            h = self.dropout(F.leaky_relu(norm(layer(h), labels), slope))
        return h

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Expression ``(n, n_output)`` from inputs ``(n, n_input)`` and labels ``(n,)``."""
        x = self.output(self.hidden(z, labels))
        if self.activation == "linear":
            return x
        if self.activation == "counts":
            return torch.softmax(x, dim=-1)
        x = F.relu(x)
        return x if self.activation == "relu" else x * (self.total / x.sum(-1, keepdim=True).clamp_min(1e-6))

    @torch.no_grad()
    def refresh_statistics(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> None:
        """Set the running statistics to those of one large batch.

        In training they follow small batches of a moving network, or of another one where the weights are averages.
        :func:`torch.optim.swa_utils.update_bn` does the same with dropout at work.
        """
        norms = [module for module in self.norms.modules() if isinstance(module, RealBatchNorm1d)]
        momentum, training = [norm.momentum for norm in norms], self.training
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        self.dropout.eval()
        self.hidden(z, labels)
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
        self.train(training)
