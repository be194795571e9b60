"""The aggregated posterior of the training cells: what conditional generation draws from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import pairwise_distances_argmin

from scmimic._plain import saved_as


@saved_as("AggregatedPosterior")
@dataclass
class AggregatedPosterior:
    """q(z|x), library size, label and batch of every training cell.

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
    """

    mean: np.ndarray
    std: np.ndarray
    log_library: np.ndarray
    labels: np.ndarray
    batches: np.ndarray
    spread: float = 1.0
    center: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def cells(self, label: int | None = None, batch: int | None = None) -> np.ndarray:
        """Indices of the cells of a label and a batch; None means any."""
        keep = np.ones(len(self), dtype=bool)
        if label is not None:
            keep &= self.labels == label
        if batch is not None:
            keep &= self.batches == batch
        return np.flatnonzero(keep)

    def mean_codes(self, cells: np.ndarray) -> np.ndarray:
        """Means of the codes that are generated from for training cells."""
        mean = self.mean[cells]
        if self.center is None:
            return mean
        return self.center[cells] + np.float32(self.spread) * (mean - self.center[cells])

    def draw(self, n: int, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw ``n`` of ``pool``: every cell equally often, up to one, in random order.

        A bootstrap would leave out a third of the cells and repeat others, which adds variance and gains nothing.
        """
        rounds = -(-n // len(pool))
        return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:n]

    def nearest_labels(self, z: np.ndarray, n_labels: int) -> np.ndarray:
        """Label of the training cell whose mean code is nearest to each row of ``z``, of those with a label.

        Cells without one have a code of ``n_labels`` or more.
        """
        pool = np.flatnonzero(self.labels < n_labels)
        return self.labels[pool[self.nearest(z, pool)]]

    def nearest(self, z: np.ndarray, pool: np.ndarray) -> np.ndarray:
        """Position in ``pool`` of the training cell whose mean code is nearest to each row of ``z``."""
        return pairwise_distances_argmin(z, self.mean[pool])

    def library_parameters(self, label: int | None, batch: int | None) -> tuple[float, float]:
        """Mean and standard deviation of the log library size of a label, for sampling from the prior."""
        pool = self.cells(label, batch)
        values = self.log_library[pool if len(pool) else self.cells(label)]
        return float(values.mean()), float(values.std())
