"""What normalised expression still tells of the counts behind it, and counts made of continuous cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData

from scmimic._plain import saved_as
from scmimic.metrics._arrays import as_matrix, expm1, log_normalise, scale_cells
from scmimic.model._validation import get_matrix, place

Units = Literal["counts", "linear", "log1p"]

# Cells that show the space of a layer.
_SHOWN = 1000
# Cells that are looked at together.
_BLOCK = 4096

# Share of the entries that must be whole multiples of their cell's smallest one.
_WHOLE = 0.9
# Multiples above this are not tested: their rounding errors near one half.
_TESTED = 30

# Steps at most, and the relative error of a cell's total that ends them.
_STEPS, _CLOSE = 12, 1e-4


@dataclass
class CountUnits:
    """How the values of a layer relate to counts.

    Attributes
    ----------
    units
        ``"counts"``: raw counts. ``"linear"`` and ``"log1p"``: counts scaled in each cell, and their log1p. None: it
        does not show.
    library_size
        Total counts of each cell over the registered genes, ``(n_cells,)``; NaN where it does not show.
    """

    units: Units | None
    library_size: np.ndarray


def count_units(x: np.ndarray | sp.spmatrix) -> CountUnits:
    """Find out whether `x` holds counts or scaled counts, and each cell's total.

    In scaled counts the smallest positive value of nearly every cell is one count, and the others are whole multiples
    of it; in log1p'd ones they are so after expm1. That gives the library sizes that normalisation took away.

    Parameters
    ----------
    x
        Cells x genes, non-negative, dense or sparse.
    """
    x = x.tocsr() if sp.issparse(x) else np.asarray(x)
    if all(np.array_equal(values, np.rint(values)) for _, values, _ in _blocks(x)):
        return CountUnits("counts", np.asarray(x.sum(axis=1, dtype=np.float64)).ravel())
    library = np.empty(x.shape[0])
    for units in ("linear", "log1p"):
        # a logarithm this large is none
        if units == "log1p" and x.max() > 30:
            break
        n_tested = n_whole = 0
        for rows, values, row in _blocks(x):
            amount = values.astype(np.float64) if units == "linear" else np.expm1(values.astype(np.float64))
            least = np.full(len(library[rows]), np.inf)
            np.minimum.at(least, row, amount)
            multiple = amount / least[row]
            tested = multiple[(multiple > 1) & (multiple < _TESTED)]
            n_tested += tested.size
            n_whole += int((np.abs(tested - np.rint(tested)) < 0.02).sum())
            library[rows] = np.rint(np.bincount(row, multiple, len(least)))
        if n_tested and n_whole >= _WHOLE * n_tested:
            return CountUnits(units, library)
    return CountUnits(None, np.full(x.shape[0], np.nan))


def _blocks(x: np.ndarray | sp.csr_matrix) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of cells: where they are, their positive values, and the row of each within the block."""
    for start in range(0, x.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        part = sp.csr_matrix(x[rows])
        # stored zeros are left out of a copy: the matrix is that of the user
        kept = part.data != 0
        yield rows, part.data[kept], np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))[kept]


UNIT_NAMES: dict[Units | None, str] = {
    "counts": "counts",
    "linear": "scaled counts",
    "log1p": "log1p values",
    None: "values of unknown units",
}


@saved_as("ExpressionSpace")
@dataclass(frozen=True)
class ExpressionSpace:
    """What the values of a layer are.

    Attributes
    ----------
    layer
        Its name; None: ``.X``.
    units
        As in :class:`CountUnits`.
    total
        Sum of each cell before a logarithm, where all cells have the same.
    """

    layer: str | None
    units: Units | None
    total: float | None = None


def expression_space(x: np.ndarray | sp.spmatrix, layer: str | None) -> ExpressionSpace:
    """The space of a layer, by some of its cells.

    Parameters
    ----------
    x
        Cells x genes, non-negative, dense or sparse.
    layer
        Name of the layer.
    """
    rows = np.unique(np.linspace(0, x.shape[0] - 1, min(x.shape[0], _SHOWN)).astype(np.int64))
    part = sp.csr_matrix(x[rows])
    units = count_units(part).units
    if units in (None, "counts"):
        return ExpressionSpace(layer, units)
    totals = np.asarray((expm1(part) if units == "log1p" else part).sum(1)).ravel()
    return ExpressionSpace(layer, units, float(np.median(totals)) if np.ptp(totals) < 0.01 * totals.mean() else None)


def convert(x: np.ndarray | sp.spmatrix, have: ExpressionSpace, want: ExpressionSpace) -> np.ndarray | sp.spmatrix:
    """Cells of one space in another.

    Parameters
    ----------
    x
        Cells x genes.
    have
        Their space.
    want
        The space to give.

    Raises
    ------
    ValueError
        If there is no exact way from one to the other.
    """
    check_convertible(have, want)
    if _same(have, want):
        return x
    x = as_matrix(x, "adata", dtype=np.float32)
    x = expm1(x) if have.units == "log1p" else x
    return log_normalise(x, want.total) if want.units == "log1p" else scale_cells(x, want.total)


def check_convertible(have: ExpressionSpace, want: ExpressionSpace) -> None:
    """Raise ValueError unless there is an exact way from one space to another."""
    if _same(have, want):
        return
    if want.units == "counts":
        raise ValueError(
            f"The cells hold {UNIT_NAMES[have.units]}, but the encoder reads raw counts. Generate them with "
            "`as_counts=True`, or train the generator on the encoder's layer."
        )
    if None in (have.units, want.units) or want.total is None:
        raise ValueError(
            f"The cells hold {UNIT_NAMES[have.units]}, but the encoder reads {UNIT_NAMES[want.units]}, with no total "
            "common to all cells that these could be scaled to. Generate cells in the units of the encoder's layer "
            "(without `as_counts`), or train the generator on that layer."
        )


def _same(have: ExpressionSpace, want: ExpressionSpace) -> bool:
    counts = have.units == "counts", want.units == "counts"
    return all(counts) or (have.layer == want.layer and not any(counts))


def check_units(adata: AnnData, want: ExpressionSpace) -> None:
    """Raise ValueError where cells show other units in the layer of a space than its own."""
    if (found := _other_units(get_matrix(adata, want.layer), want)) != want.units:
        raise ValueError(
            f"`{place(want.layer)}` holds {UNIT_NAMES[found]}, but the model was trained on {UNIT_NAMES[want.units]}. "
            "Put cells in the units of the training layer there."
        )


def check_record(x: np.ndarray | sp.spmatrix, said: ExpressionSpace) -> None:
    """Raise ValueError where generated cells show other units than those that their record says."""
    if (found := _other_units(x, said)) != said.units:
        raise ValueError(
            f"`adata.X` holds {UNIT_NAMES[found]}, but these cells were generated as {UNIT_NAMES[said.units]}, which "
            "the encoder would go by. Give them as they were generated, or put values in the units that the encoder "
            "reads into its layer of a new AnnData."
        )


def _other_units(x: np.ndarray | sp.spmatrix, want: ExpressionSpace) -> Units | None:
    """The units that cells show, where they contradict those of a space; otherwise the latter."""
    if not (x.nnz if sp.issparse(x) else np.any(x)):
        return want.units
    found = expression_space(x, want.layer).units
    counts = found == "counts", want.units == "counts"
    differ = any(counts) != all(counts) or (None not in (found, want.units) and found != want.units)
    return found if differ else want.units


def scale_to(x: torch.Tensor, library_size: torch.Tensor) -> torch.Tensor:
    """Non-negative cells scaled to the totals `library_size`, ``(n, 1)``."""
    x = x.clamp_min(0)
    return x * (library_size / x.sum(-1, keepdim=True).clamp_min(1e-12))


def counts_of_logarithms(x: torch.Tensor, library_size: torch.Tensor) -> torch.Tensor:
    """Expected counts of cells in log1p values, such that counts drawn from them have these logarithms on average.

    A value between those of k and of k + 1 counts is the mean of the two logarithms with weights 1 - p and p, and
    becomes k + p. Scaling after expm1 would keep the mean of the counts instead, which makes far more zeros of the
    small values in between: the logarithm is concave, and it is what the networks have learned the mean of.

    Parameters
    ----------
    x
        Cells x genes, log1p of amounts.
    library_size
        Total of the expected counts of each cell, ``(n, 1)``. What one count is worth in a cell follows from it.
    """
    x = x.clamp_min(0)
    amount = torch.expm1(x)
    total = amount.sum(-1, keepdim=True)
    known = total > 0

    def counts(unit: torch.Tensor) -> torch.Tensor:
        whole = torch.floor(amount / unit)
        below = torch.log1p(whole * unit)
        gap = torch.log1p((whole + 1) * unit) - below
        # single precision knows no gap between counts of millions
        return whole + ((x - below) / gap.clamp_min(1e-9)).clamp(0, 1)

    def excess(made: torch.Tensor) -> torch.Tensor:
        return torch.where(known, made.sum(-1, keepdim=True) / library_size, 1.0).log()

    # Secant steps in log total by log unit, of slope -1 to 0; the first unit gives no fewer counts than asked for.
    at = torch.where(known, total / library_size, 1.0).log()
    made = counts(at.exp())
    error = excess(made)
    slope = torch.full_like(at, -1.0)
    for _ in range(_STEPS):
        if error.abs().max() < _CLOSE:
            break
        step = -error / slope
        at = at + step
        made = counts(at.exp())
        last, error = error, excess(made)
        slope = torch.where(step == 0, slope, (error - last) / step).clamp(-1.0, -0.05)
    return made


def round_at_random(x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Every value up or down to a whole number, so that its mean is kept.

    The noise of the counts is in continuous cells already, which learned it from normalised counts; a Poisson draw
    would add it once more.
    """
    return torch.floor(x + torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype))
