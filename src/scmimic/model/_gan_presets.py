"""Architectures and training settings of the GANs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

CRITIC_STEPS = 20_000
"""Default length of a run in steps of the critic, five for each of the generator."""


@dataclass(frozen=True)
class GANPreset:
    """Sizes and training settings.

    Attributes
    ----------
    n_hidden_generator, n_hidden_critic
        Widths of the hidden layers, input to output.
    negative_slope
        Of the leaky ReLU in both networks.
    output
        Last layer of the generator, see :class:`~scmimic.nn.ExpressionGenerator`.
    batch_size
        Cells per step.
    plan
        Settings of :class:`~scmimic.train.WassersteinTrainingPlan`.
    """

    n_hidden_generator: tuple[int, ...]
    n_hidden_critic: tuple[int, ...]
    negative_slope: float
    output: Literal["relu", "linear", "library"]
    batch_size: int
    plan: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


GAN_PRESETS: Mapping[str, GANPreset] = MappingProxyType(
    {
        "michigan": GANPreset((256, 512, 1024), (1024, 512, 10), 0.2, "relu", 32, MappingProxyType({"lr": 3e-4})),
        "scgan": GANPreset(
            (256, 512, 1024),
            (1024, 512, 256),
            0.0,
            "library",
            128,
            MappingProxyType({"amsgrad": True, "lr_decay_steps": 1_000_000, "prediction": 0.0, "average_decay": 0.0}),
        ),
    }
)


def gan_preset(name: str) -> GANPreset:
    """The preset of this name."""
    if name not in GAN_PRESETS:
        raise ValueError(f"`preset` must be one of {list(GAN_PRESETS)}, not {name!r}.")
    return GAN_PRESETS[name]


def default_epochs(n_obs: int, batch_size: int) -> int:
    """Epochs that hold the default number of steps."""
    return -(-CRITIC_STEPS // max(n_obs // batch_size, 1))
