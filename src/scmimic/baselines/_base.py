"""The interface that all reference generators share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scmimic._arguments import COLUMN, COUNT_OR_NONE, LAYER, ORDERED, SEED, SEED_OR_NONE
from scmimic._progress import progress
from scmimic.cells import (
    ALL_CELLS,
    ANNDATA,
    LABEL,
    Attributes,
    AttributeValues,
    Labels,
    assemble,
    fingerprint,
    label_column,
    read_counts,
    resolve_counts,
)

BLOCK_ENTRIES = 2**23
"""Values per dense block: 64 MB in double precision."""

# Values by which the training cells of one generator are told from those of another.
_SAMPLED = 4096


class ReferenceGenerator(ABC):
    """Base class of the reference generators.

    Parameters
    ----------
    adata
        Training cells. Never changed.
    labels_key
        Column of ``adata.obs`` with the cell types: text, numbers, truth values or categories of these. ``None`` treats
        all cells as one type.
    layer
        Layer with raw counts. Default: ``adata.X``.

    Raises
    ------
    KeyError
        If `labels_key` or `layer` is not there.
    ValueError
        If the values are no raw counts, or a cell has no label.

    See Also
    --------
    scmimic.evaluate : Compares with reference generators.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in tables."""

    _shows_fit: ClassVar[bool] = False
    """Whether the fit shows its progress itself."""

    def __init__(self, adata: AnnData, *, labels_key: str | None, layer: str | None = None) -> None:
        ANNDATA.check(adata=adata)
        COLUMN.or_none.check(labels_key=labels_key)
        LAYER.check(layer=layer)
        self._x = read_counts(adata, layer)
        self._labels, self._codes = None, np.zeros(adata.n_obs, dtype=np.int64)
        if labels_key is not None:
            self._labels, self._codes = label_column(adata, labels_key, by_value=True)
        self.categories = [ALL_CELLS] if self._labels is None else self._labels.names
        self._library = np.asarray(self._x.sum(axis=1), dtype=np.float64).ravel()
        self._var = adata.var.copy()
        self.labels_key = labels_key
        self.layer = layer
        self.fit_seed: int | None = None
        self.is_fitted = False

    def __repr__(self) -> str:
        types = "" if self._labels is None else f", {len(self.categories)} types of {self.labels_key!r}"
        layer = "" if self.layer is None else f", layer {self.layer!r}"
        fitted = f"fitted with seed {self.fit_seed}" if self.is_fitted else "not fitted"
        n_cells, n_genes = self._x.shape
        return f"{type(self).__name__}: {n_cells} cells x {n_genes} genes{types}{layer}, {fitted}"

    @property
    def proportions(self) -> np.ndarray:
        """Share of each label among the training cells, in the order of ``categories``."""
        return np.bincount(self._codes, minlength=len(self.categories)) / len(self._codes)

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings that are recorded with the generated cells."""
        return {"labels_key": self.labels_key, "layer": self.layer, "fit_seed": self.fit_seed}

    def fit(self, seed: int = 0) -> Self:
        """Learn from the training cells.

        Parameters
        ----------
        seed
            Seed of whatever is random in the fit.

        Returns
        -------
        The generator itself.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.baselines.IndependentNB(adata, labels_key="cell_type").fit()
        IndependentNB: 60 cells x 20 genes, 3 types of 'cell_type', fitted with seed 0
        """
        SEED.check(seed=seed)
        self.fit_seed = seed
        with progress(None, f"Fitting {type(self).__name__}", silent=self._shows_fit):
            self._fit(np.random.default_rng(seed))
        self.is_fitted = True
        return self

    def generate(self, n: int | None = None, labels: Labels = None, *, seed: int | None = None) -> AnnData:
        """Draw synthetic cells.

        Parameters
        ----------
        n
            Total number of cells. ``None`` only where `labels` is a dict.
        labels
            ``None`` (all labels, in the proportions of the training cells), one label, a list of labels (`n` is
            shared evenly, the remainder goes to the first ones), or a dict from label to number of cells.
        seed
            Seed of the draw. The same seed gives the same cells. None: a fresh one, which is kept in ``.uns``.

        Returns
        -------
        AnnData with integer counts in CSR ``.X`` (type of the training counts, 32 bits or more), the requested label in
        ``.obs[labels_key]`` (type of the training column), names that differ from those of other calls, the training
        ``.var`` without its statistics of cells, and the record of the draw in ``.uns["scmimic"]``.

        Raises
        ------
        RuntimeError
            If called before :meth:`fit`.
        ValueError
            If `n` or `labels` make no sense (see the message).

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> generator = sm.baselines.IndependentNB(adata, labels_key="cell_type").fit()
        >>> generator.generate(3, labels="type_1", seed=0).obs["cell_type"].tolist()
        ['type_1', 'type_1', 'type_1']
        """
        COUNT_OR_NONE.check(n=n)
        SEED_OR_NONE.check(seed=seed)
        ORDERED.check(labels=labels)
        if not self.is_fitted:
            raise RuntimeError(f"{type(self).__name__} is not fitted: call .fit() first.")
        counts = resolve_counts(n, labels, self._labels, self.proportions)
        # as the models: what was drawn can be drawn again
        seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        index = {category: code for code, category in enumerate(self.categories)}
        codes = np.repeat([index[name] for name in counts], list(counts.values()))
        with progress(None, "Generating cells"):
            x = self._sample({index[name]: k for name, k in counts.items()}, np.random.default_rng(seed))
        return assemble(
            x,
            self._var,
            *self._attributes(codes),
            model_name=type(self).__name__,
            parameters=self.parameters,
            seed=seed,
            source=fingerprint(counts, self._x.shape, self._x.nnz, self._x.data[:_SAMPLED], self._x.indices[:_SAMPLED]),
            dtype=self._x.dtype,
        )

    def _attributes(self, codes: np.ndarray) -> tuple[Attributes, AttributeValues]:
        """What cells with these label codes are."""
        columns = Attributes(self._labels)
        values = AttributeValues.open(len(codes), columns)
        values.codes[:, LABEL] = codes
        return columns, values

    @abstractmethod
    def _fit(self, rng: np.random.Generator) -> None:
        """Learn from ``self._x``, ``self._codes`` and ``self._library``."""

    def _sample(self, counts: dict[int, int], rng: np.random.Generator) -> sp.csr_matrix:
        """Draw ``counts[code]`` cells of each label, stacked in that order."""
        return sp.vstack([self._sample_label(code, k, rng) for code, k in counts.items()], format="csr")

    def _sample_label(self, code: int, n: int, rng: np.random.Generator) -> sp.csr_matrix:
        """Draw `n` cells of one label. Generators that need all labels at once override :meth:`_sample`."""
        raise NotImplementedError

    def _members(self, code: int) -> np.ndarray:
        """Row numbers of the training cells of one label."""
        return np.flatnonzero(self._codes == code)

    def _draw_library(self, code: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` total counts from those observed for one label."""
        return rng.choice(self._library[self._members(code)], size=n)

    def _blocks(self, n: int) -> Iterator[slice]:
        """Split `n` cells into blocks that are small enough to be dense."""
        step = max(1, BLOCK_ENTRIES // self._x.shape[1])
        return (slice(start, min(start + step, n)) for start in range(0, n, step))
