"""Random-forest discriminators between real and synthetic cells.

ACTIVA (Heydari et al. 2022), section 4.1, after Marouf et al. (2020): AUC of a random forest. MichiGAN (Yu & Welch
2021), Methods, "Random forest error": misclassification rate on 50 principal components.

The intervals are not in the papers: DeLong et al. (1988) for the AUC, Wilson (1927) for the error.

Deviation: both papers are silent on cells of unequal number; the larger side is cut to the smaller here, since an
unbalanced forest reports the class sizes, not the realism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed, effective_n_jobs
from sklearn import config_context
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeRegressor

from scmimic._arguments import COUNT, COUNT_OR_NONE, FLAG, SEED, SEVERAL, THREADS
from scmimic._arrays import (
    Matrix,
    as_matrix,
    as_pair,
    check_same_features,
    fit_pca,
    forest_input,
    stack,
)
from scmimic._reprs import short_repr
from scmimic.metrics._errors import TooFewCellsError
from scmimic.metrics._intervals import auc_interval, proportion_interval


class ForestSettings(TypedDict, total=False):
    """Arguments that all discriminators have."""

    n_trees: int
    seed: int
    n_jobs: int


@short_repr
@dataclass(frozen=True)
class RocFold:
    """ROC curve of one cross-validation fold, in a :class:`~scmimic.metrics.DiscriminatorResult`."""

    fpr: np.ndarray
    """False-positive rates, increasing from 0 to 1."""
    tpr: np.ndarray
    """True-positive rates (synthetic cells recognised) at those."""
    auc: float
    """Area under this curve."""


@short_repr
@dataclass(frozen=True)
class DiscriminatorResult:
    """Result of the discriminators that report an AUC; :func:`scmimic.pl.roc` draws it."""

    auc: float
    """AUC of the pooled out-of-fold probabilities. 0.5 is ideal, 1 means that every synthetic cell is recognised, and
    far below 0.5 means that the synthetic cells copy the real ones they are compared with."""
    folds: tuple[RocFold, ...]
    """One ROC curve per fold."""
    interval: tuple[float, float] = (np.nan, np.nan)
    """95 % interval of `auc` for other cells of the same two sources (DeLong's variance of the pooled probabilities,
    on the logit scale). Cross-validated scores share training cells, which DeLong's variance does not know: the
    interval is rather too narrow. Nor does it hold what another seed of the folds and the forest would change, or
    another training of the generator."""

    @property
    def mean(self) -> float:
        """Mean AUC of the folds, as the papers report it."""
        return float(np.mean([fold.auc for fold in self.folds])) if self.folds else np.nan

    @property
    def sd(self) -> float:
        """Population standard deviation of the folds' AUC (the folds share cells: no standard error)."""
        return float(np.std([fold.auc for fold in self.folds])) if self.folds else np.nan


class DiscriminatorSettings(ForestSettings, total=False):
    """Arguments of :func:`~scmimic.metrics.discriminator_auc` that do not change what it returns."""

    n_folds: int
    use_pcs: int | None
    reference: Any
    max_cells: int | None


@overload
def discriminator_auc(
    real: Any, synthetic: Any, *, return_folds: Literal[True], **settings: Unpack[DiscriminatorSettings]
) -> DiscriminatorResult: ...
@overload
def discriminator_auc(
    real: Any, synthetic: Any, *, return_folds: Literal[False] = ..., **settings: Unpack[DiscriminatorSettings]
) -> float: ...
def discriminator_auc(
    real: Any,
    synthetic: Any,
    *,
    n_trees: int = 1000,
    n_folds: int = 5,
    use_pcs: int | None = None,
    reference: Any = None,
    max_cells: int | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    return_folds: bool = False,
) -> float | DiscriminatorResult:
    r"""AUC with which a random forest tells synthetic from real cells (ACTIVA, section 4.1): 0.5 is ideal.

    The arrays are taken as they are: bring both into one space first, such as counts scaled to 10,000 per cell and
    log1p'd. The real cells must be held out from the generator's training, or a memoriser scores 0.5 as well.

    Below 0.5 is not better than 0.5. A little below is luck: with n cells per side the standard deviation by chance is
    :math:`\sqrt{(2n + 1) / 12} / n` (0.03 for 210 cells, 0.01 for 2,000), and two samples with the same number of
    cells of each type come out somewhat below 0.5 themselves. Far below, the synthetic cells are copies of `real` (the
    forest has learned each twin on the other side: an exact copy of all cells scores about 0.02), or one of the sides
    is less random than a sample.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order. Where they differ in number of
        cells, the larger is cut at random to the smaller.
    n_trees
        Trees of the forest; 1,000 as in the paper. Gini impurity, square root of the number of features per split,
        leaves grown until pure. 200 give the same AUC to about 0.01.
    n_folds
        Folds of the stratified cross-validation.
    use_pcs
        Number of principal components to classify on; `None` classifies on the features themselves.
    reference
        Cells x features on which the PCA is fitted; only with `use_pcs`. Give real cells that are neither in `real`
        nor in the training set: a PCA fitted on either favours that side. `None` fits on the cells classified.
    max_cells
        Largest number of cells per side; `None` uses all.
    seed
        Seed of subsampling, folds and forest.
    n_jobs
        Threads of the forest; `-1` for all cores.
    return_folds
        Return a :class:`DiscriminatorResult` with the 95 % interval and the curve of each fold rather than the
        number.

    Returns
    -------
    AUC of the pooled out-of-fold probabilities, or a :class:`DiscriminatorResult`.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, or if a number is out of range.
    TooFewCellsError
        If an array has fewer cells than folds.

    See Also
    --------
    scmimic.metrics.discriminator_auc_per_label : For each type.
    scmimic.metrics.split_discriminator_auc : Cells split once, as in a benchmark.
    scmimic.metrics.random_forest_error : The same question, as an error.
    scmimic.pl.roc : Draws the curves.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> real, same, shifted = (rng.normal(loc, size=(50, 8)) for loc in (0, 0, 9))
    >>> sm.metrics.discriminator_auc(real, shifted, n_trees=20)
    1.0
    >>> 0.3 < sm.metrics.discriminator_auc(real, same, n_trees=20) < 0.7
    True
    """
    COUNT.check(n_trees=n_trees)
    SEVERAL.check(n_folds=n_folds)
    COUNT_OR_NONE.check(use_pcs=use_pcs, max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    FLAG.check(return_folds=return_folds)
    _check_reference(use_pcs, reference)
    real, synthetic = _balanced_pair(real, synthetic, max_cells, n_folds, seed)
    if use_pcs is not None:
        real, synthetic = _project(real, synthetic, reference, use_pcs, seed)
    y, score, folds = out_of_fold(real, synthetic, n_trees=n_trees, n_folds=n_folds, seed=seed, n_jobs=n_jobs)
    return roc_result(y, score, folds) if return_folds else float(roc_auc_score(y, score))


class _ErrorSettings(ForestSettings, total=False):
    reference: Any
    n_comps: int
    n_cells: int | None
    n_folds: int


@overload
def random_forest_error(
    real: Any, synthetic: Any, *, return_interval: Literal[True], **settings: Unpack[_ErrorSettings]
) -> tuple[float, tuple[float, float]]: ...
@overload
def random_forest_error(
    real: Any, synthetic: Any, *, return_interval: Literal[False] = ..., **settings: Unpack[_ErrorSettings]
) -> float: ...
def random_forest_error(
    real: Any,
    synthetic: Any,
    *,
    reference: Any = None,
    n_comps: int = 50,
    n_cells: int | None = 3000,
    n_trees: int = 1000,
    n_folds: int = 5,
    seed: int = 0,
    n_jobs: int = 1,
    return_interval: bool = False,
) -> float | tuple[float, tuple[float, float]]:
    r"""Error in percent of a random forest on principal components (MichiGAN, Methods): 50 is ideal, 0 the worst.

    The arrays are taken as they are: bring both into one space first, such as counts scaled to 10,000 per cell and
    log1p'd.

    Above 50 is not better than 50. A little above is luck: by chance the standard deviation is
    :math:`50 / \sqrt{2n}` with n cells per side (2.4 for 210 cells, 0.8 for 2,000). Far above, the synthetic cells are
    copies of `real` (an exact copy of all cells has an error of 90), or one of the sides is less random than a sample.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order.
    reference
        Cells x features on which the PCA is fitted; best real cells that are neither in `real` nor in the training
        set. `None` fits on the real and synthetic cells together, as in the paper.
    n_comps
        Number of principal components; fewer where the data allow fewer.
    n_cells
        Cells drawn at random from each side, 3,000 as in the paper; fewer where one side has fewer. `None` for all.
    n_trees
        Trees of the forest (Gini impurity, square root of the number of components per split).
    n_folds
        Folds of the stratified cross-validation.
    seed
        Seed of subsampling, PCA, folds and forest.
    n_jobs
        Threads of the forest; `-1` for all cores.
    return_interval
        Return the 95 % interval too (Wilson's, of the number of wrong cells).

    Returns
    -------
    Percentage of cells that are assigned to the wrong side when held out; with `return_interval`, that and its
    interval `(low, high)`, also in percent.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, or if a number is out of range.
    TooFewCellsError
        If an array has fewer cells than folds.

    See Also
    --------
    scmimic.metrics.discriminator_auc : The same question, as an AUC.
    scmimic.metrics.one_nn_accuracy : Asked of the nearest cell.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> real, shifted = rng.normal(0, size=(50, 8)), rng.normal(9, size=(50, 8))
    >>> sm.metrics.random_forest_error(real, shifted, n_trees=20)
    0.0
    """
    COUNT.check(n_comps=n_comps, n_trees=n_trees)
    COUNT_OR_NONE.check(n_cells=n_cells)
    SEVERAL.check(n_folds=n_folds)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    FLAG.check(return_interval=return_interval)
    real, synthetic = _balanced_pair(real, synthetic, n_cells, n_folds, seed)
    real, synthetic = _project(real, synthetic, reference, n_comps, seed)
    y, score, _ = out_of_fold(real, synthetic, n_trees=n_trees, n_folds=n_folds, seed=seed, n_jobs=n_jobs)
    wrong = (score > 0.5) != y
    error = float(100 * wrong.mean())
    if not return_interval:
        return error
    low, high = proportion_interval(int(wrong.sum()), len(wrong))
    return error, (100 * low, 100 * high)


def roc_result(y: np.ndarray, score: np.ndarray, folds: list[np.ndarray]) -> DiscriminatorResult:
    """AUC, interval and curves of what :func:`out_of_fold` returns."""
    curves = []
    for test in folds:
        fpr, tpr, _ = roc_curve(y[test], score[test])
        curves.append(RocFold(fpr=fpr, tpr=tpr, auc=float(roc_auc_score(y[test], score[test]))))
    tested = np.concatenate(folds)
    y, score = y[tested], score[tested]
    return DiscriminatorResult(
        auc=float(roc_auc_score(y, score)), folds=tuple(curves), interval=auc_interval(score[y == 0], score[y == 1])
    )


def _check_reference(use_pcs: int | None, reference: Any) -> None:
    if use_pcs is None and reference is not None:
        raise ValueError("`reference` is what the PCA is fitted on: give `use_pcs` (for example 50) with it.")


def _balanced_pair(real: Any, synthetic: Any, max_cells: int | None, n_folds: int, seed: int) -> tuple[Matrix, Matrix]:
    real, synthetic = as_pair(real, synthetic, max_cells=max_cells, balance=True, seed=seed)
    if real.shape[0] < n_folds:
        raise TooFewCellsError(
            f"Cross-validation needs as many cells per side as folds: `n_folds={n_folds}`, {real.shape[0]} cells per "
            "side."
        )
    return real, synthetic


def _project(real: Matrix, synthetic: Matrix, reference: Any, n_comps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if reference is None:
        reference = stack(real, synthetic)
    else:
        reference = as_matrix(reference, "reference")
        check_same_features(real=real, reference=reference)
    pca = fit_pca(reference, n_comps, seed=seed)
    return pca.transform(real), pca.transform(synthetic)


def out_of_fold(
    real: Matrix, synthetic: Matrix, *, n_trees: int, n_folds: int, seed: int, n_jobs: int
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Label (1 = synthetic), out-of-fold probability of "synthetic", and the test indices of each fold."""
    x = forest_input(stack(real, synthetic))
    y = np.repeat([0, 1], [real.shape[0], synthetic.shape[0]])
    score = np.empty(len(y))
    folds = []
    for train, test in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(y, y):
        score[test] = vote(x[train], y[train], x[test], n_trees=n_trees, seed=seed, n_jobs=n_jobs)
        folds.append(test)
    return y, score, folds


def vote(x: Matrix, y: np.ndarray, judged: Matrix, *, n_trees: int, seed: int, n_jobs: int) -> np.ndarray:
    """Probability that a random forest gives to side 1 for the cells `judged`, of cells `x` on the sides `y` (0 or 1).

    It is the forest of classification by Gini impurity, which for two sides is twice the variance, and the mean of a
    leaf is the share of side 1. Up to splits of the same impurity it grows the same trees, in four fifths of the time,
    since it keeps no books of classes.

    Tree for tree it is scikit-learn's ``RandomForestRegressor(n_trees, max_features="sqrt", random_state=seed)``. That
    spends a third of the time of trees of a few hundred cells on what each of them does not need: checks of cells and
    settings, a copy of the estimator, states of random numbers. It does so in Python, where threads wait for each
    other.

    Parameters
    ----------
    x, judged
        Cells as :func:`~scmimic._arrays.forest_input` gives them.
    y
        Side of each cell of `x`.
    n_trees, seed, n_jobs
        As in :func:`discriminator_auc`.
    """
    x, y, n = sp.csc_matrix(x) if sp.issparse(x) else x, y.astype(np.float64), len(y)

    def votes(seeds: np.ndarray) -> list[np.ndarray]:
        state, found = np.random.RandomState(), []
        tree = DecisionTreeRegressor(max_features="sqrt", random_state=state)
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for of_tree in seeds:
                # a forest seeds the draw of a tree's cells and the tree alike
                state.seed(of_tree)
                drawn = np.bincount(state.randint(n, size=n), minlength=n)
                state.seed(of_tree)
                tree.fit(x, y, sample_weight=drawn, check_input=False)
                found.append(tree.predict(judged, check_input=False))
        return found

    seeds = np.random.RandomState(seed).randint(np.iinfo(np.int32).max, size=n_trees)
    parts = np.array_split(seeds, min(effective_n_jobs(n_jobs), n_trees))
    found = Parallel(n_jobs, require="sharedmem")(delayed(votes)(part) for part in parts)
    return np.mean(np.concatenate(found), axis=0)
