"""Energy distance between two samples of cells (Székely & Rizzo 2013, J. Stat. Plan. Inference 143, section 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

from scmimic._arguments import COUNT
from scmimic._arrays import Matrix, as_pair


def energy_distance(
    real: Any, synthetic: Any, *, max_cells: int | None = 5000, seed: int = 0, working_memory: int = 64
) -> float:
    r"""Energy distance between real and synthetic cells: 0 only for equal samples, without upper limit.

    :math:`D = \sqrt{2 E\lVert X - Y \rVert - E\lVert X - X' \rVert - E\lVert Y - Y' \rVert}` with Euclidean distances
    and the means over all pairs, a cell with itself included: in one dimension the value of
    :func:`scipy.stats.energy_distance`. The unit is the root of that of the features. The arrays are taken as they
    are; principal components of log-normalised expression are the usual space.

    Two finite samples of one distribution are not at 0: :math:`D^2` is then about
    :math:`(1/n + 1/m) E\lVert X - X' \rVert`. Read the value beside that of a real replicate of the same number of
    cells.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order. Their numbers may differ.
    max_cells
        Largest number of cells per side, drawn at random where there are more; `None` uses all. Time grows with its
        square.
    seed
        Seed of that draw.
    working_memory
        Memory in MiB for one chunk of the distance matrices, which are never held whole.

    Returns
    -------
    The distance :math:`D`. Its square is the energy statistic that some papers call the energy distance.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, or if `max_cells` is not positive.

    See Also
    --------
    scmimic.metrics.mmd : Another distance.
    scmimic.metrics.wasserstein : Another.

    Examples
    --------
    >>> import scmimic as sm
    >>> sm.metrics.energy_distance([[0.0]], [[8.0]])
    4.0
    """
    COUNT.check(working_memory=working_memory)
    real, synthetic = as_pair(real, synthetic, max_cells=max_cells, seed=seed, dtype=np.float64)
    between = _mean_distance(real, synthetic, working_memory)
    within = _mean_distance(real, None, working_memory) + _mean_distance(synthetic, None, working_memory)
    # rounding may push equal samples below 0
    return float(np.sqrt(max(2 * between - within, 0.0)))


def _mean_distance(a: Matrix, b: Matrix | None, working_memory: int) -> float:
    chunks = pairwise_distances_chunked(
        a,
        b,
        metric="euclidean",
        working_memory=working_memory,
        reduce_func=lambda distances, start: distances.sum(axis=1),
    )
    return float(sum(chunk.sum() for chunk in chunks)) / (a.shape[0] * (a if b is None else b).shape[0])
