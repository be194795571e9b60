"""Gene margins of the training cells, given to generated cells of the same type as far as they can be trusted.

A count likelihood has one or two numbers for the spread of a gene, and the code of a training cell holds a part of that
cell's own noise, to which the draw adds noise once more. Generated genes therefore spread a little too much or too
little, each in its way, and a forest that sees a thousand of them adds that up; it finds nothing in their dependence
(see the ablation in the benchmarks). So the model keeps what it is good at, the dependence between genes, cell types
and library sizes, and each gene's distribution within a type is taken from the data: a count becomes the quantile of
the training cells that it was of the model. As in a copula, margins are empirical and the dependence is learned.

The margin of a handful of cells is mostly sampling noise, so it is mixed with the model's own (:func:`data_weights`).
Zeros, most of all counts, are no rank: a cell whose own rate is high is the likelier to lose a zero and the less likely
to gain one (:func:`tilted`).

Where a model is told batches or covariates, combinations of them with many cells have margins of their own. These are
mixed not with the model's margins, but with those that the map of the type makes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
import torch

from scmimic._plain import saved_as
from scmimic._reprs import short_repr
from scmimic.cells import LABEL, LARGEST_COUNT
from scmimic.model.base._likelihoods import CountDistribution, zero_probability
from scmimic.model.generation._draw import draw_sparse
from scmimic.model.generation.codes._composition import find_groups

# a count is below 2^31 and a row (block x gene) below 2^31: one integer orders both
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
_AS_DRAWN = int(np.flatnonzero(LOG_ODDS == 0)[0])

Values = TypeVar("Values", np.ndarray, torch.Tensor)
_NO_GROUPS = np.empty((0, 2), dtype=np.int64)


@short_repr
@dataclass(frozen=True)
class MarginBlocks:
    """Cells that share their margins: those of a label, but for groups that have margins of their own.

    Attributes
    ----------
    n_labels
        Number of label codes: the first blocks.
    groups
        Combination of label, batch and covariates of each other block, ``(n_groups, n_codes)``.
    """

    n_labels: int
    groups: np.ndarray = field(default_factory=_NO_GROUPS.copy)

    def __len__(self) -> int:
        return self.n_labels + len(self.groups)

    @property
    def labels(self) -> np.ndarray:
        """Label of each block."""
        return np.append(np.arange(self.n_labels), self.groups[:, LABEL])

    @property
    def positions(self) -> np.ndarray:
        """Position of each block among the groups; -1 where it is a label's."""
        return np.append(np.full(self.n_labels, -1), np.arange(len(self.groups)))

    def of(self, codes: np.ndarray) -> np.ndarray:
        """Block of each cell, ``(n,)``; a cell without a label is taken for one of the first."""
        blocks = codes[:, LABEL].clip(0)
        if not len(self.groups):
            return blocks
        group = find_groups(self.groups, codes)
        return np.where(group >= 0, self.n_labels + group, blocks)


@short_repr
@dataclass(frozen=True)
class Histogram:
    """How often each count occurs, per block and gene, without zeros.

    Attributes
    ----------
    keys
        ``(block * n_genes + gene) * 2**31 + count``, ascending.
    counts
        Number of cells.
    n_cells
        Cells of each block.
    n_genes
        Number of genes.
    """

    keys: np.ndarray
    counts: np.ndarray
    n_cells: np.ndarray
    n_genes: int

    def gathered(self, into: np.ndarray) -> Histogram:
        """With the cells of each block in another one, numbered from 0; those of a block in -1 are left out."""
        taken = into >= 0
        block, rest = np.divmod(self.keys, self.n_genes * _ROW)
        kept = taken[block]
        keys, counts = _merge([(into[block[kept]] * self.n_genes * _ROW + rest[kept], self.counts[kept])])
        n_cells = np.zeros(into.max() + 1, dtype=np.int64)
        np.add.at(n_cells, into[taken], self.n_cells[taken])
        return Histogram(keys, counts, n_cells, self.n_genes)


def histogram(batches: Iterable[tuple[sp.csr_matrix, np.ndarray]], n_blocks: int, n_genes: int) -> Histogram:
    """Count values in batches of cells, whose blocks stand beside them."""
    n_cells = np.zeros(n_blocks, dtype=np.int64)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for x, blocks in batches:
        n_cells += np.bincount(blocks, minlength=n_blocks)
        parts.append(np.unique(_keys(x, blocks, n_genes), return_counts=True))
        if len(parts) == 64:
            parts = [_merge(parts)]
    keys, counts = _merge(parts)
    return Histogram(keys, counts, n_cells, n_genes)


def _keys(x: sp.csr_matrix, blocks: np.ndarray, n_genes: int) -> np.ndarray:
    row = np.repeat(blocks.astype(np.int64), np.diff(x.indptr)) * n_genes + x.indices
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

    def joined(self, others: _Distribution) -> _Distribution:
        """These rows, and those of the others behind them."""
        found = _Distribution.__new__(_Distribution)
        found._set(np.append(self.keys, others.keys + len(self.first) * _ROW), np.append(self.cdf, others.cdf))
        return found

    def only(self, kept: np.ndarray) -> _Distribution:
        """The rows that are to be kept (bool, one for each), numbered anew."""
        rows = self.keys // _ROW
        chosen = kept[rows]
        moved = (np.cumsum(kept) - 1)[rows] - rows
        found = _Distribution.__new__(_Distribution)
        found._set((self.keys + moved * _ROW)[chosen], self.cdf[chosen])
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
        # the remainder by a power of two
        return self.keys[index] & LARGEST_COUNT


class MarginRecorder:
    """Notes what a sampler draws, cell by cell, in the place of a map: the model's side of the margins.

    Parameters
    ----------
    blocks
        Which cells are noted together.
    n_genes
        Number of genes.
    """

    def __init__(self, blocks: MarginBlocks, n_genes: int):
        self.blocks = blocks
        self.n_cells = np.zeros(len(blocks), dtype=np.int64)
        self.n_genes = n_genes
        self.zeros = np.zeros((len(LOG_ODDS), len(blocks), n_genes))
        self._keys: list[np.ndarray] = []
        self._zero: list[np.ndarray] = []

    def draw(self, px: CountDistribution, blocks: np.ndarray, stream: torch.Generator) -> sp.csr_matrix:
        """Counts of cells as the model has them, noted."""
        x = draw_sparse(px, stream)
        self.note(x, blocks, zero_probability(px).cpu().numpy())
        return x

    def note(self, x: sp.csr_matrix, blocks: np.ndarray, zero: np.ndarray) -> None:
        """Note cells.

        Parameters
        ----------
        x
            Counts, cells x genes.
        blocks
            Block of each cell.
        zero
            P(x = 0) of each entry.
        """
        self.n_cells += np.bincount(blocks, minlength=len(self.n_cells))
        cell = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        positive = x.data > 0
        self._keys.append(_keys(x, blocks, self.n_genes))
        self._zero.append(zero[cell, x.indices][positive].astype(np.float32))
        for block in np.unique(blocks):
            p = zero if (blocks == block).all() else zero[blocks == block]
            for total, odds in zip(self.zeros, np.exp(LOG_ODDS), strict=True):
                total[block] += tilted(p, odds).sum(axis=0, dtype=np.float64)

    @property
    def prior(self) -> MarginRecorder:
        """What the training cells' margins are mixed with."""
        return self

    @property
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Key and P(x = 0) of each positive count that was drawn."""
        return np.concatenate(self._keys), np.concatenate(self._zero)

    @property
    def shares_of_zeros(self) -> np.ndarray:
        """Expected share of zeros of each row at each of `LOG_ODDS`; 1 where there are no cells."""
        n_cells = np.repeat(self.n_cells, self.n_genes)
        shares = self.zeros.reshape(len(LOG_ODDS), -1) / np.maximum(n_cells, 1)
        shares[:, n_cells == 0] = 1
        return shares

    def masses(self, every: np.ndarray) -> np.ndarray:
        """Probability of each of these keys."""
        keys, counts = np.unique(self.drawn[0], return_counts=True)
        found = np.zeros(len(every))
        found[np.searchsorted(every, keys)] = _scaled(keys, counts, 1 - self.shares_of_zeros[_AS_DRAWN])
        return found


class MappedRecorder(MarginRecorder):
    """Notes what the model makes of cells twice: as it is, and by the map of their labels.

    Parameters
    ----------
    blocks
        Which cells are noted together.
    by_label
        The map of the labels.

    Attributes
    ----------
    mapped
        The cells after the map.
    """

    def __init__(self, blocks: MarginBlocks, by_label: GeneMargins):
        super().__init__(blocks, by_label.n_genes)
        self.by_label, self.mapped = by_label, MarginRecorder(blocks, by_label.n_genes)

    @property
    def prior(self) -> MarginRecorder:
        """The cells after the map."""
        return self.mapped

    def draw(self, px: CountDistribution, blocks: np.ndarray, stream: torch.Generator) -> sp.csr_matrix:
        """Counts of cells as the model has them, noted, beside other draws by the map."""
        labels = self.blocks.groups[blocks - self.blocks.n_labels, LABEL]
        zero = zero_probability(px)
        mapped = self.by_label.draw(px, labels, stream)
        rows, genes = (torch.as_tensor(x, device=zero.device) for x in (labels[:, None], np.arange(self.n_genes)))
        after = self.by_label.positive(1 - zero, rows, genes)
        self.mapped.note(mapped, blocks, (1 - after).cpu().numpy())
        x = draw_sparse(px, stream)
        self.note(x, blocks, zero.cpu().numpy())
        return x


def data_weights(
    model: _Distribution,
    data: _Distribution,
    n_model: np.ndarray,
    n_data: np.ndarray,
    n_genes: int,
    *,
    are_groups: bool = False,
) -> np.ndarray:
    """How far each row may follow the training cells.

    As far as they foretell one another (:func:`foretold_weights`), but never further than against a model that is worth
    `PRIOR_CELLS` cells. A block of many cells has a large part in the loss, so the model follows more of its noise: of
    that of `n` cells the share ``n / (n + HALF_FOLLOWED)``. Of the groups within a type none is taken to be followed,
    so that they leave their type's margins only where their cells say so beyond their noise: else the accidents of a
    donor's training cells are generated as the donor.

    Parameters
    ----------
    model, data
        Distributions of the same rows (block x gene) over the same counts.
    n_model, n_data
        Cells that each row rests on.
    n_genes
        Rows of a block.
    are_groups
        Whether the blocks are groups within types.

    Returns
    -------
    Weight of the data in each row, between 0 and 1.
    """
    most = n_data / (n_data + PRIOR_CELLS)
    followed = np.zeros(len(n_data)) if are_groups else n_data / (n_data + HALF_FOLLOWED)
    return np.minimum(most, foretold_weights(model, data, n_model, n_data, n_genes, followed))


def foretold_weights(
    model: _Distribution,
    data: _Distribution,
    n_model: np.ndarray,
    n_data: np.ndarray,
    n_genes: int,
    followed: np.ndarray,
) -> np.ndarray:
    r"""Weights by which the training cells of a block, such as a type, foretell one another best.

    Each is foretold by a mixture of the model, of weight `1 - w`, and of the other cells of its block, of weight `w`.
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
    expressed is read off the other blocks: by its own few cells, one would sort its genes by their sampling noise.

    Parameters
    ----------
    model, data, n_model, n_data, n_genes
        As :func:`data_weights`.
    followed
        Share of the sampling noise of each row that the model has followed.

    Returns
    -------
    Weight of the data in each row; 0 where a block has fewer than two cells.
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
    for block, first in enumerate(range(0, len(n_data), n_genes)):
        if n_model[first] == 0 or n_data[first] < 2:
            continue
        order = first + np.argsort(elsewhere[block], kind="stable")
        n_strata = np.clip(n_genes // STRATUM_GENES, 1, MAX_STRATA) if elsewhere[block].any() else 1
        for stratum in np.array_split(order, n_strata):
            weights[stratum] = np.clip(explained[stratum].sum() / max(whole[stratum].sum(), 1e-300), 0, 1)
    return weights


@saved_as("GeneMargins")
class GeneMargins:
    """Map from the model's distribution of each gene within a block to that of the training cells.

    Parameters
    ----------
    model
        Cells that the model draws, from the training cells as often as those occur.
    data
        Counts of the training cells.
    weights
        Weight of the data in each row (block x gene). None: by :func:`data_weights`.

    Attributes
    ----------
    blocks
        Which cells share their margins.
    weights
        Weight of the data in each row (block x gene).
    """

    def __init__(self, model: MarginRecorder, data: Histogram, weights: np.ndarray | None = None):
        n_genes, n_rows = data.n_genes, len(data.n_cells) * data.n_genes
        n_model, n_data = (np.repeat(side.n_cells, n_genes) for side in (model, data))
        prior = model.prior
        drawn, zero = model.drawn
        every = np.union1d(np.concatenate([drawn, prior.drawn[0]]), data.keys)
        of_prior = prior.masses(every)
        of_data = np.zeros(len(every))
        of_data[np.searchsorted(every, data.keys)] = data.counts / np.maximum(n_data, 1)[data.keys // _ROW]
        if weights is None:
            prior_side, data_side = (_Distribution(every, mass, n_rows) for mass in (of_prior, of_data))
            are_groups = prior is not model
            weights = data_weights(prior_side, data_side, n_model, n_data, n_genes, are_groups=are_groups)
        mass = of_prior + weights[every // _ROW] * (of_data - of_prior)
        target = _Distribution(every[mass > 0], mass[mass > 0], n_rows)

        zeros = model.shares_of_zeros
        moved = weights > 0 if prior is model else n_model > 0
        log_odds = np.where(moved, _crossing(zeros, target.zero), 0.0)
        odds = np.exp(log_odds)[drawn // _ROW]
        keys = np.unique(drawn)
        left = np.bincount(np.searchsorted(keys, drawn), kept(zero, odds), minlength=len(keys))
        source = _Distribution(keys, _scaled(keys, left, 1 - np.maximum(zeros[_AS_DRAWN], target.zero)), n_rows)
        self._set(source, target, np.exp(log_odds).astype(np.float32), weights, n_genes, model.blocks)

    def _set(
        self,
        source: _Distribution,
        target: _Distribution,
        odds: np.ndarray | None,
        weights: np.ndarray | None,
        n_genes: int,
        blocks: MarginBlocks,
    ) -> None:
        self._from, self._to, self.weights, self.n_genes, self.blocks = source, target, weights, n_genes, blocks
        self._odds = None if odds is None else odds.reshape(-1, n_genes)
        is_expressed = (np.minimum(source.zero, target.zero) < 1).reshape(-1, n_genes)
        # a block without cells
        self._known = is_expressed.any(axis=1)
        factors = 1 - self._flip_of_saved() if self._odds is None else self._odds
        known = np.where(self._known[:, None], factors, 1)
        # multiplies the odds of a zero, in maps without odds its chance; the last is of cells of no block
        self._factors = torch.as_tensor(np.vstack([known, np.ones((1, n_genes))]).astype(np.float32))

    def __repr__(self) -> str:
        groups = f" and {len(self.blocks.groups)} groups" if len(self.blocks.groups) else ""
        # one more code stands for cells of no known type, of which there may be none
        n_labels = int(self._known[: self.blocks.n_labels].sum())
        return f"GeneMargins: {n_labels} labels{groups} x {self.n_genes} genes"

    def _flip_of_saved(self) -> np.ndarray:
        """Chance of each zero to become a count, in maps that were saved without odds."""
        with np.errstate(invalid="ignore", divide="ignore"):
            flip = 1 - self._to.zero / self._from.zero
        return np.where(self._from.zero > 0, np.clip(flip, 0, 1), 0).astype(np.float32).reshape(-1, self.n_genes)

    def without(self, labels: Sequence[int] | np.ndarray) -> GeneMargins:
        """A map that knows nothing of these labels, and leaves their counts as they are drawn."""
        margins = self.without_groups(labels)
        rows = (np.asarray(labels, dtype=np.int64)[:, None] * self.n_genes + np.arange(self.n_genes)).ravel()
        odds, weights = (None if x is None else x.copy().ravel() for x in (margins._odds, margins.weights))
        for values, neutral in ((odds, 1), (weights, 0)):
            if values is not None:
                values[rows] = neutral
        source, target = margins._from.without(rows), margins._to.without(rows)
        return self._made_of(source, target, odds, weights, margins.blocks)

    def without_groups(self, labels: Sequence[int] | np.ndarray) -> GeneMargins:
        """A map that knows these labels as a whole."""
        left = ~np.isin(self.blocks.groups[:, LABEL], labels)
        if left.all():
            return self
        kept = np.repeat(np.append(np.ones(self.blocks.n_labels, dtype=bool), left), self.n_genes)
        odds, weights = (None if x is None else x.ravel()[kept] for x in (self._odds, self.weights))
        blocks = MarginBlocks(self.blocks.n_labels, self.blocks.groups[left])
        return self._made_of(self._from.only(kept), self._to.only(kept), odds, weights, blocks)

    def joined(self, of_groups: GeneMargins) -> GeneMargins:
        """The map of labels, and that of groups for their cells."""
        assert self._odds is not None and of_groups._odds is not None
        assert self.weights is not None and of_groups.weights is not None
        odds = np.append(self._odds, of_groups._odds)
        weights = np.append(self.weights, of_groups.weights)
        blocks = MarginBlocks(self.blocks.n_labels, of_groups.blocks.groups)
        source, target = self._from.joined(of_groups._from), self._to.joined(of_groups._to)
        return self._made_of(source, target, odds, weights, blocks)

    def _made_of(
        self,
        source: _Distribution,
        target: _Distribution,
        odds: np.ndarray | None,
        weights: np.ndarray | None,
        blocks: MarginBlocks,
    ) -> GeneMargins:
        margins = type(self).__new__(type(self))
        margins._set(source, target, odds, weights, self.n_genes, blocks)
        return margins

    def saved_state(self) -> dict[str, Any]:
        """What the map is made of."""
        state = {
            "model": self._from.saved_state(),
            "data": self._to.saved_state(),
            "n_genes": self.n_genes,
            "groups": self.blocks.groups,
        }
        return state if self._odds is None else {**state, "odds": self._odds.ravel(), "weights": self.weights}

    @classmethod
    def from_saved_state(cls, state: dict[str, Any]) -> GeneMargins:
        """The map of :meth:`saved_state`."""
        margins = cls.__new__(cls)
        source, target = (_Distribution.from_saved_state(state[name]) for name in ("model", "data"))
        # maps that were saved without groups are of labels alone
        groups = state.get("groups", _NO_GROUPS)
        blocks = MarginBlocks(len(target.first) // state["n_genes"] - len(groups), groups)
        margins._set(source, target, state.get("odds"), state.get("weights"), state["n_genes"], blocks)
        return margins

    def draw(self, px: CountDistribution, blocks: np.ndarray, stream: torch.Generator) -> sp.csr_matrix:
        """Counts of cells with the margins of their blocks, ``(n, n_genes)``.

        Parameters
        ----------
        px
            What the model makes of the cells.
        blocks
            Block of each; -1: none, the counts are as `px` has them.
        stream
            Random numbers.
        """
        return draw_sparse(px, stream, self, blocks)

    def most(self, rate: torch.Tensor, blocks: np.ndarray) -> torch.Tensor:
        """What P(x > 0) after the map does not exceed.

        Parameters
        ----------
        rate
            Means before it, cells x genes, which P(x > 0) before it does not exceed.
        blocks
            Block of each cell, or -1.
        """
        known = self._on(rate.device)
        is_one = (blocks == blocks[0]).all()
        factor = known[int(blocks[0]) if is_one else torch.as_tensor(blocks, device=rate.device)]
        return rate + (1 - factor) if self._odds is None else rate / factor.clamp_max(1)

    def positive(self, positive: torch.Tensor, blocks: torch.Tensor, genes: torch.Tensor) -> torch.Tensor:
        """P(x > 0) of entries after the map.

        Parameters
        ----------
        positive
            P(x > 0) before it.
        blocks
            Block of each entry, or -1; of a shape that broadcasts with that of the genes to that of `positive`.
        genes
            Gene of each entry.
        """
        factor = self._on(positive.device)[blocks, genes]
        if self._odds is None:
            return 1 - (1 - positive) * factor
        # what `tilted` leaves, in all digits where it is small
        return positive / (positive + (1 - positive) * factor)

    def _on(self, device: torch.device) -> torch.Tensor:
        if self._factors.device != device:
            self._factors = self._factors.to(device)
        return self._factors

    def values(
        self, blocks: np.ndarray, genes: np.ndarray, counts: np.ndarray, place: np.ndarray, is_grown: np.ndarray
    ) -> np.ndarray:
        """Positive counts at the quantiles of the training cells.

        Parameters
        ----------
        blocks, genes
            Block and gene of each count.
        counts
            As the model draws them, given that they are positive.
        place
            Independent draws from [0, 1), which place each count within its step.
        is_grown
            Counts that were zero and are positive after the map.
        """
        found = counts.copy()
        is_known = (blocks >= 0) & self._known[blocks]
        drawn, grown = is_known & ~is_grown, is_known & is_grown
        rows = blocks * self.n_genes + genes
        found[drawn] = self._moved(rows[drawn], whole_counts(counts[drawn]), place[drawn])
        found[grown] = self._grown(rows[grown], place[grown])
        return found

    def _moved(self, rows: np.ndarray, counts: np.ndarray, place: np.ndarray) -> np.ndarray:
        lower, upper = self._from.bounds(rows, counts)
        return self._to.quantile(rows, lower + place * (upper - lower), guess=counts)

    def _grown(self, rows: np.ndarray, place: np.ndarray) -> np.ndarray:
        low, high = self._to.zero[rows], self._from.zero[rows]
        return self._to.quantile(rows, low + place * (high - low), guess=1)


def tilted(zero: Values, odds: Values | float) -> Values:
    """P(x = 0) with its odds multiplied by `odds`."""
    scaled = zero * odds
    return scaled / (scaled + (1 - zero))


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
