"""Stratified train / test split and the rare-population experiment."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic import _keys
from scmimic._arguments import COLUMN, FLAG, PART, SEED, Range
from scmimic.cells import ANNDATA, label_column

if TYPE_CHECKING:
    from anndata import AnnData


def balanced_split(
    adata: AnnData,
    labels_key: str,
    *,
    test_size: float = 0.1,
    seed: int = 0,
    key_added: str = _keys.OBS_SPLIT,
    copy: bool = False,
) -> AnnData | None:
    """Divide the cells at random into train and test, each label in the same proportion.

    The balanced split of Marouf et al. (2020), which ACTIVA takes over. Of a label with `n` cells, `test_size * n`
    rounded to the nearest number (halves up) go to the test set; at least one cell stays in the training set.

    Parameters
    ----------
    adata
        Cells to divide.
    labels_key
        Column of `adata.obs` with the cell types.
    test_size
        Fraction of each label in the test set.
    seed
        Seed of the draw.
    key_added
        Column of `adata.obs` to write.
    copy
        Return a new object and leave `adata` as it is.

    Returns
    -------
    `None`, or a new AnnData if `copy`. Writes:

    `adata.obs['split' | key_added]` : categorical
        `"train"` or `"test"`.

    Raises
    ------
    KeyError
        If `labels_key` is not in `adata.obs`.
    ValueError
        If labels are missing, `test_size` is not between 0 and 1, or no cell would be in the test set.

    Warns
    -----
    UserWarning
        If labels have a single cell: it goes to the training set.

    See Also
    --------
    scmimic.pp.downsample_label : Fewer cells of one type.
    scmimic.evaluate : Compare held-out cells with generated ones.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200)
    >>> sm.pp.balanced_split(adata, "cell_type", test_size=0.25)
    >>> adata.obs["split"].value_counts().to_dict()
    {'train': 150, 'test': 50}
    """
    ANNDATA.check(adata=adata)
    COLUMN.check(labels_key=labels_key, key_added=key_added)
    PART.check(test_size=test_size)
    SEED.check(seed=seed)
    FLAG.check(copy=copy)
    column, codes = label_column(adata, labels_key, by_value=True)
    sizes = np.bincount(codes)
    single = [value for value, size in zip(column.values, sizes, strict=True) if size == 1]
    if single:
        warnings.warn(
            f"Labels with a single cell stay in the training set and are absent from the test set: {single}.",
            UserWarning,
            stacklevel=2,
        )
    n_test = np.minimum(np.floor(test_size * sizes + 0.5).astype(int), sizes - 1)
    if n_test.sum() == 0:
        raise ValueError(
            f"`test_size={test_size}` leaves no cell for the test set: the largest label has {sizes.max()} cells."
        )
    rank = pd.Series(np.random.default_rng(seed).random(adata.n_obs)).groupby(codes).rank(method="first").to_numpy()
    is_test = rank <= n_test[codes]
    adata = adata.copy() if copy else adata
    adata.obs[key_added] = pd.Categorical.from_codes(is_test.astype(int), [_keys.SPLIT_TRAIN, _keys.SPLIT_TEST])
    return adata if copy else None


def downsample_label(adata: AnnData, labels_key: str, label: Any, *, fraction: float, seed: int = 0) -> AnnData:
    """Thin out one label at random: the rare population of ACTIVA's section 4.3 and of Marouf et al. (2020).

    Parameters
    ----------
    adata
        Cells to draw from; not changed.
    labels_key
        Column of `adata.obs` with the cell types.
    label
        The cell type to thin out, in the type of the column or as text.
    fraction
        Fraction of its cells to keep; the nearest number (halves up), and at least one cell.
    seed
        Seed of the draw.

    Returns
    -------
    A new AnnData with the cells kept, in their old order. All other labels are complete.

    Raises
    ------
    KeyError
        If `labels_key` is not in `adata.obs`.
    ValueError
        If `label` does not occur, or `fraction` is not above 0 and at most 1.

    See Also
    --------
    scmimic.tl.rare_augmentation : The experiment that it is made for.
    scmimic.pp.balanced_split : Training and test cells.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=300, n_labels=2)
    >>> before = (adata.obs["cell_type"] == "type_1").sum()
    >>> rare = sm.pp.downsample_label(adata, "cell_type", "type_1", fraction=0.1)
    >>> bool((rare.obs["cell_type"] == "type_1").sum() == round(0.1 * before))
    True
    """
    ANNDATA.check(adata=adata)
    COLUMN.check(labels_key=labels_key)
    Range(0, 1, open_low=True).check(fraction=fraction)
    SEED.check(seed=seed)
    column, codes = label_column(adata, labels_key, by_value=True)
    code = column.code(label)
    if code is None:
        raise ValueError(
            f"No cell of `adata.obs[{labels_key!r}]` is {label!r}; the labels are {list(column.values)}, {column.kind}."
        )
    chosen = np.flatnonzero(codes == code)
    n_keep = max(1, int(np.floor(fraction * len(chosen) + 0.5)))
    dropped = np.random.default_rng(seed).permutation(chosen)[n_keep:]
    keep = np.ones(adata.n_obs, dtype=bool)
    keep[dropped] = False
    return adata[keep].copy()
