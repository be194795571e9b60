"""What is kept of the training cells, and codes from their posteriors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sklearn.metrics import pairwise_distances_argmin

from scmimic._plain import saved_as
from scmimic._random import draw_members
from scmimic._reprs import short_repr
from scmimic.cells import AttributeValues
from scmimic.model.generation.codes._composition import Composition, most_alike


@saved_as("AggregatedPosterior")
@short_repr
@dataclass
class AggregatedPosterior:
    """q(z|x), library size and attributes of every training cell.

    Attributes
    ----------
    mean, std
        Posterior mean and standard deviation, ``(n_cells, n_latent)`` float32.
    log_library
        Log of the library size, ``(n_cells,)``.
    labels, batches
        Codes of the registered label and batch, ``(n_cells,)``.
    spread, center
        Cells are generated from codes that lie `spread` times as far from `center` as the posterior means, of the shape
        of `mean`, or, where it is None, from these.
    covariates, numbers
        Codes of the categorical covariates and values of the continuous ones, ``(n_cells, n)``; None: there are none.
    """

    mean: np.ndarray
    std: np.ndarray
    log_library: np.ndarray
    labels: np.ndarray
    batches: np.ndarray
    spread: float = 1.0
    center: np.ndarray | None = None
    covariates: np.ndarray | None = None
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.mean)

    @cached_property
    def attributes(self) -> AttributeValues:
        """What the cells are."""
        none = np.empty((len(self), 0))
        covariates = none.astype(np.int64) if self.covariates is None else self.covariates
        codes = np.column_stack([self.labels, self.batches, covariates]).astype(np.int64)
        return AttributeValues(codes, none if self.numbers is None else self.numbers)

    @cached_property
    def composition(self) -> Composition:
        """The groups of the cells."""
        return Composition.of(self.attributes, self.log_library)

    def codes_and_libraries(self) -> np.ndarray:
        """The codes that cells are generated from, with the log library size as a last column."""
        return np.column_stack([self.mean_codes(np.arange(len(self))), self.log_library])

    def select(self, rows: Any) -> AggregatedPosterior:
        """Some of the cells."""
        rows = np.asarray(rows)
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return AggregatedPosterior(
            **{name: value[rows] if isinstance(value, np.ndarray) else value for name, value in values.items()}
        )

    def cells(self, label: int | None = None) -> np.ndarray:
        """Indices of the cells of a label; None means any."""
        return np.arange(len(self)) if label is None else np.flatnonzero(self.labels == label)

    def mean_codes(self, cells: np.ndarray) -> np.ndarray:
        """Means of the codes that are generated from for training cells."""
        mean = self.mean[cells]
        if self.center is None:
            return mean
        return self.center[cells] + np.float32(self.spread) * (mean - self.center[cells])

    def nearest_labels(self, z: np.ndarray, n_labels: int) -> np.ndarray:
        """Label of the training cell whose mean code is nearest to each row of ``z``, of those with a label.

        Cells without one have a code of ``n_labels`` or more.
        """
        pool = np.flatnonzero(self.labels < n_labels)
        return self.labels[pool[self.nearest(z, pool)]]

    def nearest(self, z: np.ndarray, pool: np.ndarray) -> np.ndarray:
        """Position in ``pool`` of the training cell whose mean code is nearest to each row of ``z``."""
        return pairwise_distances_argmin(z, self.mean[pool])

    def sample(self, cells: np.ndarray, noise: torch.Tensor) -> torch.Tensor:
        """A code from the posterior of each of these training cells, by standard normal `noise` of its shape.

        Cells of which no codes are kept have codes from N(0, I).
        """
        if self.mean.shape[1] == 0:
            return noise
        mean, std = (torch.as_tensor(x, device=noise.device) for x in (self.mean_codes(cells), self.std[cells]))
        return mean + std * noise

    def pool(self, codes: np.ndarray) -> np.ndarray:
        """Indices of the training cells that are most like what is asked for."""
        return most_alike(self.attributes.codes, codes)

    def draw(self, asked: AttributeValues, rng: np.random.Generator) -> np.ndarray:
        """A training cell for each row, each of a pool as often as any other up to one."""
        patterns, index = asked.patterns()
        chosen = np.empty(asked.n, dtype=np.int64)
        for number, codes in enumerate(patterns.codes):
            rows = np.flatnonzero(index == number)
            chosen[rows] = draw_members(self.pool(codes), len(rows), rng)
        return chosen
