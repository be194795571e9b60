"""Cells that stand in two sets which should have none in common, found by their values.

Names cannot tell: they are numbered anew when files are joined. Values can, since two cells with a hundred expressed
genes do not agree in all of them by chance. Shallow cells may: those without any count are all the same. So a set of
values that occurs m times in both sets together is expected on both sides with the probability 1 - f^m - (1 - f)^m,
where f is the share of the first set, and cells are called shared where more sets of values are on both sides than
this explains.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from scmimic._arrays import Matrix, row_keys

MAX_SHARED = 0.5
"""Largest share of shared cells that are left out; beyond it the two sets are not what they should be."""

# Expressed genes with which two cells cannot agree by chance.
_CERTAIN_GENES = 100
# Standard deviations by which the values on both sides must outnumber chance.
_EXCESS = 2.5
# Values so frequent that chance alone puts them on both sides say nothing.
_FREQUENT = 0.99


def shared_cells(cells: Matrix, others: Matrix) -> np.ndarray:
    """Mark the rows of `cells` that are also in `others`, unless their values agree by chance.

    Parameters
    ----------
    cells, others
        Cells x genes, dense or sparse. Zeros may be stored or not, and the types of the numbers may differ.
    """
    # single precision, so that one file in double precision does not hide that it holds the same cells
    sides = [x.astype(np.float32, copy=False) for x in (cells, others)]
    keys = [row_keys(x) for x in sides]
    values, codes = np.unique(np.concatenate(keys), return_inverse=True)
    n = len(keys[0])
    first, second = (np.bincount(part, minlength=len(values)) for part in (codes[:n], codes[n:]))
    both = (first > 0) & (second > 0)
    share = n / len(codes)
    total = first + second
    # values that occur once are on one side for certain, which rounding may miss
    by_chance = np.maximum(1 - share**total - (1 - share) ** total, 0)
    excess = both.sum() - by_chance.sum()
    shared = both & (by_chance < _FREQUENT)
    if excess <= _EXCESS * np.sqrt((by_chance * (1 - by_chance)).sum()):
        shared[:] = False
    found = shared[codes[:n]]
    candidates = np.flatnonzero(both[codes[:n]] & ~found)
    found[candidates] = _n_expressed(sides[0][candidates]) >= _CERTAIN_GENES
    return found


def unseen_cells(cells: Matrix, others: Matrix, *, name: str, other_name: str, why: str) -> tuple[np.ndarray, str]:
    """Rows of `cells` that are not in `others`, and what to tell the user where some are.

    Parameters
    ----------
    cells, others
        As in :func:`shared_cells`.
    name, other_name
        How messages call the two.
    why
        Why they may have no cell in common, and what to give.

    Returns
    -------
    Row numbers, and a text that is empty where all rows are kept.

    Raises
    ------
    ValueError
        If more than half of `cells` are in `others`.
    """
    shared = shared_cells(cells, others)
    n, n_shared = len(shared), int(shared.sum())
    if n_shared == 0:
        return np.arange(n), ""
    found = f"{n_shared} of the {n} cells of `{name}` are in `{other_name}` too, the same in every gene"
    if n_shared > MAX_SHARED * n:
        raise ValueError(f"{found}. {why}")
    return np.flatnonzero(~shared), f"{found}, and are left out of `{name}`. {why}"


def leave_out_shared(
    matrices: dict[str, Matrix], columns: dict[str, np.ndarray], apart: Sequence[tuple[str, str, str]]
) -> list[str]:
    """Cut sets of cells, in place, to those that no set has which must not have them.

    Parameters
    ----------
    matrices
        The sets by name, all with the same genes.
    columns
        A value for each cell, by the same names, for some of the sets.
    apart
        Names of two sets, and why they may have no cell in common; shared cells are left out of the first. Names that
        are not in `matrices` are passed over.

    Returns
    -------
    What to tell the user: one text for each pair of which cells were left out.
    """
    told = []
    for name, other, why in apart:
        if name in matrices and other in matrices:
            rows, text = unseen_cells(matrices[name], matrices[other], name=name, other_name=other, why=why)
            if text:
                told.append(text)
                matrices[name] = matrices[name][rows]
                if name in columns:
                    columns[name] = columns[name][rows]
    return told


def _n_expressed(x: Matrix) -> np.ndarray:
    nonzero = x != 0
    return np.asarray(nonzero.sum(axis=1)).ravel() if sp.issparse(x) else np.count_nonzero(nonzero, axis=1)
