"""Draws of cells, block by block: from what is asked for to codes, and from codes to cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from threading import Lock
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from scvi.module.base import BaseModuleClass

from scmimic.cells import LABEL, OPEN, AttributeValues
from scmimic.model.base._likelihoods import CellDistribution
from scmimic.model.base._vae_module import CellVAEModule
from scmimic.model.generation._draw import draw_sparse
from scmimic.model.generation._output import Chunk
from scmimic.model.generation._threads import in_threads
from scmimic.model.generation._unseen import Foretold, GroupMeans
from scmimic.model.generation.calibration._margins import GeneMargins, MarginRecorder
from scmimic.model.generation.codes._posterior import AggregatedPosterior
from scmimic.model.generation.codes._sources import CodeSource, Drawn, PosteriorCodes

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
    UNSEEN_GROUPS = 6
    # of GANs, which share no cell
    STATISTICS = 5
    SHARED_NOISE = 6


# Cells that show what the decoder makes of a group without training cells.
UNSEEN_CELLS = 512
# Added to proportions before their ratio is taken.
LEAST_PROPORTION = 1e-7


def random_stream(seed: int, device: torch.device, *stream_id: int) -> torch.Generator:
    """A generator of random numbers for one block of cells."""
    state = np.random.SeedSequence([seed, *stream_id]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> 1))


class UnseenGroup(NamedTuple):
    """What is changed in the cells of a group that has no training cells.

    Attributes
    ----------
    library_shift
        What is added to the log library sizes that come with the codes.
    factor
        What the decoder's proportions are multiplied by, before they are scaled to sum to 1, ``(n_genes,)``.
    theta
        Inverse dispersions, ``(n_genes,)``; None where they are the same for all labels.
    """

    library_shift: float
    factor: torch.Tensor
    theta: torch.Tensor | None


class BlockSampler:
    """Draws cells block by block; every block has random numbers of its own.

    Attributes
    ----------
    judged
        Whether cells may be rejected, so that no block can be made without those before it.

    Parameters
    ----------
    module
        The trained networks.
    seed
        Seed of all draws.
    """

    judged = False

    def __init__(self, module: BaseModuleClass, *, seed: int):
        # modules look through all parameters for it
        self.module, self.seed, self.device = module, seed, module.device

    def stream(self, *stream_id: int) -> torch.Generator:
        """The random numbers of one block."""
        return random_stream(self.seed, self.device, *stream_id)

    def noise(self, n: int, size: int, stream: torch.Generator) -> torch.Tensor:
        """Standard normal numbers ``(n, size)``."""
        return torch.randn(n, size, generator=stream, device=self.device)

    def blocks(self, n: int, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, slice]]:
        """Number and rows of each block of `n` cells, or of some of the blocks."""
        numbers = range(-(-n // BLOCK)) if numbers is None else numbers
        return ((number, slice(number * BLOCK, min((number + 1) * BLOCK, n))) for number in numbers)

    @property
    def n_threads(self) -> int:
        """Blocks that are made at once."""
        return torch.get_num_threads() if self.device.type == "cpu" else 1

    def cell_stream(self) -> np.random.Generator:
        """The random numbers by which it is drawn who the cells are."""
        return np.random.default_rng([self.seed, Stream.CELLS])


class CellSampler(BlockSampler):
    """Draws of an autoencoder.

    Parameters
    ----------
    module
        The trained networks.
    codes
        Where codes come from.
    seed
        Seed of all draws.
    posterior
        The training cells; None: none are kept.
    names
        The types, or None where there are none.
    library_size
        Fixed library size, one per cell, or None for the modelled one.
    judged
        Whether the classifier must take a cell for its type (section 2.6 of the ACTIVA paper).
    min_confidence
        Least probability of the requested type by the classifier, or None.
    max_draws
        Bound on the proposals per requested combination.
    margins
        Where counts get the margins of the training cells, the map to them, or what notes counts for such a map.
    means
        Means of the groups of training cells, by which cells of other groups are made; None: as the decoder has them.
    group_codes
        Codes by which it is seen what the decoder makes of a group; None: `codes`.
    """

    module: CellVAEModule

    def __init__(
        self,
        module: CellVAEModule,
        codes: CodeSource,
        *,
        seed: int,
        posterior: AggregatedPosterior | None = None,
        names: list[str] | None = None,
        library_size: np.ndarray | None = None,
        judged: bool = False,
        min_confidence: float | None = None,
        max_draws: int = 100_000,
        margins: GeneMargins | MarginRecorder | None = None,
        means: GroupMeans | None = None,
        group_codes: CodeSource | None = None,
    ):
        super().__init__(module, seed=seed)
        self.codes, self.posterior = codes, posterior
        self.names = names
        self.library_size = library_size
        self.judged, self.min_confidence = judged, min_confidence
        self.max_draws = max_draws
        self.margins = margins
        self.means, self.group_codes = means, codes if group_codes is None else group_codes
        self._unseen: dict[tuple[int, ...], UnseenGroup | None] = {}
        # each is looked at once, whichever thread meets it first
        self._looking = Lock()

    def run(self, asked: AttributeValues, shuffle: bool) -> Iterator[Chunk]:
        """A cell for each row, in order, or mixed."""
        if self.judged:
            patterns, index = asked.patterns()
            for number, n in enumerate(np.bincount(index)):
                yield from self._accepted(patterns.take([number]), int(n), number)
        else:
            yield from self.make(self.who(asked, shuffle))

    def who(self, asked: AttributeValues, shuffle: bool) -> Drawn:
        """Who the cells are, in order, or mixed; none is made yet."""
        rng = self.cell_stream()
        found = self.drawn(self.codes, asked, rng)
        return found.take(rng.permutation(asked.n)) if shuffle else found

    def drawn(self, codes: CodeSource, asked: AttributeValues, rng: np.random.Generator) -> Drawn:
        """Who the cells are that are asked for; a type that is not asked for is found when the cell is decoded."""
        found = codes.draw(asked, rng)
        if self.names is not None:
            found.attributes.codes[:, LABEL] = asked.labels
        return found

    def resample(self, cells: np.ndarray) -> Iterator[Chunk]:
        """One cell with the attributes and from the code of each of these training cells, in order."""
        assert self.posterior is not None
        yield from self.make(Drawn(self.posterior.attributes.take(cells), cells))

    def decode(self, z: np.ndarray, asked: AttributeValues, share_noise: bool) -> Iterator[tuple[np.ndarray, Chunk]]:
        """Cells of given codes, with the rows of `z` that they are of.

        Parameters
        ----------
        z
            Codes.
        asked
            What is known of each cell.
        share_noise
            Give all cells of a label the library size and the batch of one training cell.
        """
        for code in np.unique(asked.labels):
            rows = np.flatnonzero(asked.labels == code)
            rng = np.random.default_rng([self.seed, Stream.SHARED_CELL, int(code) + 1])
            known, codes, source = asked.take(rows), self.codes, np.arange(len(rows))
            if share_noise:
                codes = self.codes if self.posterior is None else PosteriorCodes(self.posterior)
                source[:] = 0
            found = self.drawn(codes, known.take(source[: 1 if share_noise else None]), rng).take(source)
            for number, block in self.blocks(len(rows)):
                index = rows[block]
                stream = self.stream(Stream.DECODED_BLOCKS, int(code) + 1, number)
                library = None if self.library_size is None else self.library_size[index]
                drawn = found.take(block)
                _, log_library = self.latents(codes, drawn, library, stream)
                block_z = torch.as_tensor(z[index], device=self.device)
                yield index, self._cells(block_z, log_library, drawn.attributes, stream)

    def latents(
        self, codes: CodeSource, drawn: Drawn, library: np.ndarray | None, stream: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and log library sizes of one block."""
        noise = self.noise(drawn.attributes.n, self.module.n_latent, stream)
        z, log_library = codes.sample(drawn, noise, stream)
        if library is not None:
            log_library = torch.as_tensor(np.log(library), device=noise.device).unsqueeze(1)
        else:
            for rows, group in self.unseen_groups(drawn.attributes):
                if group is not None:
                    log_library[rows] += group.library_shift
        return z, log_library.float()

    def told(self, attributes: AttributeValues) -> torch.Tensor | None:
        """What the networks read of the cells' batch and covariates."""
        codes = torch.as_tensor(attributes.codes[:, LABEL + 1 :], device=self.device)
        numbers = torch.as_tensor(attributes.numbers, device=self.device)
        return self.module.design(codes[:, :1], codes[:, 1:], numbers)

    def distribution(self, z: torch.Tensor, log_library: torch.Tensor, attributes: AttributeValues) -> CellDistribution:
        """p(x|z) of cells whose labels are known: the decoder's, with the means that groups without cells should have.

        Parameters
        ----------
        z, log_library
            Codes ``(n, n_latent)`` and log library sizes ``(n, 1)``.
        attributes
            Who the cells are.
        """
        labels = torch.as_tensor(attributes.labels, device=z.device).clamp_min(0).unsqueeze(1)
        px = self.module.decode(z, log_library, self.told(attributes), labels)
        moved = [(rows, group) for rows, group in self.unseen_groups(attributes) if group is not None]
        if not moved:
            return px
        theta = self.module.dispersions(labels)
        scale = px.get_normalized("scale").clone()
        for rows, group in moved:
            scale[rows] *= group.factor
            if theta is not None and group.theta is not None:
                theta[rows] = group.theta
        return self.module.with_proportions(px, scale, theta)

    def unseen_groups(self, attributes: AttributeValues) -> Iterator[tuple[np.ndarray, UnseenGroup | None]]:
        """Rows of each group that has no training cells, with what is known of it, if anything is."""
        if self.means is None:
            return
        is_closed = (attributes.codes != OPEN).all(axis=1)
        unseen = np.flatnonzero(is_closed & ~self.means.has(attributes.codes))
        codes, index = np.unique(attributes.codes[unseen], axis=0, return_inverse=True)
        for number, row in enumerate(codes):
            yield unseen[index.ravel() == number], self._unseen_group(row)

    def _unseen_group(self, codes: np.ndarray) -> UnseenGroup | None:
        """What a group gets, whatever the seed."""
        key = tuple(codes.tolist())
        with self._looking:
            if key not in self._unseen:
                assert self.means is not None
                found = self.means.foretell(codes)
                self._unseen[key] = None if found is None else self._moved(codes, found)
            return self._unseen[key]

    def _moved(self, codes: np.ndarray, found: Foretold) -> UnseenGroup:
        module = self.module
        n_numbers = module.design.n_continuous
        asked = AttributeValues(np.tile(codes, (UNSEEN_CELLS, 1)), np.full((UNSEEN_CELLS, n_numbers), np.nan))
        drawn = self.group_codes.draw(asked, np.random.default_rng([0, Stream.UNSEEN_GROUPS]))
        stream = random_stream(0, module.device, Stream.UNSEEN_GROUPS)
        z, log_library = self.group_codes.sample(drawn, self.noise(UNSEEN_CELLS, module.n_latent, stream), stream)
        labels = torch.as_tensor(drawn.attributes.labels, device=z.device).unsqueeze(1)
        px = module.decode(z, log_library.float(), self.told(drawn.attributes), labels)
        decoded = px.get_normalized("scale").double().mean(0)
        wanted = torch.as_tensor(found.proportions, device=z.device)
        # a gene that no cell of these groups has stays as rare as one count in many cells
        factor = (wanted + LEAST_PROPORTION) / (decoded + LEAST_PROPORTION)
        # a gene that hardly any of the type's own cells express varies as it does where it is expressed
        theta = module.mixed_dispersion(int(codes[LABEL]), found.label_weights, found.risen)
        return UnseenGroup(found.log_library - float(log_library.double().mean()), factor.float(), theta)

    def make(self, drawn: Drawn, numbers: Iterable[int] | None = None) -> Iterator[Chunk]:
        """The cells of all blocks, or of the blocks of these numbers."""

        def one(block: tuple[int, slice]) -> Chunk:
            number, rows = block
            stream = self.stream(Stream.BLOCKS, number)
            library = None if self.library_size is None else self.library_size[rows]
            part = drawn.take(rows)
            return self._cells(*self.latents(self.codes, part, library, stream), part.attributes, stream)

        # what notes counts notes them in their order
        alone = isinstance(self.margins, MarginRecorder)
        yield from in_threads(one, self.blocks(drawn.attributes.n, numbers), 1 if alone else self.n_threads)

    def _cells(
        self, z: torch.Tensor, log_library: torch.Tensor, attributes: AttributeValues, stream: torch.Generator
    ) -> Chunk:
        """Decode one block; a label that is not known yet is found first."""
        known = torch.as_tensor(attributes.labels, device=z.device)
        if self.names is not None and (known == OPEN).any():
            known = self.find_labels(z, log_library, self.told(attributes))
        codes = attributes.codes.copy()
        codes[:, LABEL] = known.cpu().numpy()
        attributes = AttributeValues(codes, attributes.numbers)
        px = self.distribution(z, log_library, attributes)
        return Chunk(self._counts(px, attributes, stream), z.cpu().numpy(), attributes)

    def _counts(self, px: CellDistribution, of: AttributeValues, stream: torch.Generator) -> sp.csr_matrix:
        """Draws of `px`, of cells whose attributes are known."""
        if not self.module.is_count:
            return sp.csr_matrix(self.module.draw(px, stream).cpu().numpy())
        if self.margins is None:
            return draw_sparse(px, stream)
        blocks = self.margins.blocks.of(of.codes)
        for rows, _ in self.unseen_groups(of):
            # no margins are theirs
            blocks[rows] = -1
        return self.margins.draw(px, blocks, stream)

    def find_labels(self, z: torch.Tensor, log_library: torch.Tensor, covariates: torch.Tensor | None) -> torch.Tensor:
        """The type that the classifier sees in the decoded cell, or, where it cannot, that of the nearest code."""
        module = self.module
        if module.has_label_baseline or module.classifier is None:
            if self.posterior is None:
                raise ValueError("The model keeps no training cells that would name the type of a code: give `labels`.")
            n_labels = 0 if self.names is None else len(self.names)
            return torch.as_tensor(self.posterior.nearest_labels(z.cpu().numpy(), n_labels), device=z.device)
        px = module.decode(z, log_library, covariates, torch.zeros_like(log_library).long())
        return module.classifier(module.expected(px)).argmax(-1)

    def _accepted(self, asked: AttributeValues, n: int, pattern: int) -> Iterator[Chunk]:
        """Cells that the classifier takes for the requested type (section 2.6 of the ACTIVA paper)."""
        module, label = self.module, int(asked.labels[0])
        assert module.classifier is not None
        is_label_alone = (asked.codes[0, LABEL + 1 :] == OPEN).all() and np.isnan(asked.numbers).all()
        name = [label] if is_label_alone else [label, 1 + pattern]
        rng = np.random.default_rng([self.seed, Stream.ACCEPTED_CELLS, *name])
        done, drawn, number = 0, 0, 0
        while done < n:
            if drawn >= self.max_draws:
                kind = label if self.names is None else self.names[label]
                raise RuntimeError(
                    f"Only {done} of {drawn} drawn cells ({done / drawn:.2%}) were accepted as {kind!r}, "
                    f"{n} were asked for. Raise `max_draws`, lower `min_confidence`, train longer, or use "
                    "codes='posterior' without `min_confidence`, which rejects none."
                )
            stream = self.stream(Stream.ACCEPTED_BLOCKS, *name, number)
            proposed = self.codes.draw(asked.take(np.zeros(BLOCK, dtype=np.int64)), rng)
            library = None if self.library_size is None else np.resize(self.library_size, BLOCK)
            z, log_library = self.latents(self.codes, proposed, library, stream)
            px = self.distribution(z, log_library, proposed.attributes)
            probability = module.classifier(module.expected(px)).softmax(-1)
            keep = probability.argmax(-1) == label
            if self.min_confidence is not None:
                keep &= probability[:, label] >= self.min_confidence
            keep = torch.nonzero(keep).squeeze(1)[: n - done]
            drawn, number = drawn + BLOCK, number + 1
            if len(keep):
                yield self._cells(z[keep], log_library[keep], proposed.attributes.take(keep.cpu().numpy()), stream)
                done += len(keep)
