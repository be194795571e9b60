"""Codes from a mixture of Gaussians for each type, whose groups borrow from one another.

A type's mixture is fitted to the codes and log library sizes of its cells. Its covariances are drawn towards that of
cells within their types, by a Wishart prior of `PRIOR_CELLS` cells: a type of five cells has its own mean, and the
shape of its relatives. A group within a type (a batch, a condition, a donor) has the type's components, with weights
and means that are drawn towards the type's, as speakers are adapted from a background model (Reynolds, Quatieri and
Dunn 2000, equations 11 to 13): with `n` of its cells in a component, it follows them by `n / (n + PRIOR_CELLS)`. A
combination that no cell has takes the type's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

from scmimic._plain import saved_as
from scmimic.cells import LABEL, AttributeValues
from scmimic.model.generation.codes._posterior import AggregatedPosterior

PRIOR_CELLS = 16.0
"""Cells that what a group is drawn towards is worth."""
MAX_COMPONENTS = 10
CELLS_PER_COMPONENT = 40
"""A type has no more components than so many cells each."""
MAX_CELLS = 5_000
"""Cells of a type that its mixture is fitted to at most."""
SHAPE_CELLS = 2_000
"""Cells of a type by which the shape that all share is found at most."""
_SMALLEST_VARIANCE = 1e-6


@saved_as("CodeMixture")
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
        center, scale = data.mean(axis=0), np.maximum(data.std(axis=0), np.sqrt(_SMALLEST_VARIANCE))
        data = (data - center) / scale
        noise = np.column_stack([posterior.std, np.zeros(len(data))]) ** 2 / scale**2
        rng = np.random.default_rng(0)
        members = [np.flatnonzero(posterior.labels == label) for label in labels]
        shape = _shape(data, members, rng)
        parts = [_fit_label(data, noise, rows, shape, rng) for rows in members]
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
                own = members[position][index.ravel() == number]
                if len(own) >= min_cells:
                    keep(combination, part.adapted(data[own]), position, False)
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
    model: BayesianGaussianMixture

    def adapted(self, data: np.ndarray) -> _Part:
        """With weights and means that are drawn towards those of some cells of the label."""
        share = self.model.predict_proba(data)
        n = share.sum(axis=0)
        weights = (n + PRIOR_CELLS * self.weights) / (len(data) + PRIOR_CELLS)
        means = (share.T @ data + PRIOR_CELLS * self.means) / (n + PRIOR_CELLS)[:, None]
        return _Part(weights, means, self.factors, self.model)


def _shape(data: np.ndarray, members: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Covariance of cells within the components of their labels, pooled over all of them."""
    d = data.shape[1]
    residuals = np.concatenate([data[rows] - data[rows].mean(axis=0) for rows in members])
    first = _scatter(residuals) / max(len(data) - len(members), 1)
    total, n = np.zeros((d, d)), 0.0
    for rows in members:
        x = data[rows if len(rows) <= SHAPE_CELLS else rng.choice(rows, SHAPE_CELLS, replace=False)]
        share = _mixture(x, first).predict_proba(x) if len(x) > 1 else np.ones((1, 1))
        for weight in share.T:
            center = weight @ x / max(weight.sum(), 1e-9)
            total += _scatter((x - center) * np.sqrt(weight)[:, None])
            # a component has one cell's worth of freedom in its mean
            n += max(weight.sum() - 1, 0.0)
    return total / max(n, 1.0) + _SMALLEST_VARIANCE * np.eye(d)


def _scatter(residuals: np.ndarray) -> np.ndarray:
    return residuals.T @ residuals + _SMALLEST_VARIANCE * np.eye(residuals.shape[1])


def _mixture(x: np.ndarray, shape: np.ndarray) -> BayesianGaussianMixture:
    """Mixture of the cells of one label, whose covariances are drawn towards a shape."""
    freedom = x.shape[1] + PRIOR_CELLS
    found = BayesianGaussianMixture(
        n_components=int(np.clip(len(x) // CELLS_PER_COMPONENT, 1, MAX_COMPONENTS)),
        covariance_prior=shape * freedom,
        degrees_of_freedom_prior=freedom,
        mean_precision_prior=1e-3,
        mean_prior=x.mean(axis=0),
        max_iter=200,
        tol=1e-2,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return found.fit(x)


def _fit_label(
    data: np.ndarray, noise: np.ndarray, members: np.ndarray, shape: np.ndarray, rng: np.random.Generator
) -> _Part:
    """Mixture of the codes of one label."""
    chosen = members if len(members) <= MAX_CELLS else rng.choice(members, MAX_CELLS, replace=False)
    if len(chosen) == 1:
        # scikit-learn fits no mixture to one cell
        chosen = np.repeat(chosen, 2)
    fitted = _mixture(data[chosen], shape)
    # a cell's code is known but for the width of its posterior
    share = fitted.predict_proba(data[chosen])
    width = share.T @ noise[chosen] / np.maximum(share.sum(axis=0), 1e-9)[:, None]
    covariances = fitted.covariances_ + width[:, :, None] * np.eye(data.shape[1])
    return _Part(fitted.weights_, fitted.means_, np.linalg.cholesky(covariances), fitted)
