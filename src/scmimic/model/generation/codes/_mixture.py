"""Codes from a mixture of Gaussians for each type, whose groups borrow from one another.

A type's codes and log library sizes are divided into clusters of about `CELLS_PER_COMPONENT` cells, by k-means, and
each is a Gaussian: so the mixture follows what lies within a type without a name (subtypes, plates, states) and holds
no cell. A cluster is too small for a covariance of its own, which is drawn towards that within the clusters of its
type, and this towards that within all clusters, by a Wishart prior of `SHAPE_CELLS` cells each; the variances stay the
type's. A type that is a single cluster is drawn towards the covariance of cells within their types: one of five cells
has its own mean, and much of the shape of its relatives.

A group within a type (a batch, a condition, a donor) has the type's components, with weights and means that are drawn
towards the type's, as speakers are adapted from a background model (Reynolds, Quatieri and Dunn 2000, equations 11 to
13): with `n` of its cells in a component, it follows them by `n / (n + PRIOR_CELLS)`. A combination that no cell has
takes the type's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from scmimic._plain import saved_as
from scmimic._reprs import short_repr
from scmimic.cells import LABEL, AttributeValues
from scmimic.model.generation.codes._posterior import AggregatedPosterior

PRIOR_CELLS = 16.0
"""Cells that the type's weights and means are worth to a group."""
SHAPE_CELLS = 4.0
"""Cells that the covariance of others is worth to a cluster and to a type."""
CELLS_PER_COMPONENT = 8
"""Cells of a component, on average."""
LEAST_CELLS = 4
"""Cells of the smallest component; those of a smaller cluster go to the nearest other one."""
MAX_COMPONENTS = 50
"""A type has no more components than these."""
FARTHEST = 3.0
"""Times the median that a cell's distance from its cluster, and the width of its posterior, count with at most."""
_SMALLEST_VARIANCE = 1e-6


@saved_as("CodeMixture")
@short_repr
@dataclass
class CodeMixture:
    """Mixtures of codes with the log library size as their last column.

    Attributes
    ----------
    factors
        Lower triangular roots of the covariances of all components, ``(n_components, d, d)``.
    labels
        Label code of each component.
    groups
        Combinations (codes), ``(n_groups, n_codes)``; those of a label alone come first, with 0 elsewhere.
    is_label
        Whether a group is a label as a whole.
    weights
        Log weight of each component in each group, ``(n_groups, n_components)``; -inf for those of other labels.
    means
        Mean of each component in each group, ``(n_groups, most components of a label, d)``.
    """

    factors: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    is_label: np.ndarray
    weights: np.ndarray
    means: np.ndarray

    @cached_property
    def _ends(self) -> np.ndarray:
        """Cumulative weights of the components in each group."""
        return np.cumsum(np.exp(self.weights), axis=1)

    @cached_property
    def _rows(self) -> tuple[dict[tuple[int, ...], int], dict[int, int]]:
        """Row of each combination, and of each label as a whole."""
        rows = list(enumerate(self.groups))
        combinations = {tuple(codes): row for row, codes in rows if not self.is_label[row]}
        return combinations, {int(codes[LABEL]): row for row, codes in rows if self.is_label[row]}

    @classmethod
    def fit(cls, posterior: AggregatedPosterior, *, min_cells: int = 1) -> CodeMixture:
        """Fit to training cells; groups of fewer than `min_cells` cells have what their label has.

        Parameters
        ----------
        posterior
            The training cells.
        min_cells
            Least cells of a group.
        """
        data = posterior.codes_and_libraries().astype(np.float64)
        labels = np.unique(posterior.labels)
        noise = np.column_stack([posterior.std, np.zeros(len(data))]) ** 2
        # codes have the prior's units, in which a latent that says little has cells close together
        scale = np.ones(data.shape[1])
        scale[-1] = max(data[:, -1].std(), np.sqrt(_SMALLEST_VARIANCE))
        center = data.mean(axis=0)
        data, noise = (data - center) / scale, noise / scale**2
        members = [np.flatnonzero(posterior.labels == label) for label in labels]
        clusters = [_clusters(data[rows], min_cells) for rows in members]
        for rows, of in zip(members, clusters, strict=True):
            data[rows], noise[rows] = _drawn_in(data[rows], noise[rows], of)
        shapes = _Shapes.of([data[rows] for rows in members], clusters)
        parts = [_fit_label(data[rows], noise[rows], of, shapes) for rows, of in zip(members, clusters, strict=True)]
        codes = posterior.attributes.codes
        width = max(len(part.weights) for part in parts)
        first = np.cumsum([0, *(len(part.weights) for part in parts)])
        groups, is_label, weights, means = [], [], [], []

        def keep(group: np.ndarray, part: _Part, position: int, whole: bool) -> None:
            row = np.full(first[-1], -np.inf)
            row[first[position] : first[position + 1]] = np.log(part.weights)
            mean = np.zeros((width, data.shape[1]))
            mean[: len(part.means)] = part.means * scale + center
            groups.append(group)
            is_label.append(whole)
            weights.append(row)
            means.append(mean)

        for position, (label, part) in enumerate(zip(labels, parts, strict=True)):
            whole = np.zeros(codes.shape[1], dtype=np.int64)
            whole[LABEL] = label
            keep(whole, part, position, True)
            combinations, index = np.unique(codes[members[position]], axis=0, return_inverse=True)
            for number, combination in enumerate(combinations if len(combinations) > 1 else ()):
                own = index.ravel() == number
                if own.sum() >= min_cells:
                    adapted = part.adapted(data[members[position][own]], clusters[position][own])
                    keep(combination, adapted, position, False)
        factors = np.concatenate([part.factors for part in parts]) * scale[:, None]
        return cls(
            factors=factors.astype(np.float32),
            labels=np.repeat(labels, np.diff(first)),
            groups=np.array(groups),
            is_label=np.array(is_label),
            weights=np.array(weights),
            means=np.array(means, dtype=np.float32),
        )

    def sample(
        self, attributes: AttributeValues, noise: torch.Tensor, stream: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and log library sizes ``(n, 1)`` of cells with these attributes.

        Parameters
        ----------
        attributes
            Of the cells.
        noise
            Standard normal, ``(n, n_latent)``.
        stream
            Further random numbers.
        """
        group = self._group_of(attributes)
        device = noise.device
        uniform = torch.rand(len(noise), generator=stream, device=device).cpu().numpy()
        ends = self._ends[group]
        component = (uniform[:, None] * ends[:, -1:] >= ends).sum(axis=1).clip(0, len(self.labels) - 1)
        first = np.searchsorted(self.labels, self.labels[component])
        mean = torch.as_tensor(self.means[group, component - first], device=device)
        factor = torch.as_tensor(self.factors[component], device=device)
        normal = torch.cat([noise, torch.randn(len(noise), 1, generator=stream, device=device)], dim=1)
        drawn = mean + (factor @ normal.unsqueeze(2)).squeeze(2)
        return drawn[:, :-1].contiguous(), drawn[:, -1:]

    def _group_of(self, attributes: AttributeValues) -> np.ndarray:
        """Row of each cell's combination, or that of its label."""
        patterns, index = AttributeValues(attributes.codes, attributes.numbers[:, :0]).patterns()
        known, of_label = self._rows
        rows = [known.get(tuple(codes), of_label.get(int(codes[LABEL]), 0)) for codes in patterns.codes]
        return np.array(rows)[index]


@dataclass
class _Part:
    """The mixture of one label, in standardised units."""

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    def adapted(self, data: np.ndarray, clusters: np.ndarray) -> _Part:
        """With weights and means that are drawn towards those of some cells of the label."""
        n = np.bincount(clusters, minlength=len(self.weights))
        weights = (n + PRIOR_CELLS * self.weights) / (len(data) + PRIOR_CELLS)
        means = (_sums(data, clusters, len(n)) + PRIOR_CELLS * self.means) / (n + PRIOR_CELLS)[:, None]
        return _Part(weights, means, self.factors)


def _clusters(x: np.ndarray, min_cells: int) -> np.ndarray:
    """Cluster of each cell of a label, ``(n_cells,)``, counted from 0; each has `min_cells` cells, if the label has."""
    size, least = max(CELLS_PER_COMPONENT, min_cells), max(LEAST_CELLS, min_cells)
    n = int(np.clip(len(x) // size, 1, MAX_COMPONENTS))
    with warnings.catch_warnings():
        # fewer different cells than clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(n, n_init=1, random_state=0).fit(x)
    kept = np.flatnonzero(np.bincount(found.labels_, minlength=n) >= least)
    distances = found.transform(x)
    while len(kept) > 1:
        clusters = distances[:, kept].argmin(axis=1)
        counts = np.bincount(clusters, minlength=len(kept))
        if counts.min() >= least:
            return clusters
        kept = np.delete(kept, counts.argmin())
    return np.zeros(len(x), dtype=np.int64)


def _sums(x: np.ndarray, clusters: np.ndarray, n: int) -> np.ndarray:
    """Sum of the cells of each of `n` clusters, ``(n, d)``."""
    return np.stack([np.bincount(clusters, column, n) for column in x.T], axis=1)


def _drawn_in(x: np.ndarray, noise: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells of a label, and variances of their posteriors.

    Those that lie far out, whose posteriors are the widest, would shift and widen their cluster: they are moved towards
    it, and narrowed.
    """
    if len(x) < 2 * CELLS_PER_COMPONENT:
        # too few to say what is far
        return x, noise
    middle = np.stack([np.median(x[clusters == k], axis=0) for k in range(clusters.max() + 1)])[clusters]
    distance = np.linalg.norm(x - middle, axis=1)
    share = np.minimum(1, FARTHEST * np.median(distance) / np.maximum(distance, 1e-12))[:, None]
    return middle + (x - middle) * share, np.minimum(noise, FARTHEST**2 * np.median(noise, axis=0))


def _means(x: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Mean of the cells of each cluster, ``(n_clusters, d)``."""
    n = np.bincount(clusters)
    return _sums(x, clusters, len(n)) / n[:, None]


@dataclass
class _Shapes:
    """Covariances that labels are drawn towards: of cells within their labels, and within their clusters."""

    of_labels: np.ndarray
    of_clusters: np.ndarray

    @classmethod
    def of(cls, data: list[np.ndarray], clusters: list[np.ndarray]) -> _Shapes:
        """Pooled over the cells of all labels; of clusters, over the labels that have several."""
        whole = np.concatenate([x - x.mean(axis=0) for x in data])
        several = [x - _means(x, of)[of] for x, of in zip(data, clusters, strict=True) if of.any()]
        of_labels = _covariance(whole, len(whole) - len(data))
        return cls(of_labels, _covariance(np.concatenate(several), sum(map(len, several))) if several else of_labels)


def _covariance(residuals: np.ndarray, freedom: float) -> np.ndarray:
    return residuals.T @ residuals / max(freedom, 1) + _SMALLEST_VARIANCE * np.eye(residuals.shape[1])


def _towards(residuals: np.ndarray, shape: np.ndarray, freedom: float) -> np.ndarray:
    """Covariance of some cells, drawn towards a shape."""
    return (residuals.T @ residuals + SHAPE_CELLS * shape) / (freedom + SHAPE_CELLS)


def _fit_label(x: np.ndarray, noise: np.ndarray, clusters: np.ndarray, shapes: _Shapes) -> _Part:
    """Mixture of the cells of one label, of one component per cluster."""
    n = np.bincount(clusters)
    weights, means = n / n.sum(), _means(x, clusters)
    residuals, within = x - means[clusters], shapes.of_clusters if len(n) > 1 else shapes.of_labels
    shape = _towards(residuals, within, len(x))
    covariances = np.stack([_towards(residuals[clusters == k], shape, n[k]) for k in range(len(n))])
    # shapes are others', variances are the label's own
    own = residuals.var(axis=0) if len(n) > 1 else _towards(residuals, within, len(x) - 1).diagonal()
    factor = np.sqrt(own / (weights @ covariances.diagonal(axis1=1, axis2=2)))
    covariances *= factor[:, None] * factor
    # a cell's code is known but for the width of its posterior
    width = _means(noise, clusters)
    covariances = covariances + (width + _SMALLEST_VARIANCE)[:, :, None] * np.eye(x.shape[1])
    return _Part(weights, means, np.linalg.cholesky(covariances))
