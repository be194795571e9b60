"""Fidelity and diversity by nearest-neighbour balls.

Precision and recall: Kynkäänniemi et al. (2019), equations 1 and 2. Density and coverage: Naeem et al. (2020),
equations 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import paired_euclidean_distances
from sklearn.neighbors import NearestNeighbors

from scmimic._arguments import COUNT, THREADS
from scmimic._arrays import Matrix, as_pair
from scmimic._reprs import short_repr
from scmimic.metrics._errors import TooFewCellsError


@short_repr
@dataclass(frozen=True)
class PRDC:
    """Result of :func:`~scmimic.metrics.precision_recall_density_coverage`."""

    precision: float
    """Fraction of the synthetic cells within the ball of some real cell. 0 to 1."""
    recall: float
    """Fraction of the real cells within the ball of some synthetic cell. 0 to 1."""
    density: float
    """Mean number of real balls around a synthetic cell, over `n_neighbors`. 0 to infinity; 1 for a real replicate."""
    coverage: float
    """Fraction of the real cells whose ball holds a synthetic cell. 0 to 1."""


def precision_recall_density_coverage(
    real: Any,
    synthetic: Any,
    *,
    n_neighbors: int = 5,
    max_cells: int | None = 5000,
    seed: int = 0,
    n_jobs: int = 1,
    working_memory: int = 64,
) -> PRDC:
    """Precision, recall, density and coverage: whether cells look real, and whether all real states occur.

    The ball of a cell reaches to its k-th nearest neighbour on its own side (Euclidean, the surface included). Ideal
    is what a real replicate scores, which depends on the data and the number of cells: density 1, coverage
    1 - 2^-k (0.97 with 5), precision and recall below 1. Density above 1 means that synthetic cells crowd where real
    cells are dense. The arrays are taken as they are; principal components of log-normalised expression are the usual
    space.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order. Where they differ in number of
        cells, the larger is cut at random to the smaller, since radii depend on the number of cells.
    n_neighbors
        k. 5 as in Naeem et al.; Kynkäänniemi et al. take 3.
    max_cells
        Largest number of cells per side; `None` uses all. Time grows with its square.
    seed
        Seed of these draws.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.
    working_memory
        Memory in MiB for one chunk of the distance matrix, which is never held whole.

    Returns
    -------
    :class:`PRDC` with the four numbers.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, or if a number is not positive.
    TooFewCellsError
        If an array has no more than `n_neighbors` cells.

    See Also
    --------
    scmimic.metrics.self_distance_ratio : Do cells repeat?
    scmimic.metrics.one_nn_accuracy : One number for both sides.

    Examples
    --------
    >>> import scmimic as sm
    >>> real, synthetic = [[0.0], [1.0], [10.0], [11.0]], [[0.5], [0.6], [0.7], [0.8]]
    >>> sm.metrics.precision_recall_density_coverage(real, synthetic, n_neighbors=1)
    PRDC(precision=1.0, recall=0.0, density=2.0, coverage=0.5)
    """
    COUNT.check(n_neighbors=n_neighbors, working_memory=working_memory)
    THREADS.check(n_jobs=n_jobs)
    real, synthetic = as_pair(real, synthetic, max_cells=max_cells, balance=True, seed=seed, dtype=np.float64)
    n = real.shape[0]
    if n_neighbors >= n:
        raise TooFewCellsError(
            f"`n_neighbors` must be smaller than the number of cells per side: got {n_neighbors} with {n} cells."
        )
    real_radius, synthetic_radius = (_radius(x, n_neighbors, n_jobs) for x in (real, synthetic))
    balls_around = np.zeros(n, dtype=np.int64)

    def count(distances: np.ndarray, start: int) -> np.ndarray:
        inside = distances <= real_radius[start : start + len(distances), None]
        balls_around[:] += inside.sum(axis=0)
        return np.column_stack([inside.any(axis=1), (distances <= synthetic_radius).any(axis=1)])

    chunks = pairwise_distances_chunked(
        real, synthetic, metric="euclidean", reduce_func=count, working_memory=working_memory, n_jobs=1
    )
    covered, recalled = np.vstack(list(chunks)).mean(axis=0)
    return PRDC(
        precision=float((balls_around > 0).mean()),
        recall=float(recalled),
        density=float(balls_around.mean() / n_neighbors),
        coverage=float(covered),
    )


def _radius(x: Matrix, n_neighbors: int, n_jobs: int) -> np.ndarray:
    """Distance of each row to its k-th nearest other row."""
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute", n_jobs=n_jobs).fit(x)
    return paired_euclidean_distances(x, x[search.kneighbors(return_distance=False)[:, -1]])
