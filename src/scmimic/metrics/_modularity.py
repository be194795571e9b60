"""Modularity (Ridgeway & Mozer 2018, Learning deep disentangled embeddings with the F-statistic loss, section 2).

Deviations: mutual information is taken over the entropy of the factor, because a factor of 20 levels can have more of
it than one of two; dimensions that know no factor are left out of the mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scmimic._arguments import NON_NEGATIVE, SEVERAL
from scmimic.metrics._factors import as_factors, as_latent
from scmimic.metrics._mutual_information import information_matrix


def modularity(
    latent: Any, factors: Any, *, n_bins: int = 20, min_information: float = 0.05, factor_bins: int = 4
) -> float:
    r"""Modularity: 0 to 1, higher is better; 1 where each dimension depends on one factor at most.

    With the mutual information :math:`m_{jk}` of :func:`normalized_mutual_information` (histogram) and :math:`\theta_j`
    its largest over the factors, dimension :math:`j` scores
    :math:`1 - \sum_{k \ne k(j)} m_{jk}^2 / (\theta_j^2 (K - 1))`; the mean over the dimensions. Several dimensions may
    hold the same factor without loss, and lost factors cost nothing: read it beside :func:`mutual_information_gap`.

    Parameters
    ----------
    latent
        Cells x latent dimensions.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors); at least two factors.
    n_bins
        Bins of equal width of each dimension.
    min_information
        Dimensions whose :math:`\theta_j` is smaller are left out: what they seem to know is noise.
    factor_bins
        Classes of equal numbers of cells for a numeric factor of more than 20 distinct values.

    Returns
    -------
    The score; 0 if no dimension knows a factor.

    Raises
    ------
    ValueError
        If values are missing, shapes differ, a factor is constant, or there is one factor only.

    See Also
    --------
    scmimic.metrics.dci : With completeness and informativeness.
    scmimic.metrics.mutual_information_gap : By mutual information.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
    >>> round(sm.metrics.modularity(factors, factors), 2)
    1.0
    >>> round(sm.metrics.modularity(factors @ [[1, 1], [1, -1]], factors), 1)
    0.0
    """
    SEVERAL.check(n_bins=n_bins)
    NON_NEGATIVE.check(min_information=min_information)
    latent = as_latent(latent)
    known = as_factors(factors, len(latent), factor_bins=factor_bins)
    if len(known) < 2:
        raise ValueError("Modularity needs at least two factors.")
    return modularity_of(information_matrix(latent, known, estimator="histogram", n_bins=n_bins), min_information)


def modularity_of(information: np.ndarray, min_information: float = 0.05) -> float:
    """:func:`modularity` of a matrix of normalised mutual information, dimensions x factors."""
    most = information.max(axis=1)
    active = most >= max(min_information, 1e-12)
    if not active.any():
        return 0.0
    squares = (information[active] ** 2).sum(axis=1) / most[active] ** 2
    return float(np.mean(1 - (squares - 1) / (information.shape[1] - 1)))
