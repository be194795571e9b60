"""How large counts may be, and types that hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

LARGEST_COUNT = 2**31 - 1
"""Most counts of a gene in a cell, and of a cell that is asked for.

No cell holds as many molecules. 32-bit integers hold it, and one 64-bit integer a gene of a label and its count.
"""


def check_size_of_counts(values: np.ndarray, where: str) -> None:
    """Raise ValueError where counts are larger than any; `where` is what messages call them."""
    # as Python's number, since single precision rounds what it is compared with
    largest = float(values.max(initial=0))
    if largest > LARGEST_COUNT:
        raise ValueError(
            f"`{where}` holds counts up to {largest:.3g}, but {LARGEST_COUNT:,} is the most that can be learned, and "
            "more than any cell has. Look for what made them so large (a total, an identifier), or drop these cells or "
            "genes."
        )


def whole_counts(values: np.ndarray) -> np.ndarray:
    """Drawn counts as 64-bit integers; those beyond the largest are the largest."""
    # in double precision, since single precision rounds the largest up
    return np.minimum(values.astype(np.float64), LARGEST_COUNT).astype(np.int64)


def generated_type(dtype: np.dtype | type) -> np.dtype:
    """Type of generated values beside training values of a type: integers have 32 bits or more, and so have floats.

    New cells may hold more counts than those of a layer whose type just holds them.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "biu" and dtype.itemsize < 4:
        return np.dtype(np.int32)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def in_type(x: Any, dtype: np.dtype | type | None) -> sp.csr_matrix:
    """Generated values as CSR in the type that goes with one, after checking that it holds them.

    Parameters
    ----------
    x
        Values, dense or sparse.
    dtype
        As in :func:`generated_type`; None: that of the values.
    """
    x = sp.csr_matrix(x)
    dtype = x.dtype if dtype is None else generated_type(dtype)
    if dtype.kind in "iu" and x.nnz:
        largest = x.data.max()
        # as Python's numbers, since single precision rounds what it is compared with
        if not largest.item() <= np.iinfo(dtype).max:
            raise ValueError(
                f"A generated cell has {largest:.4g} counts of a gene, more than {dtype} holds, the type of the "
                "training layer. Ask for a smaller `library_size`, or train on a layer of another type: "
                "`adata.X.astype('float64')`."
            )
    return x.astype(dtype, copy=False)
