"""Draws of cells from a GAN, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch

from scmimic.model.gan._counts import counts_of_logarithms, round_at_random, scale_to
from scmimic.model.gan._module import Draw
from scmimic.model.generation._output import Chunk
from scmimic.model.generation._sampler import ANY, BLOCK, random_stream


class GANSampler:
    """Draws cells block by block; every block has random numbers of its own.

    Parameters
    ----------
    model
        A trained GAN.
    seed
        Seed of all draws.
    as_counts
        Make integer counts.
    library_size
        One per cell, or None: those of training cells. Only read with `as_counts`.
    share_noise
        Give all cells the same noise.
    """

    def __init__(
        self, model, *, seed: int, as_counts: bool, library_size: np.ndarray | None, share_noise: bool = False
    ):
        self.model = model
        self.module = model.module
        self.posterior = model.posterior_
        self.seed = seed
        self.as_counts = as_counts
        self.library_size = library_size
        self.noise = None
        if share_noise:
            stream = random_stream(seed, self.module.device, 6)
            self.noise = torch.randn(1, self.module.n_noise, generator=stream, device=self.module.device)

    def run(self, requests: list[tuple[int, int]], shuffle: bool) -> Iterator[Chunk]:
        """Cells for ``(label code, n)`` requests, in order, or mixed."""
        rng = np.random.default_rng([self.seed, 1])
        pools = [self.posterior.cells(None if code == ANY else code) for code, _ in requests]
        source = np.concatenate(
            [self.posterior.draw(n, pool, rng) for (_, n), pool in zip(requests, pools, strict=True)]
        )
        if shuffle:
            source = rng.permutation(source)
        for number, start in enumerate(range(0, len(source), BLOCK)):
            stop = min(start + BLOCK, len(source))
            stream = random_stream(self.seed, self.module.device, 0, number)
            z = self.model._draw_codes(source[start:stop], stream)
            yield self.cells(z, source[start:stop], slice(start, stop), stream)

    def decode(self, z: np.ndarray, source: np.ndarray) -> Iterator[Chunk]:
        """Cells of given codes, with the labels and the library sizes of the training cells `source`."""
        for number, start in enumerate(range(0, len(z), BLOCK)):
            stop = min(start + BLOCK, len(z))
            stream = random_stream(self.seed, self.module.device, 4, number)
            codes = torch.as_tensor(z[start:stop], device=self.module.device)
            yield self.cells(codes, source[start:stop], slice(start, stop), stream)

    def cells(self, z: torch.Tensor, source: np.ndarray, rows: slice, stream: torch.Generator) -> Chunk:
        """Generate one block from its codes."""
        module, n = self.module, len(z)
        noise = torch.randn(n, module.n_noise, generator=stream, device=module.device)
        noise = noise if self.noise is None else self.noise.expand(n, -1)
        labels = self.posterior.labels[source]
        told = torch.as_tensor(labels, device=module.device) if module.n_labels else None
        size = np.exp(self.posterior.log_library[source]) if self.library_size is None else self.library_size[rows]
        size = torch.as_tensor(size, dtype=z.dtype, device=z.device).unsqueeze(1)
        x = module.decode(Draw(z, noise, told, size))
        if module.makes_counts:
            x = torch.poisson(x, generator=stream) if self.as_counts else x
        elif self.as_counts or module.log_counts:
            logged = bool(module.log_counts) or self.model.count_units_ == "log1p"
            x = counts_of_logarithms(x, size) if logged else scale_to(x, size)
            x = round_at_random(x, stream) if self.as_counts else x
        return Chunk(sp.csr_matrix(x.cpu().numpy()), z.cpu().numpy(), labels, np.zeros(n, dtype=np.int64))
