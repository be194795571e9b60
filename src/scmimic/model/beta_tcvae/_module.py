"""MichiGAN's VAE, beta-VAE and beta-TCVAE (Yu and Welch 2021, sections 2.4 and 3.1, appendix A.1).

Hengshi Yu, Joshua D. Welch (2021) MichiGAN: sampling from disentangled representations of single-cell data using
generative adversarial networks. Genome Biology 22, 158. Loss: Chen et al. (2018), equation 4, written as MichiGAN does:
the VAE's loss plus ``beta`` times the total correlation, so that beta is one less than Chen's.

Deviations, each but the last an argument: genes are standardised, and the encoder reads their principal components; the
total correlation is estimated against a memory of posteriors, and its gradient runs through the samples alone (see
:mod:`~scmimic.model.beta_tcvae._total_correlation`); the encoder gives log variances where the authors' gives
standard deviations through softplus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.distributions import Normal
from scvi.module.base import LossOutput
from torch import nn

from scmimic._compat import MODULE_KEYS
from scmimic.model.base._likelihoods import CellDistribution
from scmimic.model.base._losses import kl_standard_normal
from scmimic.model.base._vae_module import LOG_DISPERSION_START, CellVAEModule
from scmimic.model.beta_tcvae._total_correlation import (
    AggregateDensity,
    Decomposition,
    Estimator,
    decompose_kl,
    log_density_with_posteriors,
    log_weights,
)
from scmimic.nn import Encoder, MeanDecoder

NEGATIVE_SLOPE = 0.2

# exp(-4) = 0.02 standard deviations: below any gene's noise, so that a constant gene cannot rule the likelihood
LEAST_LOG_NOISE = -4.0


class BetaTCVAEModule(CellVAEModule):
    """Encoder, decoder and loss of :class:`scmimic.model.BetaTCVAE`.

    Parameters
    ----------
    n_input
        Number of genes.
    n_labels
        Number of label categories, which the networks are not told.
    n_batch, n_cats_per_cov, n_continuous_cov
        Number of batches, of categories of each categorical covariate, and of continuous covariates.
    encode_covariates
        Tell them to the encoder too.
    n_latent
        Size of the latent space.
    n_hidden
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    beta
        Weight of the total correlation beyond the one that the KL holds already.
    kl_weight
        Weight of the KL.
    gene_likelihood
        ``"normal"``, ``"nb"``, ``"zinb"`` or ``"poisson"``.
    noise
        Of ``"normal"``: ``"unit"`` or, learned, ``"gene"``.
    library
        ``"latent"``: the code tells the library size. ``"observed"``: the decoder is given it.
    standardize
        Standardise the encoder's input, and with ``"normal"`` the decoder's output.
    n_comps
        Number of principal components that the encoder reads in place of the genes, or None.
    estimator
        See :func:`~scmimic.module.log_weights`.
    posterior_gradients
        Let the total correlation's gradient run through the posteriors as well as through the samples.
    dropout_rate
        Dropout in the hidden layers of both networks.
    start
        ``"pca"``: the decoder writes the components that the encoder reads, and both have a linear path beside their
        hidden layers, which the model lets begin at them; ``"random"``: hidden layers alone.
    split_aggregation
        See :class:`~scmimic.nn.MeanDecoder`.
    """

    decoder: MeanDecoder

    def __init__(
        self,
        n_input: int,
        *,
        n_labels: int = 1,
        n_batch: int = 1,
        n_cats_per_cov: Sequence[int] = (),
        n_continuous_cov: int = 0,
        encode_covariates: bool = True,
        n_latent: int = 10,
        n_hidden: Sequence[int] = (512, 256),
        beta: float = 20.0,
        kl_weight: float = 1.0,
        gene_likelihood: Literal["normal", "nb", "zinb", "poisson"] = "normal",
        noise: Literal["unit", "gene"] = "unit",
        library: Literal["latent", "observed"] = "latent",
        standardize: bool = True,
        n_comps: int | None = 50,
        estimator: Estimator = "mss",
        posterior_gradients: bool = False,
        dropout_rate: float = 0.0,
        start: Literal["random", "pca"] = "random",
        split_aggregation: Literal["sum", "logsumexp"] | None = None,
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
        self.beta = beta
        self.kl_weight = kl_weight
        self.library = library
        self.standardize = standardize
        self.estimator = estimator
        self.posterior_gradients = posterior_gradients
        self._aggregate = AggregateDensity()
        style: dict[str, Any] = {
            "dropout_rate": dropout_rate,
            "norm_first": True,
            "negative_slope": NEGATIVE_SLOPE,
        }
        self.encoder = Encoder(
            n_input,
            n_latent,
            n_hidden,
            log1p=self.is_count,
            standardize=standardize,
            n_comps=n_comps,
            linear_path=start == "pca",
            n_covariates=self.design.n_columns if encode_covariates else 0,
            **style,
        )
        link: Literal["identity", "exp", "softmax"] = "identity"
        if self.is_count:
            link = "exp" if library == "latent" else "softmax"
        self.decoder = MeanDecoder(
            n_latent,
            n_input,
            tuple(reversed(n_hidden)),
            link=link,
            library_covariate=library == "observed",
            zero_inflation=self.zero_inflated,
            n_comps=n_comps if start == "pca" else None,
            split_aggregation=split_aggregation,
            n_covariates=self.design.n_columns,
            **style,
        )
        self.px_r = None
        if self.has_dispersion:
            self.px_r = nn.Parameter(torch.full((1, n_input), LOG_DISPERSION_START))
        elif gene_likelihood == "normal" and noise == "gene":
            self.px_r = nn.Parameter(torch.zeros(1, n_input))

    @torch.no_grad()
    def start_as(self, other: BetaTCVAEModule) -> None:
        """Take from a module that has not learned yet what it was given of the data; the weights stay as drawn."""
        for own, given in zip(self.buffers(), other.buffers(), strict=True):
            own.copy_(given)
        if self.is_count or self.encoder.linear is not None:
            self.decoder.mean.bias.copy_(other.decoder.mean.bias)
        if self.encoder.linear is not None and other.encoder.linear is not None:
            self.decoder.mean.weight.copy_(other.decoder.mean.weight)
            self.encoder.linear.load_state_dict(other.encoder.linear.state_dict())

    @property
    def takes_library_size(self) -> bool:
        """Whether cells can be generated with a library size that is asked for."""
        return self.library == "observed"

    def encoder_input(self, x: torch.Tensor, log_library: torch.Tensor) -> torch.Tensor:
        """Counts at one library size where it is observed, so that the code need not tell it; else as they are."""
        if not self.is_count or self.library == "latent":
            return x
        return x * (self.decoder.log_library_mean - log_library).exp()

    def _likelihood(
        self,
        decoded: tuple[torch.Tensor, torch.Tensor | None],
        log_library: torch.Tensor | None,
        labels: torch.Tensor | None,
    ) -> CellDistribution:
        mean, zero_logits = decoded
        if self.decoder.standard is not None:
            std = self.decoder.standard.std
            noise = std if self.px_r is None else std * self.px_r[0].clamp_min(LEAST_LOG_NOISE).exp()
            return Normal(mean, noise.expand_as(mean), normal_mu=mean.clamp_min(0), validate_args=False)
        if self.library == "latent":
            return self.count_likelihood(mean, mean / mean.sum(-1, keepdim=True), zero_logits)
        assert log_library is not None
        return self.count_likelihood(mean * log_library.exp(), mean, zero_logits)

    def expected(self, px: CellDistribution) -> torch.Tensor:
        """Expected expression, not negative."""
        return px.get_normalized("mu" if self.is_count else "scale")

    def draw(self, px: CellDistribution, generator: torch.Generator | None = None) -> torch.Tensor:
        """Cells of ``p(x|z)``; with ``"normal"`` and learned noise, values below zero become zero."""
        if self.is_count or self.px_r is None:
            return super().draw(px, generator)
        noise = torch.randn(px.loc.shape, generator=generator, device=px.loc.device)
        return torch.addcmul(px.loc, px.scale, noise).clamp_min_(0)

    def loss(
        self,
        tensors: dict[str, torch.Tensor],
        inference_outputs: dict[str, torch.Tensor],
        generative_outputs: dict[str, CellDistribution],
        kl_weight: float | None = None,
        beta_weight: float = 1.0,
        n_obs: int | None = None,
        memory: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> LossOutput:
        """Negative ELBO plus ``beta`` times the total correlation.

        Parameters
        ----------
        tensors, inference_outputs, generative_outputs
            The batch, and what the networks made of it.
        kl_weight
            Weight of the KL; None: the module's.
        beta_weight
            Share of the module's beta, for a warm-up.
        n_obs
            Number of training cells. None: the total correlation is not estimated and not part of the loss.
        memory
            Means and log variances of the posteriors of other cells.
        """
        mean, log_var = inference_outputs["qz_mean"], inference_outputs["qz_log_var"]
        kl = kl_standard_normal(mean, log_var)
        px = generative_outputs[MODULE_KEYS.PX_KEY]
        reconstruction = -px.log_prob(tensors[REGISTRY_KEYS.X_KEY]).sum(-1)
        loss = (reconstruction + (self.kl_weight if kl_weight is None else kl_weight) * kl).mean()
        terms = {}
        if n_obs is not None:
            split = self.decompose(inference_outputs[MODULE_KEYS.Z_KEY], mean, log_var, n_obs, memory)
            if self.beta:
                loss = loss + self.beta * beta_weight * split.total_correlation
            terms = {name: value.detach() for name, value in split._asdict().items()}
        return LossOutput(loss=loss, reconstruction_loss=reconstruction, kl_local=kl, extra_metrics=terms)

    def decompose(
        self,
        z: torch.Tensor,
        mean: torch.Tensor,
        log_var: torch.Tensor,
        n_obs: int,
        memory: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Decomposition:
        """Mutual information, total correlation and dimension-wise KL of a batch."""
        z, mean, log_var = z.float(), mean.float(), log_var.float()
        if not self.beta:
            z = z.detach()
        means, log_vars = mean, log_var
        if memory is not None:
            means, log_vars = torch.cat([mean, memory[0]]), torch.cat([log_var, memory[1]])
        weights = log_weights(len(z), len(means), n_obs, self.estimator).to(z.device)
        if self.posterior_gradients:
            densities = log_density_with_posteriors(z, means, log_vars, weights)
        else:
            densities = self._aggregate(z, means, log_vars, weights)
        return decompose_kl(z, mean, log_var, *densities)
