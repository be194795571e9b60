"""Gene margins of the training cells, given to generated cells of the same type.

A count likelihood has one or two numbers for the spread of a gene, and the code of a training cell holds a part of that
cell's own noise, to which the draw adds noise once more. Generated genes therefore spread a little too much or too
little, each in its way, and a forest that sees a thousand of them adds that up; it finds nothing in their dependence
(see the ablation in the benchmarks). So the model keeps what it is good at, the dependence between genes, cell types
and library sizes, and each gene's distribution within a type is taken from the data: a count becomes the quantile of
the training cells that it was of the model. As in a copula, margins are empirical and the dependence is learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmimic._plain import saved_as
from scmimic.cells import LARGEST_COUNT

# a count is below 2^31 and a row (label x gene) below 2^31: one integer orders both
_ROW = LARGEST_COUNT + 1

PRIOR_CELLS = 10.0
"""Weight of the model's own margin, in cells: the margin of a handful of cells is a poor guess."""


@dataclass(frozen=True)
class Histogram:
    """How often each count occurs, per label and gene, without zeros.

    Attributes
    ----------
    keys
        ``(label * n_genes + gene) * 2**31 + count``, ascending.
    counts
        Number of cells.
    n_cells
        Cells of each label.
    n_genes
        Number of genes.
    """

    keys: np.ndarray
    counts: np.ndarray
    n_cells: np.ndarray
    n_genes: int


def histogram(blocks: Iterable[tuple[sp.csr_matrix, np.ndarray]], n_labels: int, n_genes: int) -> Histogram:
    """Count values in blocks of cells and their label codes."""
    n_cells = np.zeros(n_labels, dtype=np.int64)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for x, labels in blocks:
        n_cells += np.bincount(labels, minlength=n_labels)
        parts.append(np.unique(_keys(x, labels, n_genes), return_counts=True))
        if len(parts) == 64:
            parts = [_merge(parts)]
    keys, counts = _merge(parts)
    return Histogram(keys, counts, n_cells, n_genes)


def _keys(x: sp.csr_matrix, labels: np.ndarray, n_genes: int) -> np.ndarray:
    row = np.repeat(labels.astype(np.int64), np.diff(x.indptr)) * n_genes + x.indices
    return (row * _ROW + whole_counts(x.data))[x.data > 0]


def _merge(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys = np.concatenate([part[0] for part in parts])
    counts = np.concatenate([part[1] for part in parts])
    unique, index = np.unique(keys, return_inverse=True)
    return unique, np.bincount(index, weights=counts, minlength=len(unique))


class _Distribution:
    """Cumulative distributions of all rows, in one ascending array each."""

    def __init__(self, keys: np.ndarray, mass: np.ndarray, n_rows: int):
        rows = keys // _ROW
        positive = np.bincount(rows, weights=mass, minlength=n_rows)
        zero_keys = np.arange(n_rows, dtype=np.int64) * _ROW
        keys = np.concatenate([keys, zero_keys])
        mass = np.concatenate([mass, np.clip(1 - positive, 0, None)])
        order = np.argsort(keys, kind="stable")
        keys, mass = keys[order], mass[order]
        first = np.searchsorted(keys, zero_keys)
        total = np.cumsum(mass)
        before = total[first] - mass[first]
        cdf = total - np.repeat(before, np.diff(np.append(first, len(mass))))
        last = np.append(first[1:], len(mass)) - 1
        cdf[last] = 1.0
        self._set(keys, np.minimum(cdf, 1.0))

    def _set(self, keys: np.ndarray, cdf: np.ndarray) -> None:
        self.keys, self.cdf = keys, cdf
        # each row begins with the count of zero
        self.first = np.flatnonzero(keys % _ROW == 0)
        self.zero = cdf[self.first]

    def bounds(self, rows: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P(X < count) and P(X <= count)."""
        key = rows * _ROW + counts
        # a row that holds every smaller count has this one where it is expected; the others are searched for
        index = np.minimum(self.first[rows] + counts, len(self.keys) - 1)
        missed = np.flatnonzero(self.keys[index] != key)
        index[missed] = np.searchsorted(self.keys, key[missed], side="right") - 1
        upper = self.cdf[index]
        lower = np.where(index == self.first[rows], 0.0, self.cdf[index - 1])
        return np.where(self.keys[index] == key, lower, upper), upper

    @cached_property
    def steps(self) -> np.ndarray:
        """Cumulative probabilities with the row added, ascending over all rows: one search serves them all."""
        return self.cdf + self.keys // _ROW

    def __getstate__(self) -> dict[str, Any]:
        """Leave what can be computed out of copies."""
        return {name: value for name, value in self.__dict__.items() if name != "steps"}

    def saved_state(self) -> dict[str, np.ndarray]:
        """What the others can be computed from."""
        return {"keys": self.keys, "cdf": self.cdf}

    @classmethod
    def from_saved_state(cls, state: dict[str, np.ndarray]) -> _Distribution:
        """The distributions of :meth:`saved_state`."""
        distributions = cls.__new__(cls)
        distributions._set(state["keys"], state["cdf"])
        return distributions

    def quantile(self, rows: np.ndarray, u: np.ndarray, guess: np.ndarray | int) -> np.ndarray:
        """The smallest count whose cumulative probability exceeds ``u``; found sooner where it is ``guess``."""
        wanted = rows + np.minimum(u, 1 - 1e-7)
        index = np.minimum(self.first[rows] + guess, len(self.keys) - 1)
        missed = np.flatnonzero((self.steps[index] <= wanted) | (self.steps[index - 1] > wanted))
        index[missed] = np.searchsorted(self.steps, wanted[missed], side="right")
        return self.keys[index] % _ROW


@saved_as("GeneMargins")
class GeneMargins:
    """Map from the model's distribution of each gene within a label to that of the training cells.

    Parameters
    ----------
    model
        Counts that the model generates, by the cells they are generated from as often as those occur.
    data
        Counts of the training cells.
    prior_cells
        Weight of the model's own margin against that of the training cells, in cells.
    """

    def __init__(self, model: Histogram, data: Histogram, *, prior_cells: float = PRIOR_CELLS):
        n_rows = len(data.n_cells) * data.n_genes
        model_mass = model.counts / np.maximum(model.n_cells, 1)[model.keys // _ROW // model.n_genes]
        label = data.keys // _ROW // data.n_genes
        # a label that is not generated, or has no cells, is left as it is
        known = (model.n_cells > 0) & (data.n_cells > 0)
        weight = np.where(known, data.n_cells / np.maximum(data.n_cells + prior_cells, 1), 0.0)
        keys, mass = _merge(
            [
                (data.keys, data.counts / np.maximum(data.n_cells, 1)[label] * weight[label]),
                (model.keys, model_mass * (1 - weight[model.keys // _ROW // model.n_genes])),
            ]
        )
        self._set(_Distribution(model.keys, model_mass, n_rows), _Distribution(keys, mass, n_rows), data.n_genes)

    def _set(self, source: _Distribution, target: _Distribution, n_genes: int) -> None:
        self._from, self._to, self.n_genes = source, target, n_genes
        with np.errstate(invalid="ignore", divide="ignore"):
            flip = 1 - self._to.zero / self._from.zero
        self._flip = np.where(self._from.zero > 0, np.clip(flip, 0, 1), 0).astype(np.float32).reshape(-1, self.n_genes)

    def saved_state(self) -> dict[str, Any]:
        """What the map is made of."""
        return {"model": self._from.saved_state(), "data": self._to.saved_state(), "n_genes": self.n_genes}

    @classmethod
    def from_saved_state(cls, state: dict[str, Any]) -> GeneMargins:
        """The map of :meth:`saved_state`."""
        margins = cls.__new__(cls)
        source, target = (_Distribution.from_saved_state(state[name]) for name in ("model", "data"))
        margins._set(source, target, state["n_genes"])
        return margins

    def apply(self, x: sp.csr_matrix, labels: np.ndarray, uniform: np.ndarray) -> sp.csr_matrix:
        """Move counts to the quantiles of the training cells.

        Parameters
        ----------
        x
            Counts drawn by the model, cells x genes.
        labels
            Label code of each cell.
        uniform
            Independent draws from [0, 1) of the shape of `x`, which place each count within its step.

        Returns
        -------
        Counts of the same shape, type and sparsity format.
        """
        x = x.copy()
        x.eliminate_zeros()
        labels = labels.astype(np.int64)
        cell = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        rows = labels[cell] * self.n_genes + x.indices
        counts = whole_counts(x.data)
        lower, upper = self._from.bounds(rows, counts)
        values = self._to.quantile(rows, lower + uniform[cell, x.indices] * (upper - lower), guess=counts)
        flipped = uniform < self._flip[labels]
        flipped[cell, x.indices] = False
        x.data = values.astype(x.dtype)
        cell, gene = np.nonzero(flipped)
        rows = labels[cell] * self.n_genes + gene
        share = uniform[cell, gene] / self._flip[labels[cell], gene]
        low, high = self._to.zero[rows], self._from.zero[rows]
        grown = self._to.quantile(rows, low + share * (high - low), guess=1).astype(x.dtype)
        x = x + sp.csr_matrix((grown, (cell, gene)), shape=x.shape)
        x.eliminate_zeros()
        x.sort_indices()
        return x


def whole_counts(values: np.ndarray) -> np.ndarray:
    """Drawn counts as 64-bit integers; those beyond the largest are the largest."""
    # in double precision, since single precision rounds the largest up
    return np.minimum(values.astype(np.float64), LARGEST_COUNT).astype(np.int64)
