"""The random-forest discriminator on one split of the cells, and per label.

Split: GRouNdGAN (Zinati et al. 2024), Methods, and the authors' program: 70 % of the real and synthetic cells train,
50 principal components of these, 1,000 trees, AUC on the rest. Their control is the same on two halves of the real
test cells.

Deviation: the split keeps the shares of both sides, so that a small set cannot lose one of them.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, Unpack, overload

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from scmimic._arguments import COUNT, COUNT_OR_NONE, FLAG, PART, SEED, SEVERAL, THREADS
from scmimic._arrays import as_labels, as_matrix, as_pair, check_comparable, fit_pca, forest_input, stack
from scmimic.metrics._discriminator import (
    DiscriminatorResult,
    DiscriminatorSettings,
    ForestSettings,
    _check_reference,
    _project,
    discriminator_auc,
    roc_result,
    vote,
)
from scmimic.metrics._errors import TooFewCellsError

logger = logging.getLogger(__name__)


class _SplitSettings(ForestSettings, total=False):
    n_comps: int
    test_fraction: float
    max_cells: int | None


@overload
def split_discriminator_auc(
    real: Any, synthetic: Any, *, return_folds: Literal[True], **settings: Unpack[_SplitSettings]
) -> DiscriminatorResult: ...
@overload
def split_discriminator_auc(
    real: Any, synthetic: Any, *, return_folds: Literal[False] = ..., **settings: Unpack[_SplitSettings]
) -> float: ...
def split_discriminator_auc(
    real: Any,
    synthetic: Any,
    *,
    n_comps: int = 50,
    test_fraction: float = 0.3,
    n_trees: int = 1000,
    max_cells: int | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    return_folds: bool = False,
) -> float | DiscriminatorResult:
    """AUC of a random forest on one split of the cells, as GRouNdGAN measures it: 0.5 is ideal, 1 the worst.

    The principal components and the forest are fitted on 70 % of the cells of both sides, and the AUC is taken on the
    rest. One split of few cells is noisy: look at the interval. Far below 0.5 means copies of `real`, as in
    :func:`discriminator_auc`. The arrays are taken as they are; the paper scales
    cells to 20,000 counts and takes no logarithm.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse, with the same features in the same order. Where they differ in number of
        cells, the larger is cut at random to the smaller.
    n_comps
        Number of principal components; fewer where the data allow fewer.
    test_fraction
        Share of the cells that are judged.
    n_trees
        Trees of the forest (Gini impurity, square root of the number of components per split).
    max_cells
        Largest number of cells per side; `None` uses all.
    seed
        Seed of subsampling, split, PCA and forest.
    n_jobs
        Threads of the forest; `-1` for all cores.
    return_folds
        Return a :class:`DiscriminatorResult`, whose one fold is the split, rather than the number.

    Returns
    -------
    AUC on the judged cells, or a :class:`DiscriminatorResult` with its 95 % interval and curve.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, or if an argument is out of range.
    TooFewCellsError
        If the cells are too few to split.

    See Also
    --------
    scmimic.metrics.discriminator_auc : Cross-validated.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> real, shifted = rng.normal(0, size=(50, 8)), rng.normal(9, size=(50, 8))
    >>> sm.metrics.split_discriminator_auc(real, shifted, n_trees=20)
    1.0
    """
    COUNT.check(n_comps=n_comps, n_trees=n_trees)
    PART.check(test_fraction=test_fraction)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    FLAG.check(return_folds=return_folds)
    real, synthetic = as_pair(real, synthetic, max_cells=max_cells, balance=True, seed=seed)
    n = real.shape[0]
    n_test = round(test_fraction * 2 * n)
    if min(n_test, 2 * n - n_test) < 2:
        raise TooFewCellsError(
            f"{n} cells per side are too few to split into {1 - test_fraction:g} and {test_fraction:g}."
        )
    x, y = stack(real, synthetic), np.repeat([0, 1], n)
    train, test = train_test_split(np.arange(2 * n), test_size=n_test, stratify=y, random_state=seed)
    pca = fit_pca(x[train], n_comps, seed=seed)
    learned, judged = (forest_input(pca.transform(x[part])) for part in (train, test))
    score = np.full(2 * n, np.nan)
    score[test] = vote(learned, y[train], judged, n_trees=n_trees, seed=seed, n_jobs=n_jobs)
    return roc_result(y, score, [test]) if return_folds else float(roc_auc_score(y[test], score[test]))


class _PerLabelSettings(DiscriminatorSettings, total=False):
    min_cells: int


@overload
def discriminator_auc_per_label(
    real: Any,
    real_labels: Any,
    synthetic: Any,
    synthetic_labels: Any,
    *,
    return_folds: Literal[True],
    **settings: Unpack[_PerLabelSettings],
) -> dict[str, DiscriminatorResult]: ...
@overload
def discriminator_auc_per_label(
    real: Any,
    real_labels: Any,
    synthetic: Any,
    synthetic_labels: Any,
    *,
    return_folds: Literal[False] = ...,
    **settings: Unpack[_PerLabelSettings],
) -> dict[str, float]: ...
def discriminator_auc_per_label(
    real: Any,
    real_labels: Any,
    synthetic: Any,
    synthetic_labels: Any,
    *,
    min_cells: int = 30,
    n_trees: int = 1000,
    n_folds: int = 5,
    use_pcs: int | None = None,
    reference: Any = None,
    max_cells: int | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    return_folds: bool = False,
) -> dict[str, float] | dict[str, DiscriminatorResult]:
    """AUC of :func:`~scmimic.metrics.discriminator_auc` within each label: 0.5 is ideal, NaN where cells are too few.

    The overall value hides a label that is recognised at once among many that are not. Far below 0.5 means copies, as
    there, but luck reaches far within a label: with 30 cells per side its standard deviation is 0.08. The
    arrays are taken as they are, as there.

    Parameters
    ----------
    real
        Real cells x features, dense or sparse.
    real_labels
        One label for each.
    synthetic
        Generated cells x features, with the same features in the same order.
    synthetic_labels
        One label for each.
    min_cells
        A label with fewer cells on either side gets NaN: with 30 of each the 95 % interval is already 0.3 wide.
    n_trees, n_folds
        As in :func:`discriminator_auc`.
    use_pcs
        Number of principal components to classify on, the same axes for all labels; `None` classifies on the features
        themselves.
    reference
        Cells x features on which the PCA is fitted; only with `use_pcs`. `None` fits on all cells of both sides.
    max_cells
        Largest number of cells per side and label; `None` uses all.
    seed
        Seed of subsampling, folds and forests.
    n_jobs
        Threads of the forest; `-1` for all cores.
    return_folds
        Return a :class:`DiscriminatorResult` for each label rather than the number.

    Returns
    -------
    A dictionary from every label of either side, sorted, to its AUC or :class:`DiscriminatorResult`.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, if a label is missing, or if `min_cells` is below
        `n_folds`.

    See Also
    --------
    scmimic.metrics.discriminator_auc : All cells together.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> real, synthetic = rng.normal(0, size=(80, 4)), rng.normal(0, size=(80, 4))
    >>> synthetic[40:] += 9
    >>> labels = np.repeat(["B", "T"], 40)
    >>> aucs = sm.metrics.discriminator_auc_per_label(real, labels, synthetic, labels, n_trees=20)
    >>> aucs["B"] < 0.7, aucs["T"]
    (True, 1.0)
    """
    COUNT.check(min_cells=min_cells, n_trees=n_trees)
    SEVERAL.check(n_folds=n_folds)
    COUNT_OR_NONE.check(use_pcs=use_pcs, max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    FLAG.check(return_folds=return_folds)
    _check_reference(use_pcs, reference)
    if min_cells < n_folds:
        raise ValueError(f"`min_cells` must be at least `n_folds`: got {min_cells} and {n_folds}.")
    real, synthetic = as_matrix(real, "real"), as_matrix(synthetic, "synthetic")
    check_comparable(real=real, synthetic=synthetic)
    real_labels = as_labels(real_labels, "real_labels", real.shape[0])
    synthetic_labels = as_labels(synthetic_labels, "synthetic_labels", synthetic.shape[0])
    if use_pcs is not None:
        real, synthetic = _project(real, synthetic, reference, use_pcs, seed)
    results: dict[str, DiscriminatorResult] = {}
    for label in np.union1d(real_labels, synthetic_labels).tolist():
        sides = real[real_labels == label], synthetic[synthetic_labels == label]
        if min(side.shape[0] for side in sides) < min_cells:
            results[label] = DiscriminatorResult(auc=np.nan, folds=())
            continue
        results[label] = discriminator_auc(
            *sides,
            n_trees=n_trees,
            n_folds=n_folds,
            max_cells=max_cells,
            seed=seed,
            n_jobs=n_jobs,
            return_folds=True,
        )
    small = [label for label, result in results.items() if not result.folds]
    if small:
        logger.warning("Fewer than %d real or synthetic cells, so no AUC for: %s.", min_cells, ", ".join(small))
    return results if return_folds else {label: result.auc for label, result in results.items()}
