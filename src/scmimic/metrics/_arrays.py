"""Input checks and PCA that the metrics share. Arrays only: no metric knows AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Matrix = np.ndarray | sp.csr_matrix


def as_matrix(x: Any, name: str, *, dtype: DTypeLike | None = None) -> Matrix:
    """Return `x` (cells x features) as a float ndarray or CSR matrix, whichever it was, after checking it.

    Parameters
    ----------
    x
        Anything two-dimensional and numeric, dense or scipy sparse (matrix or array).
    name
        How error messages call it.
    dtype
        Floating type of the result; `None` keeps float32 and float64, everything else becomes float64.
    """
    if sp.issparse(x):
        if x.ndim != 2:
            raise ValueError(f"`{name}` must be two-dimensional (cells x features), got shape {x.shape}.")
        # scikit-learn still treats sparse matrices and sparse arrays differently in places
        x = sp.csr_matrix(x)
    else:
        x = np.asarray(x)
        if x.ndim != 2 or x.dtype.kind not in "fiub":
            raise ValueError(
                f"`{name}` must be a two-dimensional numeric array (cells x features), got shape {x.shape} of "
                f"dtype {x.dtype}. Pass a matrix such as `adata.X`, not the AnnData object."
            )
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"`{name}` is empty: shape {x.shape}.")
    if dtype is None:
        dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.float64
    x = x.astype(dtype, copy=False)
    values = x.data if sp.issparse(x) else x
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


def subsample(x: Matrix, n: int, rng: np.random.Generator) -> Matrix:
    """Draw `n` rows without replacement, in their old order; all of `x` where it has no more than `n`."""
    if x.shape[0] <= n:
        return x
    return x[np.sort(rng.choice(x.shape[0], n, replace=False))]


def fit_pca(x: Matrix, n_comps: int, *, seed: int = 0) -> PCA:
    """Fit a PCA with as many components as `x` allows, `n_comps` at most.

    Exact (ARPACK) rather than randomised, so that sparse and dense input give the same axes.
    """
    limit = min(x.shape)
    if n_comps >= limit:
        dense = x.toarray() if sp.issparse(x) else x
        return PCA(limit, svd_solver="full").fit(dense)
    return PCA(n_comps, svd_solver="arpack", random_state=seed).fit(x)
