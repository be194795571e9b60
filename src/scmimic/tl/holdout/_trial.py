"""One held-out combination: predictions of simple rivals, and how near predicted cells come to the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.stats import pearsonr, ttest_ind_from_stats
from sklearn.metrics import r2_score

from scmimic._arrays import Matrix, column_variance, fit_pca
from scmimic.metrics import random_forest_error
from scmimic.tl._combinations import Combinations, Route, Shift, Target, mean_shift
from scmimic.tl._similarity import Weighting

CONTROL, MEAN_SHIFT, SIMILAR_SHIFT = "control cells", "mean shift", "mean shift, similar groups"
LINEAR, VAE = "linear model", "VAE arithmetic"
SIMPLE_RIVALS = (CONTROL, MEAN_SHIFT, SIMILAR_SHIFT, LINEAR)
RIVALS = (*SIMPLE_RIVALS, VAE)
SCORES = ("rf_error", "r2", "r2_de", "correlation_change")


@dataclass
class HoldoutTrial:
    """Log-normalised cells without those held out, and the real cells of a held-out combination."""

    train: Matrix
    combinations: Combinations
    target: Target
    routes: list[Route]
    real: Matrix
    shift: Shift = "condition"

    def __post_init__(self) -> None:
        self.means = self.combinations.means(self.train)
        self.control_rows = np.concatenate([self.combinations.rows[route.start] for route in self.routes])
        self.control_mean = np.mean([self.means[route.start] for route in self.routes], axis=0)

    def rival(self, name: str, n: int, rng: np.random.Generator) -> Matrix:
        """Cells that a rival predicts: control cells, as they are or each moved by a difference of mean expression.

        Moved values below 0 are set to 0.
        """
        routes = self.routes
        if name == SIMILAR_SHIFT:
            routes = Weighting.of("similar", routes, self.shift, self.means)(routes)
        rows, origin = self.combinations.cells(routes, n, rng)
        cells = self.train[rows]
        if name == CONTROL:
            return cells
        shifts = np.array([self._shift(name, route) for route in routes], dtype=np.float32)
        dense = cells.toarray() if sp.issparse(cells) else np.array(cells)
        dense += shifts[origin]
        return np.maximum(dense, 0, out=dense)

    def _shift(self, name: str, route: Route) -> np.ndarray:
        if name == LINEAR:
            return self._additive_mean() - self.means[route.start]
        return mean_shift(self.means, route)

    def _additive_mean(self) -> np.ndarray:
        """Mean of the target by least squares on all cells, expression = group + condition.

        Means of combinations, weighted by their numbers of cells, have the same solution.
        """
        pairs, groups, conditions = list(self.means), self.combinations.groups, self.combinations.conditions
        weight = np.sqrt([len(self.combinations.rows[pair]) for pair in pairs])
        design = np.array([_indicators(pair, groups, conditions) for pair in pairs])
        values = np.array([self.means[pair] for pair in pairs])
        coefficients = np.linalg.lstsq(design * weight[:, None], values * weight[:, None], rcond=None)[0]
        return _indicators(self.target, groups, conditions) @ coefficients


class TrainingAxes:
    """Principal components of the training cells, as in the paper, and these cells on them."""

    def __init__(self, train: Matrix, seed: int) -> None:
        self.pca = fit_pca(train, 50, seed=seed)
        self.train = self.project(train)

    def project(self, x: Matrix) -> np.ndarray:
        """Cells on these axes."""
        return self.pca.transform(x)


class HoldoutScores:
    """Measures of predicted cells, with what depends on the trial alone computed once."""

    def __init__(
        self, trial: HoldoutTrial, axes: TrainingAxes, *, n_top_genes: int, n_trees: int, n_cells: int, seed: int
    ) -> None:
        self.axes, self.n_trees, self.n_cells, self.seed = axes, n_trees, n_cells, seed
        control = trial.train[trial.control_rows]
        self.mean, self.control_mean = _mean(trial.real), trial.control_mean
        self.top_genes = changed_genes(control, trial.real, n_top_genes)
        self.real_pcs = axes.project(trial.real)

    def __call__(self, predicted: Matrix) -> dict[str, float]:
        mean = _mean(predicted)
        change, predicted_change = self.mean - self.control_mean, mean - self.control_mean
        varies = np.ptp(predicted_change) > 0 and np.ptp(change) > 0
        return {
            "rf_error": random_forest_error(
                self.real_pcs,
                self.axes.project(predicted),
                reference=self.axes.train,
                n_cells=self.n_cells,
                n_trees=self.n_trees,
                seed=self.seed,
            ),
            "r2": float(r2_score(self.mean, mean)),
            "r2_de": float(r2_score(self.mean[self.top_genes], mean[self.top_genes])),
            "correlation_change": float(pearsonr(change, predicted_change).statistic) if varies else float("nan"),
        }


def changed_genes(control: Matrix, real: Matrix, n: int) -> np.ndarray:
    """The `n` genes of the largest absolute Welch t between two sets of cells, the largest first."""
    sides = []
    for x in (control, real):
        k = x.shape[0]
        sides += [_mean(x), np.sqrt(np.maximum(column_variance(x), 0) * k / max(k - 1, 1)), k]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(ttest_ind_from_stats(*sides, equal_var=False).statistic)
    # a gene that is the same in all cells of both sides has no t
    return np.argsort(-np.nan_to_num(t, nan=0.0), kind="stable")[:n]


def _mean(x: Matrix) -> np.ndarray:
    return np.asarray(x.mean(axis=0, dtype=np.float64)).ravel()


def _indicators(pair: Target, groups: list[str], conditions: list[str]) -> np.ndarray:
    return np.array([*(g == pair[0] for g in groups), *(c == pair[1] for c in conditions)], dtype=float)
