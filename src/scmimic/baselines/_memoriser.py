"""The generator that returns its training cells."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from scmimic._random import draw_members
from scmimic.baselines._base import ReferenceGenerator


class Memoriser(ReferenceGenerator):
    """Return training cells of the requested label.

    It wins every measure of realism and is worthless: whatever it scores shows what a measure cannot see. A check for
    copies must catch it. Cells are drawn without replacement; each is returned once before any is returned twice.

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
    scmimic.baselines.Bootstrap : Resampled genes.
    scmimic.metrics.distance_to_closest_record : Finds copies.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd
    >>> real = ad.AnnData(np.eye(4), obs=pd.DataFrame({"type": list("AABB")}, index=list("0123")))
    >>> Memoriser(real, labels_key="type").fit().generate(2, "B", seed=0).X.toarray().sum(axis=0)
    array([0., 0., 1., 1.])
    """

    name: ClassVar[str] = "memoriser"

    def _fit(self, rng: np.random.Generator) -> None:
        """There is nothing to learn: the training cells are the model."""

    def _sample_label(self, code: int, n: int, rng: np.random.Generator) -> sp.csr_matrix:
        return self._x[draw_members(self._members(code), n, rng)]
