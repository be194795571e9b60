"""Cells along latent dimensions on the map of the real cells (MichiGAN, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic import _keys
from scmimic._arguments import COUNT, DIMENSIONS, FLAG, POSITIVE, TEXT
from scmimic.cells import ANNDATA
from scmimic.pl._embedding import joint_coordinates
from scmimic.pl._figure import MISSING_COLOR, check_figure, finish, make_axes
from scmimic.pl._points import frame

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure


def latent_traversal(
    adata: AnnData,
    traversal: AnnData,
    *,
    dims: int | str | Sequence[int | str] | None = None,
    basis: str = "umap",
    cmap: Any = "viridis",
    size: float | None = None,
    background_size: float | None = None,
    n_cols: int = 5,
    rasterized: bool = True,
    ax: Axes | Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw the cells of latent traversals on the real cells, coloured by the value of the dimension.

    One panel per dimension. Points that stay in one place belong to a dimension without meaning there; points that walk
    along the map in the order of their colours show what the dimension stands for.

    Parameters
    ----------
    adata
        Real cells, drawn in grey.
    traversal
        Cells of :func:`~scmimic.tl.latent_traversal`, placed by `sm.tl.joint_embedding(adata, traversal)`. Neither is
        changed.
    dims
        Dimensions to draw, by name (`"Z1"` is the first) or by position (0 is the first), one or several; all by
        default.
    basis
        `"umap"`, `"tsne"` or `"pca"` of the joint embedding, or another key that `.obsm` of both has.
    cmap
        Colour map of the values, the same for all panels.
    size, background_size
        Point areas of the traversal and of the real cells in points squared; by their numbers by default.
    n_cols
        Panels per row.
    rasterized
        Draw points as pixels in vector files.
    ax
        Axes to draw into, one per dimension; new ones by default.
    figsize
        Size of a new figure in inches.
    show
        Show the plot; by default where there is a screen.
    return_fig
        Return the figure.
    save
        File to write the figure to, such as `"figure.png"`; its ending gives the format. The path is taken as it is:
        scanpy's folder and beginning of the name are not added.

    Returns
    -------
    The figure if `return_fig`, nothing if shown, the list of axes otherwise.

    Raises
    ------
    KeyError
        If `traversal` has no dimensions and values, or the embedding is missing in one of the objects.
    ValueError
        If a dimension was not traversed.

    See Also
    --------
    scmimic.tl.latent_traversal : Makes the cells.
    scmimic.tl.joint_embedding : Places them.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30)
    >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    >>> model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    >>> cells = sm.tl.latent_traversal(adata, model, start="type_0", n_steps=5, seed=0)
    >>> sm.tl.joint_embedding(adata, cells, basis="pca")
    >>> len(sm.pl.latent_traversal(adata, cells, basis="pca", show=False))
    4
    """
    ANNDATA.check(adata=adata, traversal=traversal)
    DIMENSIONS.or_none.check(dims=dims)
    TEXT.check(basis=basis)
    POSITIVE.or_none.check(size=size, background_size=background_size)
    COUNT.check(n_cols=n_cols)
    FLAG.check(rasterized=rasterized)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    for column in (_keys.OBS_DIMENSION, _keys.OBS_VALUE):
        if column not in traversal.obs:
            raise KeyError(
                f"`traversal.obs` has no column {column!r}: pass the cells that `sm.tl.latent_traversal` returned."
            )
    dimension: pd.Series = traversal.obs[_keys.OBS_DIMENSION].astype("category")
    known = [str(name) for name in dimension.cat.categories]
    chosen = known if dims is None else _keys.asked_latents(dims)
    if not chosen:
        raise ValueError("`dims` is empty: name at least one, or leave it out for all.")
    if missing := [name for name in chosen if name not in known]:
        raise ValueError(f"`dims`: {missing} were not traversed; {known} were.")
    real, moved = joint_coordinates(adata, traversal, basis, name="traversal")
    values = pd.to_numeric(traversal.obs[_keys.OBS_VALUE]).to_numpy(dtype=float)
    drawn = np.isin(dimension.astype(str), chosen)
    limits = {"vmin": values[drawn].min(), "vmax": values[drawn].max()}
    per_panel = max(int((dimension == name).sum()) for name in known)
    if size is None:
        size = float(np.clip(1_500 / per_panel, 6, 30))
    if background_size is None:
        background_size = float(np.clip(8_000 / adata.n_obs, 0.8, 8))

    if figsize is None:
        n = min(len(chosen), n_cols)
        figsize = (2.3 * n + 1, 2.6 * -(-len(chosen) // n))
    fig, axes = make_axes(len(chosen), ax, n_cols=n_cols, panel_size=figsize, figsize=figsize, layout="compressed")
    points: PathCollection | None = None
    for panel, name in zip(axes, chosen, strict=True):
        panel.scatter(real[:, 0], real[:, 1], c=MISSING_COLOR, s=background_size, linewidths=0, rasterized=rasterized)
        cells = np.flatnonzero((dimension.astype(str) == name).to_numpy())
        points = panel.scatter(
            moved[cells, 0],
            moved[cells, 1],
            c=values[cells],
            cmap=cmap,
            s=size,
            linewidths=0,
            rasterized=rasterized,
            **limits,
        )
    frame(axes, np.vstack([real, moved[drawn]]), basis, chosen, n_cols=n_cols)
    assert points is not None
    bar = fig.colorbar(points, ax=axes, fraction=0.03 if len(axes) > 1 else 0.05, pad=0.015, aspect=25)
    bar.outline.set_visible(False)
    bar.set_label("value of the dimension")
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)
