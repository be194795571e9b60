"""Draws of cells, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch

from scmimic.model.generation._output import Chunk
from scmimic.model.generation._posterior import AggregatedPosterior
from scmimic.model.generation.calibration._margins import GeneMargins

# Cells that are decoded together. Fixed, so that a seed gives the same cells whatever the user's batch size: matrix
# products of another height round differently, which is enough to flip a count.
BLOCK = 128
ANY = -1
"""Label code of a cell whose type is not asked for."""


def random_stream(seed: int, device: torch.device, *stream_id: int) -> torch.Generator:
    """A generator of random numbers for one block of cells."""
    state = np.random.SeedSequence([seed, *stream_id]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> 1))


class CellSampler:
    """Draws cells block by block; every block has random numbers of its own.

    Parameters
    ----------
    model
        A trained model with ``module.decode`` and ``posterior_``.
    seed
        Seed of all draws.
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
        Where counts get the margins of the training cells, the map to them.
    """

    def __init__(
        self,
        model,
        *,
        seed,
        method="posterior",
        library_size=None,
        min_confidence=None,
        batch=None,
        max_draws=None,
        margins: GeneMargins | None = None,
    ):
        self.module = model.module
        self.posterior: AggregatedPosterior = model.posterior_
        self.seed = seed
        self.method = method
        self.library_size = library_size
        self.min_confidence = min_confidence
        self.batch = batch
        self.max_draws = max_draws
        self.margins = margins
        self.names = model.label_categories_

    def _generator(self, *stream_id: int) -> torch.Generator:
        return random_stream(self.seed, self.module.device, *stream_id)

    def rejects(self, requests: list[tuple[int, int]]) -> bool:
        """Whether the classifier judges what is drawn."""
        return self.min_confidence is not None or (self.method == "prior" and requests[0][0] != ANY)

    def run(self, requests: list[tuple[int, int]], shuffle: bool) -> Iterator[Chunk]:
        """Cells for ``(label code, n)`` requests, in order, or mixed."""
        if self.rejects(requests):
            for label, n in requests:
                yield from self._accepted(label, n)
            return
        yield from self._blocks(*self._sources(requests, shuffle))

    def resample(self, cells: np.ndarray) -> Iterator[Chunk]:
        """One cell of the type and from the code of each of these training cells, in order."""
        yield from self._blocks(cells, self.posterior.labels[cells])

    def _blocks(self, source: np.ndarray | None, label: np.ndarray) -> Iterator[Chunk]:
        for number, start in enumerate(range(0, len(label), BLOCK)):
            stop = min(start + BLOCK, len(label))
            generator = self._generator(0, number)
            index = None if source is None else source[start:stop]
            library = None if self.library_size is None else self.library_size[start:stop]
            z, log_library, batches = self._codes(index, label[start:stop], library, generator)
            yield self._cells(z, log_library, batches, label[start:stop], generator)

    def _sources(self, requests: list[tuple[int, int]], shuffle: bool) -> tuple[np.ndarray | None, np.ndarray]:
        """For each cell its training cell (None: the prior) and its label code."""
        rng = np.random.default_rng([self.seed, 1])
        label = np.concatenate([np.full(n, code) for code, n in requests])
        if self.method == "prior":
            return None, label
        pools = [self._pool(code) for code, _ in requests]
        source = np.concatenate(
            [self.posterior.draw(n, pool, rng) for (_, n), pool in zip(requests, pools, strict=True)]
        )
        if shuffle:
            order = rng.permutation(len(source))
            source, label = source[order], label[order]
        return source, label

    def _pool(self, label: int) -> np.ndarray:
        pool = self.posterior.cells(None if label == ANY else label, self.batch)
        # a type that was never seen in the requested batch is drawn from its other batches
        return pool if len(pool) else self.posterior.cells(None if label == ANY else label)

    def _codes(
        self, source: np.ndarray | None, label: np.ndarray, library: np.ndarray | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latent codes, log library sizes and batches of one block."""
        device = self.module.device
        n = len(label)
        noise = torch.randn(n, self.module.n_latent, generator=generator, device=device)
        if source is None:
            z = noise
            code = None if label[0] == ANY else int(label[0])
            mean, std = self.posterior.library_parameters(code, self.batch)
            log_library = mean + std * torch.randn(n, 1, generator=generator, device=device)
            if self.batch is None:
                pool = self._pool(ANY if code is None else code)
                pick = torch.randint(len(pool), (n,), generator=generator, device=device).cpu().numpy()
                batches = self.posterior.batches[pool[pick]]
            else:
                batches = np.full(n, self.batch)
        else:
            mean = torch.as_tensor(self.posterior.mean_codes(source), device=device)
            z = mean + torch.as_tensor(self.posterior.std[source], device=device) * noise
            log_library = torch.as_tensor(self.posterior.log_library[source], device=device).unsqueeze(1)
            batches = self.posterior.batches[source] if self.batch is None else np.full(n, self.batch)
        if library is not None:
            log_library = torch.as_tensor(np.log(library), dtype=torch.float32, device=device).unsqueeze(1)
        return z, log_library.float(), torch.as_tensor(batches, device=device).unsqueeze(1)

    def _cells(self, z, log_library, batches, label: np.ndarray, generator: torch.Generator) -> Chunk:
        """Decode one block; a label that is not known yet is found first."""
        module = self.module
        codes = torch.as_tensor(label, device=z.device)
        if self.names is not None and (codes == ANY).any():
            codes = self._find_labels(z, log_library, batches)
        px = module.decode(z, log_library, batches, codes.clamp_min(0).unsqueeze(1))
        counts = sp.csr_matrix(module.draw(px, generator).cpu().numpy())
        codes = codes.cpu().numpy()
        if self.margins is not None:
            uniform = torch.rand(counts.shape, generator=generator, device=z.device).cpu().numpy()
            counts = self.margins.apply(counts, codes.clip(0), uniform)
        return Chunk(counts, z.cpu().numpy(), codes, batches.squeeze(1).cpu().numpy())

    def _find_labels(self, z: torch.Tensor, log_library: torch.Tensor, batches: torch.Tensor) -> torch.Tensor:
        """The type that the classifier sees in the decoded cell, or, where it cannot, that of the nearest code."""
        module = self.module
        if module.has_label_baseline or module.classifier is None:
            return torch.as_tensor(self.posterior.nearest_labels(z.cpu().numpy(), len(self.names)), device=z.device)
        px = module.decode(z, log_library, batches, torch.zeros_like(batches))
        return module.classifier(module.expected(px)).argmax(-1)

    def _accepted(self, label: int, n: int) -> Iterator[Chunk]:
        """Cells that the classifier takes for the requested type (section 2.6 of the ACTIVA paper)."""
        module = self.module
        rng = np.random.default_rng([self.seed, 2, label])
        done, drawn, number = 0, 0, 0
        while done < n:
            if drawn >= self.max_draws:
                raise RuntimeError(
                    f"Only {done} of {drawn} drawn cells ({done / drawn:.2%}) were accepted as {self.names[label]!r}, "
                    f"{n} were asked for. Raise `max_draws`, lower `min_confidence`, train longer, or use "
                    "method='posterior' without `min_confidence`, which rejects none."
                )
            generator = self._generator(3, label, number)
            labels = np.full(BLOCK, label)
            source = None if self.method == "prior" else rng.choice(self._pool(label), BLOCK)
            library = None if self.library_size is None else np.resize(self.library_size, BLOCK)
            z, log_library, batches = self._codes(source, labels, library, generator)
            px = module.decode(z, log_library, batches, torch.as_tensor(labels, device=z.device).unsqueeze(1))
            probability = module.classifier(module.expected(px)).softmax(-1)
            keep = probability.argmax(-1) == label
            if self.min_confidence is not None:
                keep &= probability[:, label] >= self.min_confidence
            keep = torch.nonzero(keep).squeeze(1)[: n - done]
            drawn, number = drawn + BLOCK, number + 1
            if len(keep):
                yield self._cells(z[keep], log_library[keep], batches[keep], labels[: len(keep)], generator)
                done += len(keep)
