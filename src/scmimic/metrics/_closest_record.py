"""Distance to the closest training record: the copy check that every realism metric needs beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from scmimic.metrics._arrays import Matrix, row_distances, same_kind


@dataclass(frozen=True)
class ClosestRecord:
    """Result of :func:`distance_to_closest_record`."""

    ratio: float
    """`synthetic_median` over `test_median`: about 1 for new cells, below 0.9 for copying, 0 for a memoriser."""
    synthetic_median: float
    """Median distance of a synthetic cell to its nearest training cell."""
    test_median: float
    """Median distance of a real test cell to its nearest training cell."""
    synthetic_copies: float
    """Fraction of synthetic cells at distance 0 from a training cell."""
    test_copies: float
    """The same fraction of the test cells: what chance gives."""
    synthetic: np.ndarray = field(repr=False)
    """Distance of each synthetic cell."""
    test: np.ndarray = field(repr=False)
    """Distance of each test cell."""


def distance_to_closest_record(train: Any, synthetic: Any, test: Any, *, n_jobs: int = 1) -> ClosestRecord:
    """Distance of synthetic cells to their nearest training cell, beside the same for unseen real cells.

    A generator that repeats its training cells wins every realism metric; here it shows as a ratio near 0. The
    distance is Euclidean and the arrays are taken as they are: principal components of log-normalised expression,
    fitted on cells apart from `train` and `test`, are the usual space.

    Parameters
    ----------
    train
        Cells x features that the generator was trained on, dense or sparse.
    synthetic
        Generated cells x features.
    test
        Real cells x features that the generator has not seen.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.

    Returns
    -------
    :class:`ClosestRecord` with medians, their ratio and the distance of each cell. The ratio is infinite where only
    the test cells' median is 0, and NaN where both are.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN, or differs in features.

    Examples
    --------
    >>> import scmimic as sm
    >>> train, test = [[0.0, 0.0], [4.0, 0.0]], [[0.0, 1.0]]
    >>> sm.metrics.distance_to_closest_record(train, [[4.0, 3.0]], test).ratio
    3.0
    >>> sm.metrics.distance_to_closest_record(train, train, test).ratio
    0.0
    """
    train, synthetic, test = same_kind(train=train, synthetic=synthetic, test=test)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute", n_jobs=n_jobs).fit(train)
    to_synthetic, to_test = (_distances(x, train, search) for x in (synthetic, test))
    synthetic_median, test_median = float(np.median(to_synthetic)), float(np.median(to_test))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.float64(synthetic_median) / np.float64(test_median))
    return ClosestRecord(
        ratio=ratio,
        synthetic_median=synthetic_median,
        test_median=test_median,
        synthetic_copies=float((to_synthetic == 0).mean()),
        test_copies=float((to_test == 0).mean()),
        synthetic=to_synthetic,
        test=to_test,
    )


def _distances(x: Matrix, train: Matrix, search: NearestNeighbors) -> np.ndarray:
    """Distance to the nearest training cell."""
    return row_distances(x, train, search.kneighbors(x, return_distance=False)[:, 0])
