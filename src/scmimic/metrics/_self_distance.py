"""How far cells of one sample lie apart, beside real ones: a generator that repeats a few cells is seen here.

A generator that makes each cell from one of K training cells makes close relatives as soon as it is asked for more than
K: ten cells are ten modes, a thousand are still K. That shows in the distance of a cell to its nearest other cell,
beside the same within as many real cells. But nobody has 20 times as many real cells as were trained on.

What m real cells say of n > m are their pairs. Among n cells a cell has one other, on average, within the distance that
a share 1 / (n - 1) of all pairs lies below, and m cells have m (m - 1) / 2 pairs: 1,600 real cells know it up to
n = 64,000. This is the correlation sum of Grassberger & Procaccia (1983, Physica D 9), read as a distance. The closest
of all pairs lie where cells are densest, and would say nothing of the others; so each distance is taken in units of the
cell's own third nearest one (local scaling, after Zelnik-Manor & Perona 2004, NIPS), not counting the pair's other
cell. How this quantile falls from m to n cells is how the distance to the nearest cell falls. A straight line through
log distance and log n, which needs no pairs, is 11 % off at 20 times the cells: noise has more dimensions the closer
one looks.

Within the synthetic cells nothing is carried on: there are n of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import t as student
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import row_norms

from scmimic._arguments import COUNT_OR_NONE, SEED, SEVERAL, THREADS
from scmimic._arrays import Matrix, same_kind, sample_rows, subsample
from scmimic._reprs import short_repr
from scmimic.metrics._errors import TooFewCellsError

# The neighbour that gives a cell its unit. The first alone is noisy where there are few dimensions; a later one lies
# outside of a rare type.
_NEIGHBOR = 3

# Pairs of real cells that must lie below the distance at n: their number is known to a fourth, and the distance, in the
# 20 to 40 dimensions that noisy cells fill, to about a hundredth.
_LEAST_PAIRS = 20

_FEWEST_CELLS = 10
_SMALLEST_SIZE, _N_SIZES, _N_GROUPS = 100, 16, 10

# How many times the cells of the smallest size a side may have: more neighbours of each cell would have to be kept.
_WIDEST = 64

# Distances are differences of squares: what is smaller than this share of a cell's length is rounding.
_ROUNDING = 1e-6

_NO_WEIGHT = 1e-9


@short_repr
@dataclass(frozen=True)
class SelfDistance:
    """Result of :func:`~scmimic.metrics.self_distance_ratio`."""

    ratio: float
    """Distance within the synthetic cells over that within the real cells at `n`: 1 is ideal, less are repeats."""
    interval: tuple[float, float]
    """95 % interval of `ratio` for other cells of the same sources (jackknife over ten groups of cells)."""
    n: int
    """Number of cells at which the sides are compared."""
    sizes: np.ndarray = field(repr=False)
    """Numbers of cells up to `n`, in equal steps of their logarithm."""
    ratios: np.ndarray = field(repr=False)
    """Ratio at each of `sizes`."""
    intervals: np.ndarray = field(repr=False)
    """Their intervals, sizes x 2."""
    synthetic: np.ndarray = field(repr=False)
    """Median distance of a synthetic cell to its nearest other one, at each of `sizes`."""
    real: np.ndarray = field(repr=False)
    """The same within the real cells."""


def self_distance_ratio(
    real: Any,
    synthetic: Any,
    *,
    n: int | None = None,
    max_cells: int | None = 2000,
    seed: int = 0,
    n_jobs: int = 1,
) -> SelfDistance:
    """Distance of synthetic cells to their nearest other synthetic cell, over that within as many real cells.

    1 means that the synthetic cells lie as far apart as real ones do. Below 1 they are crowded: because few cells are
    repeated with little noise, which shows the more, the larger `n` is, or because they vary too little, which shows at
    every `n` alike (see `ratios`). Above 1 they are scattered. For more cells than there are real ones, the real cells'
    median distance is carried on by their closest pairs: few real cells tell of many, as 1,600 do of 64,000. The
    arrays are taken as they are, and distances are Euclidean: principal components of log-normalised expression, fitted
    on cells apart from `real`, are the usual space.

    Parameters
    ----------
    real
        Real cells x features, dense or sparse: training cells, unseen ones or both, each once.
    synthetic
        Generated cells x features, all that there are: a part of them has fewer repeats.
    n
        Number of cells at which to compare. `None`: as many as there are synthetic cells, or as the real cells tell of:
        a 40th of the square of their number, at which 20 of their pairs decide.
    max_cells
        Largest number of cells of each side whose nearest other cell is looked for, drawn at random; it is looked for
        among all. `None` takes all. 2,000 know the ratio to about 1 %; time grows with `max_cells` times the cells.
    seed
        Seed of that draw.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.

    Returns
    -------
    :class:`SelfDistance` with the ratio at `n`, its interval, and the curve up to there. The ratio is infinite where
    only the real cells' distance is 0, as with copies, and NaN where both are.

    Raises
    ------
    ValueError
        If an array holds NaN or differs in features, or a number is out of range.
    TooFewCellsError
        If a side has fewer than 10 cells, or too few to tell of `n`.

    See Also
    --------
    scmimic.pl.self_distance : Draws the curve.
    scmimic.metrics.precision_recall_density_coverage : Are all states there?

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> real, new, parents = rng.normal(size=(400, 5)), rng.normal(size=(4000, 5)), rng.normal(size=(400, 5))
    >>> round(sm.metrics.self_distance_ratio(real, new).ratio, 1)
    1.0
    >>> repeated = parents[rng.integers(400, size=4000)] + 0.1 * rng.normal(size=(4000, 5))
    >>> sm.metrics.self_distance_ratio(real, repeated).ratio < 0.5
    True
    """
    SEVERAL.or_none.check(n=n)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    real, synthetic = (x.astype(np.float64, copy=False) for x in same_kind(real=real, synthetic=synthetic))
    n = _number(n, real.shape[0], synthetic.shape[0])
    rng = np.random.default_rng(seed)
    real, synthetic = (subsample(x, max(_WIDEST * n, _FEWEST_CELLS), rng) for x in (real, synthetic))
    most = max(real.shape[0], synthetic.shape[0])
    smallest = min(n, max(_SMALLEST_SIZE, -(-most // _WIDEST)))
    sizes = np.unique(np.rint(np.geomspace(smallest, n, _N_SIZES)).astype(np.int64))
    of_real, of_synthetic = (_curves(x, sizes, max_cells, rng, n_jobs) for x in (real, synthetic))
    with np.errstate(divide="ignore", invalid="ignore"):
        # the first row has all cells, the others lack a group each, of either side
        ratios = of_synthetic[0] / of_real[0]
        without = np.stack([of_synthetic[1:] / of_real[0], of_synthetic[0] / of_real[1:]])
        squares = (without - without.mean(axis=1, keepdims=True)) ** 2
        # two cells that are each other's nearest count twice
        error = np.sqrt(2 * (_N_GROUPS - 1) / _N_GROUPS * squares.sum(axis=(0, 1)))
        half = student.ppf(0.975, _N_GROUPS - 1) * error
    intervals = np.column_stack([np.maximum(ratios - half, 0), ratios + half])
    low, high = intervals[-1].tolist()
    return SelfDistance(float(ratios[-1]), (low, high), n, sizes, ratios, intervals, of_synthetic[0], of_real[0])


def _number(n: int | None, n_real: int, n_synthetic: int) -> int:
    """The number of cells at which to compare, after checking that there are enough cells to tell."""
    if min(n_real, n_synthetic) < _FEWEST_CELLS:
        raise TooFewCellsError(
            f"Distances within each side need at least {_FEWEST_CELLS} cells of each, got {n_real} real and "
            f"{n_synthetic} synthetic."
        )
    most = max(n_real, n_real * (n_real - 1) // (2 * _LEAST_PAIRS))
    if n is None:
        return min(n_synthetic, most)
    if n > min(n_synthetic, most):
        raise TooFewCellsError(
            f"`n` is {n}, but there are {n_synthetic} synthetic cells, and {n_real} real ones tell of {most} at most: "
            "give more cells, or a smaller `n`."
        )
    return n


def _curves(x: Matrix, sizes: np.ndarray, max_cells: int | None, rng: np.random.Generator, n_jobs: int) -> np.ndarray:
    """Median distance to the nearest other of each of `sizes` cells: of all cells, then without each group of them."""
    if not sp.issparse(x):
        # the shorter the rows, the smaller the rounding
        x = x - x.mean(axis=0)
    n_cells = x.shape[0]
    rows = sample_rows(n_cells, max_cells, rng)
    groups = rng.permutation(len(rows)) % _N_GROUPS
    # the nearest of this many is among few cells drawn but once in fifty times, and the median asks for one in two
    n_neighbors = min(n_cells - 1, max(_NEIGHBOR + 1, -(-4 * n_cells // int(sizes[0]))))
    search = NearestNeighbors(n_neighbors=n_neighbors + 1, algorithm="brute", n_jobs=n_jobs).fit(x)
    # the nearest of all is the cell itself, or a copy, which is as good
    distances = search.kneighbors(x[rows])[0][:, 1:]
    distances[distances < _ROUNDING * row_norms(x)[rows, None]] = 0
    curves = []
    for left_out in (None, *range(_N_GROUPS)):
        near = distances[groups != left_out]
        order = np.argsort(near, axis=None, kind="stable")
        ranked, place = near.ravel()[order], order % n_neighbors
        within = [
            _median(ranked, _first_of(int(size), n_cells, n_neighbors)[place], len(near))
            for size in sizes[sizes <= n_cells]
        ]
        beyond = sizes[sizes > n_cells]
        if len(beyond):
            whole = _median(ranked, _first_of(n_cells, n_cells, n_neighbors)[place], len(near))
            within += (whole * _fall(near, n_cells, beyond)).tolist()
        curves.append(within)
    return np.array(curves)


def _first_of(size: int, n_cells: int, n_neighbors: int) -> np.ndarray:
    """How probably the k-th nearest of all cells is the nearest of `size` cells drawn of all, for each k."""
    k = np.arange(n_neighbors)
    drawn, others = size - 1, n_cells - 1
    missed = np.cumprod(np.maximum(others - drawn - k, 0) / (others - k))
    return np.concatenate([[1.0], missed[:-1]]) * np.minimum(drawn / (others - k), 1)


def _median(ranked: np.ndarray, weights: np.ndarray, n_rows: int) -> float:
    """Weighted median of ascending values, where the weights of a row add up to 1 with values that lie beyond."""
    counted = weights > _NO_WEIGHT
    ranked, weights = ranked[counted], weights[counted]
    return float(np.interp(n_rows / 2, np.cumsum(weights) - weights / 2, ranked))


def _fall(near: np.ndarray, n_cells: int, sizes: np.ndarray) -> np.ndarray:
    """Factor by which the distance to the nearest falls from `n_cells` to each of `sizes`, by the closest pairs."""
    # without the pair's other cell, one of the three, the next is the third; a pair that is none of the three lies
    # beyond 1 in these units, and there are three per cell below: more than are asked for
    unit = near[:, _NEIGHBOR, None]
    pairs = near[:, :_NEIGHBOR]
    pairs = np.sort(np.divide(pairs, unit, out=np.zeros_like(pairs), where=unit > 0), axis=None)
    ranks = np.arange(len(pairs)) + 0.5
    with np.errstate(invalid="ignore"):
        return np.interp(len(near) * (n_cells - 1) / (sizes - 1), ranks, pairs) / np.interp(len(near), ranks, pairs)
