"""What a realism measure is, and what each number it gives is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scmimic.tl._measure_functions import Options, Outcome, Pair

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
    """Whether lower or higher values are better up to a real replicate's, or values closer to `ideal`."""
    meaning: str
    """What it says, in one sentence for a reader without statistics."""


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
