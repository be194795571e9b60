"""What a realism measure is, and what each number it gives is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scmimic.metrics._chance import Chance
from scmimic.tl.evaluation._measure_functions import Options, Outcome, Pair

Group = Literal["discriminator", "distribution", "genes", "types", "privacy", "diagnostic"]
Better = Literal["lower", "higher", "closer"]


@dataclass(frozen=True)
class Metric:
    """One row of the result: a number with a direction."""

    name: str
    title: str
    """What a reader calls it."""
    ideal: float
    """NaN: what the real cells score."""
    better: Better
    """Whether lower or higher values are better up to the ideal, or values closer to it from both sides."""
    meaning: str
    """What it says, in one sentence for a reader without statistics."""
    chance: Chance | None = None
    """What guessing gives, where that is the ideal: values far beyond it mean copies."""

    def loss(self, value: float, ideal: float, n: int) -> float:
        """How bad a value is with `n` cells per side: 0 is ideal, whatever the direction of the metric.

        Values beyond the ideal are luck, and as good as the ideal: an unbiased distance below 0, an AUC below that of
        guessing. What is too far beyond chance for luck counts against the cells again.
        """
        if np.isnan(value):
            return np.nan
        if self.chance is not None:
            return self.chance.loss(value, n)
        if self.better == "closer":
            return abs(value - ideal)
        return max(0.0, value - ideal if self.better == "lower" else ideal - value)

    def beyond_chance(self, value: float, n: int) -> str:
        """What it means that a value lies further beyond chance than luck leads, or an empty text."""
        if self.chance is None or not self.chance.copied(value, n):
            return ""
        side = "below" if self.chance.sign > 0 else "above"
        return (
            f"Far {side} {self.chance.ideal:g}, which is guessing: the synthetic cells copy the real ones they are "
            "compared with, or one of the samples is less random than a sample."
        )


@dataclass(frozen=True)
class Measure:
    """A function and the metrics it gives."""

    function: Callable[[Pair, Options], Outcome]
    metrics: tuple[Metric, ...]
    group: Group
    space: Literal["genes", "pcs", "raw"]
    source: str
    """Paper whose protocol or definition it follows."""
    protocols: frozenset[str] = frozenset()
    per_label: Literal["repeat", "own", "none"] = "repeat"
    """Repeat the measure within each label, take the labels' values from its own result, or have none."""
    needs_labels: bool = False
    needs_train: bool = False
    own_interval: bool = False
    """Whether the function gives intervals; otherwise they come from disjoint groups of cells."""
    screen: bool = False
    """Find the best trivial generator with a small run, and measure that one alone."""
    calibrated: bool = True
    """Whether trivial generators are the other end of a scale. They copy nothing, and are truer to type than real cells
    are: for privacy and agreement the replicate is unseen real cells, and there is no score."""
