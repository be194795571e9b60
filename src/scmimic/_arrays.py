"""Matrices of cells x features without AnnData: checks, scaling, sampling, PCA."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from scmimic._arguments import COUNT_OR_NONE, POSITIVE, SEED

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


Matrix: TypeAlias = np.ndarray | sp.csr_matrix

# Rows that show how a matrix is normalised, and the fewest rows and columns that do.
_SCALE_CELLS, _SCALE_SIZE = 300, 10

# Rows whose sums differ by less have one sum; by more, they have been scaled to none. Medians of the sums and of the
# largest values of cells of one kind, normalised alike, differ by a smaller factor.
_CONSTANT, _UNEQUAL, _FACTOR = 1e-3, 0.1, 2.5

# A forest on a dense array is up to several times faster; above this the sparse matrix stays sparse.
_DENSE_LIMIT_BYTES = 256 * 2**20


def in_memory(x: Any) -> Any:
    """A sparse matrix that lies in a file is read; anything else comes back as it is."""
    return x.to_memory() if hasattr(x, "to_memory") else x


def stored_values(x: Any) -> np.ndarray:
    """The values of a matrix; of a sparse one those that it stores."""
    return x.data if sp.issparse(x) else x


def as_dense(x: Any) -> np.ndarray:
    """A sparse matrix as an array; others come back as they are."""
    return x.toarray() if sp.issparse(x) else x


def check_unmasked(**arrays: Any) -> None:
    """Raise where values are masked: what lies under a mask would be taken for a value."""
    for name, x in arrays.items():
        if np.ma.is_masked(x):
            raise ValueError(
                f"`{name}` holds {int(np.ma.count_masked(x))} masked values. Leave their cells or features out, or "
                f"fill them: `{name}.filled(0)`."
            )


def canonical(x: Any) -> Any:
    """A sparse matrix in which every entry stands once, in order; others come back as they are.

    The matrix itself is left alone, where it belongs to the user.
    """
    if not sp.issparse(x) or getattr(x, "has_canonical_format", True):
        return x
    x = x.copy()
    x.sum_duplicates()
    return x


def as_matrix(x: Any, name: str, *, dtype: DTypeLike | None = None) -> Matrix:
    """Return `x` (cells x features) as a float ndarray or CSR matrix, whichever it was, after checking it.

    Parameters
    ----------
    x
        Anything two-dimensional and numeric, dense or scipy sparse (matrix or array), in memory or backed by a file.
    name
        How error messages call it.
    dtype
        Floating type of the result; `None` keeps float32 and float64, everything else becomes float64.
    """
    if hasattr(x, "obs_names"):
        # NumPy would fail first, on its number of dimensions
        raise ValueError(f"`{name}` is an object of type {type(x).__name__}: pass its matrix, such as `adata.X`.")
    check_unmasked(**{name: x})
    x = in_memory(x)
    if sp.issparse(x):
        if x.ndim != 2:
            raise ValueError(f"`{name}` must be two-dimensional (cells x features), got shape {x.shape}.")
        # scikit-learn still treats sparse matrices and sparse arrays differently in places
        x = canonical(sp.csr_matrix(x))
    else:
        x = np.asarray(x)
        if x.ndim != 2 or x.dtype.kind not in "fiub":
            raise ValueError(
                f"`{name}` must be a two-dimensional numeric array (cells x features), got shape {x.shape} of "
                f"dtype {x.dtype}."
            )
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"`{name}` is empty: shape {x.shape}.")
    if dtype is None:
        dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.float64
    x = x.astype(dtype, copy=False)
    values = stored_values(x)
    if not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"`{name}` holds {n_bad} NaN or infinite values. Remove or replace them first.")
    return x


def check_same_features(**arrays: Matrix) -> None:
    """Raise unless all arrays have the same number of columns."""
    widths = {name: x.shape[1] for name, x in arrays.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"The arrays must have the same features in the same order, but their numbers of columns differ: {widths}."
        )


class ScaleWarning(UserWarning):
    """Two matrices of expression that look as if they were normalised in different ways."""


def check_comparable(**arrays: Matrix) -> None:
    """Raise unless all arrays have the same number of columns; warn where two look normalised in different ways.

    Values below zero, as of principal components and codes, and few features or cells say nothing of that.

    Parameters
    ----------
    **arrays
        Cells x features, by their name in messages; the others are compared with the first.
    """
    check_same_features(**arrays)
    (name, first), *others = ((name, _scale(x)) for name, x in arrays.items())
    for other, scale in others:
        if first is None or scale is None:
            continue
        difference = _difference(name, first, other, scale)
        if difference:
            warnings.warn(
                f"`{name}` and `{other}` look normalised in different ways: {difference}. Values on two scales are "
                "told apart by that alone. Give both in the same units; `scmimic.tl.evaluate` takes the AnnData of "
                "both and sees to it.",
                ScaleWarning,
                stacklevel=4,
            )


@dataclass(frozen=True)
class _Scale:
    """What some rows show of how they were normalised."""

    whole: bool
    total: float
    spread: float
    largest: float


def _scale(x: Matrix) -> _Scale | None:
    """None where it cannot be told, since this is no expression of several cells."""
    if min(x.shape) < _SCALE_SIZE:
        return None
    rows = x[np.unique(np.linspace(0, x.shape[0] - 1, min(x.shape[0], _SCALE_CELLS)).astype(np.int64))]
    values = stored_values(rows)
    sums = np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()
    total = float(np.median(sums))
    if values.min(initial=0) < 0 or total == 0:
        return None
    spread = np.subtract(*np.percentile(sums, [90, 10])) / total
    largest = float(np.median(as_dense(rows.max(axis=1))))
    return _Scale(bool((values == np.rint(values)).all()), total, float(spread), largest)


def _difference(name: str, first: _Scale, other: str, second: _Scale) -> str:
    if first.whole and second.whole:
        # counts of other depths are what they are
        return ""
    if first.whole != second.whole:
        whole, fractions = (name, other) if first.whole else (other, name)
        return f"`{whole}` holds whole numbers, `{fractions}` fractions"
    totals = f"{first.total:.4g} per row in `{name}` and {second.total:.4g} in `{other}`, in the median"
    factor = _ratio(first.total, second.total)
    constant = [scale.spread < _CONSTANT for scale in (first, second)]
    if factor > _FACTOR or (all(constant) and factor > 1 + _CONSTANT):
        return f"the values sum to {totals}"
    if _ratio(first.largest, second.largest) > _FACTOR:
        return (
            f"the largest value of a row is {first.largest:.4g} in `{name}` and {second.largest:.4g} in `{other}`, in "
            "the median"
        )
    if any(constant) and max(first.spread, second.spread) > _UNEQUAL:
        same, differ = (name, other) if constant[0] else (other, name)
        return f"all rows of `{same}` have the same sum, those of `{differ}` have not"
    return ""


def _ratio(a: float, b: float) -> float:
    return max(a, b) / min(a, b)


def subsample(x: Matrix, n: int | None, rng: np.random.Generator) -> Matrix:
    """Draw `n` rows without replacement, in their old order; all of `x` where it has no more, or `n` is None."""
    return x if n is None or x.shape[0] <= n else x[sample_rows(x.shape[0], n, rng)]


def sample_rows(n_rows: int, n: int | None, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the rows that :func:`subsample` draws of `n_rows`."""
    COUNT_OR_NONE.check(max_cells=n)
    if n is None or n_rows <= n:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, n, replace=False))


def row_keys(x: Matrix, *, chunk_values: int = 2**23) -> np.ndarray:
    """One 64-bit number for each row: the hash of its values other than 0 and their columns, in double precision.

    Rows that are equal in every column have the same number, however they are stored. Others share one by chance:
    once in a billion comparisons of 100,000 rows with as many.

    Parameters
    ----------
    x
        Cells x features, dense or sparse.
    chunk_values
        Values that are made sparse at once: 64 MB in double precision.
    """
    out = np.empty(x.shape[0], dtype=np.uint64)
    step = max(1, chunk_values // x.shape[1])
    for start in range(0, x.shape[0], step):
        rows = sp.csr_matrix(x[start : start + step], dtype=np.float64, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        columns, values = rows.indices.astype(np.int32, copy=False), rows.data
        for i, (a, b) in enumerate(itertools.pairwise(rows.indptr.tolist())):
            digest = hashlib.blake2b(columns[a:b].tobytes() + values[a:b].tobytes(), digest_size=8).digest()
            out[start + i] = int.from_bytes(digest, "little")
    return out


def as_pair(
    real: Any,
    synthetic: Any,
    *,
    max_cells: int | None = None,
    balance: bool = False,
    seed: int = 0,
    dtype: DTypeLike | None = None,
) -> tuple[Matrix, Matrix]:
    """Check two arrays of the same features and cut them at random.

    Parameters
    ----------
    real, synthetic
        Cells x features, dense or sparse. Where one is sparse, both come back sparse.
    max_cells
        Largest number of cells of each side; `None` for all.
    balance
        Cut the larger side to the number of cells of the smaller.
    seed
        Seed of the draw.
    dtype
        As in :func:`as_matrix`.
    """
    real, synthetic = as_matrix(real, "real", dtype=dtype), as_matrix(synthetic, "synthetic", dtype=dtype)
    check_comparable(real=real, synthetic=synthetic)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    sizes = [x.shape[0] if max_cells is None else min(x.shape[0], max_cells) for x in (real, synthetic)]
    if balance:
        sizes = [min(sizes)] * 2
    rng = np.random.default_rng(seed)
    real, synthetic = subsample(real, sizes[0], rng), subsample(synthetic, sizes[1], rng)
    if sp.issparse(real) or sp.issparse(synthetic):
        real, synthetic = sp.csr_matrix(real), sp.csr_matrix(synthetic)
    return real, synthetic


def same_kind(**arrays: Any) -> list[Matrix]:
    """Check arrays of the same features, by their name in error messages; all come back sparse where one is."""
    checked = {name: as_matrix(x, name) for name, x in arrays.items()}
    check_comparable(**checked)
    if any(sp.issparse(x) for x in checked.values()):
        return [sp.csr_matrix(x) for x in checked.values()]
    return list(checked.values())


def row_distances(x: Matrix, other: Matrix, rows: np.ndarray, *, chunk_values: int = 2**23) -> np.ndarray:
    """Distance of each cell of `x` to the named row of `other`, taken as a difference.

    The distances of a neighbour search are rounded, which hides exact copies.

    Parameters
    ----------
    x, other
        Cells x features, both dense or both sparse.
    rows
        One row number of `other` for each cell of `x`.
    chunk_values
        Values whose differences are held at once: 64 MB in double precision.
    """
    out = np.empty(x.shape[0])
    step = max(1, chunk_values // x.shape[1])
    for start in range(0, x.shape[0], step):
        part = slice(start, start + step)
        difference = x[part] - other[rows[part]]
        squares = (
            difference.multiply(difference) if sp.issparse(difference) else np.square(difference, dtype=np.float64)
        )
        out[part] = np.sqrt(np.asarray(squares.sum(axis=1)).ravel())
    return out


def log_normalise(x: Matrix, target_sum: float = 1e4) -> Matrix:
    """Scale each cell of single-precision counts to `target_sum` and take log(1 + x)."""
    x = scale_cells(x, target_sum)
    return np.log1p(x) if isinstance(x, np.ndarray) else x.log1p()


def scale_cells(x: Matrix, target_sum: float) -> Matrix:
    """Scale each cell of single-precision amounts to `target_sum`."""
    # not by scanpy, whose numba gives torch in the same process as many threads as there are cores
    return normalize(x, norm="l1") * np.float32(target_sum)


def expm1(x: Matrix) -> Matrix:
    """exp(x) - 1."""
    return np.expm1(x) if isinstance(x, np.ndarray) else x.expm1()


def column_variance(x: Matrix) -> np.ndarray:
    """Population variance of each feature, in double precision."""
    if isinstance(x, np.ndarray):
        squares = np.square(x, dtype=np.float64)
    else:
        # scipy sums single precision in single precision, whatever `dtype` says
        x = x.astype(np.float64)
        squares = x.power(2)
    mean = np.asarray(x.mean(axis=0, dtype=np.float64)).ravel()
    return np.asarray(squares.mean(axis=0)).ravel() - mean**2


def as_labels(labels: Any, name: str, n_cells: int) -> np.ndarray:
    """Return one label per cell as text, after checking their number and that none is missing."""
    check_unmasked(**{name: labels})
    labels = np.asarray(labels)
    if labels.shape != (n_cells,):
        raise ValueError(f"`{name}` must hold one label for each of the {n_cells} cells, got shape {labels.shape}.")
    missing = sum(map(_is_missing, labels.tolist()))
    if missing:
        raise ValueError(f"`{name}` lacks the label of {missing} cells. Remove them first.")
    return labels.astype(str)


def _is_missing(label: Any) -> bool:
    # NaN is not equal to itself, and pandas' NA answers the question with neither True nor False
    same = label == label
    return label is None or not isinstance(same, bool | np.bool_) or not same


def stack(real: Matrix, synthetic: Matrix) -> Matrix:
    """Put the cells of both sides below each other; sparse where either is."""
    if sp.issparse(real) or sp.issparse(synthetic):
        return sp.vstack([sp.csr_matrix(real), sp.csr_matrix(synthetic)], format="csr")
    return np.vstack([real, synthetic])


def forest_input(x: Matrix) -> Matrix:
    """Return `x` as a forest takes it fastest: single precision, and dense where that stays small."""
    x = x.astype(np.float32, copy=False)
    if sp.issparse(x) and 4 * x.shape[0] * x.shape[1] <= _DENSE_LIMIT_BYTES:
        return as_dense(x)
    return x


def fit_pca(x: Matrix, n_comps: int, *, seed: int = 0) -> PCA:
    """Fit a PCA with as many components as `x` allows, `n_comps` at most.

    Exact (ARPACK) rather than randomised, so that sparse and dense input give the same axes. Cells that are all the
    same have none, which is a ValueError.
    """
    high, low = x.max(axis=0), x.min(axis=0)
    if (high != low).sum() == 0:
        raise ValueError(f"The {x.shape[0]} cells that principal components are fitted on are all the same.")
    limit = min(x.shape)
    if n_comps >= limit:
        return PCA(limit, svd_solver="full").fit(as_dense(x))
    return PCA(n_comps, svd_solver="arpack", random_state=seed).fit(x)


def project(pca: PCA, x: Matrix, chunk_size: int = 4096) -> np.ndarray:
    """Principal components of `x`, in chunks of cells: scikit-learn makes sparse input dense where it is centred."""
    return np.vstack([pca.transform(x[i : i + chunk_size]) for i in range(0, x.shape[0], chunk_size)])


def prepare_expression(x: Any, name: str, log1p: bool, target_sum: float) -> Matrix:
    """Scale each cell to `target_sum` and take log(1 + x), in single precision; the values as they are without `log1p`.

    Parameters
    ----------
    x
        Cells x genes, dense or sparse.
    name
        How error messages call it.
    log1p
        Scale and take the logarithm.
    target_sum
        Total per cell before the logarithm.
    """
    x = as_matrix(x, name, dtype=np.float32)
    if not log1p:
        return x
    POSITIVE.check(target_sum=target_sum)
    if stored_values(x).min(initial=0) < 0:
        raise ValueError(
            f"`{name}` holds negative values, which have no logarithm. If they are logged or standardised already, "
            "pass `log1p=False`."
        )
    return log_normalise(x, target_sum)
