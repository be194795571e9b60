"""How far the codes of a type lie apart: measured by the cells that are generated from them.

A decoder that has not followed every direction of the data to its end gives cells that differ a little less than real
ones: a few percent of the variance along the main directions within a type. No single gene shows it, since margins are
matched; a forest on principal components does. So the codes are moved apart around their neighbours, by as much as
gives generated cells the variance of the training cells.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

from scmimic._arrays import column_variance

N_NEIGHBORS = 50
MAX_ANCHORS = 20_000
"""Cells of a label among which neighbours are sought at most."""
N_COMPS = 20
N_GENES = 2_000


def local_centers(codes: np.ndarray, labels: np.ndarray, *, n_neighbors: int = N_NEIGHBORS) -> np.ndarray:
    """Mean of each code's nearest codes of the same label, itself included; all of them where there are fewer.

    Neighbours rather than the label's mean: what a label holds in groups of its own (stimulated cells, a subtype) stays
    where it is.
    """
    centers = np.empty_like(codes)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        anchors = rows if len(rows) <= MAX_ANCHORS else rng.choice(rows, MAX_ANCHORS, replace=False)
        search = NearestNeighbors(n_neighbors=min(n_neighbors, len(anchors))).fit(codes[anchors])
        neighbors = search.kneighbors(codes[rows], return_distance=False)
        # one column of neighbours at a time: no array of cells x neighbours x latents
        total = np.zeros((len(rows), codes.shape[1]))
        for column in neighbors.T:
            total += codes[anchors[column]]
        centers[rows] = total / neighbors.shape[1]
    return centers


class WithinLabelVariance:
    """Variance of cells within their labels along the main directions of the training cells.

    Directions that are fitted to some cells hold more of their variance than of any others'. They are therefore fitted
    to either half of the training cells, and the variance is that of the other half.

    Parameters
    ----------
    x
        Log-normalised expression of training cells, cells x genes.
    labels
        Label code of each.
    rng
        Divides the cells in two.
    """

    def __init__(self, x: sp.csr_matrix, labels: np.ndarray, rng: np.random.Generator):
        self._genes = np.sort(np.argsort(-column_variance(x))[:N_GENES])
        order = rng.permutation(len(labels))
        self._halves = np.array_split(order, 2)
        self._labels = labels
        centered = [self._centered(x, half) for half in self._halves]
        n_comps = min(N_COMPS, min(map(len, self._halves)) - 1, len(self._genes))
        directions = [randomized_svd(part, n_comps, random_state=0)[2] for part in centered]
        self._directions = directions[::-1]
        self._of_training_cells = self._variances(centered)

    def _centered(self, x: sp.csr_matrix, half: np.ndarray) -> np.ndarray:
        dense = x[half][:, self._genes].toarray()
        labels = self._labels[half]
        for label in np.unique(labels):
            rows = labels == label
            dense[rows] -= dense[rows].mean(axis=0)
        return dense

    def _variances(self, centered: list[np.ndarray]) -> np.ndarray:
        parts = zip(centered, self._directions, strict=True)
        return np.concatenate([((part @ directions.T) ** 2).mean(axis=0) for part, directions in parts])

    @property
    def is_known(self) -> bool:
        """Whether cells vary: whether any label has two that differ."""
        return bool(self._of_training_cells.any())

    @property
    def error(self) -> float:
        """Standard error of the ratio of two samples of this size, were the directions normal."""
        share = self._of_training_cells / self._of_training_cells.sum()
        return float(np.sqrt(4 * (share**2).sum() / min(map(len, self._halves))))

    def ratio(self, generated: sp.csr_matrix) -> float:
        """Summed variance of generated cells, one from the code of each training cell, against the training cells'."""
        variances = self._variances([self._centered(generated, half) for half in self._halves])
        return float(variances.sum() / self._of_training_cells.sum())
