"""Rank correlation of latent dimensions with known factors, and its gap (MichiGAN, section 2.4)."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from scipy.stats import rankdata

from scmimic._arguments import FLAG
from scmimic.metrics._factors import Factor, FactorScores, as_factors, as_latent, gap, mean_scores


def spearman_correlation(latent: Any, factors: Any) -> np.ndarray:
    """Spearman correlation of each latent dimension with each factor: -1 to 1.

    Numeric factors enter with their values, without classes. Of a factor of two levels, such as a batch, the second
    level in sorted order counts as the higher. A text factor of more levels has no order: each level is correlated
    against the rest, and the correlation of largest absolute value stands in the table.

    Parameters
    ----------
    latent
        Cells x latent dimensions.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors).

    Returns
    -------
    Array of latent dimensions x factors; 0 for a constant dimension.

    Raises
    ------
    ValueError
        If values are missing, shapes differ, or a factor is constant.

    See Also
    --------
    scmimic.metrics.spearman_gap : A score made of it.
    scmimic.metrics.normalized_mutual_information : Any relation.

    Examples
    --------
    >>> import scmimic as sm
    >>> latent = [[0.0, 3.0], [1.0, 2.0], [5.0, 1.0]]
    >>> sm.metrics.spearman_correlation(latent, {"step": [1, 2, 3]}).round(3)
    array([[ 1.],
           [-1.]])
    """
    latent = as_latent(latent)
    return spearman_matrix(latent, as_factors(factors, len(latent)))


@overload
def spearman_gap(latent: Any, factors: Any, *, return_per_factor: Literal[True]) -> FactorScores: ...
@overload
def spearman_gap(latent: Any, factors: Any, *, return_per_factor: Literal[False] = ...) -> float: ...
def spearman_gap(latent: Any, factors: Any, *, return_per_factor: bool = False) -> float | FactorScores:
    r"""Spearman correlation gap: 0 to 1, higher is better by the paper's definition.

    :math:`|\rho(Z_{j(k)}, V_k)| - \max_{j \ne j(k)} |\rho(Z_j, V_k)|` with :math:`j(k)` the dimension of the largest
    absolute correlation, averaged over the factors. Needs no posterior, so that GANs have it too. It sees monotone
    dependence only: a dimension that folds a factor over scores nothing. A factor of m equally frequent levels reaches
    less than 1 with a continuous dimension however well it is known, since its ranks are tied: 0.866 for two levels.

    Parameters
    ----------
    latent
        Cells x latent dimensions.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors); see
        :func:`spearman_correlation`.
    return_per_factor
        Return the gap of each factor too.

    Returns
    -------
    The gap, or :class:`FactorScores` with `return_per_factor`.

    Raises
    ------
    ValueError
        As :func:`spearman_correlation`.

    See Also
    --------
    scmimic.metrics.mutual_information_gap : By mutual information.
    scmimic.metrics.spearman_correlation : The correlations behind it.

    Examples
    --------
    >>> import scmimic as sm
    >>> round(sm.metrics.spearman_gap([[0.0, 1.0], [1.0, 5.0], [2.0, 1.0]], [1, 2, 3]), 3)
    1.0
    """
    FLAG.check(return_per_factor=return_per_factor)
    latent = as_latent(latent)
    known = as_factors(factors, len(latent))
    scores = mean_scores(known, gap(np.abs(spearman_matrix(latent, known))))
    return scores if return_per_factor else scores.score


def spearman_matrix(latent: np.ndarray, factors: list[Factor]) -> np.ndarray:
    """:func:`spearman_correlation` for input that has been checked."""
    ranks = standardise(rankdata(latent, axis=0))
    columns = []
    for factor in factors:
        values = factor.indicators() if factor.values is None else factor.values[:, None]
        r = ranks.T @ standardise(rankdata(values, axis=0)) / len(latent)
        columns.append(np.take_along_axis(r, np.abs(r).argmax(axis=1)[:, None], axis=1)[:, 0])
    return np.column_stack(columns)


def standardise(values: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1 of each column; constant columns become 0."""
    values = values - values.mean(axis=0)
    sd = values.std(axis=0)
    return values / np.where(sd > 0, sd, 1)
