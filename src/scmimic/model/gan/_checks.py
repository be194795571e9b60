"""What the GANs refuse, before any work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scmimic._arguments import COUNT, NATURAL, SHARE, Choice, check_arguments, check_widths
from scmimic.model.gan._infogan_module import InfoGANModule
from scmimic.model.gan._presets import GANPreset
from scmimic.model.generation._requests import library_sizes

_SIZES = {"n_latent": COUNT, "n_noise": NATURAL, "dropout_rate": SHARE}
OUTPUT = Choice(("relu", "linear", "library", "counts"), optional=True)


class GANChecksMixin:
    """Checks of the arguments of the GANs."""

    def _check_likelihood(self, gene_likelihood: str) -> None:
        if gene_likelihood != "normal":
            raise ValueError(
                f"`gene_likelihood` must be 'normal', not {gene_likelihood!r}: {type(self).__name__} has no "
                "likelihood, its critic compares cells as they are. For a model of counts use ACTIVA or BetaTCVAE. "
                "`generate(as_counts=True)` makes counts of the cells."
            )

    def _check_output(self, output: str) -> None:
        """Refuse a last layer that cannot make cells like the data's."""
        if output == "counts" and self.count_units_ != "counts":
            raise ValueError("`output='counts'` needs raw counts. Register the layer that holds them: `layer=...`.")
        space = self.expression_space_
        if output == "library" and space.units == "linear" and space.total is None:
            raise ValueError(
                "`output='library'` (that of preset='scgan') gives every cell the same sum, but the cells of the "
                "training layer differ in theirs. Scale them to one total over the genes that are left "
                "(`sc.pp.normalize_total`), or pass `output='relu'`."
            )
        if output == "library" and self.count_units_ in ("counts", "log1p"):
            raise ValueError(
                "`output='library'` (that of preset='scgan') gives every cell the same sum, and the logarithms that "
                "the networks would see here have none in common. Register counts scaled to one total per cell, "
                "without their logarithm (`layer=...`), or pass "
                f"`output={'counts' if self.count_units_ == 'counts' else 'relu'!r}`."
            )

    def _check_sizes(
        self,
        preset: GANPreset,
        n_hidden_generator: Sequence[int] | None,
        n_hidden_critic: Sequence[int] | None,
        dropout_rate: float,
        **kwargs: Any,
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Refuse sizes that no network has; the hidden widths of generator and critic."""
        check_arguments({**kwargs, "dropout_rate": dropout_rate}, _SIZES)
        generator = preset.n_hidden_generator if n_hidden_generator is None else n_hidden_generator
        critic = preset.n_hidden_critic if n_hidden_critic is None else n_hidden_critic
        return check_widths("n_hidden_generator", generator), check_widths("n_hidden_critic", critic)

    def _check_plan(self, asked: Mapping[str, Any], of_preset: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse settings of another model; the preset's with them in their place."""
        plan = dict(of_preset)
        if not isinstance(self.module, InfoGANModule):
            plan.pop("mutual_information_weight", None)
            if "mutual_information_weight" in asked:
                raise ValueError(
                    f"`mutual_information_weight` is that of codes, which a {type(self).__name__} does not find again. "
                    "Leave it out, or use InfoWGANGP."
                )
        return {**plan, **asked}

    def _check_counts_request(self, as_counts: bool | None, library_size, n: int) -> tuple[bool, np.ndarray | None]:
        as_counts = self.count_units_ == "counts" if as_counts is None else as_counts
        if as_counts and self.count_units_ is None:
            raise ValueError(
                "`as_counts` needs a training layer of counts, of counts scaled to a common total, or of the log1p of "
                "these; this model's layer is none of them."
            )
        if library_size is None:
            return as_counts, None
        if not as_counts:
            raise ValueError(
                "`library_size` needs counts: pass `as_counts=True`, or leave it out; the values have the totals of "
                "the training layer."
            )
        return as_counts, library_sizes(library_size, n)
