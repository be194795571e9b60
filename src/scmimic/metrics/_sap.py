"""Separated attribute predictability (Kumar et al. 2018, arXiv:1711.00848, section 3).

Deviation: the thresholds of a categorical factor are those of a decision tree, which minimises the impurity rather than
the balanced error itself.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from scmimic._arguments import FLAG
from scmimic.metrics._factors import Factor, FactorScores, as_factors, as_latent, gap, mean_scores


@overload
def sap_score(latent: Any, factors: Any, *, return_per_factor: Literal[True]) -> FactorScores: ...
@overload
def sap_score(latent: Any, factors: Any, *, return_per_factor: Literal[False] = ...) -> float: ...
def sap_score(latent: Any, factors: Any, *, return_per_factor: bool = False) -> float | FactorScores:
    """Separated attribute predictability (SAP): 0 to 1, higher is better.

    Each factor is predicted from each dimension alone. The gap between the best dimension and the second best, averaged
    over the factors. A categorical factor of m levels is predicted by m - 1 thresholds, and scored by the balanced
    accuracy (1 / m by chance, so that its gap is at most 1 - 1 / m). A numeric factor of more than two values is
    predicted by a line and scored by the squared correlation, without classes.

    Parameters
    ----------
    latent
        Cells x latent dimensions.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors).
    return_per_factor
        Return the gap of each factor too.

    Returns
    -------
    The score, or :class:`FactorScores` with `return_per_factor`.

    Raises
    ------
    ValueError
        If values are missing, shapes differ, or a factor is constant.

    See Also
    --------
    scmimic.metrics.dci : By the importance of latents.
    scmimic.metrics.mutual_information_gap : By mutual information.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> factors = np.random.default_rng(0).integers(2, size=(1000, 2))
    >>> round(sm.metrics.sap_score(factors, factors), 1)
    0.5
    """
    FLAG.check(return_per_factor=return_per_factor)
    latent = as_latent(latent)
    known = as_factors(factors, len(latent))
    scores = mean_scores(known, gap(np.column_stack([_predictability(latent, factor) for factor in known])))
    return scores if return_per_factor else scores.score


def _predictability(latent: np.ndarray, factor: Factor) -> np.ndarray:
    """How well each dimension alone predicts the factor."""
    if factor.values is not None and factor.n_levels > 2:
        centered, target = latent - latent.mean(axis=0), factor.values - factor.values.mean()
        norm = (centered**2).sum(axis=0) * (target @ target)
        return np.divide((target @ centered) ** 2, norm, out=np.zeros(latent.shape[1]), where=norm > 0)
    tree = DecisionTreeClassifier(max_leaf_nodes=factor.n_levels, class_weight="balanced", random_state=0)
    share = np.bincount(factor.codes)[factor.codes] * factor.n_levels
    scores = np.empty(latent.shape[1])
    for j in range(latent.shape[1]):
        column = latent[:, j : j + 1]
        scores[j] = ((tree.fit(column, factor.codes).predict(column) == factor.codes) / share).sum()
    return scores
