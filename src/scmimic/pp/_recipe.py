"""The preprocessing of scGAN, which ACTIVA takes over (Marouf et al. 2020, Methods; ACTIVA, section 3.1)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import scanpy as sc
import scipy.sparse as sp

from scmimic import _keys
from scmimic._arguments import FLAG, NATURAL, POSITIVE
from scmimic._arrays import canonical
from scmimic.cells import ANNDATA, check_counts, get_matrix

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def recipe_marouf20(
    adata: AnnData,
    *,
    min_cells: int = 3,
    min_genes: int = 10,
    target_sum: float = 20_000,
    copy: bool = False,
) -> AnnData | None:
    """Filter and scale raw counts as scGAN and ACTIVA do: 20,000 per cell, without logarithm.

    In this order: cells with at least `min_genes` genes are kept, then genes found in at least `min_cells` of those,
    then cells left without a single count are dropped, then every cell is scaled to `target_sum`.

    Parameters
    ----------
    adata
        Raw counts in `.X` (cells x genes), dense or sparse.
    min_cells
        Fewest cells in which a gene must be found.
    min_genes
        Fewest genes that a cell must have.
    target_sum
        Total of every cell afterwards; 20,000 as in the papers.
    copy
        Return a new object and leave `adata` as it is.

    Returns
    -------
    `None`, or a new AnnData if `copy`. Cells and genes are filtered, and these fields are written:

    `adata.X` : float matrix
        Counts scaled to `target_sum` per cell, not logged.
    `adata.layers['counts']`
        The raw counts of the cells and genes kept.
    `adata.obs['n_genes']`, `adata.var['n_cells']`
        Numbers of genes per cell and of cells per gene at the time of the filter, as scanpy writes them.

    Raises
    ------
    ValueError
        If `.X` is not raw counts (NaN, negative or fractional values), or if no cell or gene would be left. `adata` is
        unchanged then.

    See Also
    --------
    scmimic.pp.balanced_split : Training and test cells.
    scanpy.pp.recipe_zheng17 : Another recipe.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(seed=0)
    >>> sm.pp.recipe_marouf20(adata)
    >>> float(round(adata.X.sum(axis=1).max()))
    20000.0
    """
    ANNDATA.check(adata=adata)
    NATURAL.check(min_cells=min_cells, min_genes=min_genes)
    POSITIVE.check(target_sum=target_sum)
    FLAG.check(copy=copy)
    if adata.isbacked:
        raise ValueError("`adata` is backed by a file and cannot be filtered in place: use `adata.to_memory()` first.")
    hint = (
        f"`adata.layers['{_keys.LAYER_COUNTS}']` exists: set `adata.X = adata.layers['{_keys.LAYER_COUNTS}'].copy()`."
        if _keys.LAYER_COUNTS in adata.layers
        else "Put the raw counts into `adata.X`."
    )
    if adata.X is None:
        raise ValueError(f"`adata.X` is empty (None). {hint}")
    check_counts(adata.X, "adata.X", hint=hint)
    cells, _ = sc.pp.filter_cells(adata.X, min_genes=min_genes, inplace=False)
    if not cells.any():
        raise ValueError(
            f"No cell has {min_genes} genes: {adata.n_obs} cells x {adata.n_vars} genes. Lower `min_genes`."
        )
    genes, _ = sc.pp.filter_genes(adata.X[cells], min_cells=min_cells, inplace=False)
    if not genes.any():
        raise ValueError(
            f"No gene is found in {min_cells} of the {int(cells.sum())} cells with {min_genes} genes. "
            "Lower `min_cells` or `min_genes`."
        )

    adata = adata.copy() if copy else adata
    if sp.issparse(adata.X):
        # scanpy counts an entry that stands twice as two genes
        adata.X = canonical(adata.X)
    sc.pp.filter_cells(adata, min_genes=min_genes)
    sc.pp.filter_genes(adata, min_cells=min_cells)
    filled, _ = sc.pp.filter_cells(adata.X, min_counts=1, inplace=False)
    if not filled.all():
        logger.warning("Dropping %d cells without a count in the genes kept.", int((~filled).sum()))
        sc.pp.filter_cells(adata, min_genes=1)
    adata.layers[_keys.LAYER_COUNTS] = get_matrix(adata, None).copy()
    if isinstance(adata.X, sp.sparray):
        # scanpy 1.11 cannot scale sparse arrays
        adata.X = sp.csr_matrix(adata.X)
    sc.pp.normalize_total(adata, target_sum=target_sum)
    return adata if copy else None
