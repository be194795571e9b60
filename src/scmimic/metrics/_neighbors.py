"""How well real and synthetic cells mix among their nearest neighbours.

One-nearest-neighbour accuracy: Lopez-Paz & Oquab (2017), Revisiting classifier two-sample tests, section 3. LISI:
Korsunsky et al. (2019), Harmony, Methods, "LISI metric".

Deviation: the paper describes Gaussian kernels of given perplexity, the authors' program weights by exp(-beta d) with
the distance itself. The Gaussian of the text is used here; on real cells the two differ by less than 0.01.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.metrics.pairwise import paired_euclidean_distances
from sklearn.neighbors import NearestNeighbors

from scmimic._arguments import SEVERAL, THREADS, Choice
from scmimic._arrays import Matrix, as_pair, stack
from scmimic.metrics._errors import TooFewCellsError

# Halvings of the interval of log(beta): 40 / 2^50 is below the rounding of the entropy.
_BISECTIONS = 50


def one_nn_accuracy(
    real: Any, synthetic: Any, *, max_cells: int | None = 5000, seed: int = 0, n_jobs: int = 1
) -> float:
    """Leave-one-out accuracy of a one-nearest-neighbour classifier: 0.5 is ideal, 1 and 0 are the worst.

    Each cell is given the side of the nearest other cell (Euclidean). 1: the sides lie apart. Below 0.5: cells have
    their nearest neighbour on the other side too often, as where the synthetic cells copy `real`. By chance its
    standard deviation is 0.5 over the root of the number of cells of both sides. A tie between the
    two sides counts one half. The arrays are taken as they are; principal components of log-normalised expression are
    the usual space.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order; at least two cells each. Where
        they differ in number of cells, the larger is cut at random to the smaller: 0.5 is ideal for equal sides only.
    max_cells
        Largest number of cells per side; `None` uses all. Time grows with its square.
    seed
        Seed of these draws.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.

    Returns
    -------
    Fraction of the cells that are given to their own side.

    Raises
    ------
    ValueError
        If an array holds NaN or differs in features.
    TooFewCellsError
        If an array has fewer than two cells.

    See Also
    --------
    scmimic.metrics.lisi_mixing : More neighbours.
    scmimic.metrics.random_forest_error : Asked of a forest.

    Examples
    --------
    >>> import scmimic as sm
    >>> sm.metrics.one_nn_accuracy([[0.0], [1.0]], [[8.0], [9.0]])
    1.0
    """
    THREADS.check(n_jobs=n_jobs)
    real, synthetic = as_pair(real, synthetic, max_cells=max_cells, balance=True, seed=seed, dtype=np.float64)
    if real.shape[0] < 2:
        raise TooFewCellsError("One-nearest-neighbour accuracy needs at least two cells on each side, got 1.")
    correct = 0.0
    for own, other in ((real, synthetic), (synthetic, real)):
        within, between = _nearest(own, None, n_jobs), _nearest(own, other, n_jobs)
        correct += (within < between).sum() + 0.5 * (within == between).sum()
    return float(correct / (2 * real.shape[0]))


def lisi_mixing(
    real: Any,
    synthetic: Any,
    *,
    n_neighbors: int = 30,
    statistic: Literal["median", "mean"] = "median",
    max_cells: int | None = 5000,
    seed: int = 0,
    n_jobs: int = 1,
) -> float:
    """Effective number of sides among a cell's neighbours (LISI): from 1, apart, to 2, mixed; 2 is ideal.

    The neighbours of a cell are weighted with a Gaussian of its distance, whose width is such that their effective
    number (the perplexity, exp of the entropy of the weights) is `n_neighbors`. The index is the inverse of Simpson's
    index of the weighted sides: 1 / (r^2 + s^2) for weights r of real and s of synthetic neighbours. Since the number
    of neighbours is finite, perfectly mixed sides give about 1.9 with 30. The arrays are taken as they are; principal
    components of log-normalised expression are the usual space.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order. Where they differ in number of
        cells, the larger is cut at random to the smaller: 2 can be reached by equal sides only.
    n_neighbors
        Perplexity; 30 as in the paper. Three times as many nearest neighbours of the cell, itself left out, carry the
        weights: fewer where there are fewer.
    statistic
        How the cells are summarised. GRouNdGAN's "miLISI" is the `"mean"`, on a t-SNE of both sides.
    max_cells
        Largest number of cells per side; `None` uses all. Time grows with its square.
    seed
        Seed of the draws.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.

    Returns
    -------
    Median or mean over the cells of both sides.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, or if `n_neighbors` is below 2.
    TooFewCellsError
        If there are too few cells for `n_neighbors`.

    See Also
    --------
    scmimic.metrics.one_nn_accuracy : One neighbour.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> real, same, shifted = (np.random.default_rng(s).normal(m, size=(90, 2)) for s, m in ((0, 0), (1, 0), (2, 99)))
    >>> sm.metrics.lisi_mixing(real, shifted)
    1.0
    >>> 1.8 < sm.metrics.lisi_mixing(real, same) < 2
    True
    """
    SEVERAL.check(n_neighbors=n_neighbors)
    Choice(("median", "mean")).check(statistic=statistic)
    THREADS.check(n_jobs=n_jobs)
    real, synthetic = as_pair(real, synthetic, max_cells=max_cells, balance=True, seed=seed, dtype=np.float64)
    x = stack(real, synthetic)
    k = min(3 * n_neighbors, x.shape[0] - 1)
    if k <= n_neighbors:
        raise TooFewCellsError(
            f"`n_neighbors` must be smaller than the number of other cells: got {n_neighbors} with {x.shape[0]} cells "
            "(both sides, cut to equal numbers). Lower it, or give more cells."
        )
    search = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=n_jobs).fit(x)
    distances, neighbors = search.kneighbors()
    weights = _perplexity_weights(distances, n_neighbors)
    synthetic_weight = (weights * (neighbors >= real.shape[0])).sum(axis=1)
    lisi = 1 / (synthetic_weight**2 + (1 - synthetic_weight) ** 2)
    return float(np.median(lisi) if statistic == "median" else lisi.mean())


def _nearest(x: Matrix, among: Matrix | None, n_jobs: int) -> np.ndarray:
    """Distance of each row of `x` to the nearest row of `among`; `None` for the nearest other row of `x`."""
    target = x if among is None else among
    search = NearestNeighbors(n_neighbors=1, algorithm="brute", n_jobs=n_jobs).fit(target)
    nearest = search.kneighbors(None if among is None else x, return_distance=False)[:, 0]
    # taken as a difference, because the search's own rounding hides that two copies are equally near
    return paired_euclidean_distances(x, target[nearest])


def _perplexity_weights(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Gaussian weights of each row, with the precision at which exp(entropy) of the row is the perplexity."""
    squares = distances**2
    squares -= squares.min(axis=1, keepdims=True)
    # in units of the row's mean the precision lies within a few powers of ten of 1
    scale = squares.mean(axis=1, keepdims=True)
    squares /= np.where(scale > 0, scale, 1.0)
    low, high = np.full((len(squares), 1), -20.0), np.full((len(squares), 1), 20.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        beta = np.exp(middle)
        kernel = np.exp(-beta * squares)
        total = kernel.sum(axis=1, keepdims=True)
        entropy = np.log(total) + beta * (kernel * squares).sum(axis=1, keepdims=True) / total
        too_wide = entropy > np.log(perplexity)
        low, high = np.where(too_wide, middle, low), np.where(too_wide, high, middle)
    return kernel / total
