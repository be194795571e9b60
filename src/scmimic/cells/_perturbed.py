"""Cells of an experiment with perturbations: the raw counts, and the perturbation and context of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmimic import _keys
from scmimic._arrays import canonical, check_unmasked
from scmimic.cells._checks import check_counts, check_values
from scmimic.cells._columns import label_array, label_column
from scmimic.cells._layers import read_matrix, where_is


@dataclass(frozen=True)
class Perturbed:
    """Cells of an experiment.

    Attributes
    ----------
    counts
        Raw counts, cells x genes, in single precision.
    perturbations
        Name of the perturbation of each cell, as text.
    contexts
        Name of the context of each cell; the same for all where there is but one.
    genes
        Names of the genes.
    """

    counts: sp.csr_matrix
    perturbations: np.ndarray
    contexts: np.ndarray
    genes: pd.Index

    @classmethod
    def read(
        cls,
        cells: AnnData,
        perturbation_key: str,
        context_key: str | None,
        layer: str | None,
        *,
        name: str = "adata",
        like: AnnData | None = None,
        fractions: bool = False,
    ) -> Perturbed:
        """Read cells, after checking that they hold raw counts and that every cell has its names.

        Parameters
        ----------
        cells
            The cells.
        perturbation_key, context_key
            Columns of `.obs`; without a context all are of one.
        layer
            Layer of the counts; `.X` where `like` is given and there is no such layer.
        name
            What to call the cells.
        like
            Cells that these are compared with, whose names for 1 and 1.0 are taken.
        fractions
            Whether values may be no integers, as means of counts are.
        """
        perturbations = label_array(cells, perturbation_key, name, argument="perturbation_key", like=like)
        contexts = np.full(cells.n_obs, _keys.OVERALL)
        if context_key is not None:
            contexts = label_array(cells, context_key, name, argument="context_key", like=like)
        where = where_is(layer, name)
        values = read_matrix(cells, layer, optional=like is not None)
        check_unmasked(**{where: values})
        hint = "The metrics are of raw counts: " + (
            "name the layer that holds them with `layer=`."
            if like is None
            else "give what a model of counts generates (gene_likelihood='nb'), not normalised values."
        )
        x = canonical(sp.csr_matrix(values, copy=True))
        if fractions:
            check_values(x, where, hint=hint)
        else:
            check_counts(x, where, hint=hint)
        x = x.astype(np.float32)
        x.eliminate_zeros()
        return cls(x, perturbations, contexts, pd.Index(cells.var_names.astype(str)))

    def __getitem__(self, rows: np.ndarray) -> Perturbed:
        """Some of the cells."""
        return Perturbed(self.counts[rows], self.perturbations[rows], self.contexts[rows], self.genes)

    def numbers(self, control: str | None = None) -> dict[str, int]:
        """Number of cells of each perturbation, in the order of the names; without that of `control`."""
        names, numbers = np.unique(self.perturbations, return_counts=True)
        return {str(k): int(n) for k, n in zip(names, numbers, strict=True) if k != control}

    def with_control(self, other: Perturbed, control: str) -> Perturbed:
        """These cells, but the control cells of others in the place of their own."""
        own, others = self[self.perturbations != control], other[other.perturbations == control]
        return Perturbed(
            sp.vstack([own.counts, others.counts], format="csr"),
            np.concatenate([own.perturbations, others.perturbations]),
            np.concatenate([own.contexts, others.contexts]),
            self.genes,
        )

    def to_anndata(self, perturbation_key: str) -> AnnData:
        """A plain AnnData with the counts in `.X` and the perturbation in one column."""
        names = [str(i) for i in range(len(self.perturbations))]
        obs = pd.DataFrame({perturbation_key: pd.Categorical(self.perturbations)}, index=names)
        return AnnData(self.counts, obs=obs, var=pd.DataFrame(index=self.genes))


def control_name(adata: AnnData, perturbation_key: str, control: Any) -> str:
    """The control, as :class:`Perturbed` names it.

    Raises
    ------
    ValueError
        If no cell is a control cell.
    """
    column, codes = label_column(adata, perturbation_key, argument="perturbation_key")
    code = column.code(control)
    if code is None or not (codes == code).any():
        known: Sequence[Any] = [column.values[i] for i in np.unique(codes)]
        raise ValueError(
            f"`control={control!r}`: there is no such cell in `adata.obs[{perturbation_key!r}]`, which holds "
            f"{list(known[:10])}{', ...' if len(known) > 10 else ''}. The metrics need real control cells."
        )
    return column.names[code]
