"""Default settings of ACTIVA: the paper's, and those for counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from scmimic.model.base._likelihoods import COUNT_LIKELIHOODS, likelihood_names

ACTINN_EPOCHS = 50
# the shortest run of few cells, whichever is less
MIN_EPOCHS, MIN_STEPS = 150, 300


@dataclass(frozen=True)
class Preset:
    """Sizes and training settings for one kind of likelihood.

    Attributes
    ----------
    n_latent, n_hidden
        Sizes of the networks.
    max_epochs, max_steps, cells_per_epoch
        The run ends after this many epochs, after the epochs that hold this many steps, or after one epoch for every
        so many training cells but no fewer than `MIN_EPOCHS` or `MIN_STEPS` (None: no such rule).
    warmup_epochs, warmup_fraction
        Epochs of the warm-up: a number, or else a fraction of the run.
    plan
        Settings of :class:`~scmimic.train.IntrospectiveTrainingPlan`.
    """

    n_latent: int
    n_hidden: tuple[int, ...]
    max_epochs: int
    max_steps: int | None
    cells_per_epoch: int | None
    warmup_epochs: int | None
    warmup_fraction: float
    plan: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def epochs(self, n_obs: int, batch_size: int) -> int:
        """Length of the run."""
        limits, steps_per_epoch = [self.max_epochs], max(n_obs // batch_size, 1)
        if self.max_steps is not None:
            limits.append(-(-self.max_steps // steps_per_epoch))
        if self.cells_per_epoch is not None:
            limits.append(max(n_obs // self.cells_per_epoch, min(MIN_EPOCHS, -(-MIN_STEPS // steps_per_epoch))))
        return min(limits)

    def warmup(self, max_epochs: int) -> int:
        """Length of the warm-up."""
        return self.warmup_epochs if self.warmup_epochs is not None else round(self.warmup_fraction * max_epochs)

    def classifier_epochs(self, max_epochs: int, warmup_epochs: int) -> int:
        """Epochs of the classifier: the warm-up's as in the paper, but no fewer than ACTINN's own 50."""
        return min(max(warmup_epochs, ACTINN_EPOCHS), max_epochs)


PAPER = Preset(
    n_latent=128,
    n_hidden=(1024, 512, 256),
    max_epochs=610,
    max_steps=None,
    cells_per_epoch=None,
    warmup_epochs=10,
    warmup_fraction=0.0,
)
"""Sections 2.5 and 2.6 of the paper."""

COUNTS = Preset(
    n_latent=32,
    n_hidden=(256, 128),
    max_epochs=400,
    max_steps=12_000,
    cells_per_epoch=4,
    warmup_epochs=None,
    warmup_fraction=0.75,
    plan=MappingProxyType(
        {
            "lr": 3e-3,
            "lr_final_factor": 0.05,
            "alpha1": 0.01,
            "alpha2": 1.0,
            "alpha_cell_type": 0.01,
            "m": "auto",
            "m_factor": 2.0,
            "fake_statistics": "batch",
        }
    ),
)
"""For raw counts.

A few hundred cells are memorised in a few hundred passes (their KL and reconstruction then part from those of new
cells, and generated cells lie nearer to training cells than new cells do), hence the limit by the number of cells.
Likelihoods of counts are in nats, like the KL: halving them (alpha2 = 0.5) would double the weight of the prior. The
game and the cell-type loss have small weights because they cost realism at the paper's (see the ablation in the
benchmarks).
"""


def preset_for(gene_likelihood: str) -> Preset:
    """The preset of a likelihood."""
    likelihood_names().check(gene_likelihood=gene_likelihood)
    return COUNTS if gene_likelihood in COUNT_LIKELIHOODS else PAPER
