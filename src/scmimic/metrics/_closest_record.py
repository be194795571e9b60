"""Distance to the closest training record: the copy check that every realism metric needs beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from scmimic._arguments import COUNT_OR_NONE, SEED, THREADS
from scmimic._arrays import Matrix, row_distances, same_kind, subsample
from scmimic._reprs import short_repr


@short_repr
@dataclass(frozen=True)
class ClosestRecord:
    """Result of :func:`~scmimic.metrics.distance_to_closest_record`."""

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
    """Distance of each synthetic cell that was drawn."""
    test: np.ndarray = field(repr=False)
    """Distance of each test cell that was drawn."""


def distance_to_closest_record(
    train: Any, synthetic: Any, test: Any, *, max_cells: int | None = 20_000, seed: int = 0, n_jobs: int = 1
) -> ClosestRecord:
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
    max_cells
        Largest number of synthetic and of test cells, drawn at random where there are more; `None` uses all. Each is
        compared with all training cells, since leaving some out would hide their copies: the distances are exact, and
        only the medians and fractions are those of a sample, which 20,000 cells know to about 1 %. Time grows with
        `max_cells` times the training cells.
    seed
        Seed of that draw.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.

    Returns
    -------
    :class:`ClosestRecord` with medians, their ratio and the distance of each cell drawn. The ratio is infinite where
    only the test cells' median is 0, and NaN where both are.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN, or differs in features, or if `max_cells` is not positive.

    See Also
    --------
    scmimic.metrics.nearest_neighbor_distance_ratio : Relative to the second.
    scmimic.metrics.duplicate_fraction : Copies.
    scmimic.metrics.membership_inference : An attack.
    scmimic.tl.privacy : All of them.

    Examples
    --------
    >>> import scmimic as sm
    >>> train, test = [[0.0, 0.0], [4.0, 0.0]], [[0.0, 1.0]]
    >>> sm.metrics.distance_to_closest_record(train, [[4.0, 3.0]], test).ratio
    3.0
    >>> sm.metrics.distance_to_closest_record(train, train, test).ratio
    0.0
    """
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    train, synthetic, test = same_kind(train=train, synthetic=synthetic, test=test)
    rng = np.random.default_rng(seed)
    synthetic, test = (subsample(x, max_cells, rng) for x in (synthetic, test))
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
