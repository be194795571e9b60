"""Counts of a block of cells, drawn as sparse rows: which entries are positive first, then how large these are.

Where a map to the gene margins of the training cells moves the zeros, it does so before it is drawn who has one: the
chance of each entry to be zero is that after the map. Most entries of single cells are zeros, and cost a comparison.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from scvi.distributions import Poisson

from scmimic.model.base._likelihoods import CountDistribution, positive_counts, zero_probability

# Cells whose chances are computed at a time: their rows stay in the processor's cache.
TILE = 8


class ZeroMap(Protocol):
    """What moves zeros and counts."""

    def zeros(self, zero: torch.Tensor, blocks: np.ndarray) -> torch.Tensor:
        """P(x = 0) after the map."""

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
    rate = px.rate if isinstance(px, Poisson) else px.mu
    n, n_genes = rate.shape
    parts = []
    # a GPU has no such cache, and waits for each look at where counts are
    tile = TILE if rate.device.type == "cpu" else max(n, 1)
    for start in range(0, n, tile):
        rows = slice(start, start + tile)
        drawn = zero = zero_probability(px, rows=rows)
        if by is not None:
            assert blocks is not None
            zero = by.zeros(drawn, blocks[rows])
        uniform = torch.rand(zero.shape, generator=stream, device=zero.device)
        at = (uniform > zero).view(-1).nonzero().squeeze(1)
        parts.append((at + start * n_genes, drawn.reshape(-1)[at], zero.reshape(-1)[at]))
    where, drawn, zero = (torch.cat(column) for column in zip(*parts, strict=True))
    counts = positive_counts(px, where, stream).cpu().numpy()
    positions = where.cpu().numpy()
    cells, genes = np.divmod(positions, n_genes)
    if by is not None:
        assert blocks is not None
        chance, place = torch.rand(2, len(where), generator=stream, device=where.device)
        # of the entries that are positive after the map, those beyond the share that was before it are grown
        is_grown = (chance * (1 - zero) > 1 - drawn).cpu().numpy()
        counts = by.values(blocks[cells], genes, counts, place.cpu().numpy(), is_grown)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=n))])
    found = sp.csr_matrix((counts.astype(np.float32), genes.astype(np.int32), indptr), shape=(n, n_genes))
    # a positive count may be mapped to none
    found.eliminate_zeros()
    return found
