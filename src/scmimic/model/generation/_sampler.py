"""Draws of cells, block by block: from the training cells to codes, and from codes to cells.

What is kept of the training cells stands first, then where codes come from, then who draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from scvi.module.base import BaseModuleClass
from sklearn.metrics import pairwise_distances_argmin

from scmimic._plain import saved_as
from scmimic._random import draw_members
from scmimic.model.base._vae_module import CellVAEModule
from scmimic.model.generation._output import Chunk
from scmimic.model.generation.calibration._dispersion import zero_probability
from scmimic.model.generation.calibration._margins import GeneMargins, MarginRecorder

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
        cells = self.cells(code, batch)
        return cells if len(cells) else self.cells(code)


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

    def sample(self, cells: np.ndarray | None, label: int, noise: torch.Tensor, stream: torch.Generator) -> Latents:
        """One code for each of the training cells `cells`."""
        assert cells is not None
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

    def sample(self, cells: np.ndarray | None, label: int, noise: torch.Tensor, stream: torch.Generator) -> Latents:
        """One code for each row of `noise`, for cells of a label code."""
        n, device = len(noise), noise.device
        mean, std = self.posterior.library_parameters(None if label == ANY else label, self.batch)
        log_library = mean + std * torch.randn(n, 1, generator=stream, device=device)
        if self.batch is not None:
            return Latents(noise, log_library, np.full(n, self.batch))
        pool = self.posterior.pool(label)
        pick = torch.randint(len(pool), (n,), generator=stream, device=device).cpu().numpy()
        return Latents(noise, log_library, self.posterior.batches[pool[pick]])


# Cells that are decoded together. Fixed, so that a seed gives the same cells whatever the user's batch size: matrix
# products of another height round differently, which is enough to flip a count.
BLOCK = 128


class Stream(IntEnum):
    """Random streams of a seed: what draws from one does not move what draws from another."""

    BLOCKS = 0
    CELLS = 1
    ACCEPTED_CELLS = 2
    ACCEPTED_BLOCKS = 3
    DECODED_BLOCKS = 4
    SHARED_CELL = 5
    # of GANs, which share no cell
    STATISTICS = 5
    SHARED_NOISE = 6


def random_stream(seed: int, device: torch.device, *stream_id: int) -> torch.Generator:
    """A generator of random numbers for one block of cells."""
    state = np.random.SeedSequence([seed, *stream_id]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> 1))


class BlockSampler:
    """Draws cells block by block; every block has random numbers of its own.

    Parameters
    ----------
    module
        The trained networks.
    posterior
        The training cells.
    seed
        Seed of all draws.
    batch
        Code of the batch to generate, or None for the training cells' own.
    """

    def __init__(self, module: BaseModuleClass, posterior: AggregatedPosterior, *, seed: int, batch: int | None = None):
        self.module, self.posterior, self.seed, self.batch = module, posterior, seed, batch

    def stream(self, *stream_id: int) -> torch.Generator:
        """The random numbers of one block."""
        return random_stream(self.seed, self.module.device, *stream_id)

    def noise(self, n: int, size: int, stream: torch.Generator) -> torch.Tensor:
        """Standard normal numbers ``(n, size)``."""
        return torch.randn(n, size, generator=stream, device=self.module.device)

    def blocks(self, n: int) -> Iterator[tuple[int, slice]]:
        """Number and rows of each block of `n` cells."""
        return ((number, slice(start, min(start + BLOCK, n))) for number, start in enumerate(range(0, n, BLOCK)))

    def training_cells(self, requests: Sequence[tuple[int, int]], shuffle: bool) -> tuple[np.ndarray, np.ndarray]:
        """A training cell for each cell of the ``(label code, n)`` requests, and its label code; in order, or mixed."""
        rng = np.random.default_rng([self.seed, Stream.CELLS])
        cells = np.concatenate([draw_members(self.posterior.pool(code, self.batch), n, rng) for code, n in requests])
        labels = requested_labels(requests)
        if shuffle:
            order = rng.permutation(len(cells))
            cells, labels = cells[order], labels[order]
        return cells, labels


def requested_labels(requests: Sequence[tuple[int, int]]) -> np.ndarray:
    """The label code of each cell of ``(label code, n)`` requests."""
    return np.concatenate([np.full(n, code) for code, n in requests])


class CellSampler(BlockSampler):
    """Draws of an autoencoder.

    Parameters
    ----------
    module
        The trained networks.
    posterior
        The training cells.
    seed
        Seed of all draws.
    names
        The types, or None where there are none.
    method
        Where codes come from: ``"posterior"`` or ``"prior"``.
    library_size
        Fixed library size, one per cell, or None for the modelled one.
    min_confidence
        Least probability of the requested type by the classifier, or None.
    batch
        Code of the batch to generate, or None for the training cells' own.
    max_draws
        Bound on the proposals per requested type.
    margins
        Where counts get the margins of the training cells, the map to them, or what notes counts for such a map.
    """

    module: CellVAEModule

    def __init__(
        self,
        module: CellVAEModule,
        posterior: AggregatedPosterior,
        *,
        seed: int,
        names: list[str] | None = None,
        method: str = "posterior",
        library_size: np.ndarray | None = None,
        min_confidence: float | None = None,
        batch: int | None = None,
        max_draws: int = 100_000,
        margins: GeneMargins | MarginRecorder | None = None,
    ):
        super().__init__(module, posterior, seed=seed, batch=batch)
        self.names = names
        self.from_prior = method == "prior"
        self.codes = (PriorCodes if self.from_prior else PosteriorCodes)(posterior, batch)
        self.library_size = library_size
        self.min_confidence = min_confidence
        self.max_draws = max_draws
        self.margins = margins

    def rejects(self, requests: Sequence[tuple[int, int]]) -> bool:
        """Whether the classifier judges what is drawn."""
        return self.min_confidence is not None or (self.from_prior and requests[0][0] != ANY)

    def run(self, requests: Sequence[tuple[int, int]], shuffle: bool) -> Iterator[Chunk]:
        """Cells for ``(label code, n)`` requests, in order, or mixed."""
        if self.rejects(requests):
            for label, n in requests:
                yield from self._accepted(label, n)
        elif self.from_prior:
            yield from self._blocks(None, requested_labels(requests))
        else:
            yield from self._blocks(*self.training_cells(requests, shuffle))

    def resample(self, cells: np.ndarray) -> Iterator[Chunk]:
        """One cell of the type and from the code of each of these training cells, in order."""
        yield from self._blocks(cells, self.posterior.labels[cells])

    def decode(self, z: np.ndarray, labels: np.ndarray, share_noise: bool) -> Iterator[tuple[np.ndarray, Chunk]]:
        """Cells of given codes and label codes, with the rows of `z` that they are of.

        Parameters
        ----------
        z
            Codes.
        labels
            Label code of each.
        share_noise
            Give all cells of a label the library size and the batch of one training cell.
        """
        for code in np.unique(labels):
            rows, source = np.flatnonzero(labels == code), None
            codes = self.codes
            if share_noise:
                rng = np.random.default_rng([self.seed, Stream.SHARED_CELL, int(code) + 1])
                source = rng.choice(self.posterior.pool(code, self.batch), 1)
                codes = PosteriorCodes(self.posterior, self.batch)
            for number, block in self.blocks(len(rows)):
                index = rows[block]
                stream = self.stream(Stream.DECODED_BLOCKS, int(code) + 1, number)
                shared = None if source is None else source.repeat(len(index))
                library = None if self.library_size is None else self.library_size[index]
                _, log_library, batches = self.latents(codes, shared, labels[index], library, stream)
                block_z = torch.as_tensor(z[index], device=self.module.device)
                yield index, self._cells(block_z, log_library, batches, labels[index], stream)

    def latents(
        self,
        codes: PosteriorCodes | PriorCodes,
        cells: np.ndarray | None,
        labels: np.ndarray,
        library: np.ndarray | None,
        stream: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes, log library sizes and batches of one block."""
        noise = self.noise(len(labels), self.module.n_latent, stream)
        z, log_library, batches = codes.sample(cells, int(labels[0]), noise, stream)
        if library is not None:
            log_library = torch.as_tensor(np.log(library), dtype=torch.float32, device=noise.device).unsqueeze(1)
        return z, log_library.float(), torch.as_tensor(batches, device=noise.device).unsqueeze(1)

    def _blocks(self, cells: np.ndarray | None, labels: np.ndarray) -> Iterator[Chunk]:
        for number, block in self.blocks(len(labels)):
            stream = self.stream(Stream.BLOCKS, number)
            index = None if cells is None else cells[block]
            library = None if self.library_size is None else self.library_size[block]
            latents = self.latents(self.codes, index, labels[block], library, stream)
            yield self._cells(*latents, labels[block], stream)

    def _cells(
        self,
        z: torch.Tensor,
        log_library: torch.Tensor,
        batches: torch.Tensor,
        labels: np.ndarray,
        stream: torch.Generator,
    ) -> Chunk:
        """Decode one block; a label that is not known yet is found first."""
        module = self.module
        known = torch.as_tensor(labels, device=z.device)
        if self.names is not None and (known == ANY).any():
            known = self.find_labels(z, log_library, batches)
        px = module.decode(z, log_library, batches, known.clamp_min(0).unsqueeze(1))
        counts = sp.csr_matrix(module.draw(px, stream).cpu().numpy())
        labels = known.cpu().numpy()
        if self.margins is not None:
            uniform = torch.rand(counts.shape, generator=stream, device=z.device).cpu().numpy()
            zero = zero_probability(px).cpu().numpy()
            counts = self.margins.apply(counts, labels.clip(0), uniform, zero)
        return Chunk(counts, z.cpu().numpy(), labels, batches.squeeze(1).cpu().numpy())

    def find_labels(self, z: torch.Tensor, log_library: torch.Tensor, batches: torch.Tensor) -> torch.Tensor:
        """The type that the classifier sees in the decoded cell, or, where it cannot, that of the nearest code."""
        module = self.module
        if module.has_label_baseline or module.classifier is None:
            n_labels = 0 if self.names is None else len(self.names)
            return torch.as_tensor(self.posterior.nearest_labels(z.cpu().numpy(), n_labels), device=z.device)
        px = module.decode(z, log_library, batches, torch.zeros_like(batches))
        return module.classifier(module.expected(px)).argmax(-1)

    def _accepted(self, label: int, n: int) -> Iterator[Chunk]:
        """Cells that the classifier takes for the requested type (section 2.6 of the ACTIVA paper)."""
        module = self.module
        assert module.classifier is not None
        rng = np.random.default_rng([self.seed, Stream.ACCEPTED_CELLS, label])
        done, drawn, number = 0, 0, 0
        while done < n:
            if drawn >= self.max_draws:
                name = label if self.names is None else self.names[label]
                raise RuntimeError(
                    f"Only {done} of {drawn} drawn cells ({done / drawn:.2%}) were accepted as {name!r}, "
                    f"{n} were asked for. Raise `max_draws`, lower `min_confidence`, train longer, or use "
                    "method='posterior' without `min_confidence`, which rejects none."
                )
            stream = self.stream(Stream.ACCEPTED_BLOCKS, label, number)
            labels = np.full(BLOCK, label)
            cells = None if self.from_prior else rng.choice(self.posterior.pool(label, self.batch), BLOCK)
            library = None if self.library_size is None else np.resize(self.library_size, BLOCK)
            z, log_library, batches = self.latents(self.codes, cells, labels, library, stream)
            px = module.decode(z, log_library, batches, torch.as_tensor(labels, device=z.device).unsqueeze(1))
            probability = module.classifier(module.expected(px)).softmax(-1)
            keep = probability.argmax(-1) == label
            if self.min_confidence is not None:
                keep &= probability[:, label] >= self.min_confidence
            keep = torch.nonzero(keep).squeeze(1)[: n - done]
            drawn, number = drawn + BLOCK, number + 1
            if len(keep):
                yield self._cells(z[keep], log_library[keep], batches[keep], labels[: len(keep)], stream)
                done += len(keep)
