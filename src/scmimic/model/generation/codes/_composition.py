"""Which combinations of attributes the training cells have, how many cells each, and their library sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmimic._plain import saved_as
from scmimic._reprs import short_repr
from scmimic.cells import LABEL, OPEN, AttributeValues

LEVELS = np.linspace(0.05, 0.95, 19)
"""Quantiles that are kept of a continuous covariate; none is the value of the first or the last cell."""


def most_alike(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Rows of `known` codes that are most like what is asked for.

    They have its label, where one is asked for, and of these as many of the other attributes as any.
    """
    rows = np.arange(len(known)) if asked[LABEL] == OPEN else np.flatnonzero(known[:, LABEL] == asked[LABEL])
    others = np.flatnonzero(asked != OPEN)
    others = others[others != LABEL]
    if not len(others):
        return rows
    matches = (known[np.ix_(rows, others)] == asked[others]).sum(axis=1)
    return rows[matches == matches.max(initial=0)]


def find_groups(known: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Row of `known` that has the combination of each cell, ``(n,)``; -1 where none has."""
    if not len(known):
        return np.full(len(codes), -1)
    index = np.unique(np.concatenate([known, codes]), axis=0, return_inverse=True)[1].ravel()
    rows = np.full(len(index), -1)
    rows[index[: len(known)]] = np.arange(len(known))
    return rows[index[len(known) :]]


@saved_as("Composition")
@short_repr
@dataclass
class Composition:
    """The groups of the training cells: one for each combination of label, batch and categorical covariates.

    Attributes
    ----------
    codes
        Combination of each group, ``(n_groups, n_codes)``.
    n_cells
        Cells of each.
    library_mean, library_std
        Mean and standard deviation of the log library size of each.
    quantiles
        Of the continuous covariates in each, ``(n_groups, len(LEVELS), n_continuous)``.
    bounds
        Least and greatest value of each continuous covariate, ``(2, n_continuous)``.
    """

    codes: np.ndarray
    n_cells: np.ndarray
    library_mean: np.ndarray
    library_std: np.ndarray
    quantiles: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, attributes: AttributeValues, log_library: np.ndarray, *, min_cells: int = 1) -> Composition:
        """That of training cells, without groups of fewer than `min_cells` cells."""
        codes, index, n_cells = np.unique(attributes.codes, axis=0, return_inverse=True, return_counts=True)
        kept = np.flatnonzero(n_cells >= min_cells)
        order = np.argsort(index.ravel(), kind="stable")
        rows = np.split(order, np.cumsum(n_cells)[:-1])
        groups = [rows[group] for group in kept]
        n_numbers = attributes.numbers.shape[1]
        quantiles = [_quantiles(attributes.numbers[part]) for part in groups]
        every = attributes.numbers if min_cells == 1 else np.concatenate([*quantiles, np.empty((0, n_numbers))])
        return cls(
            codes=codes[kept],
            n_cells=n_cells[kept],
            library_mean=np.array([log_library[part].mean() for part in groups], dtype=float),
            library_std=np.array([log_library[part].std() for part in groups], dtype=float),
            quantiles=np.array(quantiles, dtype=float).reshape(len(kept), len(LEVELS), n_numbers),
            bounds=np.stack([every.min(axis=0, initial=np.inf), every.max(axis=0, initial=-np.inf)]),
        )

    def alike(self, codes: np.ndarray) -> np.ndarray:
        """The groups that are most like what is asked for."""
        return most_alike(self.codes, codes)

    def label_proportions(self, codes: np.ndarray, n_labels: int) -> np.ndarray:
        """Cells of each label among those that have what is asked for, or as much of it as any; ``(n_labels,)``."""
        groups = self.alike(codes)
        found = np.bincount(self.codes[groups, LABEL], self.n_cells[groups], minlength=n_labels)[:n_labels]
        if not found.any():
            found = np.bincount(self.codes[:, LABEL], self.n_cells, minlength=n_labels)[:n_labels]
        return found

    def draw(self, asked: AttributeValues, rng: np.random.Generator) -> AttributeValues:
        """Attributes of cells: what is asked, and what is open as the training cells have it, given the rest."""
        patterns, index = asked.patterns()
        codes, numbers = np.empty_like(asked.codes), np.empty_like(asked.numbers)
        for number in range(patterns.n):
            rows = np.flatnonzero(index == number)
            groups = self.alike(patterns.codes[number])
            chosen = groups[_shared(len(rows), self.n_cells[groups], rng)]
            codes[rows] = self.codes[chosen]
            levels = rng.integers(len(LEVELS), size=(len(rows), numbers.shape[1]))
            numbers[rows] = self.quantiles[chosen[:, None], levels, np.arange(numbers.shape[1])]
        return asked.filled(AttributeValues(codes, numbers))

    @property
    def mean_library(self) -> float:
        """Mean log library size of all cells."""
        return float(np.average(self.library_mean, weights=self.n_cells))

    def largest(self, asked: AttributeValues) -> AttributeValues:
        """One row: what is asked, and what is open as in the largest group that has it, or as much of it as any."""
        groups = self.alike(asked.codes[0])
        # the largest over all labels, unless one is asked for
        codes, index = np.unique(self.codes[groups, LABEL + 1 :], axis=0, return_inverse=True)
        most = np.bincount(index.ravel(), self.n_cells[groups]).argmax()
        members = groups[index.ravel() == most]
        group = members[np.argmax(self.n_cells[members])]
        middle = self.quantiles[group, len(LEVELS) // 2]
        given = np.concatenate([self.codes[group, : LABEL + 1], codes[most]])
        return asked.filled(AttributeValues(given[None], middle[None]))

    def has(self, codes: np.ndarray) -> np.ndarray:
        """Whether the training cells have the combination of each cell, ``(n,)``."""
        return find_groups(self.codes, codes) >= 0

    def within(self, numbers: np.ndarray) -> np.ndarray:
        """Whether each number lies within those of the training cells, ``(n, n_continuous)``."""
        low, high = self.bounds
        return (numbers >= low) & (numbers <= high)

    def library(self, values: AttributeValues) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the log library size of cells like each of these, ``(n,)``."""
        patterns, index = AttributeValues(values.codes, values.numbers[:, :0]).patterns()
        moments = np.array([self._moments(self.alike(codes)) for codes in patterns.codes])
        return moments[index, 0], moments[index, 1]

    def _moments(self, groups: np.ndarray) -> tuple[float, float]:
        weight = self.n_cells[groups] / self.n_cells[groups].sum()
        mean = float(weight @ self.library_mean[groups])
        variance = weight @ (self.library_std[groups] ** 2 + (self.library_mean[groups] - mean) ** 2)
        return mean, float(np.sqrt(variance))


def _shared(n: int, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions of `weights`, `n` in all, each as often as its share says but for less than one, in random order."""
    ends = np.cumsum(weights / weights.sum()) * n
    return rng.permutation(np.searchsorted(ends, np.arange(n) + rng.uniform(), side="right").clip(0, len(weights) - 1))


def _quantiles(numbers: np.ndarray) -> np.ndarray:
    """Quantiles of each column: values that occur where these repeat, as doses do, else values between two cells."""
    ordered = np.sort(numbers, axis=0)
    rank = (LEVELS * (len(ordered) - 1)).astype(np.int64)
    low, high = ordered[rank], ordered[(rank + 1).clip(max=len(ordered) - 1)]
    repeats = np.array([len(np.unique(column)) <= len(column) / 2 for column in ordered.T], dtype=bool)
    return np.where(repeats, low, (low + high) / 2)
