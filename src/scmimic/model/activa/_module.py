"""ACTIVA's networks and likelihoods: an introspective VAE conditioned by a classifier.

Heydari, Davalos, Zhao, Hoyer, Sindi (2022) ACTIVA: realistic single-cell RNA-seq generation with automatic cell-type
identification using introspective variational autoencoders. Sections 2.1 to 2.5, equations 2 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.distributions import Normal
from scvi.module.base import LossOutput
from torch import nn

from scmimic._compat import MODULE_KEYS
from scmimic.model.base._likelihoods import COUNT_LIKELIHOODS, CellDistribution
from scmimic.model.base._losses import kl_standard_normal, squared_error
from scmimic.model.base._vae_module import LOG_DISPERSION_START, CellVAEModule
from scmimic.nn import CountDecoder, Encoder, ExpressionDecoder, shared_linear


class ACTIVAModule(CellVAEModule):
    """Encoder (= discriminator), generator and conditioner of ACTIVA.

    Parameters
    ----------
    n_input
        Number of genes.
    n_labels
        Number of label categories, an unlabelled one included.
    n_batch, n_cats_per_cov, n_continuous_cov
        Number of batches, of categories of each categorical covariate, and of continuous covariates.
    encode_covariates
        Tell them to the encoder too.
    n_latent
        Size of the latent space.
    n_hidden
        Widths of the encoder's hidden layers; the generator has them in reverse.
    gene_likelihood
        ``"normal"`` (the paper), ``"nb"``, ``"zinb"`` or ``"poisson"``.
    dispersion
        ``"gene"`` or ``"gene-label"``: what the inverse dispersion of the count likelihoods depends on.
    encoder_head
        See :class:`~scmimic.nn.Encoder`.
    output_threshold
        See :class:`~scmimic.nn.ExpressionDecoder`; only for ``"normal"``.
    library_covariate
        See :class:`~scmimic.nn.CountDecoder`; only for counts.
    label_baseline
        Give each label a baseline of its own, see :class:`~scmimic.nn.CountDecoder`; only for counts.
    dropout_rate
        Dropout in the hidden layers of both networks.
    classifier
        Module from expression to logits, or None.
    """

    decoder: CountDecoder | ExpressionDecoder

    def __init__(
        self,
        n_input: int,
        *,
        n_labels: int = 1,
        n_batch: int = 1,
        n_cats_per_cov: Sequence[int] = (),
        n_continuous_cov: int = 0,
        encode_covariates: bool = True,
        n_latent: int = 128,
        n_hidden: Sequence[int] = (1024, 512, 256),
        gene_likelihood: Literal["normal", "nb", "zinb", "poisson"] = "normal",
        dispersion: Literal["gene", "gene-label"] = "gene",
        encoder_head: Literal["linear", "relu_bn"] = "linear",
        output_threshold: float = 0.0,
        library_covariate: bool = True,
        label_baseline: bool = False,
        dropout_rate: float = 0.0,
        classifier: nn.Module | None = None,
    ):
        super().__init__(
            n_input,
            n_latent=n_latent,
            n_batch=n_batch,
            n_labels=n_labels,
            gene_likelihood=gene_likelihood,
            n_cats_per_cov=n_cats_per_cov,
            n_continuous_cov=n_continuous_cov,
        )
        self.encoder = Encoder(
            n_input,
            n_latent,
            n_hidden,
            n_covariates=self.design.n_columns if encode_covariates else 0,
            head=encoder_head,
            log1p=self.is_count,
            dropout_rate=dropout_rate,
        )
        reverse = tuple(reversed(n_hidden))
        if self.is_count:
            self.decoder = CountDecoder(
                n_latent,
                n_input,
                reverse,
                n_covariates=self.design.n_columns,
                library_covariate=library_covariate,
                zero_inflation=self.zero_inflated,
                n_labels=n_labels if label_baseline else 0,
                dropout_rate=dropout_rate,
            )
        else:
            self.decoder = ExpressionDecoder(
                n_latent,
                n_input,
                reverse,
                n_covariates=self.design.n_columns,
                threshold=output_threshold,
                dropout_rate=dropout_rate,
            )
        self.px_r = None
        if self.has_dispersion:
            rows = n_labels if dispersion == "gene-label" else 1
            self.px_r = nn.Parameter(torch.full((rows, n_input), LOG_DISPERSION_START))
        self.classifier = classifier

    def decode_for_players(
        self,
        hidden: torch.Tensor,
        hidden_reconstructed: torch.Tensor,
        hidden_generated: torch.Tensor,
        log_library: torch.Tensor | None,
        labels: torch.Tensor | None = None,
    ) -> tuple[CellDistribution, CellDistribution, CellDistribution]:
        """p(x|z) from hidden layers of the decoder: twice for the same cells, and for codes drawn from the prior.

        The two copies take one pass through the widest layer; see :func:`~scmimic.nn.shared_linear`.
        """
        outputs = [shared_linear(head, hidden, hidden_reconstructed, hidden_generated) for head in self.decoder.heads]
        decoded = (self.decoder.finish(parts, labels) for parts in zip(*outputs, strict=True))
        px, reconstructed, generated = (self._likelihood(parts, log_library, labels) for parts in decoded)
        return px, reconstructed, generated

    def _likelihood(
        self,
        decoded: torch.Tensor | tuple[torch.Tensor, torch.Tensor | None],
        log_library: torch.Tensor | None,
        labels: torch.Tensor | None,
    ) -> CellDistribution:
        if isinstance(decoded, torch.Tensor):
            unit = decoded.new_ones(()).expand_as(decoded)
            return Normal(decoded, unit, normal_mu=decoded, validate_args=False)
        scale, zero_logits = decoded
        assert log_library is not None
        return self.count_likelihood(scale * log_library.exp(), scale, zero_logits, labels)

    def reconstruction_loss(self, x: torch.Tensor, px: CellDistribution) -> torch.Tensor:
        """Equation 2 for ``"normal"``, else the negative log likelihood of the counts; per cell."""
        if not self.is_count:
            return squared_error(x, px.loc)
        return -px.log_prob(x).sum(-1)

    def fake(self, px: CellDistribution) -> torch.Tensor:
        """Synthetic cells as the discriminator sees them: the space of the data, differentiable in the generator."""
        return COUNT_LIKELIHOODS[self.gene_likelihood].judged(px) if self.is_count else px.loc

    def loss(
        self,
        tensors: dict[str, torch.Tensor],
        inference_outputs: dict[str, torch.Tensor],
        generative_outputs: dict[str, CellDistribution],
        kl_weight: float = 1.0,
    ) -> LossOutput:
        """The warm-up's loss: L_AE + L_REG, the negative ELBO up to a constant."""
        kl = kl_standard_normal(inference_outputs["qz_mean"], inference_outputs["qz_log_var"])
        reconstruction = self.reconstruction_loss(tensors[REGISTRY_KEYS.X_KEY], generative_outputs[MODULE_KEYS.PX_KEY])
        return LossOutput(
            loss=(reconstruction + kl_weight * kl).mean(), reconstruction_loss=reconstruction, kl_local=kl
        )
