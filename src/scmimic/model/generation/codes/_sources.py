"""Where codes come from, as a sampler asks for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch

from scmimic.cells import AttributeValues
from scmimic.model.generation.codes._composition import Composition
from scmimic.model.generation.codes._flow import CodeFlow
from scmimic.model.generation.codes._mixture import CodeMixture
from scmimic.model.generation.codes._posterior import AggregatedPosterior


class Drawn(NamedTuple):
    """Who some cells are.

    Attributes
    ----------
    attributes
        Label, batch and covariates of each.
    cells
        Training cell whose code each takes; None: codes are those of no cell.
    """

    attributes: AttributeValues
    cells: np.ndarray | None

    def take(self, rows: np.ndarray | slice) -> Drawn:
        """Of these cells."""
        return Drawn(self.attributes.take(rows), None if self.cells is None else self.cells[rows])


class CodeSource(ABC):
    """Where codes come from."""

    @abstractmethod
    def draw(self, asked: AttributeValues, rng: np.random.Generator) -> Drawn:
        """Who the cells are that are asked for: what is open is as in the training cells, given the rest."""

    @abstractmethod
    def sample(self, drawn: Drawn, noise: torch.Tensor, stream: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes ``(n, n_latent)`` and log library sizes ``(n, 1)`` of some of these cells.

        Parameters
        ----------
        drawn
            The cells.
        noise
            Standard normal, of the shape of the codes.
        stream
            Further random numbers.
        """


class PosteriorCodes(CodeSource):
    """Codes of training cells, with their library sizes.

    Parameters
    ----------
    posterior
        The training cells.
    """

    def __init__(self, posterior: AggregatedPosterior):
        self.posterior = posterior

    def draw(self, asked: AttributeValues, rng: np.random.Generator) -> Drawn:
        """A training cell for each, which has what is asked or as much of it as any."""
        cells = self.posterior.draw(asked, rng)
        return Drawn(asked.filled(self.posterior.attributes.take(cells)), cells)

    def sample(self, drawn: Drawn, noise: torch.Tensor, stream: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """One code of each training cell, and the cell's library size."""
        assert drawn.cells is not None
        library = torch.as_tensor(self.posterior.log_library[drawn.cells], device=noise.device)
        return self.posterior.sample(drawn.cells, noise), library.unsqueeze(1)


class ComposedCodes(CodeSource):
    """Codes that are those of no training cell.

    Parameters
    ----------
    composition
        The groups of the training cells.
    """

    def __init__(self, composition: Composition):
        self.composition = composition

    def draw(self, asked: AttributeValues, rng: np.random.Generator) -> Drawn:
        """Open attributes as the groups of the training cells have them."""
        return Drawn(self.composition.draw(asked, rng), None)


class PriorCodes(ComposedCodes):
    """Codes from N(0, I), and library sizes from the log-normal distribution of cells like those that are asked for."""

    def sample(self, drawn: Drawn, noise: torch.Tensor, stream: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The noise itself."""
        mean, std = (torch.as_tensor(x, device=noise.device) for x in self.composition.library(drawn.attributes))
        normal = torch.randn(len(noise), 1, generator=stream, device=noise.device)
        return noise, mean.unsqueeze(1) + std.unsqueeze(1) * normal


class FittedCodes(ComposedCodes):
    """Codes and library sizes from a distribution that was fitted to those of the training cells.

    Parameters
    ----------
    composition
        The groups of the training cells.
    fitted
        The distribution.
    """

    def __init__(self, composition: Composition, fitted: CodeMixture | CodeFlow):
        super().__init__(composition)
        self.fitted = fitted

    def sample(self, drawn: Drawn, noise: torch.Tensor, stream: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes of cells with these attributes."""
        return self.fitted.sample(drawn.attributes, noise, stream)
