"""The networks of WGAN-GP, and of MichiGAN, which is conditional on codes.

Gulrajani et al. (2017) Improved training of Wasserstein GANs. Marouf et al. (2020) Realistic in silico generation and
augmentation of single-cell RNA-seq data using generative adversarial networks (scGAN, cscGAN). Yu and Welch (2021)
MichiGAN: sampling from disentangled representations of single-cell data using generative adversarial networks,
appendix A.1. Differences from the authors' programs, by default: the critic has no batch norm, which the penalty on
each cell's own gradient forbids; every cell has its own share in the mixtures; the projection has a learned embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import nn
from torch.nn import functional as F

from scmimic.model.base._likelihoods import poisson_counts
from scmimic.nn import Critic, ExpressionGenerator

CODE_KEY = "code"

CODE_VAR_KEY = "code_var"
"""Registry keys of the codes that MichiGAN is conditioned on, and of their variances."""

COUNTS_TARGET_SUM = 1e4
"""Raw counts are scaled to this total per cell before the logarithm."""

Conditioning = Literal["projection", "inner_product", "concat", "batch_norm"]
Output = Literal["relu", "linear", "library", "counts"]


@dataclass(frozen=True)
class Draw:
    """What some fake cells are made from.

    Codes ``(n, n_latent)``, noise ``(n, n_noise)``, labels ``(n,)``, and totals ``(n, 1)`` where counts are made.
    """

    z: torch.Tensor
    noise: torch.Tensor
    labels: torch.Tensor | None
    library: torch.Tensor | None = None


def drawn_log_counts(rate: torch.Tensor) -> torch.Tensor:
    """Poisson counts of given rates, scaled to 10,000 per cell and log1p'd, with a gradient in the rates.

    By the identity d/dr E f(k) = E [f(k + 1) - f(k)] for a Poisson count k of rate r, the slope of each value f(k) is
    its step to the next count. Under a critic that is linear between the two this is the gradient of the expected
    score.

    Parameters
    ----------
    rate
        Cells x genes.
    """
    with torch.no_grad():
        counts = poisson_counts(rate)
        factor = COUNTS_TARGET_SUM / counts.sum(-1, keepdim=True).clamp_min(1.0)
        values = torch.log1p(counts * factor)
        slope = torch.log1p((counts + 1) * factor) - values if rate.requires_grad else None
    return values if slope is None else values + slope * (rate - rate.detach())


class GANModule(BaseModuleClass):
    """Generator and critic of WGAN-GP.

    Parameters
    ----------
    n_input
        Number of genes.
    n_latent
        Size of the code that users may set.
    n_noise
        Size of further noise that they may not.
    n_labels
        Number of labels that the generator is told (0: none).
    n_condition
        Size of what the critic is told. None: the labels.
    conditioning
        ``"projection"``: labels are joined to the generator's noise, and the critic projects on a learned embedding.
        ``"inner_product"``: the same without an embedding. ``"concat"``: joined in both networks. ``"batch_norm"``:
        conditional batch norm in the generator, projection in the critic, as cscGAN's program.
    n_hidden_generator, n_hidden_critic
        Widths of the hidden layers, input to output.
    negative_slope, last_slope
        Of the leaky ReLU, and of that of the last hidden layers (None: the same).
    dropout_rate, dropout_rate_critic
        Dropout in the generator and in the critic.
    use_batch_norm_critic
        Batch norm in the critic, see :class:`~scmimic.nn.Critic`; the generator has it in any case.
    output
        See :class:`~scmimic.nn.ExpressionGenerator`.
    log_counts
        The data are raw counts: the networks see them scaled to 10,000 per cell and log1p'd.
    """

    is_count = False

    def __init__(
        self,
        n_input: int,
        *,
        n_latent: int = 128,
        n_noise: int = 0,
        n_labels: int = 0,
        n_condition: int | None = None,
        conditioning: Conditioning = "projection",
        n_hidden_generator: Sequence[int] = (256, 512, 1024),
        n_hidden_critic: Sequence[int] = (1024, 512, 10),
        negative_slope: float = 0.2,
        last_slope: float | None = None,
        dropout_rate: float = 0.0,
        dropout_rate_critic: float = 0.0,
        use_batch_norm_critic: bool = False,
        output: Output = "relu",
        log_counts: bool = False,
    ):
        super().__init__()
        self.n_input = n_input
        self.n_latent = n_latent
        self.n_noise = n_noise
        self.n_labels = n_labels
        # saved with the weights, since a model that is loaded without data cannot look
        self.register_buffer("log_counts", torch.tensor(log_counts))
        self.joins_labels = n_labels > 0 and conditioning != "batch_norm"
        self.generator = ExpressionGenerator(
            n_latent + n_noise + (n_labels if self.joins_labels else 0),
            n_input,
            n_hidden_generator,
            n_labels=0 if self.joins_labels else n_labels,
            negative_slope=negative_slope,
            last_slope=last_slope,
            dropout_rate=dropout_rate,
            output=output,
        )
        # what generates: a running average of the generator, or a copy of it
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.critic = Critic(
            n_input,
            n_hidden_critic,
            n_condition=n_labels if n_condition is None else n_condition,
            conditioning="projection" if conditioning == "batch_norm" else conditioning,
            negative_slope=negative_slope,
            last_slope=last_slope,
            use_batch_norm=use_batch_norm_critic,
            dropout_rate=dropout_rate_critic,
        )
        self.register_buffer("scale", torch.ones(()))

    def critic_parameters(self) -> list[nn.Parameter]:
        """What the critic's optimiser moves."""
        return list(self.critic.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """Those of them whose gradients accumulate."""
        return self.critic.head_parameters()

    @property
    def makes_counts(self) -> bool:
        """Whether the generator draws counts, which the critic sees log1p'd."""
        return self.generator.activation == "counts"

    @torch.no_grad()
    def start_from(self, mean: torch.Tensor, profile: torch.Tensor, scale: float) -> None:
        """Begin with the average cell.

        Parameters
        ----------
        mean
            Genes' means as the critic sees them, before scaling.
        profile
            Genes' shares in the total of the data.
        scale
            The unit in which both networks see expression.
        """
        self.scale.fill_(scale)
        start = profile.clamp_min(1e-8).log() if self.makes_counts else mean / scale
        for generator in (self.generator, self.average):
            generator.output.bias.copy_(start)
            generator.total.fill_(float(mean.sum() / scale))

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        """Cells as the networks see them."""
        if self.log_counts:
            x = torch.log1p(x * (COUNTS_TARGET_SUM / x.sum(-1, keepdim=True).clamp_min(1e-6)))
        return x / self.scale

    def draw(self, tensors: dict[str, torch.Tensor]) -> Draw:
        """Codes, noise and labels for as many fake cells as there are real ones, with the same labels."""
        x = tensors[REGISTRY_KEYS.X_KEY]
        labels = tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).long() if self.n_labels else None
        return Draw(x.new_empty(len(x), self.n_latent).normal_(), self._noise(x), labels, self._library(x))

    def _library(self, x: torch.Tensor) -> torch.Tensor | None:
        return x.sum(-1, keepdim=True) if self.makes_counts else None

    def _noise(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_empty(len(x), self.n_noise).normal_()

    def condition(self, draw: Draw) -> torch.Tensor | None:
        """What the critic is told of the cells."""
        return None if draw.labels is None else F.one_hot(draw.labels, self.n_labels).to(draw.z.dtype)

    def generator_input(self, draw: Draw) -> torch.Tensor:
        """The generator's first layer."""
        parts = [draw.z, draw.noise]
        if self.joins_labels:
            assert draw.labels is not None
            parts.append(F.one_hot(draw.labels, self.n_labels).to(draw.z.dtype))
        return torch.cat(parts, dim=1)

    def run(self, generator: ExpressionGenerator, draw: Draw) -> torch.Tensor:
        """Fake cells of one of the generators, as the critic sees them."""
        x = generator(self.generator_input(draw), draw.labels)
        return drawn_log_counts(x * draw.library) / self.scale if self.makes_counts else x

    def decode(self, draw: Draw) -> torch.Tensor:
        """What the averaged generator makes: rates of counts, or values in the units that it learned from."""
        x = self.average(self.generator_input(draw), draw.labels)
        return x * draw.library if self.makes_counts else x * self.scale

    def refresh_statistics(self, draw: Draw) -> None:
        """Batch norm statistics of the averaged generator, from one large draw."""
        self.average.refresh_statistics(self.generator_input(draw), draw.labels)

    def feature_losses(self, draw: Draw, tensors: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
        """A further loss of the critic's last hidden layer, and what of it is to be logged; none here."""
        return None, {}

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict[str, Any]:
        return {"tensors": tensors}

    def _get_generative_input(self, tensors: dict[str, torch.Tensor], inference_outputs: dict, **kwargs) -> dict:
        return inference_outputs

    @auto_move_data
    def inference(self, tensors: dict[str, torch.Tensor]) -> dict[str, Draw]:
        """What fake partners of some real cells are made from."""
        return {"draw": self.draw(tensors)}

    @auto_move_data
    def generative(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Fake cells."""
        return {"fake": self.run(self.generator, draw)}

    def loss(
        self,
        tensors: dict[str, torch.Tensor],
        inference_outputs: dict[str, Draw],
        generative_outputs: dict[str, torch.Tensor],
    ) -> LossOutput:
        """Mean score of fake minus real cells: minus the estimate of the Wasserstein distance."""
        condition = self.condition(inference_outputs["draw"])
        with self.critic.batch_statistics():
            real = self.critic(self.prepare(tensors[REGISTRY_KEYS.X_KEY]), condition)
            fake = self.critic(generative_outputs["fake"], condition)
        return LossOutput(loss=fake.mean() - real.mean(), n_obs_minibatch=len(real))

    @torch.inference_mode()
    def sample(self, tensors: dict[str, torch.Tensor], n_samples: int = 1) -> torch.Tensor:
        """Fake partners of some real cells on the CPU, ``(n, n_genes)`` or ``(n, n_genes, n_samples)``."""
        cells = [self.decode(self.draw(tensors)).cpu() for _ in range(n_samples)]
        return cells[0] if n_samples == 1 else torch.stack(cells, dim=-1)


class MichiGANModule(GANModule):
    """WGAN-GP conditioned on each real cell's code in a given representation.

    Parameters
    ----------
    n_input
        Number of genes.
    n_latent
        Size of the representation.
    n_noise
        Size of the noise.
    conditioning
        ``"projection"``, ``"inner_product"`` or ``"concat"``, in the critic; the generator has the code joined to the
        noise.
    **kwargs
        See :class:`GANModule`.
    """

    def __init__(
        self,
        n_input: int,
        *,
        n_latent: int = 10,
        n_noise: int = 118,
        conditioning: Literal["projection", "inner_product", "concat"] = "projection",
        **kwargs,
    ):
        super().__init__(
            n_input, n_latent=n_latent, n_noise=n_noise, n_condition=n_latent, conditioning=conditioning, **kwargs
        )
        self.register_buffer("code_mean", torch.zeros(n_latent))
        self.register_buffer("code_std", torch.ones(n_latent))

    def draw(self, tensors: dict[str, torch.Tensor]) -> Draw:
        """The real cells' codes: their posterior means, or fresh samples where variances are registered."""
        z = tensors[CODE_KEY].to(tensors[REGISTRY_KEYS.X_KEY].dtype)
        if CODE_VAR_KEY in tensors:
            z = z + tensors[CODE_VAR_KEY].to(z.dtype).sqrt() * torch.randn_like(z)
        return Draw(z, self._noise(z), None, self._library(tensors[REGISTRY_KEYS.X_KEY]))

    def _standard(self, z: torch.Tensor) -> torch.Tensor:
        return (z - self.code_mean) / self.code_std

    def condition(self, draw: Draw) -> torch.Tensor:
        """The code, standardised unless mean and standard deviation are left at 0 and 1."""
        return self._standard(draw.z)

    def generator_input(self, draw: Draw) -> torch.Tensor:
        """Standardised code and noise."""
        return torch.cat([self._standard(draw.z), draw.noise], dim=1)


class InfoGANModule(GANModule):
    """WGAN-GP whose critic also tells the code from the cell (InfoGAN), and the label of labelled cells (ssInfoGAN).

    Parameters
    ----------
    n_input
        Number of genes.
    n_latent
        Number of normal codes.
    n_labels
        Number of categories of a categorical code (0: none).
    supervised
        The categories are the registered labels: labelled real cells teach the critic's second head.
    **kwargs
        See :class:`GANModule`.
    """

    def __init__(self, n_input: int, *, n_latent: int = 10, n_labels: int = 0, supervised: bool = False, **kwargs):
        super().__init__(n_input, n_latent=n_latent, n_labels=n_labels, n_condition=0, **kwargs)
        self.supervised = supervised
        self.code_head = nn.Linear(self.critic.layers[-1].out_features, n_latent + n_labels)
        self.register_buffer("label_proportions", torch.full((max(n_labels, 1),), 1 / max(n_labels, 1)))
        self.mutual_information_weight = 1.0
        # of codes given what the head says of them; the loss has slope and variance 1
        self.register_buffer("code_slope", torch.ones(n_latent))
        self.register_buffer("code_offset", torch.zeros(n_latent))
        self.register_buffer("code_var", torch.ones(n_latent))

    def critic_parameters(self) -> list[nn.Parameter]:
        """Critic and code head."""
        return [*super().critic_parameters(), *self.code_head.parameters()]

    def head_parameters(self) -> list[nn.Parameter]:
        """Score and code head."""
        return [*super().head_parameters(), *self.code_head.parameters()]

    def draw(self, tensors: dict[str, torch.Tensor]) -> Draw:
        """Codes from the prior; categories in the labels' proportions, so that rare ones stay rare."""
        x = tensors[REGISTRY_KEYS.X_KEY]
        labels = torch.multinomial(self.label_proportions, len(x), replacement=True) if self.n_labels else None
        return Draw(x.new_empty(len(x), self.n_latent).normal_(), self._noise(x), labels, self._library(x))

    def condition(self, draw: Draw) -> None:
        """The critic is told nothing."""
        return None

    def mutual_information(self, hidden: torch.Tensor, draw: Draw) -> torch.Tensor:
        """The lower bound E log Q(c|x) + H(c) in nats: normal codes with unit variance, and the category."""
        mean, logits = self.code_head(hidden).split([self.n_latent, self.n_labels], dim=1)
        # log N(z; mean, 1) + H(N(0, 1)): the constants leave one half per code
        bound = 0.5 * (self.n_latent - (draw.z - mean).square().sum(1).mean())
        if draw.labels is not None:
            p = self.label_proportions
            entropy = -(p * p.clamp_min(1e-12).log()).sum()
            bound = bound + entropy - F.cross_entropy(logits, draw.labels)
        return bound

    def feature_losses(self, draw: Draw, tensors: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
        """Minus the mutual information, and the cross entropy of labelled real cells."""
        logged: dict[str, Any] = {}

        def loss(real: torch.Tensor | None, fake: torch.Tensor) -> torch.Tensor:
            bound = self.mutual_information(fake, draw)
            logged["mutual_information"] = bound.detach()
            total = -bound
            if real is not None and self.supervised:
                labels = tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).long()
                known = labels < self.n_labels
                if known.any():
                    logits = self.code_head(real[known])[:, self.n_latent :]
                    entropy = F.cross_entropy(logits, labels[known])
                    logged["label_loss"] = entropy.detach()
                    total = total + entropy
            return self.mutual_information_weight * total

        return loss, logged

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean of the code for cells in the units of the data, and the logits of the category."""
        mean, logits = self.code_head(self.critic.hidden(self.prepare(x))).split([self.n_latent, self.n_labels], dim=1)
        return self.code_offset + self.code_slope * mean, logits

    @torch.no_grad()
    def calibrate(self, asked: torch.Tensor, found: torch.Tensor) -> None:
        """Regress each code on what the head says of it, so that codes found and codes drawn vary alike.

        Parameters
        ----------
        asked
            Codes of generated cells, ``(n, n_latent)``.
        found
            Means that :meth:`encode` gives of these cells.
        """
        center, mean = asked.mean(0), found.mean(0)
        slope = ((asked - center) * (found - mean)).mean(0) / (found - mean).square().mean(0).clamp_min(1e-12)
        self.code_var.copy_((asked - center - slope * (found - mean)).square().mean(0).clamp_min(1e-6))
        self.code_offset.copy_(slope * (self.code_offset - mean) + center)
        self.code_slope.mul_(slope)
