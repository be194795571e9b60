"""Differential expression of each label against the rest: which genes, in which direction, and how much.

Generators are known to keep the genes and to shrink their changes. The shrinkage is the slope of the synthetic on the
real changes, and the plain regression line does not measure it: the real changes are estimates. Their noise flattens
the line (regression dilution), and genes chosen because their estimate was large flatten it further, so that even a
real replicate stays below 1. Here the real cells are split in half. One half chooses the genes and weighs them, the
other is compared with the synthetic cells:

    slope = sum_g w_g y_g / sum_g w_g x_g

with the change w_g of gene g in the first half, x_g in the second and y_g in the synthetic cells: the
instrumental-variable estimator of the line through the origin (Wald 1940, Ann. Math. Stat. 11, 284; Durbin 1954, Rev.
Int. Stat. Inst. 22, 23). Both sums have their true value on average over the second half and the synthetic cells,
whatever the first half has chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.stats import ttest_ind_from_stats

from scmimic._arguments import COUNT, SEED
from scmimic._arrays import Matrix, as_dense, as_labels, as_pair
from scmimic._reprs import short_repr
from scmimic.metrics._errors import TooFewCellsError

# Values of one chunk of rows, whose squares are held: 64 MB.
_CHUNK_VALUES = 2**23


@short_repr
@dataclass(frozen=True)
class DifferentialExpression:
    """Result of :func:`~scmimic.metrics.differential_expression`. Dictionaries hold one value per label."""

    median_slope: float
    """Median of `slope` over the labels."""
    median_direction: float
    """Median of `direction`."""
    median_overlap: float
    """Median of `overlap`."""
    slope: dict[str, float]
    """Slope of synthetic on real changes: 1 is ideal, below 1 the changes are attenuated."""
    direction: dict[str, float]
    """Fraction of the real genes whose synthetic change has the sign of the real one. 1 is ideal, 0.5 is chance."""
    overlap: dict[str, float]
    """Jaccard index of the top genes of both sides, from 0 to 1 (ideal)."""
    left_out: tuple[str, ...]
    """Labels with too few cells on one side."""
    genes: dict[str, np.ndarray] = field(repr=False)
    """Column numbers of the top genes in the real cells, the strongest first."""
    real_change: dict[str, np.ndarray] = field(repr=False)
    """Change of every gene in the real cells, in the order of the columns."""
    synthetic_change: dict[str, np.ndarray] = field(repr=False)
    """Change of every gene in the synthetic cells."""


def differential_expression(
    real: Any,
    real_labels: Any,
    synthetic: Any,
    synthetic_labels: Any,
    *,
    n_genes: int = 50,
    min_cells: int = 30,
    n_splits: int = 10,
    seed: int = 0,
) -> DifferentialExpression:
    """Compare the differential expression of each label against the rest between real and synthetic cells.

    The change of a gene is the difference of its mean log-normalised expression between the label and all other cells
    (a log fold change of geometric means, in the unit of the logarithm used). The top genes are those with the largest
    absolute Welch t of that change, up or down. The slope regresses the synthetic changes on the real ones through
    the origin, with the real cells split in halves against regression dilution: an independent real replicate scores 1
    on average, and changes shrunk to 70 % score 0.7.

    The rest of both sides is mixed from the other labels in the proportions of the real cells, so that synthetic cells
    drawn in other proportions show no change that is none.

    Parameters
    ----------
    real
        Real cells x genes, dense or sparse: log-normalised expression, such as counts scaled to 10,000 per cell and
        log1p'd. Best held out from the generator's training: for cells that were copied, the slope rises above 1.
    real_labels
        Label of each real cell.
    synthetic
        Synthetic cells in the same space, with the same genes in the same order.
    synthetic_labels
        Label of each synthetic cell.
    n_genes
        Number of top genes per label; 50, as marker lists have. All genes where there are fewer.
    min_cells
        Labels with fewer cells on either side are not compared. They remain part of the rest, unless a side has fewer
        than two of their cells: then they are left out on both sides.
    n_splits
        Number of random halvings that the slope averages over.
    seed
        Seed of the halvings.

    Returns
    -------
    :class:`DifferentialExpression` with slope, direction and overlap per label and their medians. A slope is NaN where
    the halves of the real cells do not agree on any change.

    Raises
    ------
    ValueError
        If an array holds NaN, differs in features or from its labels in length, if a label is missing, or `n_genes` or
        `n_splits` is below 1.
    TooFewCellsError
        If fewer than two labels are shared, or none has enough cells.

    See Also
    --------
    scmimic.tl.evaluate_perturbation : For predicted perturbations.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["B", "T"], 200)
    >>> change = np.where(labels == "B", 1.0, 0.0)[:, None] * [2, -2, 1, 0]
    >>> real, weak = (s * change + rng.normal(3, 0.5, size=(400, 4)) for s in (1, 0.5))
    >>> result = sm.metrics.differential_expression(real, labels, weak, labels, n_genes=3)
    >>> round(result.median_slope, 1), result.direction["T"], result.overlap["T"]
    (0.5, 1.0, 1.0)
    """
    COUNT.check(n_genes=n_genes, min_cells=min_cells, n_splits=n_splits)
    SEED.check(seed=seed)
    real, synthetic = as_pair(real, synthetic)
    real_labels = as_labels(real_labels, "real_labels", real.shape[0])
    synthetic_labels = as_labels(synthetic_labels, "synthetic_labels", synthetic.shape[0])
    shared, counts = _shared_labels(real_labels, synthetic_labels)
    compared = np.flatnonzero(counts.min(axis=0) >= min_cells)
    if len(compared) == 0:
        cells = dict(zip(shared.tolist(), counts.T.tolist(), strict=True))
        raise TooFewCellsError(
            f"No label has {min_cells} cells on both sides (real, synthetic: {cells}). Give more cells or `min_cells`."
        )
    left_out = sorted({*real_labels.tolist(), *synthetic_labels.tolist()} - set(shared[compared].tolist()))
    real_cells, fake_cells = (_cells_of(labels, shared) for labels in (real_labels, synthetic_labels))
    proportions = counts[0] / counts[0].sum()

    whole = _Moments.of(real, *real_cells, len(shared))
    real_change, real_t = whole.against_rest(proportions)
    fake_change, fake_t = _Moments.of(synthetic, *fake_cells, len(shared)).against_rest(proportions)
    real_top, fake_top = _top(real_t, n_genes), _top(fake_t, n_genes)
    above, below = np.zeros((2, len(shared)))
    rng = np.random.default_rng(seed)
    for _ in range(n_splits):
        mark = _half(real_cells[1], rng)
        half = _Moments.of(real, real_cells[0][mark], real_cells[1][mark], len(shared))
        sides = [part.against_rest(proportions) for part in (half, whole - half)]
        # each half in both roles; the ratio is taken of the sums, which are without bias
        for one, other in (sides, sides[::-1]):
            weighted = _weighted_changes(one, other[0], fake_change, n_genes)
            above, below = above + weighted[0], below + weighted[1]
    slopes = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)

    slope, direction, overlap = {}, {}, {}
    for i in compared:
        label, top = str(shared[i]), real_top[i]
        slope[label] = float(slopes[i])
        direction[label] = float((np.sign(real_change[i, top]) == np.sign(fake_change[i, top])).mean())
        n_common = len(np.intersect1d(top, fake_top[i]))
        overlap[label] = n_common / (2 * len(top) - n_common)
    return DifferentialExpression(
        median_slope=_median(slope),
        median_direction=_median(direction),
        median_overlap=_median(overlap),
        slope=slope,
        direction=direction,
        overlap=overlap,
        left_out=tuple(left_out),
        genes={str(shared[i]): real_top[i] for i in compared},
        real_change={str(shared[i]): real_change[i] for i in compared},
        synthetic_change={str(shared[i]): fake_change[i] for i in compared},
    )


@dataclass(frozen=True)
class _Moments:
    """Number of cells, sums and sums of squares of each label (rows)."""

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, x: Matrix, cells: np.ndarray, codes: np.ndarray, n_labels: int) -> _Moments:
        """Take the named rows of `x`, with the label of each."""
        n = np.bincount(codes, minlength=n_labels)
        total, squares = np.zeros((2, n_labels, x.shape[1]))
        step = max(1, _CHUNK_VALUES // x.shape[1])
        for start in range(0, len(cells), step):
            rows = x[cells[start : start + step]].astype(np.float64)
            k = rows.shape[0]
            member = sp.csr_matrix((np.ones(k), (codes[start : start + step], np.arange(k))), shape=(n_labels, k))
            total += as_dense(member @ rows)
            squares += as_dense(member @ (rows.multiply(rows) if sp.issparse(rows) else rows**2))
        return cls(n, total, squares)

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.n - other.n, self.total - other.total, self.squares - other.squares)

    def against_rest(self, proportions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change and Welch t of each label (rows), the rest mixed in the given proportions."""
        n_labels = len(self.n)
        weights = np.tile(proportions, (n_labels, 1))
        np.fill_diagonal(weights, 0)
        weights /= weights.sum(axis=1, keepdims=True)
        mean, square = self.total / self.n[:, None], self.squares / self.n[:, None]
        rest_mean, rest_square = weights @ mean, weights @ square
        n, n_rest = self.n[:, None], (self.n.sum() - self.n)[:, None]
        sd, rest_sd = (
            np.sqrt(np.maximum(sq - m**2, 0) * k / np.maximum(k - 1, 1))
            for m, sq, k in ((mean, square, n), (rest_mean, rest_square, n_rest))
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ttest_ind_from_stats(mean, sd, n, rest_mean, rest_sd, n_rest, equal_var=False).statistic
        change = mean - rest_mean
        # a gene without variance has an infinite t, or none: a difference that is mere rounding is no difference
        same = np.abs(change) <= 1e-12 * (np.abs(mean) + np.abs(rest_mean))
        return change, np.where(same, 0.0, t)


def _weighted_changes(
    chosen: tuple[np.ndarray, np.ndarray], change: np.ndarray, fake_change: np.ndarray, n_genes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the top genes of one half of the real cells, weighted by its changes: synthetic cells, other half."""
    top = _top(chosen[1], n_genes)
    weight, x, y = (np.take_along_axis(values, top, axis=1) for values in (chosen[0], change, fake_change))
    return (weight * y).sum(axis=1), (weight * x).sum(axis=1)


def _half(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mark a random half of the cells of each label."""
    order = np.lexsort((rng.random(len(codes)), codes))
    within = np.arange(len(codes)) - np.searchsorted(codes[order], codes[order])
    mark = np.empty(len(codes), dtype=bool)
    mark[order] = within % 2 == 0
    return mark


def _top(t: np.ndarray, n_genes: int) -> np.ndarray:
    """Columns of the largest absolute values of each row, the largest first."""
    return np.argsort(-np.abs(t), axis=1, kind="stable")[:, :n_genes]


def _shared_labels(real: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels with at least two cells on both sides, and their numbers of cells (2 x labels)."""
    sides = [dict(zip(*np.unique(x, return_counts=True), strict=True)) for x in (real, synthetic)]
    shared = sorted(label for label in sides[0] if min(side.get(label, 0) for side in sides) >= 2)
    if len(shared) < 2:
        raise TooFewCellsError(
            f"Real and synthetic cells share {len(shared)} labels (of at least two cells on both sides), but one label "
            f"against the rest needs two. Real: {sorted(map(str, sides[0]))}; synthetic: {sorted(map(str, sides[1]))}."
        )
    return np.array(shared), np.array([[side[label] for label in shared] for side in sides])


def _cells_of(labels: np.ndarray, shared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the cells of the shared labels, and the label of each as an index."""
    cells = np.flatnonzero(np.isin(labels, shared))
    return cells, np.searchsorted(shared, labels[cells])


def _median(values: dict[str, float]) -> float:
    found = [value for value in values.values() if not np.isnan(value)]
    return float(np.median(found)) if found else float("nan")
