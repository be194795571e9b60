"""What the Splat simulation draws once per cell and per count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from scmimic.datasets._splat_parameters import SplatParameters

_CHUNK_VALUES = 2**20
"""Counts drawn at once: some 8 MiB per array in flight, which also keeps them near the processor."""


@dataclass(frozen=True)
class Cells:
    """Where each cell stands."""

    batch: np.ndarray
    """Code of its batch."""
    group: np.ndarray
    """Code of its path or group."""
    step: np.ndarray
    """Step on its path, from 1; all 1 for groups."""
    library_size: np.ndarray
    """Expected total counts."""


def draw_cells(
    n_obs: int,
    n_batches: int,
    group_prob: np.ndarray,
    n_steps: int,
    skew: np.ndarray,
    parameters: SplatParameters,
    rng: np.random.Generator,
) -> Cells:
    """Draw batch (equal shares), path, step and library size of each cell."""
    batch = rng.permutation(np.arange(n_obs) % n_batches)
    if group_prob.sum() == 0:
        raise ValueError("`group_prob` is 0 for all paths or groups: no cell could be on any of them.")
    group = rng.choice(len(group_prob), n_obs, p=group_prob / group_prob.sum())
    # probability of a step falls or rises in a straight line from `skew` to 1 - `skew`
    weight = np.linspace(skew, 1 - skew, n_steps, axis=1) if n_steps > 1 else np.ones((len(skew), 1))
    edges = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    share = rng.random(n_obs)
    step = np.empty(n_obs, dtype=np.int64)
    for k, edge in enumerate(edges):
        step[group == k] = 1 + np.searchsorted(edge[:-1], share[group == k])
    draw = rng.normal(parameters.lib_loc, parameters.lib_scale, n_obs)
    if not parameters.lib_norm:
        with np.errstate(over="ignore"):
            return Cells(batch, group, step, np.exp(draw))
    if not (draw > 0).any():
        raise ValueError(
            f"No normal library size is above 0 with lib_loc={parameters.lib_loc:g} and "
            f"lib_scale={parameters.lib_scale:g}. Raise `lib_loc`."
        )
    return Cells(batch, group, step, np.where(draw > 0, draw, draw[draw > 0].min() / 2))


def draw_counts(
    cells: Cells,
    base: np.ndarray,
    position: np.ndarray,
    bcv_factor: np.ndarray,
    bcv_common: float,
    seeds: np.random.SeedSequence,
    *,
    n_steps: int,
    dropout: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[sp.csr_matrix, np.ndarray]:
    r"""Draw the counts, a chunk of cells at a time, and their totals per cell.

    A cell's means :math:`\lambda` are its share of the library size. With :math:`B = (\phi + 1 / \sqrt\lambda)\, c` for
    the common BCV :math:`\phi` and the gene's factor `c`, the rate is gamma with mean :math:`\lambda` and coefficient
    of variation `B`, and the count is Poisson.

    Parameters
    ----------
    cells
        Where each cell stands.
    base
        Gene means of each batch, batches x genes.
    position
        Factors of each group, or of each step of each path, positions x genes.
    bcv_factor
        `c`, one per gene.
    bcv_common
        :math:`\phi`.
    seeds
        Each chunk has a child of its own.
    n_steps
        Steps per path; 1 for groups.
    dropout
        Midpoint and shape of the logistic curve of each cell.
    """
    n_obs, n_vars = len(cells.batch), base.shape[1]
    row = cells.group * n_steps + cells.step - 1
    c_squared = bcv_factor**2
    size = max(1, _CHUNK_VALUES // n_vars)
    data, indices = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int32)
    lengths, totals, filled = [], [], 0
    starts = range(0, n_obs, size)
    for start, child in zip(starts, seeds.spawn(len(starts)), strict=True):
        rng = np.random.default_rng(child)
        these = slice(start, start + size)
        mean = base[cells.batch[these]] * position[row[these]]
        mean *= (cells.library_size[these] / mean.sum(axis=1))[:, None]
        # c^2 (phi sqrt(mean) + 1)^2 is the scale mean * B^2 of the gamma, and holds for a mean of zero, too
        scale = np.sqrt(mean)
        scale *= bcv_common
        scale += 1
        scale *= scale
        scale *= c_squared
        mean /= scale
        rate = rng.standard_gamma(mean)
        rate *= scale
        counts = rng.poisson(rate)
        if dropout is not None:
            middle, shape = (values[these, None] for values in dropout)
            with np.errstate(divide="ignore"):
                counts[rng.random(counts.shape) < expit(shape * (np.log(rate) - middle))] = 0
        cell, gene = np.nonzero(counts)
        end = filled + len(gene)
        if end > len(data):
            # grown in place: parts to be joined at the end would need the memory twice
            data.resize(end * 5 // 4, refcheck=False)
            indices.resize(end * 5 // 4, refcheck=False)
        data[filled:end] = counts[cell, gene]
        indices[filled:end] = gene
        filled = end
        lengths.append(np.bincount(cell, minlength=len(counts)))
        totals.append(counts.sum(axis=1))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    data.resize(filled, refcheck=False)
    indices.resize(filled, refcheck=False)
    return sp.csr_matrix((data, indices, indptr), shape=(n_obs, n_vars)), np.concatenate(totals)
