"""Common dispersion and prior degrees of freedom of negative-binomial counts, by the estimators of edgeR."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize_scalar
from scipy.special import digamma, gammaln, polygamma, xlogy

_GRID = 0.1 * 2.0 ** np.arange(-10, 11)
"""Dispersions at which the likelihood is evaluated; edgeR's grid."""
_MIN_TOTAL = 5
"""Genes with fewer counts in all say nothing; edgeR's limit."""
_MAX_CELLS, _MAX_GENES = 1000, 2000
"""One number is estimated from all genes: more cells or genes than these change it by less than a percent."""
_CHUNK_GENES = 250
_TREND_GENES = 100
"""Genes of similar expression that share a dispersion in the trend, at least."""


def estimate_dispersion(counts: sp.csr_matrix, *, seed: int = 0) -> tuple[float, float]:
    """Estimate the common dispersion and the prior degrees of freedom of counts (cells x genes) of one population.

    The common dispersion maximises the sum over genes of the Cox-Reid adjusted profile likelihood of a negative
    binomial with mean proportional to the library size. The prior degrees of freedom say how far the genes' dispersions
    lie around their trend with expression: infinite where no further than chance.

    Returns
    -------
    Common dispersion and prior degrees of freedom.
    """
    rng = np.random.default_rng(seed)
    library = np.asarray(counts.sum(axis=1)).ravel()
    if counts.shape[0] > _MAX_CELLS:
        chosen = np.sort(rng.choice(counts.shape[0], _MAX_CELLS, replace=False))
        counts, library = counts[chosen], library[chosen]
    counts = counts.tocsc()
    genes = np.flatnonzero(np.asarray(counts.sum(axis=0)).ravel() >= _MIN_TOTAL)
    if len(genes) > _MAX_GENES:
        genes = np.sort(rng.choice(genes, _MAX_GENES, replace=False))
    if len(genes) == 0 or len(library) < 3:
        raise ValueError(
            f"The dispersion needs at least 3 cells and a gene with {_MIN_TOTAL} counts in all; there are "
            f"{len(library)} cells and {len(genes)} such genes."
        )
    # by expression, so that neighbours share the trend and the chunks
    genes = genes[np.argsort(np.asarray(counts[:, genes].sum(axis=0)).ravel(), kind="stable")]
    chunks = [counts[:, genes[i : i + _CHUNK_GENES]].toarray() for i in range(0, len(genes), _CHUNK_GENES)]
    likelihood = np.concatenate([_profile(chunk, library) for chunk in chunks])
    common = _maximise(likelihood.sum(axis=0))
    trend = _trend(likelihood)
    deviance = np.concatenate(
        [_deviance(y, library, trend[i * _CHUNK_GENES :][: y.shape[1]]) for i, y in enumerate(chunks)]
    )
    return common, _prior_df(deviance / (len(library) - 1), len(library) - 1)


def _fit(y: np.ndarray, library: np.ndarray, dispersion: float | np.ndarray, share: np.ndarray) -> np.ndarray:
    """Share of the library size of each gene: Newton's method on its logarithm, from the shares given."""
    for _ in range(50):
        mean = library[:, None] * share
        weight = 1 / (1 + dispersion * mean)
        step = ((y - mean) * weight).sum(axis=0) / (mean * weight).sum(axis=0)
        share = share * np.exp(np.clip(step, -2, 2))
        if np.abs(step).max() < 1e-6:
            break
    return share


def _profile(y: np.ndarray, library: np.ndarray) -> np.ndarray:
    """Adjusted profile log-likelihood of each gene at each dispersion of the grid, genes x grid."""
    y = y.astype(np.float64)
    share = y.sum(axis=0) / library.sum()
    result = np.empty((y.shape[1], len(_GRID)))
    for j, dispersion in enumerate(_GRID):
        share = _fit(y, library, dispersion, share)
        mean = library[:, None] * share
        size = 1 / dispersion
        log = np.log1p(dispersion * mean)
        value = gammaln(y + size) - gammaln(size) + xlogy(y, dispersion * mean) - (y + size) * log
        information = (mean / (1 + dispersion * mean)).sum(axis=0)
        result[:, j] = value.sum(axis=0) - 0.5 * np.log(information)
    return result


def _maximise(likelihood: np.ndarray) -> float:
    """Dispersion at the maximum of a cubic spline through the values on the grid."""
    points = np.arange(len(_GRID))
    spline = CubicSpline(points, likelihood)
    best = int(np.argmax(likelihood))
    low, high = max(best - 1, 0), min(best + 1, len(_GRID) - 1)
    found = minimize_scalar(lambda x: -spline(x), bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(_GRID[0] * 2**found.x)


def _trend(likelihood: np.ndarray) -> np.ndarray:
    """Dispersion of each gene, the genes being in order of expression: that of the genes around it."""
    n = len(likelihood)
    window = min(n, max(_TREND_GENES, n // 10))
    total = np.concatenate([np.zeros((1, len(_GRID))), np.cumsum(likelihood, axis=0)])
    # a dispersion for each of some twenty places, and straight lines between their logarithms
    starts = np.unique(np.linspace(0, n - window, 20).astype(int))
    found = [np.log(_maximise(total[start + window] - total[start])) for start in starts]
    return np.exp(np.interp(np.arange(n), starts + window / 2, found))


def _deviance(y: np.ndarray, library: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Deviance of each gene from a negative binomial with its own mean and the dispersion given."""
    y = y.astype(np.float64)
    mean = library[:, None] * _fit(y, library, dispersion, y.sum(axis=0) / library.sum())
    unit = xlogy(y, y / mean) - (y + 1 / dispersion) * np.log((1 + dispersion * y) / (1 + dispersion * mean))
    return 2 * unit.sum(axis=0)


def _prior_df(variance: np.ndarray, df: int) -> float:
    """Degrees of freedom of the scaled inverse chi-square around the trend of the genes' variances (Smyth 2004)."""
    log = np.log(np.maximum(variance, 1e-300)) - digamma(df / 2) + np.log(df / 2)
    order = np.arange(len(log)) / len(log)
    degree = min(3, len(log) - 2)
    if degree < 0:
        return float("inf")
    residual = log - np.polyval(np.polyfit(order, log, degree), order)
    excess = (residual**2).sum() / (len(log) - degree - 1) - polygamma(1, df / 2)
    if excess <= polygamma(1, 1e6):
        return float("inf")
    return float(2 * brentq(lambda x: polygamma(1, x) - excess, 1e-6, 1e6))
