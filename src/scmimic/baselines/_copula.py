"""Negative binomial margins joined by a Gaussian copula.

Sun, T. et al. scDesign2: a transparent simulator that generates high-fidelity single-cell gene expression count data
with gene correlations captured. Genome Biology 22, 163 (2021). Deviations: all genes take part (the correlation is
shrunk instead of being set to zero for rare genes), and the total count is part of the margin instead of leaving it to
the correlation, which with few cells is estimated much worse.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from scipy import stats
from scipy.special import betainc, ndtr, ndtri
from sklearn.covariance import ledoit_wolf_shrinkage

from scmimic._arguments import SEVERAL
from scmimic.baselines._nb import IndependentNB

_EDGE = 1e-9
"""Probabilities are kept this far from 0 and 1, where the normal quantile is infinite."""


def _log_zero_probability(mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    return -np.log1p(dispersion * mean) / dispersion


def normal_scores(
    x: sp.csr_matrix, library: np.ndarray, rate: np.ndarray, dispersion: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Map counts to standard normal scores by the distributional transform.

    A count becomes a uniform draw between the cumulative probabilities of the count below and of its own, so that the
    scores are exactly normal under the margin although counts are discrete.

    Parameters
    ----------
    x
        Raw counts, shape ``(n_cells, n_genes)``.
    library
        Total count of each cell.
    rate, dispersion
        Margins as :func:`~scmimic.baselines._nb.fit_negative_binomial` gives them.
    rng
        Source of the uniform draws.

    Returns
    -------
    Array of shape ``(n_cells, n_genes)``, single precision.
    """
    mean = library[:, None] * rate
    u = rng.random(x.shape)
    zero = np.exp(_log_zero_probability(mean, dispersion))
    scores = zero * u
    cell, gene, count = sp.find(x)
    shape = 1 / dispersion[gene]
    success = shape / (shape + mean[cell, gene])
    below, upto = betainc(shape, count, success), betainc(shape, count + 1, success)
    scores[cell, gene] = below + u[cell, gene] * (upto - below)
    return ndtri(np.clip(scores, _EDGE, 1 - _EDGE)).astype(np.float32)


class GaussianCopula(IndependentNB):
    r"""Draw correlated genes from the negative binomials of their label.

    The margins are those of :class:`IndependentNB`. Their normal scores have the correlation
    :math:`(1 - s_k) R_k + s_k I`, with :math:`R_k` that of the training cells of label :math:`k` and :math:`s_k` the
    Ledoit-Wolf shrinkage. Labels with few cells use the correlation within labels over all of them.

    Parameters
    ----------
    adata
        Training cells. Never changed.
    labels_key
        Column of ``adata.obs`` with the cell types, or ``None``.
    layer
        Layer with raw counts. Default: ``adata.X``.
    min_cells
        Labels with fewer cells use the pooled correlation. Default 30: below it the shrinkage itself is a guess.
    max_cells
        The correlation is estimated from at most so many cells of a label, drawn at random, since the scores are
        dense.

    See Also
    --------
    scmimic.baselines.ScDesigner : The published program.
    scmimic.baselines.IndependentNB : Without correlations.

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> counts = rng.poisson(rng.gamma(2, 5, (200, 1)) * np.ones((1, 2)))
    >>> counts = np.hstack([counts, rng.poisson(100, (200, 5))]).astype(np.float32)
    >>> synthetic = GaussianCopula(ad.AnnData(counts), labels_key=None).fit().generate(200, seed=0)
    >>> bool(np.corrcoef(synthetic.X.toarray()[:, :2].T)[0, 1] > 0.6)
    True
    """

    name: ClassVar[str] = "copula"

    def __init__(
        self,
        adata: AnnData,
        *,
        labels_key: str | None,
        layer: str | None = None,
        min_cells: int = 30,
        max_cells: int = 3000,
    ) -> None:
        SEVERAL.check(min_cells=min_cells, max_cells=max_cells)
        super().__init__(adata, labels_key=labels_key, layer=layer)
        if max_cells < min_cells:
            raise ValueError(f"`max_cells` must be at least `min_cells`: got {max_cells} and {min_cells}.")
        self.min_cells = min_cells
        self.max_cells = max_cells

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings that are recorded with the generated cells."""
        return super().parameters | {"min_cells": self.min_cells, "max_cells": self.max_cells}

    def _fit(self, rng: np.random.Generator) -> None:
        super()._fit(rng)
        size = np.bincount(self._codes, minlength=len(self.categories))
        pooled = None
        if (size < self.min_cells).any():
            rows = rng.permutation(len(self._codes))[: self.max_cells]
            pooled = self._correlation(rows, rng)
        self._correlations = []
        for code, k in enumerate(size):
            if k < self.min_cells and pooled is not None:
                self._correlations.append(pooled)
            else:
                rows = rng.permutation(self._members(code))[: self.max_cells]
                self._correlations.append(self._correlation(rows, rng))

    def _correlation(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
        """Return a root of the correlation of the expressed genes, its shrinkage, and those genes."""
        expressed = np.flatnonzero(self._x[rows].getnnz(axis=0))
        scores = np.empty((len(rows), len(expressed)), dtype=np.float32)
        for code in np.unique(self._codes[rows]):
            of_label = np.flatnonzero(self._codes[rows] == code)
            cells = rows[of_label]
            scores[of_label] = normal_scores(
                self._x[cells][:, expressed],
                self._library[cells],
                self.rate_[code, expressed],
                self.dispersion_[code, expressed],
                rng,
            )
        scores -= scores.mean(axis=0)
        scores /= np.maximum(scores.std(axis=0), 1e-6)
        if len(expressed) == 0 or len(rows) < 2:
            return np.zeros((1, len(expressed)), dtype=np.float32), 1.0, expressed
        # rounding may leave the range, and a negative one would make NaN of every cell
        shrinkage = float(np.clip(ledoit_wolf_shrinkage(scores, assume_centered=True), 0, 1))
        scores /= np.sqrt(len(rows))
        if len(rows) > len(expressed):
            # the triangular factor has the same cross product with fewer rows; NumPy's types know no modes
            triangle: Any = np.linalg.qr(scores, mode="r")
            scores = triangle
        return scores, shrinkage, expressed

    def _sample_label(self, code: int, n: int, rng: np.random.Generator) -> sp.csr_matrix:
        root, shrinkage, expressed = self._correlations[code]
        library, n_vars = self._draw_library(code, n, rng), self._x.shape[1]
        dispersion = self.dispersion_[code, expressed]
        blocks = []
        for b in self._blocks(n):
            k = b.stop - b.start
            # (1 - s) R + s I, without ever forming R
            scores = np.sqrt(1 - shrinkage) * (rng.standard_normal((k, len(root)), dtype=np.float32) @ root)
            scores += np.sqrt(shrinkage) * rng.standard_normal((k, len(expressed)), dtype=np.float32)
            u = ndtr(scores.astype(np.float64))
            mean = library[b, None] * self.rate_[code, expressed]
            cell, gene = np.nonzero(u > np.exp(_log_zero_probability(mean, dispersion)))
            shape = 1 / dispersion[gene]
            u = np.minimum(u[cell, gene], 1 - _EDGE)
            count = stats.nbinom.ppf(u, shape, shape / (shape + mean[cell, gene]))
            blocks.append(sp.csr_matrix((count, (cell, expressed[gene])), shape=(k, n_vars)))
        return sp.vstack(blocks, format="csr")
