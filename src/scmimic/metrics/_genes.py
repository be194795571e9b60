"""Statistics of each gene on both sides: mean, variance, zeros and the two-sample Kolmogorov-Smirnov statistic.

The gene-level summaries that benchmarks of simulators compare: Cao et al. 2021, Nat. Commun. 12, 6911 (SimBench), and
Crowell et al. 2023, Genome Biol. 24, 62.

Deviation: they compare the distributions of the summaries over the genes; here each gene is compared with itself, which
also sees the right values in the wrong genes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from scmimic._arrays import Matrix, as_matrix, check_comparable, stored_values
from scmimic._reprs import short_repr
from scmimic.metrics._errors import TooFewCellsError

# Values per chunk of genes: a few hundred MB at work where no value is 0, a tenth of that in usual expression.
_CHUNK_VALUES = 2**22


@short_repr
@dataclass(frozen=True)
class GeneStatistics:
    """Result of :func:`~scmimic.metrics.gene_statistics_distance`.

    Summaries are over genes; the arrays hold one value per gene.
    """

    mean_log_ratio: float
    """Mean of `|log(synthetic mean / real mean)|` over the genes expressed on both sides. 0 is ideal."""
    variance_log_ratio: float
    """The same of the variances, over the genes that vary on both sides. 0 is ideal."""
    variance_ratio: float
    """Median of synthetic over real variance of those genes. 1 is ideal, far below 1 is smooth (denoised) output."""
    zero_fraction_difference: float
    """Mean absolute difference of the zero fractions, from 0 (ideal) to 1."""
    ks_median: float
    """Median of `ks`, from 0 (ideal) to 1."""
    missing_genes: float
    """Fraction of the genes expressed in real cells that no synthetic cell expresses, from 0 (ideal) to 1."""
    real_mean: np.ndarray = field(repr=False)
    """Mean of each gene over the real cells."""
    synthetic_mean: np.ndarray = field(repr=False)
    """Mean of each gene over the synthetic cells."""
    real_variance: np.ndarray = field(repr=False)
    """Variance of each gene over the real cells (divided by the number of cells less one)."""
    synthetic_variance: np.ndarray = field(repr=False)
    """Variance of each gene over the synthetic cells."""
    real_zero_fraction: np.ndarray = field(repr=False)
    """Fraction of the real cells in which the gene is 0."""
    synthetic_zero_fraction: np.ndarray = field(repr=False)
    """Fraction of the synthetic cells in which the gene is 0."""
    ks: np.ndarray = field(repr=False)
    """Kolmogorov-Smirnov statistic of each gene: the largest distance of the two distribution functions."""


def gene_statistics_distance(real: Any, synthetic: Any) -> GeneStatistics:
    """Compare mean, variance, zero fraction and whole distribution of each gene.

    Each gene is looked at alone: cells whose genes are drawn independently of each other score as well as real ones.
    Sampling noise keeps the summaries off their ideal even for a real replicate, the more so the fewer the cells; read
    them beside those of a replicate.

    Parameters
    ----------
    real, synthetic
        Cells x genes, dense or sparse, with the same genes in the same order, non-negative, at least two cells each.
        Counts or log-normalised expression, both sides in the same space. Logged, the highly expressed genes weigh
        less in the variances; the zero fractions are the same, and so is the Kolmogorov-Smirnov statistic under any
        increasing transformation of the single values.

    Returns
    -------
    :class:`GeneStatistics` with summaries and one value per gene. A summary without any gene to go over is NaN.

    Raises
    ------
    ValueError
        If an array holds NaN or negative values, or differs in features.
    TooFewCellsError
        If an array has fewer than two cells.

    See Also
    --------
    scmimic.metrics.correlation_distance : Pairs of genes.
    scmimic.pl.gene_statistics : Draws them.

    Examples
    --------
    >>> import scmimic as sm
    >>> result = sm.metrics.gene_statistics_distance([[0, 1], [2, 3]], [[0, 2], [4, 6]])
    >>> result.variance_ratio
    4.0
    >>> result.ks
    array([0.5, 0.5])
    """
    real, synthetic = as_matrix(real, "real"), as_matrix(synthetic, "synthetic")
    check_comparable(real=real, synthetic=synthetic)
    for name, x in (("real", real), ("synthetic", synthetic)):
        if x.shape[0] < 2:
            raise TooFewCellsError(f"`{name}` has one cell: a variance needs at least two.")
        if stored_values(x).min(initial=0) < 0:
            raise ValueError(
                f"`{name}` holds negative values, for which zeros and ratios mean nothing. Pass counts or "
                "log-normalised expression, not scaled values or principal components."
            )
    # the same number in single and in double precision would count as two
    dtype = min(real.dtype, synthetic.dtype, key=lambda kind: kind.itemsize)
    sides = [sp.csc_matrix(x) if sp.issparse(x) else x for x in (real, synthetic)]
    step = max(1, _CHUNK_VALUES // (real.shape[0] + synthetic.shape[0]))
    chunks = []
    for start in range(0, real.shape[1], step):
        a, b = (_Entries.of(x[:, start : start + step], dtype) for x in sides)
        chunks.append((*a.moments(), *b.moments(), a.ks(b)))
    mean, variance, zeros, other_mean, other_variance, other_zeros, ks = (
        np.concatenate(parts) for parts in zip(*chunks, strict=True)
    )
    expressed, varying = (mean > 0) & (other_mean > 0), (variance > 0) & (other_variance > 0)
    variance_ratio = other_variance[varying] / variance[varying]
    return GeneStatistics(
        mean_log_ratio=_summary(np.mean, np.abs(np.log(other_mean[expressed] / mean[expressed]))),
        variance_log_ratio=_summary(np.mean, np.abs(np.log(variance_ratio))),
        variance_ratio=_summary(np.median, variance_ratio),
        zero_fraction_difference=float(np.abs(zeros - other_zeros).mean()),
        ks_median=float(np.median(ks)),
        missing_genes=_summary(np.mean, other_mean[mean > 0] == 0),
        real_mean=mean,
        synthetic_mean=other_mean,
        real_variance=variance,
        synthetic_variance=other_variance,
        real_zero_fraction=zeros,
        synthetic_zero_fraction=other_zeros,
        ks=ks,
    )


@dataclass(frozen=True)
class _Entries:
    """The values other than 0 of some genes of one side, ordered by gene."""

    gene: np.ndarray
    value: np.ndarray
    n_cells: int
    n_genes: int

    @classmethod
    def of(cls, x: Matrix, dtype: np.dtype) -> _Entries:
        x = sp.csc_matrix(x)
        stored = x.data != 0
        gene = np.repeat(np.arange(x.shape[1]), np.diff(x.indptr))[stored]
        return cls(gene, x.data[stored].astype(dtype, copy=False), *x.shape)

    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, variance and zero fraction of each gene."""
        mean = self._sum(self.value) / self.n_cells
        n_zeros = self.n_cells - self._sum()
        squares = self._sum((self.value - mean[self.gene]) ** 2) + n_zeros * mean**2
        return mean, squares / (self.n_cells - 1), n_zeros / self.n_cells

    def ks(self, other: _Entries) -> np.ndarray:
        """Kolmogorov-Smirnov statistic of each gene against the other side.

        One running sum serves all genes: a value adds to it on one side and subtracts on the other, in whole numbers,
        and each gene ends on 0. All zeros of a gene are one entry.
        """
        n, m = self.n_cells, other.n_cells
        zeros = m * (n - self._sum().astype(np.int64)) - n * (m - other._sum().astype(np.int64))
        gene = np.concatenate([self.gene, other.gene, np.arange(self.n_genes)])
        value = np.concatenate([self.value, other.value, np.zeros(self.n_genes, self.value.dtype)])
        weight = np.concatenate([np.full(len(self.gene), m), np.full(len(other.gene), -n), zeros])
        order = _order(gene, value)
        gene, value = gene[order], value[order]
        distance = np.abs(np.cumsum(weight[order]))
        # within equal values the running sum means nothing before the last
        distance[:-1][(value[:-1] == value[1:]) & (gene[:-1] == gene[1:])] = 0
        first = np.searchsorted(gene, np.arange(self.n_genes))
        return np.maximum.reduceat(distance, first) / (n * m)

    def _sum(self, values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(self.gene, values, minlength=self.n_genes)


def _order(gene: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Order of entries by gene, and within a gene by value, none of which is negative."""
    if value.dtype != np.float32:
        return np.lexsort((value, gene))
    # one whole number holds both, since the bits of numbers from 0 on have their order: a quarter of the time
    return np.argsort(gene.astype(np.uint64) << np.uint64(32) | value.view(np.uint32))


def _summary(function: Callable[[np.ndarray], Any], values: np.ndarray) -> float:
    return float(function(values)) if len(values) else float("nan")
