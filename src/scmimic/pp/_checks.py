"""Checks of user data that several functions share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scmimic._arrays import canonical, check_unmasked
from scmimic.cells._columns import check_column

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def check_counts(x: Any, name: str, *, hint: str) -> None:
    """Raise ValueError, with `hint` as the way out, unless `x` holds only finite, non-negative integers."""
    if x is None:
        raise ValueError(f"`{name}` is empty (None). {hint}")
    if 0 in x.shape:
        raise ValueError(f"`{name}` is empty: {x.shape[0]} cells x {x.shape[1]} genes.")
    check_unmasked(**{name: x})
    x = canonical(x)
    values = x.data if sp.issparse(x) else np.asarray(x)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"`{name}` must hold numbers, not {values.dtype}. {hint}")
    for what, bad in (
        ("NaN or infinite", ~np.isfinite(values)),
        ("negative", values < 0),
        ("fractional", values != np.rint(values)),
    ):
        if bad.any():
            example = values[bad].ravel()[0]
            raise ValueError(
                f"`{name}` must hold raw counts, but {int(bad.sum())} values are {what}, such as {example:g}. {hint}"
            )


def get_labels(adata: AnnData, labels_key: str) -> pd.Series:
    """`adata.obs[labels_key]` as a categorical Series without missing labels or unused categories."""
    labels = check_column(adata.obs, labels_key, "labels_key").astype("category")
    return labels.cat.remove_unused_categories()
