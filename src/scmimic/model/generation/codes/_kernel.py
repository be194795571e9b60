"""Codes of training cells, smoothed by a kernel."""

from __future__ import annotations

import numpy as np
import torch

from scmimic.model.generation.codes._posterior import AggregatedPosterior
from scmimic.model.generation.codes._sources import Drawn, PosteriorCodes


class KernelCodes(PosteriorCodes):
    """A training cell's code and log library size, moved by a normal of its type's shape (a smoothed bootstrap).

    The width is Silverman's, and codes are drawn towards the mean of their type by as much as keeps its covariance.

    Parameters
    ----------
    posterior
        The training cells.
    """

    def __init__(self, posterior: AggregatedPosterior):
        super().__init__(posterior)
        data = posterior.codes_and_libraries()
        d = data.shape[1]
        self._mean = np.zeros((int(posterior.labels.max()) + 1, d))
        self._root = np.zeros((len(self._mean), d, d))
        self._width = np.zeros(len(self._mean))
        for label in np.unique(posterior.labels):
            part = data[posterior.labels == label]
            self._mean[label] = part.mean(axis=0)
            self._width[label] = (4 / (len(part) * (d + 2))) ** (1 / (d + 4))
            if len(part) > 1:
                values, vectors = np.linalg.eigh(np.cov(part.T))
                self._root[label] = vectors * np.sqrt(values.clip(0))

    def sample(self, drawn: Drawn, noise: torch.Tensor, stream: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """One code near that of each training cell."""
        z, library = super().sample(drawn, noise, stream)
        assert drawn.cells is not None
        labels = self.posterior.labels[drawn.cells]
        mean, root, width = (
            torch.as_tensor(values[labels], dtype=torch.float32, device=noise.device)
            for values in (self._mean, self._root, self._width[:, None])
        )
        moved = torch.randn(len(noise), mean.shape[1], generator=stream, device=noise.device)
        code = torch.cat([z, library.to(z.dtype)], dim=1) - mean
        code = mean + (code + width * (root @ moved.unsqueeze(2)).squeeze(2)) / (1 + width**2).sqrt()
        return code[:, :-1].contiguous(), code[:, -1:]
