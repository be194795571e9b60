"""Groups without training cells, such as a type under a condition: what the other groups foretell of their means.

A decoder that is told a condition carries it over to a type that was never seen under it, but not in full: in the
benchmark (page "Held-out cell types under a drug") about half of the response. The groups' own means know more. Types
that are alike respond alike, and how alike must types be is seen by those that were measured: each foretells the
others. So codes and decoder make the cells, and the mean of each gene is what the groups foretell (not in the papers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.optimize import nnls
from scipy.spatial.distance import pdist

from scmimic._plain import saved_as
from scmimic._reprs import short_repr
from scmimic.cells import LABEL, AttributeValues
from scmimic.model.generation.codes._composition import find_groups
from scmimic.model.generation.similarity import errors_by_power, foretold_by_others, least_power, similarity_weights

TOTAL = 1e4
"""Counts per cell of the means, before the logarithm."""

# With so many cells a label's response counts half of what it would with very many.
HALF_COUNTED = 20

MOST_GROUPS = 200
"""Groups of a label, the largest, by which it is measured what each attribute moves."""
NEAR_GROUPS = 50
"""Groups of a label, the nearest, of which a mean is taken."""


@dataclass(frozen=True)
class Foretold:
    """What is foretold of a group without training cells.

    Attributes
    ----------
    proportions
        Mean proportion of each gene in a cell; they sum to 1.
    log_library
        Mean log library size.
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
    log_library: float
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

        It begins at a mean of the label's own groups under other covariates (:meth:`_nearest`), and is moved by the
        responses of the labels that were seen both under these and under what is asked. A label weighs d^-p, where d is
        the distance of its mean from that of the group's own cells, and p the power with which the labels foretell one
        another best; one of few cells counts less. The response is multiplied by the share of it that is foretold, at
        most 1.

        Parameters
        ----------
        codes
            Combination of the group, ``(n_codes,)``.
        """
        groups = np.flatnonzero(self.codes[:, LABEL] == codes[LABEL])
        if self.has(codes[None])[0] or not len(groups):
            return None
        shares = self._nearest(groups, codes)
        own, own_library = self._blend(groups, shares)
        references = [
            (int(label), *found)
            for label in np.unique(self.codes[:, LABEL])
            if label != codes[LABEL] and (found := self._seen_both(int(label), codes, groups, shares)) is not None
        ]
        if not references:
            return None
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
        log_library = own_library + kept_library * float(weights @ of_library)
        proportions /= max(proportions.sum(), np.finfo(float).tiny)
        return Foretold(proportions, log_library, risen, label_weights, trust)

    def _seen_both(
        self, label: int, codes: np.ndarray, groups: np.ndarray, shares: np.ndarray
    ) -> tuple[int, np.ndarray, np.ndarray, float, float, np.ndarray] | None:
        """Of a label near what is asked, and under it: cells, means, library sizes; None where it was not seen so.

        Near it has groups under the covariates of those of the group's own label that make up half of its mean.
        The number of cells is that of the side that has fewer. Last comes the label's mean under all covariates under
        which the group's own label was seen.
        """
        asked = np.append(label, codes[LABEL + 1 :])
        alike = self.codes[groups]
        alike[:, LABEL] = label
        found = find_groups(self.codes, np.vstack([alike, asked]))
        rows, reached = found[:-1], found[-1]
        both = rows >= 0
        if reached < 0 or shares[both].sum() < 0.5:
            return None
        rows = rows[both]
        base, library = self._blend(rows, self._nearest(rows, asked))
        usual, _ = self._blend(rows, self.n_cells[groups[both]])
        n_cells = int(min(self.n_cells[rows].sum(), self.n_cells[reached]))
        return n_cells, base, self.expression[reached].astype(np.float64), library, float(self.library[reached]), usual

    def _blend(self, rows: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean of the expression and of the log library size of several groups."""
        expression = np.average(self.expression[rows].astype(np.float64), axis=0, weights=shares)
        return expression, float(np.average(self.library[rows], weights=shares))

    def _nearest(self, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Shares of several groups of a label whose mean is expected to be nearest to the one that is asked.

        Kriging with shares from 0 to 1: groups covary by the parts of the attributes that they share, and each has
        sampling noise. Of a drug and donors that hardly differ, cells with the drug count, whichever their donor.
        """
        parts, noise = self._parts[:-1] / 2, self._parts[-1]
        shared, n_cells = (self.codes[rows] == codes) @ parts, self.n_cells[rows]
        near = np.lexsort((-n_cells, -shared))[:NEAR_GROUPS]
        known = self.codes[rows[near]]
        covariance = (known[:, None] == known[None]) @ parts + np.diag(noise / n_cells[near])
        # nothing is known of the label's mean, which shares that sum to 1 leave out
        free = 1e3 * np.trace(covariance)
        root = np.linalg.cholesky(covariance + free * 1e-12 * np.eye(len(near)))
        target = np.linalg.solve(root, shared[near])
        found, _ = nnls(np.vstack([root.T, np.full(len(near), np.sqrt(free))]), np.append(target, np.sqrt(free)))
        shares = np.zeros(len(rows))
        shares[near] = found / found.sum()
        return shares

    @cached_property
    def _parts(self) -> np.ndarray:
        """Squared distance that each attribute puts between two groups of a label, and sampling noise per cell.

        The squared distance of two means is taken to be a sum: a part for each attribute in which they differ, and
        noise, which falls with their cells. What never differs within a label counts as much as the most important.
        """
        designs, distances = [], []
        for label in np.unique(self.codes[:, LABEL]):
            rows = np.flatnonzero(self.codes[:, LABEL] == label)
            rows = rows[np.argsort(-self.n_cells[rows], kind="stable")[:MOST_GROUPS]]
            first, second = (rows[side] for side in np.triu_indices(len(rows), 1))
            noise = 1 / self.n_cells[first] + 1 / self.n_cells[second]
            designs.append(np.column_stack([self.codes[first] != self.codes[second], noise]))
            distances.append(pdist(self.expression[rows], "sqeuclidean"))
        design, distance = np.concatenate(designs), np.concatenate(distances)
        if not len(design):
            return np.ones(design.shape[1])
        counted = np.sqrt(1 / (1 + HALF_COUNTED * design[:, -1]))
        parts, _ = nnls(design * counted[:, None], distance * counted)
        varies = design.any(axis=0)
        return np.where(varies, parts, parts[:-1].max() or 1.0)


def _slope(foretold: np.ndarray, response: np.ndarray) -> float:
    """By what the foretold responses are best multiplied, between 0 and 1; each response counts alike."""
    size = (response**2).sum(axis=1)
    share = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    both, own = share @ (foretold * response).sum(axis=1), share @ (foretold**2).sum(axis=1)
    return float(np.clip(both / own, 0, 1)) if own > 0 else 0.0
