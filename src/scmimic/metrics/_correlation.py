"""Distance of the gene-gene correlations, as Crowell et al. (2023, Genome Biol. 24, 62) compare them between data sets.

Deviation: they compare the distributions of all correlations; here each pair of genes is compared with itself, which
also sees the right strengths between the wrong genes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.stats import rankdata

from scmimic._arguments import SEVERAL, Choice
from scmimic._arrays import Matrix, as_dense, as_pair
from scmimic.metrics._errors import TooFewCellsError


def correlation_distance(
    real: Any,
    synthetic: Any,
    *,
    genes: Any = None,
    max_genes: int = 500,
    method: Literal["pearson", "spearman"] = "pearson",
    statistic: Literal["rms", "mean_absolute"] = "rms",
    max_cells: int | None = 20_000,
    seed: int = 0,
) -> float:
    r"""Difference of the gene-gene correlation matrices: 0 is ideal, at most 2.

    With correlations :math:`r_{gh}` of the real and :math:`s_{gh}` of the synthetic cells over the pairs of genes
    :math:`g < h`, the root mean square of :math:`s_{gh} - r_{gh}`, or the mean of its absolute value. The arrays are
    taken as they are; log-normalised expression is the usual space, for counts correlate through the library size.

    Sampling noise keeps a real replicate off 0: for weakly correlated genes of :math:`n` and :math:`m` cells the root
    mean square is about :math:`\sqrt{1/n + 1/m}`. Over cells of several types most correlation is the difference
    between types; within one type the metric sees what holds its genes together.

    Parameters
    ----------
    real, synthetic
        Cells x genes, dense or sparse, with the same genes in the same order; at least three cells each.
    genes
        Column numbers (or a mask) of the genes to compare. `None` takes the `max_genes` genes of the highest mean in
        the real cells: rare genes have hardly any correlation to reproduce.
    max_genes
        Largest number of genes where `genes` is `None`.
    method
        `"pearson"`, or `"spearman"` for the correlation of ranks (ties at their mean rank).
    statistic
        `"rms"` (root mean square) or `"mean_absolute"`.
    max_cells
        Largest number of cells per side, drawn at random; their values of the compared genes are dense. `None` uses
        all.
    seed
        Seed of that draw.

    Returns
    -------
    The difference. Genes that are constant in the real cells are left out; one that is constant in the synthetic
    cells alone counts as uncorrelated.

    Raises
    ------
    ValueError
        If an array holds NaN or differs in features, if fewer than two genes are left, or for an unknown `method` or
        `statistic`.
    TooFewCellsError
        If an array has fewer than three cells.
    IndexError
        If `genes` names a column that is not there.

    See Also
    --------
    scmimic.metrics.gene_statistics_distance : Single genes.
    scmimic.pl.gene_statistics : Draws them.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> real = np.array([[0, 0], [1, 1], [2, 2]])
    >>> sm.metrics.correlation_distance(real, real * [1, -1])
    2.0
    """
    SEVERAL.check(max_genes=max_genes)
    Choice(("pearson", "spearman")).check(method=method)
    Choice(("rms", "mean_absolute")).check(statistic=statistic)
    real, synthetic = as_pair(real, synthetic, max_cells=max_cells, seed=seed)
    for name, x in (("real", real), ("synthetic", synthetic)):
        if x.shape[0] < 3:
            raise TooFewCellsError(f"`{name}` has {x.shape[0]} cells: a correlation needs at least three.")
    if genes is None:
        mean = np.asarray(real.mean(axis=0, dtype=np.float64)).ravel()
        chosen = np.sort(np.argsort(-mean, kind="stable")[:max_genes])
    else:
        chosen = np.arange(real.shape[1])[np.asarray(genes)]
    real, synthetic = (_dense(x, chosen) for x in (real, synthetic))
    varies = np.ptp(real, axis=0) > 0
    if varies.sum() < 2:
        raise ValueError(f"{varies.sum()} of the {len(chosen)} genes compared vary in the real cells: give more genes.")
    a, b = (_correlations(x[:, varies], method) for x in (real, synthetic))
    difference = (b - a)[np.triu_indices(varies.sum(), 1)]
    return float(np.sqrt(np.mean(difference**2)) if statistic == "rms" else np.abs(difference).mean())


def _dense(x: Matrix, genes: np.ndarray) -> np.ndarray:
    return as_dense(x[:, genes]).astype(np.float64, copy=False)


def _correlations(x: np.ndarray, method: str) -> np.ndarray:
    if method == "spearman":
        x = rankdata(x, axis=0)
    constant = np.ptp(x, axis=0) == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.corrcoef(x, rowvar=False)
    r[constant] = r[:, constant] = 0
    return r
