"""What the modules of the cell autoencoders share: likelihoods, inference and sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, auto_move_data
from torch import nn
from torch.distributions import Normal as TorchNormal
from torch.nn import functional as F

from scmimic._compat import MODULE_KEYS
from scmimic.model.base._likelihoods import COUNT_LIKELIHOODS, CellDistribution, sample_counts
from scmimic.nn import CountDecoder, CovariateDesign, Encoder, ExpressionDecoder, MeanDecoder

# exp(3) = 20: close to Poisson, so that over-dispersion is learned from the data and never has to be unlearned
LOG_DISPERSION_START = 3.0

SMALLEST_SIZE = 1e-6
"""Library size of a cell without any expression, whose log is taken like that of others."""


class CellVAEModule(BaseModuleClass):
    """An encoder, a decoder and a likelihood; subclasses make the networks and the loss.

    A subclass makes ``encoder``, ``decoder`` and, where there is one, ``classifier``.

    Parameters
    ----------
    n_input, n_latent, n_batch, n_labels
        Numbers of genes, latent dimensions, batches and labels.
    n_cats_per_cov, n_continuous_cov
        Number of categories of each categorical covariate, and of continuous covariates.
    gene_likelihood
        ``"normal"``, or one of :data:`COUNT_LIKELIHOODS`.
    """

    encoder: Encoder
    decoder: CountDecoder | ExpressionDecoder | MeanDecoder
    classifier: nn.Module | None
    px_r: nn.Parameter | None
    log_counts_per_size_factor: torch.Tensor

    def __init__(
        self,
        n_input: int,
        *,
        n_latent: int,
        n_batch: int,
        n_labels: int,
        gene_likelihood: str,
        n_cats_per_cov: Sequence[int] = (),
        n_continuous_cov: int = 0,
    ):
        super().__init__()
        self.n_input, self.n_latent, self.n_batch, self.n_labels = n_input, n_latent, n_batch, n_labels
        self.design = CovariateDesign(n_batch, n_cats_per_cov, n_continuous_cov)
        self.gene_likelihood = gene_likelihood
        self.is_count = gene_likelihood in COUNT_LIKELIHOODS
        self.classifier = None
        self.register_buffer("log_counts_per_size_factor", torch.zeros(()))

    @property
    def has_label_baseline(self) -> bool:
        """Whether the generator's proportions depend on the label as well as on the code."""
        return self.is_count and self.decoder.label_baseline is not None

    @property
    def takes_library_size(self) -> bool:
        """Whether cells can be generated with a library size that is asked for."""
        return self.is_count

    @property
    def zero_inflated(self) -> bool:
        """Whether the decoder gives logits of an extra zero."""
        return self.is_count and COUNT_LIKELIHOODS[self.gene_likelihood].zero_inflated

    @property
    def has_dispersion(self) -> bool:
        """Whether the counts have an inverse dispersion, which is learned."""
        return self.is_count and COUNT_LIKELIHOODS[self.gene_likelihood].has_dispersion

    def generator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the generator without the dispersion."""
        return list(self.decoder.parameters())

    def dispersion_parameters(self) -> list[nn.Parameter]:
        """The log inverse dispersion, where the likelihood has one."""
        return [] if self.px_r is None else [self.px_r]

    def covariates(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """What the networks read of the batch and the covariates of cells; None where there are none."""
        keys = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.CAT_COVS_KEY, REGISTRY_KEYS.CONT_COVS_KEY)
        return self.design(*(tensors.get(key) for key in keys))

    @torch.no_grad()
    def shrink_covariates(self, of_batch: float, of_covariates: float) -> None:
        """Multiply the weights by which the decoder reads the batch, and those by which it reads covariates."""
        weight, n_batch = self.decoder.stack.covariate_weight, self.n_batch if self.n_batch > 1 else 0
        weight[:, :n_batch].mul_(of_batch)
        weight[:, n_batch : self.design.n_columns].mul_(of_covariates)

    def encoder_input(self, x: torch.Tensor, log_library: torch.Tensor) -> torch.Tensor:
        """What the encoder reads of cells ``x``."""
        return x

    def log_library(self, x: torch.Tensor, size_factor: torch.Tensor | None = None) -> torch.Tensor:
        """Log of the cell's total, or of the counts that its size factor stands for; shape ``(n, 1)``."""
        size = x.sum(-1, keepdim=True) if size_factor is None else size_factor
        smallest = torch.finfo(size.dtype).tiny
        log_size = size.clamp_min(smallest).log()
        if size_factor is not None:
            log_size = log_size + self.log_counts_per_size_factor
        return log_size.clamp_min(math.log(SMALLEST_SIZE))

    def decode(
        self,
        z: torch.Tensor,
        log_library: torch.Tensor | None,
        covariates: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> CellDistribution:
        """The distribution p(x|z) of scvi-tools' classes, for ``z`` of shape ``(..., n_latent)``.

        `covariates` are columns of :class:`~scmimic.nn.CovariateDesign`.
        """
        return self._likelihood(self.decoder(z, log_library, covariates, labels), log_library, labels)

    def likelihood(
        self, hidden: torch.Tensor, log_library: torch.Tensor | None, labels: torch.Tensor | None = None
    ) -> CellDistribution:
        """p(x|z) from the last hidden layer of the decoder."""
        return self._likelihood(self.decoder.read(hidden, labels), log_library, labels)

    def _likelihood(
        self, decoded: Any, log_library: torch.Tensor | None, labels: torch.Tensor | None
    ) -> CellDistribution:
        """p(x|z) from what the decoder gives."""
        raise NotImplementedError

    def count_likelihood(
        self,
        rate: torch.Tensor,
        scale: torch.Tensor,
        zero_logits: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> CellDistribution:
        """The count likelihood with these expected counts and proportions of genes."""
        return COUNT_LIKELIHOODS[self.gene_likelihood].distribution(rate, scale, self.dispersions(labels), zero_logits)

    def dispersions(self, labels: torch.Tensor | None) -> torch.Tensor | None:
        """Inverse dispersions of cells of these labels, or those that all have; None where there are none."""
        if self.px_r is None:
            return None
        if labels is None or len(self.px_r) == 1:
            return self.px_r.exp()
        rows = labels.squeeze(-1).long()
        # several threads add up the gradient of an indexed tensor in any order, that of an embedding in one
        if len(self.px_r) > len(rows):
            return F.embedding(rows, self.px_r).exp()
        return F.embedding(rows, self.px_r.exp())

    def mixed_dispersion(
        self, label: int, label_weights: Mapping[int, float], share: np.ndarray
    ) -> torch.Tensor | None:
        """Inverse dispersions of a label, mixed by a share of each gene with the (geometric) mean of others.

        None where they are no label's.
        """
        if self.px_r is None or len(self.px_r) == 1:
            return None
        log_theta = self.px_r
        others = log_theta.new_tensor(list(label_weights.values())) @ log_theta[list(label_weights)]
        return torch.lerp(log_theta[label], others, log_theta.new_tensor(share)).exp()

    def with_proportions(
        self, px: CellDistribution, scale: torch.Tensor, theta: torch.Tensor | None
    ) -> CellDistribution:
        """The count likelihood `px` of the same totals, with other proportions and these inverse dispersions.

        Proportions need not sum to 1.
        """
        scale = scale / scale.sum(-1, keepdim=True)
        rate = px.get_normalized("mu").sum(-1, keepdim=True) * scale
        zero_logits = getattr(px, "zi_logits", None)
        return COUNT_LIKELIHOODS[self.gene_likelihood].distribution(rate, scale, theta, zero_logits)

    def expected(self, px: CellDistribution) -> torch.Tensor:
        """Expected expression, differentiable."""
        return px.get_normalized("mu")

    def draw(self, px: CellDistribution, generator: torch.Generator | None = None) -> torch.Tensor:
        """Cells of ``p(x|z)``."""
        # the papers' likelihood has no noise model that data could show: its cells are the decoder's output
        return sample_counts(px, generator) if self.is_count else self.expected(px)

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict[str, torch.Tensor | None]:
        return {
            "x": tensors[REGISTRY_KEYS.X_KEY],
            "batch_index": tensors.get(REGISTRY_KEYS.BATCH_KEY),
            "cat_covs": tensors.get(REGISTRY_KEYS.CAT_COVS_KEY),
            "cont_covs": tensors.get(REGISTRY_KEYS.CONT_COVS_KEY),
            "size_factor": tensors.get(REGISTRY_KEYS.SIZE_FACTOR_KEY),
        }

    def _get_generative_input(
        self, tensors: dict[str, torch.Tensor], inference_outputs: dict[str, torch.Tensor], **kwargs
    ) -> dict[str, torch.Tensor | None]:
        return {
            "z": inference_outputs[MODULE_KEYS.Z_KEY],
            "library": inference_outputs[MODULE_KEYS.LIBRARY_KEY],
            "batch_index": tensors.get(REGISTRY_KEYS.BATCH_KEY),
            "cat_covs": tensors.get(REGISTRY_KEYS.CAT_COVS_KEY),
            "cont_covs": tensors.get(REGISTRY_KEYS.CONT_COVS_KEY),
            "y": tensors.get(REGISTRY_KEYS.LABELS_KEY),
        }

    @auto_move_data
    def inference(
        self,
        x: torch.Tensor,
        batch_index: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        cont_covs: torch.Tensor | None = None,
        size_factor: torch.Tensor | None = None,
        n_samples: int = 1,
    ) -> dict[str, torch.Tensor | CellDistribution]:
        """Posterior q(z|x), a sample of it, and the log library size."""
        library = self.log_library(x, size_factor)
        covariates = self.design(batch_index, cat_covs, cont_covs)
        mean, log_var = self.encoder(self.encoder_input(x, library), covariates)
        qz = TorchNormal(mean, (0.5 * log_var).exp(), validate_args=False)
        z = qz.rsample() if n_samples == 1 else qz.rsample((n_samples,))
        return {
            MODULE_KEYS.QZ_KEY: qz,
            MODULE_KEYS.Z_KEY: z,
            MODULE_KEYS.LIBRARY_KEY: library,
            # no posterior of the library size: scvi-tools then says so where it is asked for
            MODULE_KEYS.QL_KEY: None,
            "qz_mean": mean,
            "qz_log_var": log_var,
        }

    @auto_move_data
    def generative(
        self,
        z: torch.Tensor,
        library: torch.Tensor,
        batch_index: torch.Tensor | None = None,
        cat_covs: torch.Tensor | None = None,
        cont_covs: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        transform_batch: torch.Tensor | int | None = None,
    ) -> dict[str, CellDistribution]:
        """Likelihood p(x|z) and the prior."""
        if transform_batch is not None:
            assert batch_index is not None
            batch_index = torch.ones_like(batch_index) * transform_batch
        px = self.decode(z, library, self.design(batch_index, cat_covs, cont_covs), y)
        pz = TorchNormal(torch.zeros_like(z), torch.ones_like(z), validate_args=False)
        return {MODULE_KEYS.PX_KEY: px, MODULE_KEYS.PZ_KEY: pz}

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
        cells = px.sample() if self.is_count else self.draw(px)
        return (cells.permute(1, 2, 0) if n_samples > 1 else cells).cpu()

    @torch.inference_mode()
    def marginal_ll(
        self,
        tensors: dict[str, torch.Tensor],
        n_mc_samples: int,
        return_mean: bool = False,
        n_mc_samples_per_pass: int = 1,
    ) -> float | torch.Tensor:
        """Log p(x) by importance sampling from q(z|x), per cell or on average."""
        x, parts, done = tensors[REGISTRY_KEYS.X_KEY], [], 0
        while done < n_mc_samples:
            k = min(n_mc_samples_per_pass, n_mc_samples - done)
            inference, generative = self.forward(tensors, inference_kwargs={"n_samples": k}, compute_loss=False)
            z = inference[MODULE_KEYS.Z_KEY]
            log_ratio = generative[MODULE_KEYS.PZ_KEY].log_prob(z) - inference[MODULE_KEYS.QZ_KEY].log_prob(z)
            log_weight = generative[MODULE_KEYS.PX_KEY].log_prob(x).sum(-1) + log_ratio.sum(-1)
            parts.append(log_weight.reshape(k, -1))
            done += k
        log_p = torch.logsumexp(torch.cat(parts), 0) - math.log(n_mc_samples)
        return log_p.mean().item() if return_mean else log_p.cpu()
