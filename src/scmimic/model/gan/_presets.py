"""Architectures and training settings of the GANs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from scmimic._arguments import Choice

Preset = Literal["michigan", "michigan_paper", "michigan_package", "michigan_scripts", "scgan"]

CRITIC_STEPS, CRITIC_STEPS_OF_VALUES = 20_000, 8_000
"""Default lengths of a run in steps of the critic, five for each of the generator.

The second is for generators that give values, not counts, and have no code to keep to: they cannot make the noise of
sparse genes, and in longer runs the means drift away.
"""


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
    last_slope
        That of the last hidden layers. None: the same.
    dropout_rate, dropout_rate_critic
        Dropout in the generator and in the critic.
    use_batch_norm_critic
        Batch norm in the critic.
    code_conditioning
        How the critic of a :class:`~scmimic.model.MichiGAN` is told the code.
    standardizes_codes
        Whether its networks see the codes with mean 0 and variance 1.
    max_epochs
        Default number of epochs; None: as :func:`default_epochs` says.
    plan
        Settings of :class:`~scmimic.train.WassersteinTrainingPlan`.
    """

    n_hidden_generator: tuple[int, ...]
    n_hidden_critic: tuple[int, ...]
    negative_slope: float
    output: Literal["relu", "linear", "library"]
    batch_size: int
    last_slope: float | None = None
    dropout_rate: float = 0.0
    dropout_rate_critic: float = 0.0
    use_batch_norm_critic: bool = False
    code_conditioning: Literal["projection", "inner_product", "concat"] = "projection"
    standardizes_codes: bool = True
    max_epochs: int | None = None
    plan: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_MICHIGAN = GANPreset((256, 512, 1024), (1024, 512, 10), 0.2, "relu", 32, plan=MappingProxyType({"lr": 3e-4}))
# the authors' prediction acts on no gradient of theirs, and they do not average weights
_AUTHORS = {"prediction": 0.0, "average_decay": 0.0}
_MICHIGAN_ADAM = {"betas": (0.9, 0.999)}

GAN_PRESETS: Mapping[str, GANPreset] = MappingProxyType(
    {
        "michigan": _MICHIGAN,
        # what the paper leaves open is the scripts': learning rate, betas, lambda, slopes, weight of the information
        "michigan_paper": replace(
            _MICHIGAN,
            last_slope=0.0,
            dropout_rate=0.2,
            use_batch_norm_critic=True,
            code_conditioning="inner_product",
            standardizes_codes=False,
            max_epochs=1000,
            plan=MappingProxyType(
                {
                    "n_critic": 5,
                    "gradient_penalty": 10.0,
                    "lr": 1e-4,
                    "prediction": 1.0,
                    "average_decay": 0.0,
                    "mutual_information_weight": 10.0,
                    **_MICHIGAN_ADAM,
                }
            ),
        ),
        "michigan_package": replace(
            _MICHIGAN,
            dropout_rate=0.2,
            max_epochs=25,
            plan=MappingProxyType({"lr": 5e-4, "mutual_information_weight": 1.0, **_MICHIGAN_ADAM, **_AUTHORS}),
        ),
        "michigan_scripts": replace(
            _MICHIGAN,
            max_epochs=10,
            plan=MappingProxyType({"lr": 1e-4, "mutual_information_weight": 10.0, **_MICHIGAN_ADAM, **_AUTHORS}),
        ),
        "scgan": GANPreset(
            (256, 512, 1024),
            (1024, 512, 256),
            0.0,
            "library",
            128,
            plan=MappingProxyType({"lr": 1e-4, "amsgrad": True, "lr_decay_steps": 1_000_000, **_AUTHORS}),
        ),
    }
)


def gan_preset(name: str) -> GANPreset:
    """The preset of this name."""
    Choice(tuple(GAN_PRESETS)).check(preset=name)
    return GAN_PRESETS[name]


def default_epochs(preset: GANPreset, n_obs: int, batch_size: int, critic_steps: int) -> int:
    """The preset's epochs, or those that hold so many steps of the critic."""
    return preset.max_epochs or -(-critic_steps // max(n_obs // batch_size, 1))
