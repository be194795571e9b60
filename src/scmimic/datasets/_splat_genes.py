"""What the Splat simulation draws once per gene: means, factors of batches and paths, and the scale of the BCV."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline

from scmimic import _keys
from scmimic.datasets._splat_parameters import SplatParameters, per_level

_KNOTS = 5
_FLOOR = 1e-6
"""Splatter's: the walk of a gene has this many points; where its spline falls below zero it is lifted to this."""


def lognormal_factors(
    rng: np.random.Generator, n: int, *, prob: float, down_prob: float, loc: float, scale: float
) -> np.ndarray:
    """Draw `n` factors: exp of +|N(loc, scale)|, or of its negative, with probability `prob`; 1 otherwise."""
    changed = rng.random(n) < prob
    size = np.abs(rng.normal(loc, scale, n))
    down = rng.random(n) < down_prob
    return np.where(changed, np.exp(np.where(down, -size, size)), 1.0)


def path_order(path_from: Sequence[int]) -> list[int]:
    """Order in which every path comes after the one that it begins at."""
    n = len(path_from)
    if max(path_from) >= n:
        raise ValueError(f"`path_from` names path {max(path_from)}, but the last of the {n} paths is {n - 1}.")
    order: list[int] = []
    while len(order) < n:
        ready = [k for k in range(n) if k not in order and path_from[k] in (-1, *order)]
        if not ready:
            raise ValueError(
                f"`path_from` runs in a circle: {tuple(path_from)}. Some path must begin at the origin, -1."
            )
        order += ready
    return order


def bridges(
    start: np.ndarray, end: np.ndarray, sigma_factor: np.ndarray, n_steps: int, rng: np.random.Generator
) -> np.ndarray:
    """Factors of each gene along a path, genes x steps: a smoothed Brownian bridge from `start` to `end`.

    The bridge has five points in even distance. Its scale is uniform between 0 and `sigma_factor` times the mean of
    `start` and `end`; without one it is the straight line. A natural cubic spline through the points gives the steps.
    """
    n_genes = len(start)
    time = np.linspace(0, 1, _KNOTS)
    scale = rng.random(n_genes) * sigma_factor * (start + end) / 2
    walk = np.cumsum(rng.normal(0, np.sqrt(1 / (_KNOTS - 1)), (n_genes, _KNOTS - 1)), axis=1)
    walk = scale[:, None] * np.pad(walk, ((0, 0), (1, 0)))
    points = start[:, None] + walk + time * (end - start - walk[:, -1])[:, None]
    steps = CubicSpline(time, points, axis=1, bc_type="natural")(np.linspace(0, 1, n_steps))
    return np.where(steps < 0, _FLOOR, steps)


def draw_genes(
    n_vars: int,
    parameters: SplatParameters,
    *,
    batches: Sequence[str],
    groups: Sequence[str],
    nonlinear: bool,
    paths: bool,
    known: pd.DataFrame,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw one row per gene; the columns of `known` take the place of their draws."""
    columns: dict[str, np.ndarray] = {}

    def keep(name: str, drawn: np.ndarray) -> np.ndarray:
        columns[name] = known[name].to_numpy(dtype=np.float64) if name in known else drawn
        return columns[name]

    p = parameters
    base = rng.gamma(p.mean_shape, 1 / p.mean_rate, n_vars)
    # a file that has final means alone: they are the base of all else
    base = keep(_keys.VAR_BASE_MEAN, np.asarray(known.get(_keys.VAR_MEAN, base), dtype=np.float64))
    outlier = lognormal_factors(rng, n_vars, prob=p.out_prob, down_prob=0, loc=p.out_fac_loc, scale=p.out_fac_scale)
    if _keys.VAR_MEAN in known and _keys.VAR_OUTLIER_FACTOR not in known:
        outlier = np.ones(n_vars)
    outlier = keep(_keys.VAR_OUTLIER_FACTOR, outlier)
    keep(_keys.VAR_MEAN, np.where(outlier != 1, np.median(base) * outlier, base))

    loc, scale = (per_level(p, f"batch_fac_{what}", len(batches), "batches") for what in ("loc", "scale"))
    for i, batch in enumerate(batches):
        drawn = lognormal_factors(rng, n_vars, prob=1, down_prob=0.5, loc=loc[i], scale=scale[i])
        # a single batch has nothing to differ from
        keep(_keys.batch_factor(batch), drawn if len(batches) > 1 else np.ones(n_vars))

    level = "paths" if paths else "groups"
    prob, down, loc, scale, start, nonlinear_prob, sigma = (
        per_level(p, name, len(groups), level)
        for name in ("de_prob", "de_down_prob", "de_fac_loc", "de_fac_scale")
        + ("path_from", "path_nonlinear_prob", "path_sigma_fac")
    )
    if not paths:
        # a single group has nothing to differ from
        start, prob = np.full(len(groups), -1), prob * (len(groups) > 1)
    for k in path_order(start.tolist()):
        drawn = lognormal_factors(rng, n_vars, prob=prob[k], down_prob=down[k], loc=loc[k], scale=scale[k])
        parent = columns[_keys.de_factor(groups[start[k]])] if start[k] >= 0 else 1.0
        keep(_keys.de_factor(groups[k]), parent * drawn)
        chosen = rng.random(n_vars) < nonlinear_prob[k]
        if paths:
            keep(_keys.sigma_factor(groups[k]), np.where(chosen & nonlinear, sigma[k], 0.0))

    drawn = np.sqrt(p.bcv_df / rng.chisquare(p.bcv_df, n_vars)) if np.isfinite(p.bcv_df) else np.ones(n_vars)
    keep(_keys.VAR_BCV_FACTOR, drawn)
    return pd.DataFrame(columns)


def check_known_genes(genes: pd.DataFrame) -> None:
    """Raise ValueError unless the columns that will be used hold finite, non-negative numbers."""
    for name in genes.columns:
        if name not in _keys.VAR_SPLAT and not str(name).startswith(_keys.VAR_SPLAT_PREFIXES):
            continue
        values = genes[name].to_numpy()
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"`genes[{name!r}]` must hold finite, non-negative numbers.")
    if len(genes) and _keys.VAR_MEAN in genes and not genes[_keys.VAR_MEAN].any():
        raise ValueError(f"`genes[{_keys.VAR_MEAN!r}]` is zero for all genes.")
