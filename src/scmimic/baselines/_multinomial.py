"""One expression profile per label, and sampling noise."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from scmimic.baselines._base import ReferenceGenerator


class Multinomial(ReferenceGenerator):
    r"""Spread an observed total count over the mean profile of the label.

    .. math:: x_c \sim \mathrm{Multinomial}(\ell_c, p_k), \qquad p_{kg} = \sum_c x_{cg} / \sum_c \ell_c

    with the total counts :math:`\ell_c` drawn from the training cells of label :math:`k`. All cells of a label are the
    same but for technical noise, so that this shows what the mean profile alone is worth.

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
    scmimic.baselines.IndependentNB : With dispersion.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd
    >>> real = ad.AnnData(np.array([[5.0, 5, 0], [0, 0, 10]]), obs=pd.DataFrame({"type": ["A", "B"]}, index=["0", "1"]))
    >>> Multinomial(real, labels_key="type").fit().generate(1, "B", seed=0).X.toarray()
    array([[ 0.,  0., 10.]])
    """

    name: ClassVar[str] = "multinomial"

    def _fit(self, rng: np.random.Generator) -> None:
        groups = sp.csr_matrix((np.ones(len(self._codes)), (self._codes, np.arange(len(self._codes)))))
        totals = (groups @ self._x.astype(np.float64)).toarray()
        self.profile_ = totals / np.maximum(totals.sum(axis=1, keepdims=True), 1.0)

    def _sample_label(self, code: int, n: int, rng: np.random.Generator) -> sp.csr_matrix:
        # the last entry of a multinomial takes whatever rounding leaves: only expressed genes may be last
        expressed = np.flatnonzero(self.profile_[code])
        if len(expressed) == 0:
            return sp.csr_matrix((n, self._x.shape[1]))
        library = self._draw_library(code, n, rng).astype(np.int64)
        to_all_genes = sp.csr_matrix(
            (np.ones(len(expressed)), (np.arange(len(expressed)), expressed)), shape=(len(expressed), self._x.shape[1])
        )
        blocks = [sp.csr_matrix(rng.multinomial(library[b], self.profile_[code, expressed])) for b in self._blocks(n)]
        return sp.vstack(blocks, format="csr") @ to_all_genes
