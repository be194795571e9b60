"""The generator that draws its training cells with replacement."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from scmimic.baselines._base import ReferenceGenerator


class Bootstrap(ReferenceGenerator):
    """Draw training cells of the requested label with replacement.

    The classical bootstrap, and what oversampling of a rare type amounts to. Like :class:`Memoriser` it copies; unlike
    it, it repeats some cells and leaves others out before all were drawn: repeated cells within a sample give
    themselves away to a forest, and the spread of a small type is too small.

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
    scmimic.baselines.Memoriser : Whole cells.
    scmimic.baselines.IndependentNB : A distribution for each gene.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd
    >>> real = ad.AnnData(np.eye(4), obs=pd.DataFrame({"type": list("AABB")}, index=list("0123")))
    >>> Bootstrap(real, labels_key="type").fit().generate(50, "B", seed=0).X.toarray().sum(axis=0)[:2]
    array([0., 0.])
    """

    name: ClassVar[str] = "bootstrap"

    def _fit(self, rng: np.random.Generator) -> None:
        """There is nothing to learn: the training cells are the model."""

    def _sample_label(self, code: int, n: int, rng: np.random.Generator) -> sp.csr_matrix:
        return self._x[rng.choice(self._members(code), n)]
