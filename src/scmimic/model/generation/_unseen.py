"""Groups without training cells, such as a type under a condition: what the other groups foretell of their means.

A decoder that is told a condition carries it over to a type that was never seen under it, but not in full: in the
benchmark (page "Held-out cell types under a drug") about half of the response. The groups' own means know more. Types
that are alike respond alike, and how alike must types be is seen by those that were measured: each foretells the
others. So codes and decoder make the cells, and the mean of each gene is what the groups foretell (not in the papers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scmimic._plain import saved_as
from scmimic._reprs import short_repr
from scmimic.cells import LABEL, AttributeValues
from scmimic.model.generation.codes._composition import find_groups, most_alike
from scmimic.model.generation.similarity import errors_by_power, foretold_by_others, least_power, similarity_weights

TOTAL = 1e4
"""Counts per cell of the means, before the logarithm."""

# With so many cells a label's response counts half of what it would with very many.
HALF_COUNTED = 20


@dataclass(frozen=True)
class Foretold:
    """What is foretold of a group without training cells.

    Attributes
    ----------
    proportions
        Mean proportion of each gene in a cell; they sum to 1.
    library_shift
        What is added to the log library size of the cells that its codes are taken from.
    risen
        Share of each gene's proportion by which it exceeds that of the group's own cells under other covariates.
    label_weights
        Labels that were seen under what is asked, and how much each counts; they sum to 1.
    trust
        Share that the reference groups foretell of one another's squared difference between what is asked and the
        label's mean, by their likeness to the group: 1 is ideal, 0 no better than the label's mean. NaN with a single
        reference group.
    """

    proportions: np.ndarray
    library_shift: float
    risen: np.ndarray
    label_weights: dict[int, float]
    trust: float


@saved_as("GroupMeans")
@short_repr
@dataclass
class GroupMeans:
    """Mean expression of the groups of the training cells: one for each combination of label, batch and covariates.

    Attributes
    ----------
    codes
        Combination of each group, ``(n_groups, n_codes)``.
    n_cells
        Cells of each.
    expression
        log(1 + x) of the mean proportions of the genes in ten thousands, ``(n_groups, n_genes)`` float32.
    library
        Mean log library size of each.
    """

    codes: np.ndarray
    n_cells: np.ndarray
    expression: np.ndarray
    library: np.ndarray

    @classmethod
    def of(cls, attributes: AttributeValues, log_library: np.ndarray, blocks: Iterable[sp.csr_matrix]) -> GroupMeans:
        """Those of training cells, whose counts come in blocks and in the order of `attributes`."""
        codes, index, n_cells = np.unique(attributes.codes, axis=0, return_inverse=True, return_counts=True)
        index = index.ravel()
        total: np.ndarray | float = 0.0
        start = 0
        for x in blocks:
            size = np.asarray(x.sum(axis=1), dtype=np.float64).ravel()
            rows = index[start : start + x.shape[0]]
            share = np.divide(TOTAL, size, out=np.zeros_like(size), where=size > 0)
            members = sp.csr_matrix((share, (rows, np.arange(len(rows)))), shape=(len(codes), len(rows)))
            total = total + (members @ x).toarray()
            start += x.shape[0]
        expression = np.log1p(total / n_cells[:, None]).astype(np.float32)
        library = np.bincount(index, log_library, minlength=len(codes)) / n_cells
        return cls(codes, n_cells, expression, library)

    def at_least(self, min_cells: int) -> GroupMeans:
        """Those of groups with so many cells."""
        kept = self.n_cells >= min_cells
        return GroupMeans(self.codes[kept], self.n_cells[kept], self.expression[kept], self.library[kept])

    def has(self, codes: np.ndarray) -> np.ndarray:
        """Whether there are cells of each combination, ``(n,)``."""
        return find_groups(self.codes, codes) >= 0

    def foretell(self, codes: np.ndarray) -> Foretold | None:
        """What the other groups say of one that has no cells; None where they say nothing.

        The group's own cells under other covariates, those that are most like what is asked, are moved by the
        responses of the labels that were seen both under these and under what is asked. A label weighs d^-p, where d is
        the distance of its mean from that of the group's own cells, and p the power with which the labels foretell one
        another best; one of few cells counts less. The response is multiplied by the share of it that is foretold, at
        most 1.

        Parameters
        ----------
        codes
            Combination of the group, ``(n_codes,)``.
        """
        start = most_alike(self.codes, codes)
        if self.has(codes[None])[0] or not len(start):
            return None
        references = [
            (int(label), *found)
            for label in np.unique(self.codes[:, LABEL])
            if label != codes[LABEL] and (found := self._seen_both(int(label), codes, start)) is not None
        ]
        if not references:
            return None
        own, _ = self._mean(start, self.n_cells[start])
        labels, n_cells, places, reached, of_places, of_reached, usual = zip(*references, strict=True)
        place, response = np.array(places), np.array(reached) - np.array(places)
        of_library = np.array(of_reached) - np.array(of_places)
        power = least_power(errors_by_power(place, response))
        weights = similarity_weights(np.linalg.norm(place - own, axis=1), power)
        weights *= np.array(n_cells) / (np.array(n_cells) + HALF_COUNTED)
        weights /= weights.sum()
        kept, kept_library, trust = 1.0, 1.0, float("nan")
        if len(labels) > 1:
            foretold = foretold_by_others(place, response, power)
            kept = _slope(foretold, response)
            kept_library = _slope(foretold_by_others(place, of_library[:, None], power), of_library[:, None])
            change = weights @ ((np.array(reached) - np.array(usual)) ** 2).sum(axis=1)
            error = weights @ ((kept * foretold - response) ** 2).sum(axis=1)
            trust = float(1 - error / change) if change > 0 else float("nan")
        proportions = np.expm1(np.maximum(own + kept * (weights @ response), 0))
        risen = 1 - np.divide(np.expm1(own), proportions, out=np.ones_like(own), where=proportions > 0).clip(max=1)
        label_weights = dict(zip(labels, weights.tolist(), strict=True))
        shift = kept_library * float(weights @ of_library)
        proportions /= max(proportions.sum(), np.finfo(float).tiny)
        return Foretold(proportions, shift, risen, label_weights, trust)

    def _seen_both(
        self, label: int, codes: np.ndarray, start: np.ndarray
    ) -> tuple[int, np.ndarray, np.ndarray, float, float, np.ndarray] | None:
        """Of a label under the covariates of `start`, and under those that are asked: cells, means, library sizes.

        The number of cells is that of the side that has fewer. Last comes the label's mean under all the covariates
        under which the group's own label was seen.
        """
        asked = find_groups(self.codes, np.append(label, codes[LABEL + 1 :])[None])[0]
        rows, weights = self._same_mixture(label, start)
        if asked < 0 or not len(rows):
            return None
        base, library = self._mean(rows, weights)
        usual, _ = self._mean(*self._same_mixture(label, np.flatnonzero(self.codes[:, LABEL] == codes[LABEL])))
        n_cells = int(min(self.n_cells[rows].sum(), self.n_cells[asked]))
        return n_cells, base, self.expression[asked].astype(np.float64), library, float(self.library[asked]), usual

    def _same_mixture(self, label: int, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Groups of a label under the covariates of other groups, and the cells of these, by which they count."""
        asked = self.codes[origin]
        asked[:, LABEL] = label
        rows = find_groups(self.codes, asked)
        return rows[rows >= 0], self.n_cells[origin[rows >= 0]]

    def _mean(self, rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean expression and log library size of several groups."""
        amounts = np.average(np.expm1(self.expression[rows].astype(np.float64)), axis=0, weights=weights)
        return np.log1p(amounts), float(np.average(self.library[rows], weights=weights))


def _slope(foretold: np.ndarray, response: np.ndarray) -> float:
    """By what the foretold responses are best multiplied, between 0 and 1; each response counts alike."""
    size = (response**2).sum(axis=1)
    share = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    both, own = share @ (foretold * response).sum(axis=1), share @ (foretold**2).sum(axis=1)
    return float(np.clip(both / own, 0, 1)) if own > 0 else 0.0
