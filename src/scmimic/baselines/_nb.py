"""Negative binomial margins per gene and label, every gene on its own."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from scipy.special import gammaln

from scmimic.baselines._base import ReferenceGenerator

MIN_DISPERSION = 1e-4
MAX_DISPERSION = 50.0
_LIBRARY_BINS = 64
_GOLDEN = (np.sqrt(5) - 1) / 2
_STEPS = 24
"""Golden-section steps: log dispersion is found to 1e-4 of its range of 13."""


def fit_negative_binomial(x: sp.csr_matrix, library: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Fit :math:`x_{cg} \sim \mathrm{NB}(\mu = \ell_c p_g, \phi_g)`, with variance :math:`\mu + \phi \mu^2`.

    The rate is the maximum-likelihood one of a Poisson; given it, the dispersion is that of maximum likelihood. A
    dispersion from the second moment would follow the few largest counts, and give cells too many zeros. Beside the
    non-zero counts only one sum over all cells is needed, which is taken over 64 bins of library size where there are
    more cells.

    Parameters
    ----------
    x
        Raw counts, shape ``(n_cells, n_genes)``.
    library
        Total count of each cell, shape ``(n_cells,)``.

    Returns
    -------
    The rate per count of library and the dispersion, each of shape ``(n_genes,)``. The dispersion is sought in
    [1e-4, 50]: below it the counts are Poisson for any purpose, above it the estimate rests on single cells. Genes
    without counts get the lower end.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> rate, dispersion = fit_negative_binomial(sp.csr_matrix([[1, 9], [9, 1], [1, 9]]), np.array([10, 10, 10]))
    >>> rate.round(3)
    array([0.367, 0.633])
    """
    rate = np.asarray(x.sum(axis=0), dtype=np.float64).ravel() / max(library.sum(), 1.0)
    cell, gene, count = sp.find(x)
    count = count.astype(np.float64)
    total = np.bincount(gene, count, minlength=len(rate))
    mean = library[cell] * rate[gene]
    # most counts of a gene are the same few: each is taken once, with how many cells have it
    values, code = np.unique(count, return_inverse=True)
    grid = len(rate), len(values)
    pair, n_pair = np.unique(np.ravel_multi_index((gene, code), grid), return_counts=True)
    pair_gene, pair_value = np.unravel_index(pair, grid)
    bins = np.array_split(np.sort(library), min(_LIBRARY_BINS, len(library)))
    bin_mean, bin_size = np.array([b.mean() for b in bins]), np.array([len(b) for b in bins])

    def log_likelihood(log_dispersion: np.ndarray) -> np.ndarray:
        dispersion = np.exp(log_dispersion)
        shape = 1 / dispersion
        of_all = -(bin_size @ np.log1p(bin_mean[:, None] * (rate * dispersion))) * shape
        r = shape[pair_gene]
        of_counts = np.bincount(pair_gene, n_pair * (gammaln(values[pair_value] + r) - gammaln(r)), minlength=len(rate))
        of_means = np.bincount(gene, count * np.log1p(dispersion[gene] * mean), minlength=len(rate))
        return of_all + of_counts + total * log_dispersion - of_means

    # golden-section search, for all genes at once
    low, high = np.full(len(rate), np.log(MIN_DISPERSION)), np.full(len(rate), np.log(MAX_DISPERSION))
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = log_likelihood(left), log_likelihood(right)
    for _ in range(_STEPS):
        go_left = at_left >= at_right
        low, high = np.where(go_left, low, left), np.where(go_left, right, high)
        new = np.where(go_left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = log_likelihood(new)
        left, right = np.where(go_left, new, right), np.where(go_left, left, new)
        at_left, at_right = np.where(go_left, at_new, at_right), np.where(go_left, at_left, at_new)
    dispersion = np.exp((low + high) / 2)
    return rate, np.where(rate > 0, dispersion, MIN_DISPERSION)


class IndependentNB(ReferenceGenerator):
    r"""Draw each gene on its own from the negative binomial of its label.

    .. math:: x_{cg} \sim \mathrm{NB}(\mu = \ell_c\, p_{kg}, \phi_{kg})

    with the total counts :math:`\ell_c` drawn from the training cells of label :math:`k`. Margins are right, all
    correlation but that of the total count is lost. A learned model that does not beat it has learned nothing.

    Parameters
    ----------
    adata
        Training cells. Never changed.
    labels_key
        Column of ``adata.obs`` with the cell types, or ``None``.
    layer
        Layer with raw counts. Default: ``adata.X``.

    See Also
    --------
    scmimic.baselines.GaussianCopula : With correlations of genes.
    scmimic.baselines.Multinomial : Without dispersion.

    Notes
    -----
    ``rate_`` and ``dispersion_`` hold the fit after :meth:`fit`, each of shape ``(n_labels, n_genes)``.

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> real = ad.AnnData(np.random.default_rng(0).poisson(3.0, (50, 4)).astype(np.float32))
    >>> synthetic = IndependentNB(real, labels_key=None).fit().generate(20, seed=0)
    >>> synthetic.shape
    (20, 4)
    """

    name: ClassVar[str] = "independent_nb"

    def _fit(self, rng: np.random.Generator) -> None:
        fits = [
            fit_negative_binomial(self._x[self._members(code)], self._library[self._members(code)])
            for code in range(len(self.categories))
        ]
        self.rate_ = np.vstack([rate for rate, _ in fits])
        self.dispersion_ = np.vstack([dispersion for _, dispersion in fits])

    def _sample_label(self, code: int, n: int, rng: np.random.Generator) -> sp.csr_matrix:
        library, shape = self._draw_library(code, n, rng), 1 / self.dispersion_[code]
        blocks = []
        for b in self._blocks(n):
            mean = library[b, None] * self.rate_[code]
            blocks.append(sp.csr_matrix(rng.poisson(rng.gamma(shape, mean * self.dispersion_[code]))))
        return sp.vstack(blocks, format="csr")
