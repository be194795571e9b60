"""scDesign3 as a generator, by its Python implementation.

Song, D. et al. scDesign3 generates realistic in silico data for multimodal single-cell and spatial omics. Nature
Biotechnology 42, 247-252 (2024).
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmimic._arguments import COUNT, Choice
from scmimic._extras import need
from scmimic._random import seeded
from scmimic.baselines._base import ReferenceGenerator
from scmimic.cells import check_no_empty_cells, where_is


class ScDesigner(ReferenceGenerator):
    r"""Draw counts from a negative binomial regression of each gene, joined by a Gaussian copula per label.

    A wrapper of ``scdesigner.simulators.NegBinCopula``, of the extra ``scdesigner``. The log mean
    of a gene depends on the label and on the log total count, its dispersion and the correlations of genes on the
    label; total counts are drawn from the training cells of the label.

    Parameters
    ----------
    adata
        Training cells. Never changed.
    labels_key
        Column of ``adata.obs`` with the cell types, or ``None``.
    layer
        Layer with raw counts. Default: ``adata.X``.
    max_epochs
        Most epochs of the regressions; they end sooner when a tenth of the cells, held out, no longer gains.
    estimator
        Covariance of the copula: ``"ledoit_wolf"`` (default: with more genes than cells of a label the sample
        covariance is singular), ``"oas"``, or ``None`` for the sample covariance.

    Raises
    ------
    ImportError
        If scdesigner is not installed.
    ValueError
        As :class:`ReferenceGenerator`, and if a cell has no counts.

    See Also
    --------
    scmimic.baselines.GaussianCopula : Of this package, without an extra.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=100, n_vars=10)
    >>> reference = sm.baselines.ScDesigner(adata, labels_key="cell_type", max_epochs=2)  # doctest: +SKIP
    >>> reference.fit().generate(20, seed=0).shape  # doctest: +SKIP
    (20, 10)
    """

    name: ClassVar[str] = "scdesigner"

    def __init__(
        self,
        adata: AnnData,
        *,
        labels_key: str | None,
        layer: str | None = None,
        max_epochs: int = 200,
        estimator: str | None = "ledoit_wolf",
    ) -> None:
        COUNT.check(max_epochs=max_epochs)
        Choice(("ledoit_wolf", "oas"), optional=True).check(estimator=estimator)
        super().__init__(adata, labels_key=labels_key, layer=layer)
        check_no_empty_cells(self._x, where_is(layer))
        self.max_epochs = max_epochs
        self.estimator = estimator

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings that are recorded with the generated cells."""
        return super().parameters | {"max_epochs": self.max_epochs, "estimator": self.estimator}

    def _fit(self, rng: np.random.Generator) -> None:
        simulators = need("scdesigner.simulators", extra="scdesigner", what="ScDesigner")
        by_label = "~ label" if len(self.categories) > 1 else "~ 1"
        mean = f"{by_label} + log_library"
        self.model_ = simulators.NegBinCopula(mean, by_label, by_label, estimator=self.estimator)
        cells = AnnData(self._x.astype(np.float32), self._covariates(self._codes, self._library), self._var[[]])
        seed = int(rng.integers(2**31))
        with seeded(seed), _silent():
            self.model_.fit(cells, max_epochs=self.max_epochs, validation_seed=seed, verbose=False)

    def _sample(self, counts: dict[int, int], rng: np.random.Generator) -> sp.csr_matrix:
        codes = np.repeat(list(counts), list(counts.values()))
        library = np.concatenate([self._draw_library(code, n, rng) for code, n in counts.items()])
        seed = int(rng.integers(2**31))
        blocks = []
        with seeded(seed), _silent():
            np.random.seed(seed)  # noqa: NPY002
            for block in self._blocks(len(codes)):
                obs = self._covariates(codes[block], library[block])
                blocks.append(sp.csr_matrix(self.model_.sample(obs).X))
        return sp.vstack(blocks, format="csr")

    def _covariates(self, codes: np.ndarray, library: np.ndarray) -> pd.DataFrame:
        names = [str(i) for i in range(len(self.categories))]
        return pd.DataFrame(
            {
                "label": pd.Categorical.from_codes(codes, categories=names),
                "log_library": np.log(library) - float(np.log(self._library).mean()),
            },
            index=[str(i) for i in range(len(codes))],
        )


def _silent() -> contextlib.AbstractContextManager:
    # it writes progress to both streams, and has no switch for all of it
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    return stack
