"""Latent matching score of DRVI (Moinfar & Theis 2024, bioRxiv 2024.11.06.622266, Methods).

Deviation: a numeric factor, or one of two levels, is one process; DRVI has a process for each level of every factor,
which a boolean factor per level gives here too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
from scipy.optimize import linear_sum_assignment

from scmimic._arguments import FLAG, SEED, SEVERAL, Choice
from scmimic._reprs import short_repr
from scmimic.metrics._factors import Factor, as_factors, as_latent, gap
from scmimic.metrics._mutual_information import binned_information, equal_width_bins
from scmimic.metrics._spearman import spearman_matrix

Similarity = Literal["smi", "spn", "asc"]


@short_repr
@dataclass(frozen=True)
class LatentMatching:
    """Result of :func:`~scmimic.metrics.latent_matching_score` with `return_matching`."""

    score: float
    """Latent matching score (LMS)."""
    best: float
    """Mean over the processes of the most similar dimension (DRVI's MSAS): dimensions may serve several processes."""
    gap: float
    """Mean over the processes of the most less the second most similar dimension (DRVI's MSGS)."""
    processes: list[str]
    """Names of the processes: a factor, or a level of it."""
    matched: np.ndarray = field(repr=False)
    """Dimension matched with each process; -1 for none."""
    similarity: np.ndarray = field(repr=False)
    """Similarity of each dimension with each process, dimensions x processes, 0 to 1."""


class _Settings(TypedDict, total=False):
    similarity: Similarity
    n_bins: int
    factor_bins: int
    seed: int


@overload
def latent_matching_score(
    latent: Any, factors: Any, *, return_matching: Literal[True], **settings: Unpack[_Settings]
) -> LatentMatching: ...
@overload
def latent_matching_score(
    latent: Any, factors: Any, *, return_matching: Literal[False] = ..., **settings: Unpack[_Settings]
) -> float: ...
def latent_matching_score(
    latent: Any,
    factors: Any,
    *,
    similarity: Similarity = "smi",
    n_bins: int = 10,
    factor_bins: int = 4,
    seed: int = 0,
    return_matching: bool = False,
) -> float | LatentMatching:
    r"""Latent matching score (LMS) of DRVI: 0 to 1, higher is better.

    Each biological process is matched with a dimension of its own such that the sum of the similarities is largest
    (assignment problem); the score is that sum over the number of processes. Processes are the levels of a factor,
    each against the rest (cell types), a numeric factor as a whole (a step), and a factor of two levels as a whole.
    There should be at least as many dimensions as processes: those without a dimension count 0.

    The similarities:

    `"smi"`
        Mutual information with the dimension in `n_bins` bins of equal width, over the entropy of the process
        (DRVI's SMI-disc).
    `"spn"`
        Same-process neighbours: the fraction of the cells of the process whose next cell along the dimension is of the
        process too, :math:`s`, in relation to its frequency :math:`p`: :math:`\max(0, s - p) / (1 - p)`. For a numeric
        factor the mean over its levels.
    `"asc"`
        Absolute Spearman correlation. For rare processes it is far below 1 even with a perfect dimension.

    Parameters
    ----------
    latent
        Cells x latent dimensions.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors). Numbers are levels where
        there are at most 20 distinct ones, and are cut into `factor_bins` classes otherwise, except for `"asc"`.
    similarity
        `"smi"`, `"spn"` or `"asc"`.
    n_bins
        Bins of `"smi"`; 10 as DRVI has.
    factor_bins
        Classes of equal numbers of cells for a continuous factor.
    seed
        Seed of the order in which `"spn"` takes cells of equal value.
    return_matching
        Return the matching, the similarities and DRVI's two other summaries of them.

    Returns
    -------
    The score, or :class:`LatentMatching` with `return_matching`.

    Raises
    ------
    ValueError
        If values are missing, shapes differ, a factor is constant, or the similarity is unknown.

    See Also
    --------
    scmimic.metrics.unsupervised_disentanglement_ranking : Several trainings, without factors.
    scmimic.metrics.mutual_information_gap : Known factors.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> cell_type = np.array(["B", "NK", "T"] * 50)
    >>> latent = np.column_stack([cell_type == "B", cell_type == "NK", cell_type == "T"]).astype(float)
    >>> round(sm.metrics.latent_matching_score(latent, cell_type), 3)
    1.0
    """
    Choice(get_args(Similarity)).check(similarity=similarity)
    SEVERAL.check(n_bins=n_bins)
    SEED.check(seed=seed)
    FLAG.check(return_matching=return_matching)
    latent = as_latent(latent)
    processes = [p for f in as_factors(factors, len(latent), factor_bins=factor_bins) for p in _processes(f)]
    if similarity == "smi":
        bins = equal_width_bins(latent, n_bins)
        columns = [binned_information(bins, n_bins, p.codes, p.n_levels) / p.entropy for p in processes]
        matrix = np.column_stack(columns)
    elif similarity == "spn":
        # in random order first: equal values would keep the order of the file, in which cells of a type stand together
        shuffled = np.random.default_rng(seed).permutation(len(latent))
        order = shuffled[np.argsort(latent[shuffled], axis=0, kind="stable")]
        matrix = np.column_stack([_same_process_neighbors(order, p) for p in processes])
    else:
        matrix = np.abs(spearman_matrix(latent, processes))
    dimension, process = linear_sum_assignment(matrix, maximize=True)
    score = float(matrix[dimension, process].sum() / len(processes))
    if not return_matching:
        return score
    matched = np.full(len(processes), -1)
    matched[process] = dimension
    return LatentMatching(
        score=score,
        best=float(matrix.max(axis=0).mean()),
        gap=float(gap(matrix).mean()),
        processes=[p.name for p in processes],
        matched=matched,
        similarity=matrix,
    )


def _processes(factor: Factor) -> list[Factor]:
    """The factor itself where it has an order or two levels, otherwise one factor of two levels for each level."""
    if factor.values is not None:
        return [factor]
    found = []
    for i, level in enumerate(factor.levels):
        codes = (factor.codes == i).astype(np.intp)
        found.append(Factor(f"{factor.name}: {level}", codes, ["rest", level], codes.astype(np.float64)))
    return found


def _same_process_neighbors(order: np.ndarray, process: Factor) -> np.ndarray:
    """Similarity by the next cell along each dimension; `order` holds the sorted cells of each dimension."""
    size = np.bincount(process.codes)
    frequency = size / len(order)
    # of two levels, the second is the process and the first the rest
    levels = range(process.n_levels) if process.n_levels > 2 else [1]
    scores = []
    for level in levels:
        of_level = (process.codes == level)[order]
        together = (of_level[:-1] & of_level[1:]).sum(axis=0) / max(size[level] - 1, 1)
        scores.append(np.maximum(together - frequency[level], 0) / (1 - frequency[level]))
    return np.mean(scores, axis=0)
