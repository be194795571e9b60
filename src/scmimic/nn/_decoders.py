"""ACTIVA's generator networks (section 2.2): for continuous expression and for counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from scmimic.nn._dense import DenseStack
from scmimic.nn._wide_linear import WideLinear


class GeneDecoder(nn.Module):
    """Code to hidden layers to genes: what the generator networks share.

    The two halves can be called by themselves, for training that passes the widest layers once for several losses.
    """

    @property
    def heads(self) -> tuple[WideLinear, ...]:
        """The linear layers from the last hidden layer to the genes."""
        raise NotImplementedError

    def hidden(
        self, z: torch.Tensor, log_library: torch.Tensor | None = None, covariates: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The last hidden layer, for ``log_library`` of shape ``(n, 1)``."""
        raise NotImplementedError

    def finish(self, outputs: Sequence[torch.Tensor], labels: torch.Tensor | None = None) -> Any:
        """What the decoder gives, from the heads' outputs; ``labels`` of shape ``(n, 1)``."""
        raise NotImplementedError

    def read(self, hidden: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        """What the decoder gives, from the last hidden layer."""
        return self.finish([head(hidden) for head in self.heads], labels)

    def forward(
        self,
        z: torch.Tensor,
        log_library: torch.Tensor | None = None,
        covariates: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> Any:
        """What the decoder gives, from codes of shape ``(..., n_latent)``."""
        return self.read(self.hidden(z, log_library, covariates), labels)


class ExpressionDecoder(GeneDecoder):
    """The paper's generator: non-negative continuous expression.

    Parameters
    ----------
    n_latent
        Size of the latent space.
    n_output
        Number of genes.
    n_hidden
        Widths of the hidden layers, latent side first.
    n_covariates
        Number of columns of covariates that are joined to the code.
    threshold
        Outputs at or below this value become zero. 0 is the plain ReLU.
    dropout_rate
        Dropout in the hidden layers.
    """

    def __init__(
        self,
        n_latent: int,
        n_output: int,
        n_hidden: Sequence[int],
        *,
        n_covariates: int = 0,
        threshold: float = 0.0,
        dropout_rate: float = 0.0,
    ):
        super().__init__()
        self.stack = DenseStack(n_latent, n_hidden, n_covariates=n_covariates, dropout_rate=dropout_rate)
        self.output = WideLinear(self.stack.n_out, n_output)
        self.threshold = threshold

    @property
    def heads(self) -> tuple[WideLinear, ...]:
        """The linear layers from the last hidden layer to the genes."""
        return (self.output,)

    def hidden(
        self, z: torch.Tensor, log_library: torch.Tensor | None = None, covariates: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The last hidden layer."""
        return self.stack(z, covariates)

    def finish(self, outputs: Sequence[torch.Tensor], labels: torch.Tensor | None = None) -> torch.Tensor:
        """Expression ``(..., n_output)`` in the space of the training layer, from the head's output."""
        (output,) = outputs
        return F.relu(output) if self.threshold <= 0 else F.threshold(output, self.threshold, 0.0)


class CountDecoder(GeneDecoder):
    """Code and library size to the parameters of a count likelihood.

    Parameters
    ----------
    n_latent
        Size of the latent space.
    n_output
        Number of genes.
    n_hidden
        Widths of the hidden layers, latent side first.
    n_covariates
        Number of columns of covariates that are joined to the code.
    library_covariate
        Join the standardised log library size to the code, so that the proportions of genes may depend on depth.
    zero_inflation
        Also give the logits of an extra zero per gene.
    n_labels
        Number of labels with a baseline: a fixed term per gene and label in the log proportions (0 or 1: none).
    dropout_rate
        Dropout in the hidden layers.
    """

    label_baseline: torch.Tensor | None
    log_library_mean: torch.Tensor
    log_library_std: torch.Tensor

    def __init__(
        self,
        n_latent: int,
        n_output: int,
        n_hidden: Sequence[int],
        *,
        n_covariates: int = 0,
        library_covariate: bool = True,
        zero_inflation: bool = False,
        n_labels: int = 0,
        dropout_rate: float = 0.0,
    ):
        super().__init__()
        self.library_covariate = library_covariate
        self.stack = DenseStack(
            n_latent, n_hidden, n_covariates=n_covariates + int(library_covariate), dropout_rate=dropout_rate
        )
        self.scale = WideLinear(self.stack.n_out, n_output)
        self.zero_logits = WideLinear(self.stack.n_out, n_output) if zero_inflation else None
        self.register_buffer("label_baseline", torch.zeros(n_labels, n_output) if n_labels > 1 else None)
        self.register_buffer("log_library_mean", torch.zeros(()))
        self.register_buffer("log_library_std", torch.ones(()))

    @property
    def heads(self) -> tuple[WideLinear, ...]:
        """The linear layers from the last hidden layer to the genes."""
        return (self.scale,) if self.zero_logits is None else (self.scale, self.zero_logits)

    def hidden(
        self, z: torch.Tensor, log_library: torch.Tensor | None = None, covariates: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The last hidden layer, for ``log_library`` of shape ``(n, 1)``."""
        assert log_library is not None
        standard = (log_library - self.log_library_mean) / self.log_library_std
        return self.stack(z, covariates, standard if self.library_covariate else None)

    def finish(
        self, outputs: Sequence[torch.Tensor], labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Proportions of genes (rows sum to 1) and zero logits, from the heads' outputs."""
        scale, *rest = outputs
        if self.label_baseline is not None:
            assert labels is not None
            scale = scale + self.label_baseline[labels.squeeze(-1).long()]
        return torch.softmax(scale, dim=-1), rest[0] if rest else None
