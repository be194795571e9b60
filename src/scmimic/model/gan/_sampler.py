"""Draws of cells from a GAN, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse as sp
import torch

from scmimic.cells import AttributeValues
from scmimic.model.gan._counts import counts_of_logarithms, round_at_random, scale_to
from scmimic.model.gan._module import Draw, GANModule
from scmimic.model.generation._output import Chunk
from scmimic.model.generation._sampler import BlockSampler, Stream
from scmimic.model.generation._threads import in_threads
from scmimic.model.generation.codes._posterior import AggregatedPosterior


class GANSampler(BlockSampler):
    """Draws of a GAN.

    Parameters
    ----------
    module
        The trained networks.
    posterior
        The training cells, with their codes where these are not drawn from N(0, I).
    seed
        Seed of all draws.
    as_counts
        Make integer counts.
    logged
        Whether the generator makes log1p values, unless it makes counts.
    library_size
        One per cell, or None: those of training cells. Only read with `as_counts`.
    share_noise
        Give all cells the same noise.
    """

    module: GANModule

    def __init__(
        self,
        module: GANModule,
        posterior: AggregatedPosterior,
        *,
        seed: int,
        as_counts: bool,
        logged: bool,
        library_size: np.ndarray | None = None,
        share_noise: bool = False,
    ):
        super().__init__(module, seed=seed)
        self.posterior = posterior
        self.as_counts, self.logged, self.library_size = as_counts, logged, library_size
        self.shared = self.noise(1, module.n_noise, self.stream(Stream.SHARED_NOISE)) if share_noise else None

    def who(self, asked: AttributeValues, shuffle: bool) -> np.ndarray:
        """The training cell that each cell has label and library size of, in order, or mixed; none is made yet."""
        rng = self.cell_stream()
        source = self.posterior.draw(asked, rng)
        return source[rng.permutation(asked.n)] if shuffle else source

    def run(self, asked: AttributeValues, shuffle: bool) -> Iterator[Chunk]:
        """A cell for each row, in order, or mixed."""
        yield from self.make(self.who(asked, shuffle))

    def make(self, source: np.ndarray, numbers: Iterable[int] | None = None) -> Iterator[Chunk]:
        """The cells of all blocks, or of the blocks of these numbers."""

        def one(block: tuple[int, slice]) -> Chunk:
            number, rows = block
            stream = self.stream(Stream.BLOCKS, number)
            z = self.posterior.sample(source[rows], self.noise(len(source[rows]), self.module.n_latent, stream))
            return self._cells(z, source[rows], rows, stream)

        yield from in_threads(one, self.blocks(len(source), numbers), self.n_threads)

    def decode(self, z: np.ndarray, source: np.ndarray) -> Iterator[Chunk]:
        """Cells of given codes, with the labels and the library sizes of the training cells `source`."""
        for number, rows in self.blocks(len(z)):
            codes = torch.as_tensor(z[rows], device=self.device)
            yield self._cells(codes, source[rows], rows, self.stream(Stream.DECODED_BLOCKS, number))

    def _cells(self, z: torch.Tensor, source: np.ndarray, rows: slice, stream: torch.Generator) -> Chunk:
        """Generate one block from its codes."""
        module, n = self.module, len(z)
        noise = self.noise(n, module.n_noise, stream)
        noise = noise if self.shared is None else self.shared.expand(n, -1)
        labels = self.posterior.labels[source]
        told = torch.as_tensor(labels, device=module.device) if module.n_labels else None
        size = np.exp(self.posterior.log_library[source]) if self.library_size is None else self.library_size[rows]
        total = torch.as_tensor(size, dtype=z.dtype, device=z.device).unsqueeze(1)
        x = module.decode(Draw(z, noise, told, total))
        if module.makes_counts:
            x = torch.poisson(x, generator=stream) if self.as_counts else x
        elif self.as_counts or module.log_counts:
            x = counts_of_logarithms(x, total) if self.logged else scale_to(x, total)
            x = round_at_random(x, stream) if self.as_counts else x
        attributes = self.posterior.attributes.take(source)
        return Chunk(sp.csr_matrix(x.cpu().numpy()), z.cpu().numpy(), attributes)
