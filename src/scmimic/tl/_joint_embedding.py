"""Real and synthetic cells in one embedding (ACTIVA, section 4.1 and figure 4).

Deviation: the authors integrate real and synthetic cells before they embed them, which pulls the two together and
makes their overlap prove little. Here PCA and UMAP are fitted on real cells alone, and the synthetic cells are placed
in them as they are.

A map drawn from cells never treats new cells quite like them, and not even unseen real cells overlap them fully.
umap-learn's own placement (100 rounds, 5 repelling cells per attracting one) pushes new cells to the rims of their
clusters: in the plane, a 20-nearest-neighbour classifier tells unseen real cells from those mapped with an AUC of 0.85
(PBMC 68k, 233 cells a side), 0.78 (PBMC 3k, 900) and 0.70 (Kang PBMC, 1,500). With 20 rounds and 3 repelling cells, as
here, it is 0.60, 0.55 and 0.55, and with an independent `reference` 0.46 to 0.53.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic import _keys
from scmimic._arguments import COUNT, FLAG, KEY, LAYER, POSITIVE, PROBABILITY, SEED, SEVERAL, TEXT, Listed
from scmimic._arrays import fit_pca, prepare_expression, project
from scmimic._keys import Basis
from scmimic._progress import progress
from scmimic.cells import (
    ANNDATA,
    check_same_genes,
    check_same_space,
    fingerprint,
    is_stored,
    read_matrix,
    read_pieces,
    warn_of_logarithms,
)

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


# umap-learn takes a third of `n_epochs` to place new cells
_UMAP_PLACEMENT = {"n_epochs": 60, "negative_sample_rate": 3}


def joint_embedding(
    adata: AnnData,
    synthetic: AnnData,
    *,
    reference: AnnData | None = None,
    basis: Basis | Sequence[Basis] = ("umap",),
    n_comps: int = 50,
    layer: str | None = None,
    log1p: bool = True,
    target_sum: float = 1e4,
    n_neighbors: int = 15,
    min_dist: float = 0.5,
    perplexity: float = 30,
    seed: int = 0,
    key_added: str | None = None,
    copy: bool = False,
) -> tuple[AnnData, AnnData] | None:
    """Embed real cells and place synthetic cells among them.

    PCA and UMAP are fitted on real cells alone, so that synthetic cells cannot bend the picture; the synthetic cells
    are projected. t-SNE has no projection of new cells: it is fitted on real and synthetic cells together, starting
    from their first two principal components, and judges less strictly.

    Cells that a map was fitted on lie a little apart from all others, unseen real ones included. Give a `reference`
    wherever real cells can be spared: both sides are projected then, and a difference that is seen is one of the cells.

    Parameters
    ----------
    adata
        Real cells.
    synthetic
        Synthetic cells with the same genes in the same order.
    reference
        Other real cells with the same genes on which PCA and UMAP are fitted, such as the training set. `None` fits on
        `adata`.
    basis
        Any of `"umap"`, `"tsne"` and `"pca"`. The PCA is always computed.
    n_comps
        Principal components, 50 as in the papers; fewer where the real cells allow fewer.
    layer
        Layer of the real cells to embed, `.X` by default. Where `synthetic` has no such layer, its `.X` is taken, since
        generated cells come in the space of the training layer.
    log1p
        Scale every cell to `target_sum` and take log(1 + x): right for counts and for linear values of any scale.
        `False` takes the values as they are: right for values already logged, such as the cells of a model of a log
        layer, which are refused otherwise.
    target_sum
        Total per cell before the logarithm.
    n_neighbors, min_dist
        Of UMAP, with scanpy's defaults.
    perplexity
        Of t-SNE, with scanpy's default; lowered where there are fewer cells than three times as many.
    seed
        Seed of PCA, UMAP and t-SNE.
    key_added
        Name to use instead of "joint": `X_{key_added}_umap` in `.obsm` and `key_added` in `.uns`.
    copy
        Return copies and leave both objects as they are.

    Returns
    -------
    `None`, or both objects as copies if `copy`. Writes to both `adata` and `synthetic`:

    `.obsm['X_joint_pca']` : ndarray, cells x `n_comps`
        Principal components.
    `.obsm['X_joint_umap']`, `.obsm['X_joint_tsne']` : ndarray, cells x 2
        The embeddings asked for.
    `.uns['joint_embedding' | key_added]` : dict
        `'params'`: the arguments; `'variance_ratio'`: share of variance per component in the cells fitted; `'maps'`: a
        fingerprint of each embedding as it was fitted, the same in all objects that were placed in it.

    Raises
    ------
    ValueError
        If the genes differ or stand in another order, values are missing, or negative with `log1p`, or generated cells
        say that they are in other units than the real ones.
    KeyError
        If `layer` is not in `adata` or `reference`.

    Warns
    -----
    UserWarning
        If `log1p` is on and scanpy has marked `adata.X` as logged already.

    See Also
    --------
    scmimic.pl.embedding : Draws it.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200)
    >>> real, synthetic = adata[:100].copy(), adata[100:].copy()
    >>> sm.tl.joint_embedding(real, synthetic, basis="pca", n_comps=10)
    >>> synthetic.obsm["X_joint_pca"].shape
    (100, 10)
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    ANNDATA.or_none.check(reference=reference)
    Listed(TEXT, alone=True).check(basis=basis)
    COUNT.check(n_comps=n_comps)
    LAYER.check(layer=layer)
    FLAG.check(log1p=log1p, copy=copy)
    POSITIVE.check(target_sum=target_sum, perplexity=perplexity)
    SEVERAL.check(n_neighbors=n_neighbors)
    PROBABILITY.check(min_dist=min_dist)
    SEED.check(seed=seed)
    KEY.or_none.check(key_added=key_added)
    bases: tuple[str, ...] = (basis,) if isinstance(basis, str) else tuple(basis)
    if unknown := sorted(set(bases) - {"pca", "umap", "tsne"}):
        raise ValueError(f"`basis` has no {unknown}: choose from 'umap', 'tsne' and 'pca'.")
    given = {"synthetic": synthetic} if reference is None else {"synthetic": synthetic, "reference": reference}
    for name, cells in given.items():
        check_same_genes(adata, cells, name=name)
        check_same_space(adata, cells, layer, log1p=log1p, name=name)
    if log1p:
        warn_of_logarithms(adata, layer, "pass `log1p=False`, or `layer` with the counts")
    name, cells = ("adata", adata) if reference is None else ("reference", reference)
    fitted = prepare_expression(read_matrix(cells, layer), name, log1p, target_sum)
    pca = fit_pca(fitted, n_comps, seed=seed)
    if pca.n_components_ < n_comps:
        logger.info("%d x %d values allow %d of %d components.", *fitted.shape, pca.n_components_, n_comps)

    def placed_cells(cells: AnnData, name: str) -> np.ndarray:
        """Components of cells that are never held whole: they may be many more than those of the axes."""
        pieces = read_pieces(cells, layer, optional=name == "synthetic")
        return np.vstack([pca.transform(prepare_expression(x, name, log1p, target_sum)) for x in pieces])

    real_pcs = project(pca, fitted) if reference is None else placed_cells(adata, "adata")
    real_pcs, fake_pcs = (pcs.astype(np.float32) for pcs in (real_pcs, placed_cells(synthetic, "synthetic")))
    embedded = {"pca": (real_pcs, fake_pcs)}
    maps = {"pca": fingerprint(pca.components_, pca.mean_)}
    with progress(None, "Embedding"):
        if "umap" in bases:
            fitted_pcs = None if reference is None else project(pca, fitted).astype(np.float32)
            n_neighbors = min(n_neighbors, fitted.shape[0] - 1)
            fitted_map, *placed = _umap(
                real_pcs, fake_pcs, fitted_pcs, n_neighbors=n_neighbors, min_dist=min_dist, seed=seed
            )
            embedded["umap"], maps["umap"] = (placed[0], placed[1]), fingerprint(fitted_map)
        if "tsne" in bases:
            perplexity = min(perplexity, (adata.n_obs + synthetic.n_obs - 1) / 3)
            embedded["tsne"] = _tsne(real_pcs, fake_pcs, perplexity=perplexity, seed=seed)
            maps["tsne"] = fingerprint(*embedded["tsne"])

    params: dict[str, Any] = {
        "basis": np.array(bases, dtype=str),
        "n_comps": int(pca.n_components_),
        "log1p": log1p,
        "target_sum": target_sum,
        "n_neighbors": n_neighbors,
        "min_dist": min_dist,
        "perplexity": perplexity,
        "seed": seed,
        "fitted_on": "adata" if reference is None else "reference",
    }
    if layer is not None:
        params["layer"] = layer
    if copy:
        adata, synthetic = (cells.to_memory() if is_stored(cells) else cells.copy() for cells in (adata, synthetic))
    for i, target in enumerate((adata, synthetic)):
        for name, pair in embedded.items():
            target.obsm[_keys.joint(name, key_added)] = pair[i]
        target.uns[key_added or _keys.JOINT_EMBEDDING] = {
            "params": dict(params),
            "variance_ratio": pca.explained_variance_ratio_.copy(),
            "maps": dict(maps),
        }
    return (adata, synthetic) if copy else None


def _umap(
    real: np.ndarray, fake: np.ndarray, fitted: np.ndarray | None, *, n_neighbors: int, min_dist: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The map as it was fitted, and the places of real and synthetic cells in it."""
    # imported here because it compiles for seconds; it warns that TensorFlow, which is of no use here, is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP

    model = UMAP(n_neighbors=n_neighbors, min_dist=min_dist, random_state=seed, transform_seed=seed, n_jobs=1)
    if fitted is None:
        placed = model.fit_transform(real)
        return placed, placed, model.set_params(**_UMAP_PLACEMENT).transform(fake)
    model.fit(fitted).set_params(**_UMAP_PLACEMENT)
    both = model.transform(np.vstack([real, fake]))
    return model.embedding_, both[: len(real)], both[len(real) :]


def _tsne(real: np.ndarray, fake: np.ndarray, *, perplexity: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.manifold import TSNE

    x = np.vstack([real, fake])
    start = np.zeros((len(x), 2), dtype=np.float32)
    start[:, : x.shape[1]] = x[:, :2]
    # t-SNE needs a start that is small beside its own scale
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)
    placed = TSNE(init=start, perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(x)
    return placed[: len(real)], placed[len(real) :]
