"""ACTIVA's networks and likelihoods: an introspective VAE conditioned by a classifier.

Heydari, Davalos, Zhao, Hoyer, Sindi (2022) ACTIVA: realistic single-cell RNA-seq generation with automatic cell-type
identification using introspective variational autoencoders. Sections 2.1 to 2.5, equations 2 to 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.distributions import NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import nn
from torch.distributions import Distribution
from torch.distributions import Normal as TorchNormal

from scmimic._compat import MODULE_KEYS
from scmimic.module._losses import kl_standard_normal, squared_error
from scmimic.module._relaxation import straight_through_counts
from scmimic.nn import CountDecoder, Encoder, ExpressionDecoder, shared_linear

COUNT_LIKELIHOODS = ("nb", "zinb", "poisson")
"""Likelihoods of raw counts."""

# exp(3) = 20: close to Poisson, so that over-dispersion is learned from the data and never has to be unlearned
LOG_DISPERSION_START = 3.0


class ACTIVAModule(BaseModuleClass):
    """Encoder (= discriminator), generator and conditioner of ACTIVA.

    Parameters
    ----------
    n_input
        Number of genes.
    n_labels
        Number of label categories, an unlabelled one included.
    n_batch
        Number of batches.
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

    def __init__(
        self,
        n_input: int,
        *,
        n_labels: int = 1,
        n_batch: int = 1,
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
        super().__init__()
        self.n_input = n_input
        self.n_latent = n_latent
        self.n_labels = n_labels
        self.n_batch = n_batch
        self.gene_likelihood = gene_likelihood
        self.is_count = gene_likelihood in COUNT_LIKELIHOODS
        self.encoder = Encoder(
            n_input,
            n_latent,
            n_hidden,
            n_cat=n_batch,
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
                n_cat=n_batch,
                library_covariate=library_covariate,
                zero_inflation=gene_likelihood == "zinb",
                n_labels=n_labels if label_baseline else 0,
                dropout_rate=dropout_rate,
            )
        else:
            self.decoder = ExpressionDecoder(
                n_latent, n_input, reverse, n_cat=n_batch, threshold=output_threshold, dropout_rate=dropout_rate
            )
        self.px_r = None
        if gene_likelihood in ("nb", "zinb"):
            rows = n_labels if dispersion == "gene-label" else 1
            self.px_r = nn.Parameter(torch.full((rows, n_input), LOG_DISPERSION_START))
        self.classifier = classifier

    @property
    def has_label_baseline(self) -> bool:
        """Whether the generator's proportions depend on the label as well as on the code."""
        return self.is_count and self.decoder.label_baseline is not None

    def generator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the generator without the dispersion."""
        return list(self.decoder.parameters())

    def dispersion_parameters(self) -> list[nn.Parameter]:
        """The log inverse dispersion, where the likelihood has one."""
        return [] if self.px_r is None else [self.px_r]

    def log_library(self, x: torch.Tensor, size_factor: torch.Tensor | None = None) -> torch.Tensor:
        """Log of the registered size factor, or of the cell's total; shape ``(n, 1)``."""
        total = x.sum(-1, keepdim=True) if size_factor is None else size_factor
        return total.clamp_min(1e-6).log()

    def decode(
        self,
        z: torch.Tensor,
        log_library: torch.Tensor | None,
        batch_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> Distribution:
        """The distribution p(x|z) of scvi-tools' classes, for ``z`` of shape ``(..., n_latent)``."""
        return self._likelihood(self.decoder(z, log_library, batch_index, labels), log_library, labels)

    def likelihood(
        self, hidden: torch.Tensor, log_library: torch.Tensor | None, labels: torch.Tensor | None = None
    ) -> Distribution:
        """p(x|z) from the last hidden layer of the decoder."""
        return self._likelihood(self.decoder.read(hidden, labels), log_library, labels)

    def decode_for_players(
        self,
        hidden: torch.Tensor,
        hidden_given: torch.Tensor,
        hidden_prior: torch.Tensor,
        log_library: torch.Tensor | None,
        labels: torch.Tensor | None = None,
    ) -> tuple[Distribution, Distribution, Distribution]:
        """p(x|z) from hidden layers of the decoder: twice for the same cells, and for codes drawn from the prior.

        The two copies take one pass through the widest layer; see :func:`~scmimic.nn.shared_linear`.
        """
        outputs = [shared_linear(head, hidden, hidden_given, hidden_prior) for head in self.decoder.heads]
        decoded = (self.decoder.finish(parts, labels) for parts in zip(*outputs, strict=True))
        own, given, prior = (self._likelihood(parts, log_library, labels) for parts in decoded)
        return own, given, prior

    def _likelihood(
        self,
        decoded: torch.Tensor | tuple[torch.Tensor, torch.Tensor | None],
        log_library: torch.Tensor | None,
        labels: torch.Tensor | None,
    ) -> Distribution:
        if not self.is_count:
            unit = decoded.new_ones(()).expand_as(decoded)
            return Normal(decoded, unit, normal_mu=decoded, validate_args=False)
        scale, zero_logits = decoded
        rate = scale * log_library.exp()
        if self.gene_likelihood == "poisson":
            return Poisson(rate, scale=scale, validate_args=False)
        rows = self.px_r if self.px_r.shape[0] == 1 else self.px_r[labels.squeeze(-1).long()]
        theta = rows.exp()
        if self.gene_likelihood == "zinb":
            return ZeroInflatedNegativeBinomial(
                mu=rate, theta=theta, zi_logits=zero_logits, scale=scale, validate_args=False
            )
        return NegativeBinomial(mu=rate, theta=theta, scale=scale, validate_args=False)

    def reconstruction_loss(self, x: torch.Tensor, px: Distribution) -> torch.Tensor:
        """Equation 2 for ``"normal"``, else the negative log likelihood of the counts; per cell."""
        if not self.is_count:
            return squared_error(x, px.loc)
        return -px.log_prob(x).sum(-1)

    def expected(self, px: Distribution) -> torch.Tensor:
        """Expected expression, differentiable."""
        return px.get_normalized("mu")

    def fake(self, px: Distribution) -> torch.Tensor:
        """Synthetic cells as the discriminator sees them: the space of the data, differentiable in the generator."""
        return px.loc if not self.is_count else straight_through_counts(px)

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict[str, torch.Tensor | None]:
        return {
            "x": tensors[REGISTRY_KEYS.X_KEY],
            "batch_index": tensors.get(REGISTRY_KEYS.BATCH_KEY),
            "size_factor": tensors.get(REGISTRY_KEYS.SIZE_FACTOR_KEY),
        }

    def _get_generative_input(
        self, tensors: dict[str, torch.Tensor], inference_outputs: dict[str, torch.Tensor], **kwargs
    ) -> dict[str, torch.Tensor | None]:
        return {
            "z": inference_outputs[MODULE_KEYS.Z_KEY],
            "library": inference_outputs[MODULE_KEYS.LIBRARY_KEY],
            "batch_index": tensors.get(REGISTRY_KEYS.BATCH_KEY),
            "y": tensors.get(REGISTRY_KEYS.LABELS_KEY),
        }

    @auto_move_data
    def inference(
        self,
        x: torch.Tensor,
        batch_index: torch.Tensor | None = None,
        size_factor: torch.Tensor | None = None,
        n_samples: int = 1,
    ) -> dict[str, torch.Tensor | Distribution]:
        """Posterior q(z|x), a sample of it, and the log library size."""
        mean, log_var = self.encoder(x, batch_index)
        qz = TorchNormal(mean, (0.5 * log_var).exp(), validate_args=False)
        z = qz.rsample() if n_samples == 1 else qz.rsample((n_samples,))
        library = self.log_library(x, size_factor)
        return {
            MODULE_KEYS.QZ_KEY: qz,
            MODULE_KEYS.Z_KEY: z,
            MODULE_KEYS.LIBRARY_KEY: library,
            "qz_mean": mean,
            "qz_log_var": log_var,
        }

    @auto_move_data
    def generative(
        self,
        z: torch.Tensor,
        library: torch.Tensor,
        batch_index: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        transform_batch: torch.Tensor | int | None = None,
    ) -> dict[str, Distribution]:
        """Likelihood p(x|z) and the prior."""
        if transform_batch is not None:
            batch_index = torch.ones_like(batch_index) * transform_batch
        px = self.decode(z, library, batch_index, y)
        pz = TorchNormal(torch.zeros_like(z), torch.ones_like(z), validate_args=False)
        return {MODULE_KEYS.PX_KEY: px, MODULE_KEYS.PZ_KEY: pz}

    def loss(
        self,
        tensors: dict[str, torch.Tensor],
        inference_outputs: dict[str, torch.Tensor],
        generative_outputs: dict[str, Distribution],
        kl_weight: float = 1.0,
    ) -> LossOutput:
        """The warm-up's loss: L_AE + L_REG, the negative ELBO up to a constant."""
        kl = kl_standard_normal(inference_outputs["qz_mean"], inference_outputs["qz_log_var"])
        reconstruction = self.reconstruction_loss(tensors[REGISTRY_KEYS.X_KEY], generative_outputs[MODULE_KEYS.PX_KEY])
        return LossOutput(
            loss=(reconstruction + kl_weight * kl).mean(), reconstruction_loss=reconstruction, kl_local=kl
        )

    @torch.inference_mode()
    def sample(
        self, tensors: dict[str, torch.Tensor], n_samples: int = 1, generative_kwargs: dict | None = None
    ) -> torch.Tensor:
        """Posterior predictive cells on the CPU, ``(n, n_genes)`` or ``(n, n_genes, n_samples)``."""
        _, outputs = self.forward(
            tensors,
            inference_kwargs={"n_samples": n_samples},
            generative_kwargs=generative_kwargs,
            compute_loss=False,
        )
        px = outputs[MODULE_KEYS.PX_KEY]
        # the paper's likelihood has no noise model that data could show: its cells are the generator's output
        cells = px.sample() if self.is_count else px.loc
        return (cells.permute(1, 2, 0) if n_samples > 1 else cells).cpu()
