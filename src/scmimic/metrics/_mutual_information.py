"""Mutual information between latent dimensions and known factors, and its gap (MIG).

MIG: Chen et al. (2018), Isolating sources of disentanglement in VAEs, section 4.1; MichiGAN, appendix A.1, "Mutual
information". The histogram on posterior means is the convention of Locatello et al. (2019); the nearest-neighbour
estimate is that of Ross (2014, PLoS ONE 9, e87357), as scikit-learn has it.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
from scipy.stats import rankdata
from sklearn.feature_selection import mutual_info_classif

from scmimic._arguments import COUNT, COUNT_OR_NONE, FLAG, SEED, SEVERAL, Choice
from scmimic.metrics._factors import Factor, FactorScores, as_factors, as_latent, as_variance, gap, mean_scores

Estimator = Literal["posterior", "histogram", "knn"]
Strategy = Literal["uniform", "quantile"]

# Samples x cells densities held at once: 16 MB in single precision, which stays in the cache's reach.
_CHUNK_VALUES = 2**22


def normalized_mutual_information(
    latent: Any,
    factors: Any,
    *,
    variance: Any = None,
    estimator: Estimator | None = None,
    n_bins: int = 20,
    strategy: Strategy = "uniform",
    n_neighbors: int = 3,
    factor_bins: int = 4,
    max_cells: int | None = 12_000,
    seed: int = 0,
) -> np.ndarray:
    r"""Mutual information of each latent dimension with each factor, over the entropy of the factor.

    :math:`I(Z_j; V_k) / H(V_k)`: 0 where the dimension says nothing about the factor, 1 where it says everything.
    Finite samples push the estimates off 0; those by nearest neighbours and posterior may lie slightly outside.

    The estimators:

    `"posterior"`
        :math:`I = E[\log\, q(z_j \mid v_k)] - E[\log\, q(z_j)]`, where :math:`q(z_j)` is the mixture of the Gaussian
        posteriors of all cells and :math:`q(z_j \mid v_k)` that of the cells of the level. One code is drawn from the
        posterior of each cell and held against the posteriors of all cells, its own included. Posteriors much
        narrower than the distance between cells therefore give high values whatever they encode: a cell is then
        recognised by its own posterior.
    `"histogram"`
        Between the factor and the latent means in `n_bins` bins.
    `"knn"`
        By the distance to the `n_neighbors`-th neighbour of the same level; needs no bins.

    Parameters
    ----------
    latent
        Cells x latent dimensions: codes, or the means of their posteriors.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors). Text and booleans are
        levels. Numbers are levels too where there are at most 20 distinct ones, and are cut into `factor_bins` classes
        otherwise.
    variance
        Variances of the posteriors in the shape of `latent`, or one per dimension where all cells have the same.
    estimator
        `None` takes `"posterior"` where there is a `variance`, and `"histogram"` otherwise.
    n_bins
        Bins of the histogram; 20 as in Locatello et al.
    strategy
        Bins of equal width (`"uniform"`, as there) or of equal numbers of cells (`"quantile"`), which outlying cells
        do not stretch.
    n_neighbors
        Neighbours of `"knn"`; 3 as in scikit-learn.
    factor_bins
        Classes of equal numbers of cells for a continuous factor; quartiles by default, as the paper takes library
        size.
    max_cells
        Largest number of cells for `"posterior"`, drawn at random: time grows with its square. 12,000 is the number
        that the authors' program takes. `None` uses all.
    seed
        Seed of the drawn cells and codes, and of the noise with which `"knn"` parts equal values.

    Returns
    -------
    Array of latent dimensions x factors.

    Raises
    ------
    ValueError
        If values are missing, shapes differ, a factor has one level only, or the estimator is unknown or lacks the
        variance.

    See Also
    --------
    scmimic.metrics.mutual_information_gap : A score made of it.
    scmimic.metrics.spearman_correlation : Monotone relations alone.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> batch, path = np.repeat([0, 1], 50), np.tile([0, 1], 50)
    >>> latent = np.column_stack([batch, path, np.zeros(100)])
    >>> sm.metrics.normalized_mutual_information(latent, {"batch": batch, "path": path}).round(3)
    array([[1., 0.],
           [0., 1.],
           [0., 0.]])
    """
    latent = as_latent(latent)
    known = as_factors(factors, len(latent), factor_bins=factor_bins)
    return information_matrix(
        latent,
        known,
        variance=variance,
        estimator=estimator,
        n_bins=n_bins,
        strategy=strategy,
        n_neighbors=n_neighbors,
        max_cells=max_cells,
        seed=seed,
    )


class _GapSettings(TypedDict, total=False):
    variance: Any
    estimator: Estimator | None
    n_bins: int
    strategy: Strategy
    n_neighbors: int
    factor_bins: int
    max_cells: int | None
    seed: int


@overload
def mutual_information_gap(
    latent: Any, factors: Any, *, return_per_factor: Literal[True], **settings: Unpack[_GapSettings]
) -> FactorScores: ...
@overload
def mutual_information_gap(
    latent: Any, factors: Any, *, return_per_factor: Literal[False] = ..., **settings: Unpack[_GapSettings]
) -> float: ...
def mutual_information_gap(
    latent: Any,
    factors: Any,
    *,
    variance: Any = None,
    estimator: Estimator | None = None,
    n_bins: int = 20,
    strategy: Strategy = "uniform",
    n_neighbors: int = 3,
    factor_bins: int = 4,
    max_cells: int | None = 12_000,
    seed: int = 0,
    return_per_factor: bool = False,
) -> float | FactorScores:
    r"""Mutual information gap (MIG): 0 to 1, higher is better.

    .. math::
        \frac{1}{K} \sum_k \frac{1}{H(V_k)} \bigl( I(Z_{j(k)}; V_k) - \max_{j \ne j(k)} I(Z_j; V_k) \bigr)

    with :math:`j(k)` the dimension that knows most about factor :math:`k`. 1: each factor is known to exactly one
    dimension, and fully. 0: at least two dimensions know it equally well, as after a rotation, or none knows it. One
    dimension may hold two factors without loss; :func:`modularity` sees that.

    The mean over the factors of the gap of :func:`normalized_mutual_information`, where the estimators are described.
    Values of different estimators should not be compared with each other.

    Parameters
    ----------
    latent
        Cells x latent dimensions: codes, or the means of their posteriors.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors). Text and booleans are
        levels. Numbers are levels too where there are at most 20 distinct ones, and are cut into `factor_bins` classes
        otherwise.
    variance
        Variances of the posteriors in the shape of `latent`, or one per dimension.
    estimator
        `"posterior"` (the paper's, default where there is a `variance`), `"histogram"` (default without) or `"knn"`.
    n_bins
        Bins of the histogram; 20 as in Locatello et al.
    strategy
        Bins of equal width (`"uniform"`, as there) or of equal numbers of cells (`"quantile"`), which outlying cells
        do not stretch.
    n_neighbors
        Neighbours of `"knn"`; 3 as in scikit-learn.
    factor_bins
        Classes of equal numbers of cells for a continuous factor; quartiles as in the paper.
    max_cells
        Largest number of cells for `"posterior"`, drawn at random; `None` uses all.
    seed
        Seed of the drawn cells and codes, and of the noise of `"knn"`.
    return_per_factor
        Return the gap of each factor too.

    Returns
    -------
    The gap, or :class:`FactorScores` with `return_per_factor`.

    Raises
    ------
    ValueError
        As :func:`normalized_mutual_information`.

    See Also
    --------
    scmimic.tl.disentanglement : For cells with factors in ``.obs``.
    scmimic.metrics.dci : By the importance of latents.
    scmimic.metrics.factor_vae_score : By a vote.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> factors = np.column_stack([np.repeat([0, 1], 50), np.tile([0, 1], 50)])
    >>> round(sm.metrics.mutual_information_gap(factors, factors), 2)
    1.0
    >>> rotated = factors @ [[1, 1], [1, -1]]
    >>> round(sm.metrics.mutual_information_gap(rotated, factors), 2)
    0.0
    """
    FLAG.check(return_per_factor=return_per_factor)
    latent = as_latent(latent)
    known = as_factors(factors, len(latent), factor_bins=factor_bins)
    matrix = information_matrix(
        latent,
        known,
        variance=variance,
        estimator=estimator,
        n_bins=n_bins,
        strategy=strategy,
        n_neighbors=n_neighbors,
        max_cells=max_cells,
        seed=seed,
    )
    scores = mean_scores(known, gap(matrix))
    return scores if return_per_factor else scores.score


def information_matrix(
    latent: np.ndarray,
    factors: list[Factor],
    *,
    variance: Any = None,
    estimator: Estimator | None = None,
    n_bins: int = 20,
    strategy: Strategy = "uniform",
    n_neighbors: int = 3,
    max_cells: int | None = 12_000,
    seed: int = 0,
) -> np.ndarray:
    """:func:`normalized_mutual_information` for input that has been checked; latent dimensions x factors."""
    Choice(get_args(Estimator), optional=True).check(estimator=estimator)
    Choice(get_args(Strategy)).check(strategy=strategy)
    SEVERAL.check(n_bins=n_bins)
    COUNT.check(n_neighbors=n_neighbors)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    if estimator is None:
        estimator = "histogram" if variance is None else "posterior"
    if estimator == "posterior":
        if variance is None:
            raise ValueError("`estimator='posterior'` needs the `variance` of the posteriors.")
        information = _posterior(latent, as_variance(variance, latent), factors, max_cells, seed)
    elif estimator == "histogram":
        bins = equal_width_bins(rankdata(latent, axis=0) if strategy == "quantile" else latent, n_bins)
        information = np.column_stack([binned_information(bins, n_bins, f.codes, f.n_levels) for f in factors])
    else:
        columns = [
            mutual_info_classif(latent, f.codes, discrete_features=False, n_neighbors=n_neighbors, random_state=seed)
            for f in factors
        ]
        information = np.column_stack(columns)
    return information / np.array([factor.entropy for factor in factors])


def equal_width_bins(latent: np.ndarray, n_bins: int) -> np.ndarray:
    """Bin of each value, from 0, in `n_bins` bins of equal width over the range of each dimension."""
    low = latent.min(axis=0)
    span = latent.max(axis=0) - low
    share = (latent - low) / np.where(span > 0, span, 1)
    return np.minimum((share * n_bins).astype(np.intp), n_bins - 1)


def binned_information(bins: np.ndarray, n_bins: int, codes: np.ndarray, n_levels: int) -> np.ndarray:
    """Mutual information in nats of each binned dimension (cells x dimensions) with the level of the cells."""
    n_cells, n_latent = bins.shape
    bin_and_level = (np.arange(n_latent) * n_bins + bins) * n_levels + codes[:, None]
    joint = np.bincount(bin_and_level.ravel(), minlength=n_latent * n_bins * n_levels) / n_cells
    joint = joint.reshape(n_latent, n_bins, n_levels)
    expected = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    filled = joint > 0
    ratio = np.divide(joint, expected, out=np.ones_like(joint), where=filled)
    return (joint * np.log(ratio)).sum(axis=(1, 2))


def _posterior(
    mean: np.ndarray, variance: np.ndarray, factors: list[Factor], max_cells: int | None, seed: int
) -> np.ndarray:
    """Mutual information in nats, latent dimensions x factors, of codes drawn from Gaussian posteriors."""
    rng = np.random.default_rng(seed)
    codes = [factor.codes for factor in factors]
    if max_cells is not None and len(mean) > max_cells:
        rows = np.sort(rng.choice(len(mean), max_cells, replace=False))
        mean, variance, codes = mean[rows], variance[rows], [code[rows] for code in codes]
    n_cells, n_latent = mean.shape
    sd = np.sqrt(variance)
    sample = mean + sd * rng.standard_normal(mean.shape)

    n_levels = [factor.n_levels for factor in factors]
    starts = np.concatenate([[0], np.cumsum(n_levels)])
    # one column per level of every factor; a level may lose its last cell in the draw
    membership = np.zeros((n_cells, starts[-1]), dtype=np.float32)
    levels = np.column_stack([start + code for start, code in zip(starts, codes, strict=False)])
    membership[np.arange(n_cells)[:, None], levels] = 1
    size = membership.sum(axis=0, dtype=np.float64)

    information = np.zeros((n_latent, len(factors)))
    step = max(1, _CHUNK_VALUES // n_cells)
    work = np.empty((step, n_cells), dtype=np.float32)
    for j in range(n_latent):
        # relative to the narrowest posterior no density exceeds 1; the common factor cancels in the ratio
        precision = (1 / sd[:, j]).astype(np.float32)
        height = sd[:, j].min() / sd[:, j]
        weights = height.astype(np.float32)[:, None] * membership
        center = mean[:, j].mean()
        posterior = (mean[:, j] - center).astype(np.float32)
        z = (sample[:, j] - center).astype(np.float32)
        for start in range(0, n_cells, step):
            part = slice(start, min(start + step, n_cells))
            density = work[: part.stop - part.start]
            np.subtract(z[part, None], posterior, out=density)
            density *= precision
            np.multiply(density, density, out=density)
            density *= np.float32(-0.5)
            np.exp(density, out=density)
            of_level = (density @ weights).astype(np.float64)
            own_level = np.take_along_axis(of_level, levels[part], axis=1) / size[levels[part]]
            anywhere = of_level[:, : n_levels[0]].sum(axis=1, keepdims=True) / n_cells
            information[j] += np.log(own_level / anywhere).sum(axis=0)
    return information / n_cells
