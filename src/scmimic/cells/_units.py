"""What the values of a layer are: found in them, said by their record, compared, and converted."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from scmimic import _keys
from scmimic._arrays import Matrix, as_matrix, canonical, in_memory, scale_cells
from scmimic._plain import saved_as
from scmimic.cells._generated import storable
from scmimic.cells._layers import get_matrix, layer_names, where_is

logger = logging.getLogger(__name__)
Units = Literal["counts", "linear", "log1p", "log2", "log10", "scaled"]

UNIT_NAMES: dict[Units | None, str] = {
    "counts": "counts",
    "linear": "scaled counts",
    "log1p": "log1p values",
    "log2": "log2(x + 1) values",
    "log10": "log10(x + 1) values",
    "scaled": "standardised values",
    None: "values of unknown units",
}
"""How messages call them."""

BASES: dict[Units | None, float] = {"log1p": np.e, "log2": 2.0, "log10": 10.0}
"""Bases of the logarithms of 1 + x."""

# Cells that show the units of a layer.
_SHOWN = 1000

# Cells that are looked at together.
_BLOCK = 4096

# Share of the entries that must be whole multiples of their cell's smallest one, and the fewest entries that tell.
_WHOLE, _FEWEST = 0.9, 8

# A multiple that is no further than this from a whole number is one; above the largest, errors near one half.
_NEAR, _LARGEST = 0.02, 30

# Least common denominators of the multiples in cells whose smallest value is several counts.
_DENOMINATORS = range(2, 6)

# No cell holds amounts beyond this; and larger than the other is no logarithm, nor the root of a count below a million.
_LARGEST_AMOUNT, _LARGEST_OTHER = 1e12, 1000

# Sums of cells that are scaled to one total differ by no more.
_EQUAL, _FEWEST_CELLS = 1e-3, 3

# Totals of two layers of one kind that differ by more than this factor are two scales.
_SAME_TOTAL = 1.5


@saved_as("ExpressionSpace")
@dataclass(frozen=True)
class ExpressionSpace:
    """What the values of a layer are.

    Attributes
    ----------
    layer
        Its name; None: ``.X``.
    units
        ``"counts"``: whole numbers. ``"linear"``: amounts in proportion to counts, such as counts scaled in each cell.
        ``"log1p"``, ``"log2"``, ``"log10"``: logarithm of 1 + such amounts. ``"scaled"``: standardised, since there
        are negative ones. None: it does not show.
    total
        Sum of each cell before a logarithm, where all cells have the same.
    one_count
        What one count is before a logarithm, in the median over cells, where single counts show.
    """

    layer: str | None
    units: Units | None
    total: float | None = None
    one_count: float | None = None


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


def _amounts(values: np.ndarray, units: Units | None) -> np.ndarray:
    """Amounts behind logarithms; other values as they are."""
    if units == "log1p":
        return np.expm1(values)
    return np.expm1(values * np.log(BASES[units])) if units in BASES else values


def _mapped(x: Matrix, function: Callable[[np.ndarray], np.ndarray]) -> Matrix:
    """A function that keeps zeros, of all values."""
    if isinstance(x, np.ndarray):
        return function(x)
    return sp.csr_matrix((function(x.data), x.indices, x.indptr), shape=x.shape)


def _blocks(x: np.ndarray | sp.csr_matrix) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of cells: where they are, their values but zeros, and the row of each within the block."""
    for start in range(0, x.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        part = canonical(sp.csr_matrix(x[rows]))
        # stored zeros are left out of a copy: the matrix is that of the user
        kept = part.data != 0
        yield rows, part.data[kept], np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))[kept]


def _multiples(amounts: np.ndarray, row: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Each amount over the smallest of its row, and the latter."""
    least = np.full(n_rows, np.inf)
    # values that are missing are refused by name elsewhere
    with np.errstate(invalid="ignore"):
        np.minimum.at(least, row, amounts)
    return amounts / least[row], least


def _off(multiples: np.ndarray) -> np.ndarray:
    return np.abs(multiples - np.rint(multiples))


def _error_of_multiples(values: np.ndarray, row: np.ndarray, n_rows: int) -> float:
    """How far multiples of a row's smallest value are from whole numbers, on average; infinite where they are none."""
    multiples, _ = _multiples(values, row, n_rows)
    tested = multiples[(multiples > 1 + _NEAR / 2) & (multiples < _LARGEST)]
    off = _off(tested)
    if tested.size < _FEWEST or (off < _NEAR).mean() < _WHOLE:
        return np.inf
    return float(off[off < _NEAR].mean())


def _sums(values: np.ndarray, row: np.ndarray, n_rows: int) -> np.ndarray:
    """Sums of the rows that hold values."""
    sums = np.bincount(row, values, n_rows)
    return sums[sums > 0]


def _common(sums: np.ndarray, tolerance: float) -> float | None:
    """The median of sums that are all the same, but for a tolerance."""
    if len(sums) < _FEWEST_CELLS or np.ptp(sums) > tolerance * sums.mean():
        return None
    return float(np.median(sums))


def find_units(x: Matrix) -> tuple[Units | None, bool]:
    """The units of cells, by their values; and whether they show single counts.

    Negative values are standardised ones, and whole numbers are counts. In scaled counts the smallest value of nearly
    every cell is one count, and the others are whole multiples of it; in logarithms they are so after exponentiation.
    Values that show no counts, such as denoised ones, are told by what it takes to give all cells the same total, or
    by being too large for anything but amounts.

    Parameters
    ----------
    x
        Cells x genes, dense or sparse. All of them are looked at.
    """
    n, part = x.shape[0], canonical(sp.csr_matrix(x))
    kept = part.data != 0
    values = part.data[kept].astype(np.float64)
    row = np.repeat(np.arange(n), np.diff(part.indptr))[kept]
    if not values.size:
        return None, False
    if values.min() < 0:
        return "scaled", False
    if np.array_equal(values, np.rint(values)):
        return "counts", True
    logs = [units for units, base in BASES.items() if values.max() < np.log(_LARGEST_AMOUNT) / np.log(base)]
    amounts = {units: _amounts(values, units) for units in ("linear", *logs)}
    errors = {units: _error_of_multiples(a, row, n) for units, a in amounts.items()}
    best = min(errors, key=errors.__getitem__)
    if np.isfinite(errors[best]):
        return best, True
    if np.isfinite(_error_of_multiples(values**2, row, n)):
        # square roots, which no tool has a use for
        return None, False
    equal = [units for units, a in amounts.items() if _common(_sums(a, row, n), _EQUAL) is not None]
    if equal:
        # cells that are all alike have equal sums whatever is done to them
        return (equal[0] if len(equal) == 1 else None), False
    return ("linear" if values.max() > _LARGEST_OTHER else None), False


def _some_cells(x: Any) -> Matrix:
    rows = np.unique(np.linspace(0, x.shape[0] - 1, min(x.shape[0], _SHOWN)).astype(np.int64))
    part = in_memory(x[rows])
    return sp.csr_matrix(part) if sp.issparse(part) else np.asarray(part)


def expression_space(x: Any, layer: str | None) -> ExpressionSpace:
    """The space of a layer, by a thousand of its cells.

    Parameters
    ----------
    x
        Cells x genes, dense or sparse, in memory or in a file.
    layer
        Name of the layer.
    """
    part = canonical(sp.csr_matrix(_some_cells(x)))
    units, shows_counts = find_units(part)
    if units in (None, "scaled"):
        return ExpressionSpace(layer, units)
    if units == "counts":
        return ExpressionSpace(layer, units, one_count=1.0)
    values = _amounts(part.data.astype(np.float64), units)
    row = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
    total = _common(_sums(values, row, part.shape[0]), 10 * _EQUAL)
    if not shows_counts:
        return ExpressionSpace(layer, units, total)
    kept = values > 0
    _, least = _multiples(values[kept], row[kept], part.shape[0])
    return ExpressionSpace(layer, units, total, float(np.median(least[np.isfinite(least)])))


def count_units(x: np.ndarray | sp.spmatrix) -> CountUnits:
    """Find out whether `x` holds counts or scaled counts, and each cell's total.

    That of scaled counts is what normalisation took away, as multiples of one count. Where the smallest value of a cell
    is several counts and the others show it, by being whole multiples of a part of it, the part is taken for one count.

    Parameters
    ----------
    x
        Cells x genes, non-negative, dense or sparse.
    """
    x = np.asarray(x) if isinstance(x, np.ndarray) else x.tocsr()
    units, shows_counts = find_units(_some_cells(x))
    if units == "counts":
        if all(np.array_equal(values, np.rint(values)) for _, values, _ in _blocks(x)):
            return CountUnits("counts", np.asarray(x.sum(axis=1, dtype=np.float64)).ravel())
        shows_counts = False
    if not shows_counts or units not in ("linear", "log1p"):
        return CountUnits(None, np.full(x.shape[0], np.nan))
    library = np.empty(x.shape[0])
    for rows, values, row in _blocks(x):
        n = len(library[rows])
        multiples, _ = _multiples(_amounts(values.astype(np.float64), units), row, n)
        library[rows] = np.rint(np.bincount(row, multiples * _counts_of_least(multiples, row, n)[row], n))
    return CountUnits(units, library)


def _counts_of_least(multiples: np.ndarray, row: np.ndarray, n_rows: int) -> np.ndarray:
    """How many counts the smallest value of each row is, by the multiples of it in the row; 1 where these do not say.

    Two multiples at least must be no whole numbers, and all must be so times the result.
    """
    counts = np.ones(n_rows)
    tested = multiples < _LARGEST
    broken = np.bincount(row[tested], _off(multiples[tested]) >= _NEAR, n_rows) >= 2
    for denominator in _DENOMINATORS:
        tested = broken[row] & (multiples * denominator < _LARGEST)
        off = np.bincount(row[tested], _off(multiples[tested] * denominator) >= _NEAR, n_rows)
        found = broken & (off == 0)
        counts[found] = denominator
        broken &= ~found
    return counts


def recorded_space(adata: AnnData) -> ExpressionSpace | None:
    """The space of generated cells by their record; None where there is none, or it does not say."""
    record = adata.uns.get(_keys.UNS, {}).get("parameters", {})
    # scanpy's mark of a logarithm that was taken since
    if "units" not in record or "log1p" in adata.uns:
        return None
    # records that say less are those of cells that were written earlier
    return ExpressionSpace(**{name: _recorded(record, name) for name in ("layer", "units", "total", "one_count")})


def _recorded(record: Any, name: str) -> Any:
    value = record.get(name)
    return None if value is None or (isinstance(value, str) and value == storable(None)) else value


def made_space(space: ExpressionSpace, units: Units | None) -> ExpressionSpace:
    """The space of cells that were generated in these units by a model of a layer."""
    if units == space.units:
        return space
    # expected counts are linear, and one count is one there too
    return ExpressionSpace(space.layer, units, one_count=1.0 if "counts" in (units, space.units) else None)


def convert(x: Matrix, have: ExpressionSpace, want: ExpressionSpace) -> Matrix:
    """Cells of one space in another.

    Cells are scaled to the total of the wanted space. Where that has none, since its genes were chosen after cells had
    been scaled, a count becomes what it is in the median of the cells there: a cell's own factor depends on genes that
    were left out. The error is the same for all genes of a cell.

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
        If there is no way from one to the other.
    """
    check_convertible(have, want)
    if _same(have, want):
        return x
    x = as_matrix(x, "adata", dtype=np.float32)
    x = _mapped(x, lambda values: _amounts(values, have.units)) if have.units in BASES else x
    if want.total is not None:
        x = scale_cells(x, want.total)
    else:
        assert want.one_count is not None and have.one_count is not None
        logger.info(
            "`%s` has no total common to all cells: a count is taken for %.4g there, its median over the cells.",
            where_is(want.layer),
            want.one_count,
        )
        x = x * np.float32(want.one_count / have.one_count)
    if want.units not in BASES:
        return x
    return _mapped(x, lambda values: np.log1p(values) / np.float32(np.log(BASES[want.units])))


def check_convertible(have: ExpressionSpace, want: ExpressionSpace) -> None:
    """Raise ValueError unless there is a way from one space to another."""
    if _same(have, want):
        return
    if want.units == "counts":
        raise ValueError(
            f"The cells hold {UNIT_NAMES[have.units]}, but the encoder reads raw counts. Generate them with "
            "`as_counts=True`, or train the generator on the encoder's layer."
        )
    scale_known = want.total is not None or None not in (have.one_count, want.one_count)
    if not {have.units, want.units}.isdisjoint({None, "scaled"}) or not scale_known:
        raise ValueError(
            f"The cells hold {UNIT_NAMES[have.units]}, but the encoder reads {UNIT_NAMES[want.units]}, with no total "
            "common to all cells that these could be scaled to. Generate cells in the units of the encoder's layer "
            "(without `as_counts`), or train the generator on that layer."
        )


def _same(have: ExpressionSpace, want: ExpressionSpace) -> bool:
    counts = have.units == "counts", want.units == "counts"
    return all(counts) or (have.layer == want.layer and not any(counts))


def check_units(x: Any, want: ExpressionSpace, *, any_scale: bool = False) -> None:
    """Raise ValueError where cells show other units than those that a model was trained on, or another scale.

    What does not show is let through, with a warning where the model was trained on counts: whatever the values are,
    they are none.

    Parameters
    ----------
    x
        Cells x genes, dense or sparse: the layer of new cells that the model was trained on.
    want
        The space of the training cells.
    any_scale
        Counts and scaled counts are the same to the model.

    Raises
    ------
    ValueError
        If the units differ, or the totals of cells that have one in common.
    """
    found, where = expression_space(x, want.layer), where_is(want.layer)
    if found.units is None:
        if want.units == "counts" and _nonzero(x):
            warnings.warn(
                f"`{where}` holds fractions, in units that do not show, but the model was trained on counts. "
                f"{_way_to(want, found)}",
                UserWarning,
                stacklevel=4,
            )
        return
    pair = {found.units, want.units}
    if any_scale and pair <= {"counts", "linear"}:
        return
    # what a model of unknown units was trained on were no whole numbers, and none below zero
    if len(pair) > 1 and (want.units is not None or found.units in ("counts", "scaled")):
        raise ValueError(
            f"`{where}` holds {UNIT_NAMES[found.units]}, but the model was trained on {UNIT_NAMES[want.units]}. "
            f"{_way_to(want, found)}"
        )
    if totals := _two_totals(found, want):
        raise ValueError(
            f"`{where}` holds {UNIT_NAMES[found.units]} of cells that are scaled to a total of "
            f"{_number(totals[0])}, but the model was trained on cells of {_number(totals[1])}. Scale them alike: "
            f"`sc.pp.normalize_total(adata, target_sum={totals[1]:.6g})`."
        )


def _number(x: float) -> str:
    return f"{x:,.0f}" if x >= 1000 else f"{x:.4g}"


def _nonzero(x: Any) -> bool:
    return bool(x.nnz if sp.issparse(x) else np.any(x))


def _two_totals(space: ExpressionSpace, other: ExpressionSpace) -> tuple[float, float] | None:
    """The totals that cells are scaled to, where these are two."""
    if space.total is None or other.total is None:
        return None
    ratio = space.total / other.total
    return (space.total, other.total) if max(ratio, 1 / ratio) > _SAME_TOTAL else None


def _way_to(want: ExpressionSpace, found: ExpressionSpace) -> str:
    """How cells of one kind get into the units of another."""
    if want.units == "counts":
        return f"Put the raw counts into `{where_is(want.layer)}`, from the layer or the file that keeps them."
    if want.units in ("linear", *BASES) and found.units == "counts":
        target = "" if want.total is None else f", target_sum={want.total:.6g}"
        layer = "" if want.layer is None else f", layer={want.layer!r}"
        base = "" if want.units in ("linear", "log1p") else f", base={BASES[want.units]:.0f}"
        log = "" if want.units == "linear" else f" and `sc.pp.log1p(adata{base}{layer})`"
        return (
            f"Bring `{where_is(want.layer)}` into them as the training cells were: "
            f"`sc.pp.normalize_total(adata{target}{layer})`{log}."
        )
    if {want.units, found.units} <= set(BASES):
        factor = np.log(BASES[found.units]) / np.log(BASES[want.units])
        return f"Take logarithms to the same base: multiply them by {factor:.6g}."
    return f"Put cells in the units of the training layer into `{where_is(want.layer)}`."


def check_record(x: Any, recorded: ExpressionSpace) -> None:
    """Raise ValueError where generated cells show other units than those that their record says."""
    found = find_units(_some_cells(x))[0]
    if found not in (None, recorded.units) and (recorded.units is not None or found == "counts"):
        raise ValueError(
            f"`adata.X` holds {UNIT_NAMES[found]}, but these cells were generated as {UNIT_NAMES[recorded.units]}, "
            "which the encoder would go by. Give them as they were generated, or put values in the units that the "
            "encoder reads into its layer of a new AnnData."
        )


def check_same_units(
    real: ExpressionSpace,
    synthetic: ExpressionSpace,
    where: str,
    *,
    any_scale: bool,
    name: str = "synthetic",
    way: str = "name the layer of the real cells in the units of the others, `layer=...`",
) -> None:
    """Raise ValueError where real and synthetic cells cannot be compared as they are.

    Parameters
    ----------
    real, synthetic
        Their spaces.
    where
        What messages call the values of the real cells.
    any_scale
        Both are about to be scaled and logged.
    name
        What messages call the synthetic cells.
    way
        What can be done about it.
    """
    pair = {real.units, synthetic.units}
    if None in pair or (any_scale and pair <= {"counts", "linear"}):
        return
    if any_scale and "scaled" in pair:
        # these have no logarithm, which is for those to say who take it
        return
    advice = f"These cannot be compared: {way}."
    if len(pair) > 1:
        raise ValueError(
            f"`{where}` holds {UNIT_NAMES[real.units]} and `{name}` {UNIT_NAMES[synthetic.units]}. {advice}"
        )
    if not any_scale and (totals := _two_totals(real, synthetic)):
        raise ValueError(
            f"The cells of `{where}` are scaled to a total of {_number(totals[0])}, those of `{name}` to one of "
            f"{_number(totals[1])}. {advice}"
        )


def space_of_cells(adata: AnnData, layer: str | None, *, optional: bool = False) -> ExpressionSpace:
    """The space of a layer by its values, or what their record says of generated cells whose values do not show it.

    Parameters
    ----------
    adata
        Real or generated cells.
    layer
        Layer; None: `.X`.
    optional
        Take `.X` where there is no such layer.
    """
    by_values = expression_space(get_matrix(adata, layer, optional=optional), layer)
    recorded = recorded_space(adata)
    if by_values.units is not None or recorded is None or layer in layer_names(adata):
        return by_values
    return recorded


def unit_name(adata: AnnData, layer: str | None) -> str:
    """What the values of a layer are called, as `UNIT_NAMES` has it; empty where their units do not show."""
    units = space_of_cells(adata, layer).units
    return "" if units is None else UNIT_NAMES[units]


def check_same_space(
    adata: AnnData, synthetic: AnnData, layer: str | None, *, log1p: bool, name: str = "synthetic"
) -> None:
    """Raise ValueError where real and generated cells cannot be compared so, by their values or by their record.

    Parameters
    ----------
    adata
        Real cells.
    synthetic
        Cells to compare with them, whose `.X` is taken where they have no such layer.
    layer
        Layer of the real cells.
    log1p
        Whether both are about to be scaled and logged.
    name
        What messages call `synthetic`.
    """
    real = space_of_cells(adata, layer)
    other = space_of_cells(synthetic, layer, optional=True)
    if log1p and other.units in BASES:
        raise ValueError(
            f"`{name}` holds {UNIT_NAMES[other.units]} already, which would be logged again: pass `log1p=False`, and "
            "`layer` with the logarithms of the real cells."
        )
    check_same_units(real, other, where_is(layer), any_scale=log1p, name=name)


def warn_of_logarithms(adata: AnnData, layer: str | None, way_out: str) -> None:
    """Warn where cells that are about to be logged show logarithms, or scanpy has marked them so.

    Parameters
    ----------
    adata
        Real cells.
    layer
        Their layer.
    way_out
        What to pass instead.
    """
    marked = layer is None and "log1p" in adata.uns
    units = space_of_cells(adata, layer).units
    if units in BASES or (marked and units is None):
        what = "is marked as log-transformed (`adata.uns['log1p']`)" if marked else f"holds {UNIT_NAMES[units]}"
        warnings.warn(f"`{where_is(layer)}` {what} and is logged again: {way_out}.", UserWarning, stacklevel=3)
