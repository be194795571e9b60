"""One seed and fraction of the experiment with a rare type: which cells are trained on, and how well it is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from scmimic import _keys
from scmimic._arrays import forest_input, prepare_expression
from scmimic.cells import read_matrix
from scmimic.pp import balanced_split, downsample_label

SCORES = ("f1", "precision", "recall", "average_precision")


@dataclass(frozen=True)
class Space:
    """The space in which cells are classified."""

    log1p: bool
    target_sum: float

    def bring(self, x: Any, name: str) -> sp.csr_matrix:
        """Values in this space; `name` is what errors call them."""
        return sp.csr_matrix(prepare_expression(x, name, self.log1p, self.target_sum))


@dataclass(frozen=True)
class Trial:
    """Cells of one seed and fraction."""

    train: AnnData
    """The reduced training cells: all that a generator may see."""
    x_train: sp.csr_matrix
    """The same in the space of the forest."""
    is_label: np.ndarray
    """Which of them are of the rare type."""
    x_test: sp.csr_matrix
    """Held-out cells in the space of the forest."""
    is_label_test: np.ndarray
    """Which of them are of the rare type."""
    test: AnnData
    """Held-out cells as the training cells are, without their labels."""


def split_rows(labels: np.ndarray, test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of training and held-out cells, as :func:`scmimic.pp.balanced_split` divides them."""
    cells = AnnData(obs=pd.DataFrame({"label": labels}, index=np.arange(len(labels)).astype(str)))
    balanced_split(cells, "label", test_size=test_size, seed=seed)
    is_test = (cells.obs[_keys.OBS_SPLIT] == _keys.SPLIT_TEST).to_numpy()
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def thin_rows(labels: np.ndarray, rows: np.ndarray, label: str, fraction: float, seed: int) -> np.ndarray:
    """Those of `rows` that :func:`scmimic.pp.downsample_label` keeps."""
    cells = AnnData(obs=pd.DataFrame({"label": labels[rows]}, index=rows.astype(str)))
    return downsample_label(cells, "label", label, fraction=fraction, seed=seed).obs_names.astype(int).to_numpy()


def make_trial(
    adata: AnnData,
    labels: np.ndarray,
    label: str,
    layer: str | None,
    train: np.ndarray,
    test: np.ndarray,
    *,
    n_top_genes: int | None,
    space: Space,
) -> Trial:
    """Gather the cells in rows `train` and `test`; genes are chosen on `train` alone."""
    matrix = sp.csr_matrix(read_matrix(adata, layer))
    genes = np.arange(adata.n_vars)
    if n_top_genes is not None and n_top_genes < adata.n_vars:
        genes = _variable_genes(space.bring(matrix[train], "training cells"), n_top_genes)
        train = train[matrix[train][:, genes].getnnz(axis=1) > 0]

    def bare(rows: np.ndarray) -> AnnData:
        # what all cells have shaped (embeddings, graphs, results) would carry held-out cells into a fit
        x = matrix[rows][:, genes]
        cells = AnnData(
            x, obs=pd.DataFrame(index=adata.obs_names[rows]), var=pd.DataFrame(index=adata.var_names[genes])
        )
        if layer is not None:
            cells.layers[layer] = x.copy()
        return cells

    reduced, held_out = bare(train), bare(test)
    reduced.obs = adata.obs.iloc[train].copy()
    return Trial(
        train=reduced,
        x_train=space.bring(reduced.X, "training cells"),
        is_label=labels[train] == label,
        x_test=space.bring(held_out.X, "held-out cells"),
        is_label_test=labels[test] == label,
        test=held_out,
    )


def _variable_genes(x: sp.csr_matrix, n: int) -> np.ndarray:
    table = sc.pp.highly_variable_genes(AnnData(x), n_top_genes=n, inplace=False)
    return np.flatnonzero(table["highly_variable"].to_numpy())


def score_forest(
    trial: Trial, added: sp.csr_matrix | None, *, weighted: bool, n_trees: int, seed: int, n_jobs: int
) -> dict[str, float]:
    """Train a forest on the training cells and those `added` (all of the rare type), and score the held-out cells."""
    x, y, y_test = trial.x_train, trial.is_label, trial.is_label_test
    if added is not None:
        x, y = sp.vstack([x, added], format="csr"), np.r_[y, np.ones(added.shape[0], dtype=bool)]
    forest = RandomForestClassifier(
        n_trees,
        criterion="gini",
        max_features="sqrt",
        class_weight="balanced" if weighted else None,
        random_state=seed,
        n_jobs=n_jobs,
    ).fit(forest_input(x), y)
    probability = forest.predict_proba(forest_input(trial.x_test))[:, 1]
    return found_scores(y_test, probability > 0.5, probability)


def found_scores(is_label: np.ndarray, found: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """How well a type is found: by the cells taken for it, and by the ranking of all."""
    return {
        "f1": float(f1_score(is_label, found, zero_division=0)),
        "precision": float(precision_score(is_label, found, zero_division=0)),
        "recall": float(recall_score(is_label, found)),
        "average_precision": float(average_precision_score(is_label, probability)),
    }
