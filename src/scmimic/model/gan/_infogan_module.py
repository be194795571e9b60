"""The networks of InfoWGAN-GP (MichiGAN paper, appendix A.1)."""

from __future__ import annotations

from typing import Any

import torch
from scvi import REGISTRY_KEYS
from torch import nn
from torch.nn import functional as F

from scmimic.model.gan._module import Draw, GANModule


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
        if self.n_labels:
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
