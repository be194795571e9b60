"""Disentanglement, completeness and informativeness (Eastwood & Williams 2018, section 3).

Deviations: a random forest over all dimensions gives the importances (the paper has a lasso and a forest, Locatello et
al. gradient boosting, which takes minutes here); informativeness is accuracy on unseen cells rather than an error;
the mean of completeness over the factors is plain, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from scmimic._arguments import COUNT, COUNT_OR_NONE, PART, SEED, THREADS
from scmimic._reprs import short_repr
from scmimic.metrics._factors import as_factors, as_latent

# Smaller leaves fit noise, which then looks like importance of the dimensions that hold nothing.
_LEAF_FRACTION = 0.005


@short_repr
@dataclass(frozen=True)
class DCI:
    """Result of :func:`~scmimic.metrics.dci`."""

    disentanglement: float
    """0 to 1: each dimension matters for one factor only; weighted by the importance of the dimensions."""
    completeness: float
    """0 to 1: each factor is told by one dimension only."""
    informativeness: float
    """Accuracy with which the level of a factor is told for unseen cells, mean over the factors."""
    completeness_per_factor: dict[str, float]
    """Completeness of each factor."""
    informativeness_per_factor: dict[str, float]
    """Accuracy for each factor."""
    disentanglement_per_latent: np.ndarray = field(repr=False)
    """Disentanglement of each dimension; that of dimensions without importance is 0."""
    importance: np.ndarray = field(repr=False)
    """Importance of each dimension for each factor, dimensions x factors; the columns sum to 1."""


def dci(
    latent: Any,
    factors: Any,
    *,
    n_trees: int = 30,
    test_fraction: float = 0.25,
    factor_bins: int = 4,
    max_cells: int | None = 10_000,
    seed: int = 0,
    n_jobs: int = 1,
) -> DCI:
    r"""Disentanglement, completeness and informativeness (DCI): each 0 to 1, higher is better.

    A forest predicts each factor from all dimensions; :math:`R_{jk}` is the importance of dimension :math:`j` for
    factor :math:`k` (mean decrease of the Gini impurity). With :math:`P_{jk} = R_{jk} / \sum_k R_{jk}` dimension
    :math:`j` scores :math:`1 - H(P_j)`, with entropy to the base of the number of factors; disentanglement is their
    mean, weighted by :math:`\sum_k R_{jk}`. Completeness is the same along the columns, with the number of dimensions
    as base. Read both with the informativeness: importances for a factor that cannot be told are noise, and its
    accuracy lies near that of the commonest level.

    Parameters
    ----------
    latent
        Cells x latent dimensions.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors). Text and booleans are
        levels. Numbers are levels too where there are at most 20 distinct ones, and are cut into `factor_bins` classes
        otherwise.
    n_trees
        Trees of each forest. The importances are stable from about 30 on.
    test_fraction
        Fraction of the cells that informativeness is measured on; drawn at random.
    factor_bins
        Classes of equal numbers of cells for a continuous factor.
    max_cells
        Largest number of cells, drawn at random; `None` uses all.
    seed
        Seed of the draws and of the forests.
    n_jobs
        Threads of the forests; `-1` for all cores.

    Returns
    -------
    :class:`DCI`.

    Raises
    ------
    ValueError
        If values are missing, shapes differ, a factor has one level only, or there are too few cells to split.

    See Also
    --------
    scmimic.metrics.sap_score : By the errors of single latents.
    scmimic.metrics.modularity : Does each latent hold one factor?
    scmimic.metrics.mutual_information_gap : By mutual information.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> factors = np.random.default_rng(0).integers(2, size=(400, 2))
    >>> result = sm.metrics.dci(factors, factors, n_trees=5)
    >>> result.disentanglement, result.completeness, result.informativeness
    (1.0, 1.0, 1.0)
    """
    COUNT.check(n_trees=n_trees)
    PART.check(test_fraction=test_fraction)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    latent = as_latent(latent)
    known = as_factors(factors, len(latent), factor_bins=factor_bins)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(latent))[:max_cells]
    n_test = round(test_fraction * len(rows))
    if not 0 < n_test < len(rows):
        raise ValueError(f"{len(rows)} cells cannot be split with `test_fraction={test_fraction}`.")
    test, train = rows[:n_test], rows[n_test:]
    x_train, x_test = latent[train], latent[test]
    importance, accuracy = np.zeros((latent.shape[1], len(known))), []
    for k, factor in enumerate(known):
        # all dimensions stand at each split: with a random choice of them empty ones would have to be used
        forest = RandomForestClassifier(
            n_trees, max_features=None, min_samples_leaf=_LEAF_FRACTION, random_state=seed, n_jobs=n_jobs
        )
        forest.fit(x_train, factor.codes[train])
        importance[:, k] = forest.feature_importances_
        accuracy.append(float(forest.score(x_test, factor.codes[test])))
    per_latent, weight = _concentration(importance), importance.sum(axis=1)
    complete = _concentration(importance.T)
    names = [factor.name for factor in known]
    return DCI(
        disentanglement=float(per_latent @ weight / weight.sum()) if weight.sum() > 0 else 0.0,
        completeness=float(complete.mean()),
        informativeness=float(np.mean(accuracy)),
        completeness_per_factor=dict(zip(names, complete.tolist(), strict=True)),
        informativeness_per_factor=dict(zip(names, accuracy, strict=True)),
        disentanglement_per_latent=per_latent,
        importance=importance,
    )


def _concentration(importance: np.ndarray) -> np.ndarray:
    """1 less the entropy of each row's shares, to the base of their number; 0 for rows without importance."""
    n = importance.shape[1]
    total = importance.sum(axis=1, keepdims=True)
    share = importance / np.where(total > 0, total, 1)
    entropy = -np.where(share > 0, share * np.log(np.where(share > 0, share, 1)), 0).sum(axis=1)
    # a single column has no entropy to divide by
    return np.where(total[:, 0] > 0, 1 - entropy / np.log(max(n, 2)), 0.0)
