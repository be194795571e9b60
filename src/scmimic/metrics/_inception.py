"""Inception score with a random forest in the place of the image network (MichiGAN, Methods, "Inception score").

Yu & Welch (2021) train a random forest on 3,000 real cells and their types, and put its probabilities for generated
cells into the score of Salimans et al. (2016), section 4.

Deviation: the authors' program takes the mean of the scores of three consecutive thirds of the synthetic cells, so
that it changes with the order of the cells. Here all synthetic cells enter at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import rel_entr
from sklearn.ensemble import RandomForestClassifier

from scmimic._arguments import COUNT, COUNT_OR_NONE, SEED, THREADS
from scmimic._arrays import (
    Matrix,
    as_labels,
    as_matrix,
    check_comparable,
    forest_input,
    sample_rows,
    subsample,
)

# Of the paper.
_N_CELLS = 3000


def inception_score(
    real: Any,
    labels: Any,
    synthetic: Any,
    *,
    n_trees: int = 1000,
    n_cells: int | None = _N_CELLS,
    max_cells: int | None = None,
    seed: int = 0,
    n_jobs: int = 1,
) -> float:
    r"""Inception score of MichiGAN: from 1 to the number of labels, higher is better; ideal is the real cells' own.

    :math:`\exp\bigl(E_x\, \mathrm{KL}(p(y \mid x) \,\Vert\, p(y))\bigr)` over the synthetic cells :math:`x`, where a
    random forest trained on real cells gives :math:`p(y \mid x)` and :math:`p(y)` is its mean over them. It is high
    where each cell is clearly of one label and the labels are evenly spread. It never looks at realism within a label.
    The arrays are taken as they are: bring both into one space first, such as counts scaled to 10,000 per cell and
    log1p'd.

    Real cells score less than the number of labels where labels are uneven. So score held-out real cells as
    `synthetic` too: a generator above them is not better than real, it is too clean or too even.

    Parameters
    ----------
    real
        Real cells x features that train the forest, dense or sparse. Not the cells that a copying generator repeats,
        or its score is that of the forest on its own training cells.
    labels
        One label for each real cell.
    synthetic
        Generated cells x features.
    n_trees
        Trees of the forest (Gini impurity, square root of the number of features per split), 1,000 as in the authors'
        program.
    n_cells
        Real cells drawn at random for training, 3,000 as in the paper; all where there are fewer. `None` for all.
    max_cells
        Largest number of synthetic cells; `None` uses all.
    seed
        Seed of the draws and the forest.
    n_jobs
        Threads of the forest; `-1` for all cores.

    Returns
    -------
    The score.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN or differs in features, if the labels are missing, too many or too few, or all
        the same among the cells drawn, or if a number is below 1.

    See Also
    --------
    scmimic.metrics.label_agreement : Are cells of the type that was asked for?

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> real = np.repeat([[0.0], [5.0]], 20, axis=0)
    >>> labels = np.repeat(["B", "T"], 20)
    >>> round(sm.metrics.inception_score(real, labels, real, n_trees=20), 3)
    2.0
    >>> round(sm.metrics.inception_score(real, labels, real[:20], n_trees=20), 3)
    1.0
    """
    COUNT.check(n_trees=n_trees)
    COUNT_OR_NONE.check(n_cells=n_cells, max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    real, synthetic = as_matrix(real, "real"), as_matrix(synthetic, "synthetic")
    check_comparable(real=real, synthetic=synthetic)
    labels = as_labels(labels, "labels", real.shape[0])
    rng = np.random.default_rng(seed)
    forest = type_forest(real, labels, n_trees=n_trees, seed=seed, n_jobs=n_jobs, n_cells=n_cells, rng=rng)
    return score_of_types(forest, subsample(synthetic, max_cells, rng))


def type_forest(
    real: Matrix,
    labels: np.ndarray,
    *,
    n_trees: int,
    seed: int,
    n_jobs: int,
    n_cells: int | None = _N_CELLS,
    rng: np.random.Generator | None = None,
) -> RandomForestClassifier:
    """The forest of the inception score; `rng` draws the cells that train it, a new one of `seed` by default."""
    rows = sample_rows(real.shape[0], n_cells, np.random.default_rng(seed) if rng is None else rng)
    real, labels = real[rows], labels[rows]
    if len(np.unique(labels)) < 2:
        raise ValueError("The inception score needs at least two labels among the real cells it is trained on.")
    forest = RandomForestClassifier(n_trees, criterion="gini", max_features="sqrt", random_state=seed, n_jobs=n_jobs)
    return forest.fit(forest_input(real), labels)


def score_of_types(forest: RandomForestClassifier, synthetic: Matrix) -> float:
    """Inception score of cells with the forest that :func:`type_forest` gives."""
    given_cell = forest.predict_proba(forest_input(synthetic))
    return float(np.exp(rel_entr(given_cell, given_cell.mean(axis=0)).sum(axis=1).mean()))
