"""Real cells that come with scanpy, as raw counts."""

from __future__ import annotations

import numpy as np
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData


def pbmc68k_reduced() -> AnnData:
    r"""Return 700 real blood cells x 765 genes of the 68k PBMC data (Zheng et al. 2017) as raw integer counts.

    scanpy's packaged :func:`scanpy.datasets.pbmc68k_reduced` holds :math:`\log(1 + 10^4 c / n)` in `.raw`, rounded to
    three decimals, for counts `c` of a cell with `n` counts over all genes (`obs["n_counts"]`). Solving for `c` gives
    integers but for that rounding: before they are rounded here, values lie 0.0005 from an integer in the median and
    0.08 at most, and 0.5 would be needed for a wrong count. Nothing is downloaded.

    Returns
    -------
    AnnData with:

    `adata.X` : CSR float32
        Integer counts.
    `adata.obs`
        As scanpy has it, among others `bulk_labels` (10 cell types), `louvain` (11 clusters), `phase`, and `n_counts`:
        the library size over all genes upstream, of which the 765 kept here hold about a fifth.
    `adata.obsm['X_umap']`
        The UMAP that comes with the data.
    `adata.uns['bulk_labels_colors']`, `adata.uns['louvain_colors']`
        The colours that come with the data.

    See Also
    --------
    scmimic.datasets.pbmc68k : All cells and genes.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.pbmc68k_reduced()
    >>> adata.shape
    (700, 765)
    >>> bool((adata.X.data % 1 == 0).all())
    True
    """
    source = sc.datasets.pbmc68k_reduced()
    expression = sp.csr_matrix(source.raw.X, dtype=np.float64)
    expression.sort_indices()
    # 10,000 is the total to which the cells were scaled upstream
    counts = expression.expm1().multiply(source.obs["n_counts"].to_numpy()[:, None] / 1e4).tocsr()
    counts.data = np.rint(counts.data).astype(np.float32)
    counts.eliminate_zeros()
    return AnnData(
        counts.astype(np.float32),
        obs=source.obs.copy(),
        var=source.raw.var[[]].copy(),
        obsm={"X_umap": source.obsm["X_umap"]},
        uns={key: source.uns[key] for key in ("bulk_labels_colors", "louvain_colors")},
    )
