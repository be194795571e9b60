"""The encoder of the autoencoders; ACTIVA's is also its discriminator (section 2.1 of its paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from scmimic.nn._dense import DenseStack, RealBatchNorm1d, at_zero
from scmimic.nn._gene_projection import GeneProjection
from scmimic.nn._gene_scale import GeneScale


class Encoder(nn.Module):
    """Expression to the mean and log variance of q(z|x).

    Parameters
    ----------
    n_input
        Number of genes.
    n_latent
        Size of the latent space.
    n_hidden
        Widths of the hidden layers.
    n_covariates
        Number of columns of covariates that are joined to the input.
    head
        ``"linear"``: plain linear outputs, as IntroVAE. ``"relu_bn"``: the authors' program sends the outputs through
        ReLU and batch norm too, which holds the batch KL near 0.82 nats per dimension and makes means and log variances
        one-sided, so that the aggregate posterior cannot be N(0, I); kept for comparison.
    log1p
        Feed log(1 + x); for raw counts.
    dropout_rate
        Dropout in the hidden layers.
    standardize
        Bring every gene to mean 0 and standard deviation 1, by numbers that the model takes from its data; after the
        logarithm. Has no effect with `n_comps`.
    n_comps
        Read this many fixed projections of the genes, which the model takes from its data, in place of the genes.
    linear_path
        Add a linear map of the input to the mean, beside the hidden layers. It is 0 until the model writes its
        beginning, and so is what the hidden layers say of the mean.
    norm_first, negative_slope
        See :class:`~scmimic.nn.DenseStack`.
    """

    def __init__(
        self,
        n_input: int,
        n_latent: int,
        n_hidden: Sequence[int],
        *,
        n_covariates: int = 0,
        head: Literal["linear", "relu_bn"] = "linear",
        log1p: bool = False,
        dropout_rate: float = 0.0,
        standardize: bool = False,
        n_comps: int | None = None,
        linear_path: bool = False,
        norm_first: bool = False,
        negative_slope: float = 0.0,
    ):
        super().__init__()
        self.log1p = log1p
        self.input_map: GeneProjection | GeneScale | None = None
        if n_comps is not None:
            self.input_map = GeneProjection(n_input, n_comps)
        elif standardize:
            self.input_map = GeneScale(n_input)
        self.stack = DenseStack(
            n_input if n_comps is None else n_comps,
            n_hidden,
            n_covariates=n_covariates,
            dropout_rate=dropout_rate,
            norm_first=norm_first,
            negative_slope=negative_slope,
        )
        output = nn.Linear(self.stack.n_out, 2 * n_latent)
        if head == "linear":
            self.head: nn.Module = output
        elif head == "relu_bn":
            self.head = nn.Sequential(output, nn.ReLU(), RealBatchNorm1d(2 * n_latent))
        else:
            raise ValueError(f"`encoder_head` must be 'linear' or 'relu_bn', not {head!r}.")
        self.linear: nn.Linear | None = None
        if linear_path:
            self.linear = at_zero(nn.Linear(n_input if n_comps is None else n_comps, n_latent))
            with torch.no_grad():
                output.weight[:n_latent] = 0
                output.bias[:n_latent] = 0

    @torch.no_grad()
    def start_linear_path(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Write what the first means read of the first inputs, ``(k, k)``, and their biases, ``(k,)``."""
        assert self.linear is not None
        self.linear.weight[: len(weight), : len(weight)] = weight
        self.linear.bias[: len(bias)] = bias

    def forward(self, x: torch.Tensor, covariates: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance, each ``(n, n_latent)``; `covariates` of shape ``(n, n_covariates)``."""
        x = torch.log1p(x) if self.log1p else x
        x = x if self.input_map is None else self.input_map(x)
        mean, log_var = self.head(self.stack(x, covariates)).chunk(2, dim=-1)
        if self.linear is not None:
            mean = mean + self.linear(x)
        # no posterior is wider than the prior's exp(0); the bounds keep the KL of synthetic cells finite
        return mean, log_var.clamp(-15.0, 5.0)
