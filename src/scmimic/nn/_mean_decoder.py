"""MichiGAN's decoder (appendix A.1): from a code to the mean of every gene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from scmimic.nn._decoders import GeneDecoder
from scmimic.nn._dense import DenseStack, at_zero
from scmimic.nn._gene_projection import GeneExpansion
from scmimic.nn._gene_scale import GeneScale
from scmimic.nn._wide_linear import WideLinear

# exp(20) counts of one gene: far above any cell, far below what overflows
MAX_LOG_RATE = 20.0


class MeanDecoder(GeneDecoder):
    """Code to the means of the genes, by one of three links.

    Parameters
    ----------
    n_latent
        Size of the latent space.
    n_output
        Number of genes.
    n_hidden
        Widths of the hidden layers, latent side first. Empty: a linear decoder.
    link
        ``"identity"``: expression in the units of the data, from standardised outputs. ``"exp"``: expected counts,
        which depend on the code alone. ``"softmax"``: proportions, rows sum to 1.
    n_covariates
        Number of columns of covariates that are joined to the code.
    library_covariate
        Join the standardised log library size to the code.
    zero_inflation
        Also give the logits of an extra zero per gene.
    dropout_rate
        Dropout in the hidden layers.
    n_comps
        Of ``"identity"``: write this many fixed directions of the genes, which the model takes from its data, in place
        of the genes. The outputs then read the code too, beside the last hidden layer, and all their weights are 0
        until :meth:`start_linear_path` writes those of the code.
    split_aggregation
        Each latent passes through the hidden layers alone, with weights that all share, and the passes are put together
        before the link: ``"sum"``, or ``"logsumexp"`` less the log of their number, as DRVI. None: all latents
        together.
    norm_first, negative_slope
        See :class:`~scmimic.nn.DenseStack`.
    """

    label_baseline = None
    log_library_mean: torch.Tensor
    log_library_std: torch.Tensor

    def __init__(
        self,
        n_latent: int,
        n_output: int,
        n_hidden: Sequence[int],
        *,
        link: Literal["identity", "exp", "softmax"],
        n_covariates: int = 0,
        library_covariate: bool = False,
        zero_inflation: bool = False,
        dropout_rate: float = 0.0,
        n_comps: int | None = None,
        split_aggregation: Literal["sum", "logsumexp"] | None = None,
        norm_first: bool = False,
        negative_slope: float = 0.0,
    ):
        super().__init__()
        self.link = link
        self.library_covariate = library_covariate
        self.stack = DenseStack(
            n_latent,
            n_hidden,
            n_covariates=n_covariates + int(library_covariate),
            dropout_rate=dropout_rate,
            norm_first=norm_first,
            negative_slope=negative_slope,
        )
        self.split_aggregation = split_aggregation
        self.output_map = None if n_comps is None else GeneExpansion(n_output, n_comps)
        n_read = self.stack.n_out + (0 if n_comps is None else n_latent)
        self.mean = WideLinear(n_read, n_output if n_comps is None else n_comps)
        if n_comps is not None:
            at_zero(self.mean)
        self.zero_logits = WideLinear(n_read, n_output) if zero_inflation else None
        self.standard = GeneScale(n_output) if link == "identity" else None
        self.register_buffer("log_library_mean", torch.zeros(()))
        self.register_buffer("log_library_std", torch.ones(()))

    @property
    def heads(self) -> tuple[WideLinear, ...]:
        """The linear layers from the last hidden layer to the genes."""
        return (self.mean,) if self.zero_logits is None else (self.mean, self.zero_logits)

    def start_at(self, log_mean: torch.Tensor) -> None:
        """Begin at the log mean of every gene, ``(n_genes,)``, instead of equal genes."""
        nn.init.zeros_(self.mean.bias)
        with torch.no_grad():
            self.mean.bias.add_(log_mean)

    @torch.no_grad()
    def start_linear_path(self, weight: torch.Tensor) -> None:
        """Write what the first outputs read of the first latents, ``(k, k)``."""
        self.mean.weight[: len(weight), self.stack.n_out : self.stack.n_out + len(weight)] = weight

    def hidden(
        self, z: torch.Tensor, log_library: torch.Tensor | None = None, covariates: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the heads read, for ``log_library`` of shape ``(n, 1)``: the last hidden layer, and perhaps the code.

        With ``"logsumexp"`` the passes of the latents lie along a further axis, the first.
        """
        standard = None
        if self.library_covariate:
            assert log_library is not None
            standard = (log_library - self.log_library_mean) / self.log_library_std
        if self.split_aggregation is None:
            hidden = self.stack(z, covariates, standard)
        else:
            hidden = self.stack(torch.diag_embed(z).movedim(-2, 0), covariates, standard)
        if self.split_aggregation == "sum":
            hidden = hidden.sum(0)
        if self.output_map is not None:
            # what is the same in all passes goes through the log of their mean exponential as it is
            hidden = torch.cat([hidden, z.expand(*hidden.shape[:-1], -1)], dim=-1)
        return hidden

    def read(
        self, hidden: torch.Tensor, labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Means of the genes and zero logits, from what :meth:`hidden` gives."""
        outputs = [head(hidden) for head in self.heads]
        if self.output_map is not None:
            outputs[0] = self.output_map(outputs[0])
        if self.split_aggregation == "logsumexp":
            outputs = [torch.logsumexp(values, 0) - math.log(len(values)) for values in outputs]
        return self.finish(outputs, labels)

    def finish(
        self, outputs: Sequence[torch.Tensor], labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Means of the genes and zero logits, from the heads' outputs."""
        mean, *rest = outputs
        if self.standard is not None:
            mean = self.standard.invert(mean)
        elif self.link == "exp":
            mean = mean.clamp_max(MAX_LOG_RATE).exp()
        else:
            mean = torch.softmax(mean, dim=-1)
        return mean, rest[0] if rest else None
