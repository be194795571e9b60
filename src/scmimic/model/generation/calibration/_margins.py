"""Gene margins of the training cells, given to generated cells of the same type as far as they can be trusted.

A count likelihood has one or two numbers for the spread of a gene, and the code of a training cell holds a part of that
cell's own noise, to which the draw adds noise once more. Generated genes therefore spread a little too much or too
little, each in its way, and a forest that sees a thousand of them adds that up; it finds nothing in their dependence
(see the ablation in the benchmarks). So the model keeps what it is good at, the dependence between genes, cell types
and library sizes, and each gene's distribution within a type is taken from the data: a count becomes the quantile of
the training cells that it was of the model. As in a copula, margins are empirical and the dependence is learned.

The margin of a handful of cells is mostly sampling noise, so it is mixed with the model's own (:func:`data_weights`).
Zeros, most of all counts, are no rank: a cell whose own rate is high
is the likelier to lose a zero and the less likely to gain one (:func:`tilted`).
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

PRIOR_CELLS = 120.0
"""Cells that the model's own margin is worth at least."""
HALF_FOLLOWED = 50.0
"""Training cells of a type of whose sampling noise the model has followed half.

Both were chosen on held-out cells of types with 5 to 600 training cells, see the benchmarks.
"""
STRATUM_GENES = 50
"""Genes that share a weight at least: fewer do not tell it from noise."""
MAX_STRATA = 8
# Steps of the log odds of a zero.
LOG_ODDS = np.array([-5, -3, -1.8, -1, -0.5, -0.2, 0, 0.2, 0.5, 1, 1.8, 3, 5], dtype=np.float32)


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

    def without(self, rows: np.ndarray) -> _Distribution:
        """All mass of these rows at zero."""
        of = self.keys // _ROW
        kept = ~np.isin(of, rows) | (self.keys % _ROW == 0)
        keys, cdf = self.keys[kept], self.cdf[kept].copy()
        cdf[np.isin(keys // _ROW, rows)] = 1.0
        found = _Distribution.__new__(_Distribution)
        found._set(keys, cdf)
        return found

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


class MarginRecorder:
    """Notes what a sampler draws, cell by cell, in the place of a map: the model's side of the margins.

    Parameters
    ----------
    n_labels, n_genes
        Number of label codes and of genes.
    """

    def __init__(self, n_labels: int, n_genes: int):
        self.n_cells = np.zeros(n_labels, dtype=np.int64)
        self.n_genes = n_genes
        self.zeros = np.zeros((len(LOG_ODDS), n_labels, n_genes))
        self._keys: list[np.ndarray] = []
        self._zero: list[np.ndarray] = []

    def apply(self, x: sp.csr_matrix, labels: np.ndarray, uniform: np.ndarray, zero: np.ndarray) -> sp.csr_matrix:
        """Note these cells; they stay as they are."""
        self.n_cells += np.bincount(labels, minlength=len(self.n_cells))
        cell = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        positive = x.data > 0
        self._keys.append(_keys(x, labels, self.n_genes))
        self._zero.append(zero[cell, x.indices][positive].astype(np.float32))
        for label in np.unique(labels):
            p = zero if (labels == label).all() else zero[labels == label]
            for total, odds in zip(self.zeros, np.exp(LOG_ODDS), strict=True):
                total[label] += tilted(p, odds).sum(axis=0, dtype=np.float64)
        return x

    @property
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Key and P(x = 0) of each positive count that was drawn."""
        return np.concatenate(self._keys), np.concatenate(self._zero)


def data_weights(
    model: _Distribution, data: _Distribution, n_model: np.ndarray, n_data: np.ndarray, n_genes: int
) -> np.ndarray:
    """How far each row may follow the training cells.

    As far as they foretell one another (:func:`foretold_weights`), but never further than against a model that is worth
    `PRIOR_CELLS` cells. A type of many cells has a large part in the loss, so the model follows more of its noise: of
    that of `n` cells the share ``n / (n + HALF_FOLLOWED)``.

    Parameters
    ----------
    model, data
        Distributions of the same rows (label x gene) over the same counts.
    n_model, n_data
        Cells that each row rests on.
    n_genes
        Rows of a label.

    Returns
    -------
    Weight of the data in each row, between 0 and 1.
    """
    most = n_data / (n_data + PRIOR_CELLS)
    followed = n_data / (n_data + HALF_FOLLOWED)
    return np.minimum(most, foretold_weights(model, data, n_model, n_data, n_genes, followed))


def foretold_weights(
    model: _Distribution,
    data: _Distribution,
    n_model: np.ndarray,
    n_data: np.ndarray,
    n_genes: int,
    followed: np.ndarray,
) -> np.ndarray:
    r"""Weights by which the training cells of a type foretell one another best.

    Each is foretold by a mixture of the model, of weight `1 - w`, and of the other cells of its type, of weight `w`.
    The squared error of the mixture's distribution function (the Brier score of "at most `t`", summed over counts `t`
    with the model's masses :math:`f_t` as weights) is least at

    .. math::
        w = \frac{\sum_t f_t \left[(E_t - F_t)^2 - E_t (1 - E_t) / (n - 1)\right]}
                 {\sum_t f_t \left[(E_t - F_t)^2 + E_t (1 - E_t) / (n - 1)^2\right]},

    where `E` and `F` are the distribution functions of the `n` training cells and of the model: the share of their
    squared distance that the sampling of the cells does not explain. The model has learned from these very cells. Where
    it has followed a share of their sampling noise, they are nearer to it than to any other model, and only the rest of
    the noise is in the distance. So that rest alone is taken off, and what the sampling of the model's cells explains.

    A single gene cannot tell distance from noise, so genes that are expressed alike share the sums. How a gene is
    expressed is read off the other types: by its own few cells, a type would sort its genes by their sampling noise.

    Parameters
    ----------
    model, data, n_model, n_data, n_genes
        As :func:`data_weights`.
    followed
        Share of the sampling noise of each row that the model has followed.

    Returns
    -------
    Weight of the data in each row; 0 where a label has fewer than two cells.
    """
    rows = model.keys // _ROW
    mass = np.diff(model.cdf, prepend=0.0)
    mass[model.first] = model.zero
    squared = (data.cdf - model.cdf) ** 2
    noise, others = (1 - followed[rows]) * data.cdf * (1 - data.cdf), np.maximum(n_data[rows] - 1, 1)
    noise_of_model = model.cdf * (1 - model.cdf) / np.maximum(n_model[rows] - 1, 1)
    explained = np.bincount(rows, mass * (squared - noise / others - noise_of_model), minlength=len(n_data))
    whole = np.bincount(rows, mass * (squared + noise / others**2), minlength=len(n_data))
    expressed = (n_data * (1 - data.zero)).reshape(-1, n_genes)
    elsewhere = expressed.sum(0) - expressed
    weights = np.zeros(len(n_data))
    for label, first in enumerate(range(0, len(n_data), n_genes)):
        if n_model[first] == 0 or n_data[first] < 2:
            continue
        order = first + np.argsort(elsewhere[label], kind="stable")
        n_strata = np.clip(n_genes // STRATUM_GENES, 1, MAX_STRATA) if elsewhere[label].any() else 1
        for stratum in np.array_split(order, n_strata):
            weights[stratum] = np.clip(explained[stratum].sum() / max(whole[stratum].sum(), 1e-300), 0, 1)
    return weights


@saved_as("GeneMargins")
class GeneMargins:
    """Map from the model's distribution of each gene within a label to that of the training cells.

    Parameters
    ----------
    model
        Cells that the model draws, from the training cells as often as those occur.
    data
        Counts of the training cells.
    weights
        Weight of the data in each row (label x gene). None: by :func:`data_weights`.

    Attributes
    ----------
    weights
        Weight of the data in each row (label x gene).
    """

    def __init__(self, model: MarginRecorder, data: Histogram, weights: np.ndarray | None = None):
        n_genes, n_rows = data.n_genes, len(data.n_cells) * data.n_genes
        n_model, n_data = (np.repeat(side.n_cells, n_genes) for side in (model, data))
        drawn, zero = model.drawn
        keys, counts = np.unique(drawn, return_counts=True)
        zeros = model.zeros.reshape(len(LOG_ODDS), -1) / np.maximum(n_model, 1)
        zeros[:, n_model == 0] = 1
        expected = zeros[LOG_ODDS == 0][0]

        every = np.union1d(keys, data.keys)
        of_model, of_data = np.zeros(len(every)), np.zeros(len(every))
        of_model[np.searchsorted(every, keys)] = _scaled(keys, counts, 1 - expected)
        of_data[np.searchsorted(every, data.keys)] = data.counts / np.maximum(n_data, 1)[data.keys // _ROW]
        if weights is None:
            model_side, data_side = (_Distribution(every, mass, n_rows) for mass in (of_model, of_data))
            weights = data_weights(model_side, data_side, n_model, n_data, n_genes)
        mass = of_model + weights[every // _ROW] * (of_data - of_model)
        target = _Distribution(every[mass > 0], mass[mass > 0], n_rows)

        log_odds = np.where(weights > 0, _crossing(zeros, target.zero), 0.0)
        odds = np.exp(log_odds)[drawn // _ROW]
        left = np.bincount(np.searchsorted(keys, drawn), kept(zero, odds), minlength=len(keys))
        source = _Distribution(keys, _scaled(keys, left, 1 - np.maximum(expected, target.zero)), n_rows)
        self._set(source, target, np.exp(log_odds).astype(np.float32), weights, n_genes)

    def _set(
        self,
        source: _Distribution,
        target: _Distribution,
        odds: np.ndarray | None,
        weights: np.ndarray | None,
        n_genes: int,
    ) -> None:
        self._from, self._to, self.weights, self.n_genes = source, target, weights, n_genes
        self._odds = None if odds is None else odds.reshape(-1, n_genes)
        self._flip = None if odds is not None else self._flip_of_saved()

    def _flip_of_saved(self) -> np.ndarray:
        """Chance of each zero to become a count, in maps that were saved without odds."""
        with np.errstate(invalid="ignore", divide="ignore"):
            flip = 1 - self._to.zero / self._from.zero
        return np.where(self._from.zero > 0, np.clip(flip, 0, 1), 0).astype(np.float32).reshape(-1, self.n_genes)

    def without(self, labels: Sequence[int]) -> GeneMargins:
        """A map that knows nothing of these labels, and leaves their counts as they are drawn."""
        rows = (np.asarray(labels, dtype=np.int64)[:, None] * self.n_genes + np.arange(self.n_genes)).ravel()
        margins = type(self).__new__(type(self))
        odds, weights = (None if x is None else x.copy().ravel() for x in (self._odds, self.weights))
        for values, neutral in ((odds, 1), (weights, 0)):
            if values is not None:
                values[rows] = neutral
        margins._set(self._from.without(rows), self._to.without(rows), odds, weights, self.n_genes)
        return margins

    def saved_state(self) -> dict[str, Any]:
        """What the map is made of."""
        state = {"model": self._from.saved_state(), "data": self._to.saved_state(), "n_genes": self.n_genes}
        return state if self._odds is None else {**state, "odds": self._odds.ravel(), "weights": self.weights}

    @classmethod
    def from_saved_state(cls, state: dict[str, Any]) -> GeneMargins:
        """The map of :meth:`saved_state`."""
        margins = cls.__new__(cls)
        source, target = (_Distribution.from_saved_state(state[name]) for name in ("model", "data"))
        margins._set(source, target, state.get("odds"), state.get("weights"), state["n_genes"])
        return margins

    def _chances(
        self, labels: np.ndarray, zero: np.ndarray, at: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """Chance of each entry to lose its zero, and of each drawn count (`at`) to stay one."""
        if self._odds is None:
            assert self._flip is not None
            return self._flip[labels], 1.0
        odds = self._odds[labels]
        return lost(zero, odds), kept(zero[at], odds[at])

    def apply(self, x: sp.csr_matrix, labels: np.ndarray, uniform: np.ndarray, zero: np.ndarray) -> sp.csr_matrix:
        """Move counts to the quantiles of the training cells.

        Parameters
        ----------
        x
            Counts drawn by the model, cells x genes.
        labels
            Label code of each cell.
        uniform
            Independent draws from [0, 1) of the shape of `x`, which place each count within its step.
        zero
            The model's P(x = 0) of each entry, of the same shape.

        Returns
        -------
        Counts of the same shape, type and sparsity format.
        """
        x = x.copy()
        x.eliminate_zeros()
        labels = labels.astype(np.int64)
        cell = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        at = cell, x.indices
        to_count, stays = self._chances(labels, zero, at)
        rows, counts = labels[cell] * self.n_genes + x.indices, whole_counts(x.data)
        lower, upper = self._from.bounds(rows, counts)
        # of the draws below its chance, a count that stays needs the place among all of them
        place = uniform[at] / stays
        values = self._to.quantile(rows, lower + np.minimum(place, 1) * (upper - lower), guess=counts)
        x.data = np.where(place < 1, values, 0).astype(x.dtype)

        flipped = uniform < to_count
        flipped[at] = False
        cell, gene = np.nonzero(flipped)
        rows = labels[cell] * self.n_genes + gene
        share = uniform[cell, gene] / to_count[cell, gene]
        low, high = self._to.zero[rows], self._from.zero[rows]
        grown = self._to.quantile(rows, low + share * (high - low), guess=1).astype(x.dtype)
        x = x + sp.csr_matrix((grown, (cell, gene)), shape=x.shape)
        x.eliminate_zeros()
        x.sort_indices()
        return x


def tilted(zero: np.ndarray, odds: np.ndarray | float) -> np.ndarray:
    """P(x = 0) with its odds multiplied by `odds`."""
    scaled = zero * odds
    return scaled / (scaled + (1 - zero))


def lost(zero: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Chance of a zero to become a count, so that zeros are as :func:`tilted` has them."""
    return np.maximum(1 - odds, 0) * (1 - zero) / (zero * odds + 1 - zero)


def kept(zero: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Chance of a count to stay one, so that zeros are as :func:`tilted` has them."""
    return 1 / (zero * np.maximum(odds, 1) + 1 - zero)


def _scaled(keys: np.ndarray, mass: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Masses whose sum in each row is `total`, but where the row has none."""
    rows = keys // _ROW
    return mass * (total / np.maximum(np.bincount(rows, mass, minlength=len(total)), 1e-300))[rows]


def _crossing(zeros: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Log odds at which the zeros (rising along the first axis) are the wanted ones, or come nearest to them."""
    right = (zeros < wanted).sum(0).clip(1, len(LOG_ODDS) - 1)
    low, high = (np.take_along_axis(zeros, index[None], 0)[0] for index in (right - 1, right))
    share = ((wanted - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return LOG_ODDS[right - 1] + share * (LOG_ODDS[right] - LOG_ODDS[right - 1])


def whole_counts(values: np.ndarray) -> np.ndarray:
    """Drawn counts as 64-bit integers; those beyond the largest are the largest."""
    # in double precision, since single precision rounds the largest up
    return np.minimum(values.astype(np.float64), LARGEST_COUNT).astype(np.int64)
