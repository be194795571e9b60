"""Fully connected stacks.

ACTIVA's order is linear, ReLU, batch norm (section 2.5, figure 2 of its paper); MichiGAN's is linear, batch norm, leaky
ReLU, dropout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from scmimic.nn._wide_linear import WideLinear

LARGEST = 127**0.5
"""Largest normalised value that a training batch of 128 cells can show: of one cell that differs from all others."""


class RealBatchNorm1d(nn.BatchNorm1d):
    """Batch norm whose running statistics describe real cells only.

    In adversarial training one encoder sees real, reconstructed and generated cells in turn. Were all of them to enter
    one running mean, the statistics used in eval mode would describe none of the three. Inside :func:`fake_cells` the
    layer normalises without touching the running statistics. A training batch of one cell has no variance and is
    normalised by the running statistics.

    In eval mode no normalised value is beyond `LARGEST`. A unit that hardly any cell activates has a running variance
    of next to nothing, by which the one cell in a thousand that does activate it would be multiplied by hundreds: its
    code would lie far from all others, and a code near it would be decoded to a cell of a single gene.
    """

    fake_statistics: str | None = None
    fake_groups: int = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x`` of shape ``(n, n_features)``."""
        if not self.training:
            assert self.running_mean is not None and self.running_var is not None
            reach = LARGEST * (self.running_var + self.eps).sqrt()
            return super().forward(x.clamp(self.running_mean - reach, self.running_mean + reach))
        if x.shape[0] == self.fake_groups or self.fake_statistics == "running":
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        if self.fake_statistics == "batch":
            groups = [
                F.batch_norm(part, None, None, self.weight, self.bias, True, 0.0, self.eps)
                for part in x.chunk(self.fake_groups)
            ]
            return groups[0] if len(groups) == 1 else torch.cat(groups)
        return super().forward(x)


@contextmanager
def fake_cells(network: nn.Module, statistics: str = "batch", *, n_groups: int = 1) -> Iterator[None]:
    """Pass synthetic cells through ``network`` without a trace in its running statistics.

    Parameters
    ----------
    network
        Any module; its :class:`RealBatchNorm1d` layers are switched.
    statistics
        ``"batch"`` normalises synthetic cells by their own batch, ``"running"`` by the running statistics of the real
        cells, so that a shift of the mean stays visible to the discriminator.
    n_groups
        The batch is this many batches of equal size, one below the other, and each has its own statistics.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, RealBatchNorm1d)]
    for layer in layers:
        layer.fake_statistics, layer.fake_groups = statistics, n_groups
    try:
        yield
    finally:
        for layer in layers:
            layer.fake_statistics, layer.fake_groups = None, 1


def layer_slopes(n_layers: int, negative_slope: float, last_slope: float | None = None) -> tuple[float, ...]:
    """Slopes below zero of the activations of so many hidden layers; None: the last one has that of the others."""
    last = negative_slope if last_slope is None else last_slope
    return (*[negative_slope] * (n_layers - 1), last)


L = TypeVar("L", bound=nn.Linear)


def at_zero(layer: L) -> L:
    """The layer, with weights and bias 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class DenseStack(nn.Module):
    """Linear, activation, batch norm, dropout; once per hidden width.

    Parameters
    ----------
    n_in
        Number of input features.
    n_hidden
        Widths of the hidden layers, first to last.
    n_covariates
        Number of columns that are joined to the input, such as those of a :class:`~scmimic.nn.CovariateDesign`.
    dropout_rate
        Dropout after each layer. The papers' networks have none.
    use_batch_norm
        Batch norm after each activation.
    norm_first
        Batch norm before the activation instead.
    negative_slope
        Slope of the activation below zero; 0 is the plain ReLU.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: Sequence[int],
        *,
        n_covariates: int = 0,
        dropout_rate: float = 0.0,
        use_batch_norm: bool = True,
        norm_first: bool = False,
        negative_slope: float = 0.0,
    ):
        super().__init__()
        self.n_covariates = n_covariates
        widths = [n_in + n_covariates, *n_hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
            steps: list[nn.Module] = [nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()]
            if use_batch_norm:
                steps.insert(0 if norm_first else 1, RealBatchNorm1d(fan_out))
            layers += [WideLinear(fan_in, fan_out), *steps]
            if dropout_rate > 0:
                layers.append(nn.Dropout(dropout_rate))
        self.layers = nn.Sequential(*layers)
        self.n_out = widths[-1]

    @property
    def covariate_weight(self) -> torch.Tensor:
        """The part of the first layer's weight that reads the covariates, ``(n_hidden[0], n_covariates)``."""
        weight = next(self.layers.parameters())
        return weight[:, weight.shape[1] - self.n_covariates :]

    def forward(self, x: torch.Tensor, *covariates: torch.Tensor | None) -> torch.Tensor:
        """Map ``(..., n_in)`` to ``(..., n_hidden[-1])``.

        `covariates`, each ``(n, k)`` with a row per cell, have `n_covariates` columns in all; None joins nothing, and
        without `n_covariates` they are not read.
        """
        if self.n_covariates:
            columns = [part.to(x.dtype).expand(*x.shape[:-1], -1) for part in covariates if part is not None]
            x = torch.cat([x, *columns], dim=-1)
        flat = x.reshape(-1, x.shape[-1]) if x.dim() > 2 else x
        hidden = self.layers(flat)
        return hidden.reshape(*x.shape[:-1], -1) if x.dim() > 2 else hidden
