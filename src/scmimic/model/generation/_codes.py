"""Where the codes of new cells come from: the aggregated posterior of the training cells, or the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import pairwise_distances_argmin

from scmimic._plain import saved_as

ANY = -1
"""Label code of a cell whose type is not asked for."""


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

    def sample(self, cells: np.ndarray, noise: torch.Tensor) -> torch.Tensor:
        """A code from the posterior of each of these training cells, by standard normal `noise` of its shape.

        Cells of which no codes are kept have codes from N(0, I).
        """
        if self.mean.shape[1] == 0:
            return noise
        mean, std = (torch.as_tensor(x, device=noise.device) for x in (self.mean_codes(cells), self.std[cells]))
        return mean + std * noise

    def pool(self, label: int, batch: int | None = None) -> np.ndarray:
        """Indices of the cells of a label code (`ANY`: all) and a batch; of other batches too if it has none there."""
        code = None if label == ANY else label
        found = self.cells(code, batch)
        return found if len(found) else self.cells(code)


class Latents(NamedTuple):
    """What some cells are decoded from: codes, log library sizes ``(n, 1)`` and batch codes."""

    z: torch.Tensor
    log_library: torch.Tensor
    batches: np.ndarray


class PosteriorCodes:
    """Codes of training cells, with the library sizes and the batches of the same cells.

    Parameters
    ----------
    posterior
        The training cells.
    batch
        Code of the batch to generate; None: the cells' own.
    """

    def __init__(self, posterior: AggregatedPosterior, batch: int | None = None):
        self.posterior, self.batch = posterior, batch

    def sample(self, cells: np.ndarray, label: int, noise: torch.Tensor, stream: torch.Generator) -> Latents:
        """One code for each of the training cells `cells`."""
        log_library = torch.as_tensor(self.posterior.log_library[cells], device=noise.device).unsqueeze(1)
        batches = self.posterior.batches[cells] if self.batch is None else np.full(len(cells), self.batch)
        return Latents(self.posterior.sample(cells, noise), log_library, batches)


class PriorCodes:
    """Codes from N(0, I), with library sizes and batches as the training cells of the type have them.

    Parameters
    ----------
    posterior
        The training cells.
    batch
        Code of the batch to generate; None: those of the training cells, by their frequency.
    """

    def __init__(self, posterior: AggregatedPosterior, batch: int | None = None):
        self.posterior, self.batch = posterior, batch

    def sample(self, cells: None, label: int, noise: torch.Tensor, stream: torch.Generator) -> Latents:
        """One code for each row of `noise`, for cells of a label code."""
        n, device = len(noise), noise.device
        mean, std = self.posterior.library_parameters(None if label == ANY else label, self.batch)
        log_library = mean + std * torch.randn(n, 1, generator=stream, device=device)
        if self.batch is not None:
            return Latents(noise, log_library, np.full(n, self.batch))
        pool = self.posterior.pool(label)
        pick = torch.randint(len(pool), (n,), generator=stream, device=device).cpu().numpy()
        return Latents(noise, log_library, self.posterior.batches[pool[pick]])
