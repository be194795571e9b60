"""Counts of a block of cells, drawn as sparse rows: which entries are positive first, then how large these are.

Most entries of single cells are zeros, so a zero must be cheap. The chance of an entry to be positive is never above
its mean. Sixteen random bits against the mean leave a few entries that may be positive, and what decides, the chance
itself and the other bits of the random number, is computed of these alone. So no number is rounded: it is as if each
entry had got all its bits.

Where a map to the gene margins of the training cells moves the zeros, it does so before it is drawn who has one: the
chance of each entry to be zero is that after the map.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch

from scmimic.model.base._likelihoods import CountDistribution, CountParameters, positions

# Cells whose chances are computed at a time: their rows stay in the processor's cache.
TILE = 8
# Values of sixteen random bits.
_WORDS = 2**16


class ZeroMap(Protocol):
    """What moves zeros and counts."""

    def most(self, rate: torch.Tensor, blocks: np.ndarray) -> torch.Tensor:
        """What P(x > 0) after the map does not exceed, of cells x genes of such means."""

    def positive(self, positive: torch.Tensor, blocks: torch.Tensor, genes: torch.Tensor) -> torch.Tensor:
        """P(x > 0) of entries after the map."""

    def values(
        self, blocks: np.ndarray, genes: np.ndarray, counts: np.ndarray, place: np.ndarray, is_grown: np.ndarray
    ) -> np.ndarray:
        """Counts after the map of entries that are positive after it; those that are grown were zero before."""


def draw_sparse(
    px: CountDistribution, stream: torch.Generator, by: ZeroMap | None = None, blocks: np.ndarray | None = None
) -> sp.csr_matrix:
    """Integer counts of `px`, ``(n, n_genes)`` float32.

    Parameters
    ----------
    px
        scvi-tools' ``Poisson``, ``NegativeBinomial`` or ``ZeroInflatedNegativeBinomial``, of shape ``(n, n_genes)``.
    stream
        Random numbers.
    by
        Map of zeros and counts; None: as `px` has them.
    blocks
        The map's block of each cell.
    """
    parameters = CountParameters.of(px)
    rate, device = parameters.rate, parameters.rate.device
    n, n_genes = rate.shape
    where, uniform = _candidates(rate, stream, by, blocks)
    found = parameters.at(where)
    drawn = positive = found.positive()
    if by is not None:
        assert blocks is not None
        cell = where.div(n_genes, rounding_mode="floor")
        positive = by.positive(drawn, torch.as_tensor(blocks, device=device)[cell], where - cell * n_genes)
    chosen = positions(uniform < positive)
    counts = found.at(chosen).draw_positive(stream).cpu().numpy()
    # on the CPU from here on, where rows are put together
    cells, genes = np.divmod(where[chosen].cpu().numpy(), n_genes)
    if by is not None:
        assert blocks is not None
        chance, place = torch.rand(2, len(chosen), generator=stream, device=device)
        # of the entries that are positive after the map, those beyond the share that was before it are grown
        is_grown = (chance * positive[chosen] > drawn[chosen]).cpu().numpy()
        counts = by.values(blocks[cells], genes, counts, place.cpu().numpy(), is_grown)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=n))])
    x = sp.csr_matrix((counts.astype(np.float32), genes.astype(np.int32), indptr), shape=(n, n_genes))
    # a positive count may be mapped to none
    x.eliminate_zeros()
    return x


def _candidates(
    rate: torch.Tensor, stream: torch.Generator, by: ZeroMap | None, blocks: np.ndarray | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flat positions of the entries that may be positive, and the uniform random number of each."""
    n, n_genes = rate.shape
    # a GPU has no such cache, and waits for each look at where counts are
    tile = TILE if rate.device.type == "cpu" else max(n, 1)
    places, words = [], []
    for start in range(0, n, tile):
        rows = slice(start, start + tile)
        most = rate[rows] if by is None or blocks is None else by.most(rate[rows], blocks[rows])
        bits = torch.empty(-(-most.numel() // 4), dtype=torch.int64, device=rate.device)
        bits.random_(-(2**63), None, generator=stream)
        word = bits.view(torch.uint16)[: most.numel()].float()
        at = positions(word < (most * _WORDS).view(-1))
        places.append(at + start * n_genes)
        words.append(word[at])
    word = torch.cat(words)
    rest = torch.rand(len(word), generator=stream, device=rate.device)
    return torch.cat(places), (word + rest) / _WORDS
