"""Maximum mean discrepancy (Gretton et al. 2012, J. Mach. Learn. Res. 13, Lemma 6: the unbiased estimator)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances, pairwise_distances_chunked

from scmimic.metrics._arrays import Matrix, as_matrix, check_same_features, subsample

# The exact median needs every pair at once: 12.5 million distances at this number of cells.
_MAX_CELLS_MEDIAN = 5000


def mmd(real: Any, synthetic: Any, *, bandwidth: float | None = None, seed: int = 0, working_memory: int = 64) -> float:
    r"""Unbiased squared maximum mean discrepancy with an RBF kernel: 0 for equal distributions.

    The kernel is :math:`k(a, b) = \exp(-\lVert a - b \rVert^2 / h^2)`. Being unbiased, the estimate is negative about
    half the time where the distributions are equal. The arrays are taken as they are; principal components of
    log-normalised expression are the usual space.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order; at least two cells each.
    bandwidth
        :math:`h` in the units of the features. `None` takes the root median squared distance between two real cells,
        on 5,000 random ones where there are more.
    seed
        Seed of that draw.
    working_memory
        Memory in MiB for one chunk of the kernel matrices, which are never held whole.

    Returns
    -------
    The estimate of :math:`\mathrm{MMD}^2`.

    Raises
    ------
    ValueError
        If an array holds NaN, differs in features or has fewer than two cells, or if the bandwidth is not positive.

    Examples
    --------
    >>> import scmimic as sm
    >>> round(sm.metrics.mmd([[0.0], [1.0]], [[0.0], [1.0]], bandwidth=1.0), 4)  # exp(-1) - 1
    -0.6321
    """
    real = as_matrix(real, "real", dtype=np.float64)
    synthetic = as_matrix(synthetic, "synthetic", dtype=np.float64)
    check_same_features(real=real, synthetic=synthetic)
    n, m = real.shape[0], synthetic.shape[0]
    if n < 2 or m < 2:
        raise ValueError(f"MMD needs at least two cells on each side, got {n} real and {m} synthetic.")
    squared = _median_squared_distance(real, seed) if bandwidth is None else float(bandwidth) ** 2
    if not squared > 0:
        raise ValueError(
            "The bandwidth must be positive. If it was not given, over half of the pairs of real cells are identical: "
            "give `bandwidth`."
        )

    def kernel_sum(a: Matrix, b: Matrix | None) -> float:
        chunks = pairwise_distances_chunked(
            a,
            b,
            metric="euclidean",
            squared=True,
            working_memory=working_memory,
            reduce_func=lambda distances, start: np.exp(-distances / squared).sum(axis=1),
        )
        return float(sum(chunk.sum() for chunk in chunks))

    within_real = (kernel_sum(real, None) - n) / (n * (n - 1))
    within_synthetic = (kernel_sum(synthetic, None) - m) / (m * (m - 1))
    return within_real + within_synthetic - 2 * kernel_sum(real, synthetic) / (n * m)


def _median_squared_distance(x: Matrix, seed: int) -> float:
    x = subsample(x, _MAX_CELLS_MEDIAN, np.random.default_rng(seed))
    distances = pairwise_distances(x, metric="euclidean", squared=True)
    return float(np.median(distances[np.triu_indices_from(distances, 1)]))
