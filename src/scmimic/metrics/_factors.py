"""Latent codes and known factors as the metrics of disentanglement take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from scmimic._arguments import SEVERAL
from scmimic._arrays import as_dense, as_labels, as_matrix, check_unmasked
from scmimic._reprs import short_repr

MAX_LEVELS = 20
"""A numeric factor of more distinct values is cut into classes: the 20 steps of MichiGAN's simulation are levels."""


@short_repr
@dataclass(frozen=True)
class FactorScores:
    """A metric of disentanglement over all factors, and of each, as ``return_per_factor=True`` gives it."""

    score: float
    """The metric: mean over the factors unless the metric says otherwise."""
    per_factor: dict[str, float]
    """Its part for each factor."""


@dataclass(frozen=True)
class Factor:
    """One known factor of variation."""

    name: str
    codes: np.ndarray
    """Level of each cell as a number from 0; for a numeric factor in the order of its values."""
    levels: list[str]
    """Names of the levels."""
    values: np.ndarray | None
    """The values where these have an order (numbers), otherwise `None`."""

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def entropy(self) -> float:
        """Entropy of the levels in nats."""
        p = np.bincount(self.codes) / len(self.codes)
        return float(-(p * np.log(p)).sum())

    def indicators(self) -> np.ndarray:
        """One column of 0 and 1 per level, double precision."""
        return np.eye(self.n_levels)[self.codes]


def as_latent(latent: Any, name: str = "latent") -> np.ndarray:
    """Return latent codes (cells x dimensions) as a dense array in double precision, after checking them."""
    return as_dense(as_matrix(latent, name, dtype=np.float64))


def as_variance(variance: Any, latent: np.ndarray, *, allow_zero: bool = False) -> np.ndarray:
    """Return posterior variances in the shape of the latent codes, after checking that they are positive.

    Codes can be drawn with variances of 0 too (`allow_zero`); only densities cannot be had of them.
    """
    check_unmasked(variance=variance)
    x = np.asarray(variance, dtype=np.float64)
    if x.shape == latent.shape[1:]:
        x = np.broadcast_to(x, latent.shape)
    if x.shape != latent.shape:
        raise ValueError(
            f"`variance` must have the shape of `latent`, {latent.shape}, or one value per dimension; got {x.shape}."
        )
    if not (np.isfinite(x).all() and (x >= 0 if allow_zero else x > 0).all()):
        kind = "non-negative" if allow_zero else "positive"
        raise ValueError(f"`variance` must hold {kind}, finite numbers: variances, not their logarithms.")
    return x


def as_factors(factors: Any, n_cells: int, *, factor_bins: int = 4) -> list[Factor]:
    """Return the factors with their levels, after checking them.

    Parameters
    ----------
    factors
        A mapping or data frame from name to one value per cell, or an array of one factor (cells) or of several (cells
        x factors).
    n_cells
        Number of cells that each factor must have.
    factor_bins
        Classes of equal numbers of cells that a numeric factor with more than 20 distinct values is cut into.
    """
    SEVERAL.check(factor_bins=factor_bins)
    if not isinstance(factors, Mapping | pd.DataFrame):
        check_unmasked(factors=factors)
        array = np.asarray(factors)
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2:
            raise ValueError(f"`factors` must be a mapping, or an array cells x factors; got shape {array.shape}.")
        factors = {f"factor_{i}": column for i, column in enumerate(array.T)}
    if not len(factors.keys()):
        raise ValueError("`factors` is empty: name at least one.")
    return [_factor(str(name), values, n_cells, factor_bins) for name, values in factors.items()]


def _factor(name: str, values: Any, n_cells: int, factor_bins: int) -> Factor:
    check_unmasked(**{name: values})
    values = np.asarray(values)
    if values.dtype == object and all(isinstance(v, Real) and not isinstance(v, bool) for v in values.ravel()):
        values = np.array(values.tolist())
    if values.dtype.kind in "fiu":
        if values.shape != (n_cells,) or not np.isfinite(values).all():
            raise ValueError(
                f"Factor {name!r} must hold one finite number for each of the {n_cells} cells; got shape "
                f"{values.shape} with {int((~np.isfinite(values)).sum())} NaN or infinite."
            )
        levels, codes = np.unique(values, return_inverse=True)
        names = [f"{level:g}" for level in levels]
        if len(levels) > MAX_LEVELS:
            edges = np.quantile(values, np.arange(1, factor_bins) / factor_bins)
            # ties may leave a class without cells
            found, codes = np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)
            names = [f"class {i + 1}" for i in found]
        order = values.astype(np.float64)
    else:
        levels, codes = np.unique(as_labels(values, name, n_cells), return_inverse=True)
        names = levels.tolist()
        # two levels need no order: each is the other's opposite
        order = codes.astype(np.float64) if len(levels) == 2 else None
    if len(names) < 2:
        raise ValueError(
            f"Factor {name!r} has the same value in all cells: nothing can be said about it. Leave it out."
        )
    return Factor(name, codes.ravel(), names, order)


def mean_scores(factors: list[Factor], values: np.ndarray) -> FactorScores:
    """Values of the factors, and their mean."""
    return FactorScores(float(np.mean(values)), {f.name: float(v) for f, v in zip(factors, values, strict=True)})


def gap(scores: np.ndarray) -> np.ndarray:
    """Largest less second largest of each column (dimensions x factors); the largest where there is one dimension."""
    if len(scores) == 1:
        return scores[0].copy()
    second, first = np.partition(scores, -2, axis=0)[-2:]
    return first - second
