"""An embedding of cells, coloured by each latent (MichiGAN, figures 2b and S2b)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from scmimic import _keys
from scmimic._arguments import COLUMN, COUNT, FLAG, KEY, NATURAL, POSITIVE, PROBABILITY, QUANTILES, SEED, TEXT, Listed
from scmimic.cells import ANNDATA
from scmimic.model.beta_tcvae import ACTIVE_VARIANCE
from scmimic.pl._figure import MISSING_COLOR, category_palette, check_figure, finish, make_axes, plain, stored_colors

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def latent(
    adata: AnnData,
    *,
    use_rep: str = _keys.latent("BetaTCVAE"),
    basis: str = "umap",
    dims: Sequence[int] | None = None,
    color: str | Sequence[str] = (),
    cmap: Any = "viridis",
    limits: tuple[float, float] = (0.01, 0.99),
    size: float | None = None,
    alpha: float = 0.8,
    n_cols: int = 5,
    rasterized: bool = True,
    seed: int = 0,
    ax: Axes | Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw the cells once per latent, coloured by it.

    A latent that means something shows as a pattern in the embedding; one that has vanished shows as noise, and its
    panel says so.

    Parameters
    ----------
    adata
        Cells with codes and an embedding; not changed.
    use_rep
        Key of the codes in `.obsm`, such as `adata.obsm["X_betatcvae"] = model.get_latent_representation()`.
    basis
        Embedding to draw in: `"umap"` for `.obsm["X_umap"]`, or any key of `.obsm`; the first two columns are drawn.
    dims
        Latents to draw, counted from 0; all by default. They are called Z1, Z2, ...
    color
        Columns of `.obs` to draw first, such as known factors.
    cmap
        Colour map of numbers.
    limits
        Quantiles at which the colours end, so that a few extreme cells do not take the range.
    size
        Point area in points squared; `20,000 / cells`, but 1 to 10, by default.
    alpha
        Opacity of the points.
    n_cols
        Panels per row.
    rasterized
        Draw points as pixels in vector files, which stay small then.
    seed
        Seed of the order in which cells are drawn.
    ax
        Axes to draw into, one per panel; new ones by default.
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
        If the codes, the embedding or a column is missing.
    ValueError
        If a latent does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=100)
    >>> rng = np.random.default_rng(0)
    >>> adata.obsm["X_betatcvae"], adata.obsm["X_umap"] = rng.normal(size=(100, 3)), rng.normal(size=(100, 2))
    >>> axes = sm.pl.latent(adata, color="cell_type", show=False)
    >>> [ax.get_title() for ax in axes]
    ['cell_type', 'Z1', 'Z2', 'Z3']
    """
    ANNDATA.check(adata=adata)
    KEY.check(use_rep=use_rep)
    TEXT.check(basis=basis)
    Listed(NATURAL, least=0, optional=True).check(dims=dims)
    Listed(COLUMN, least=0, alone=True).check(color=color)
    QUANTILES.check(limits=limits)
    POSITIVE.or_none.check(size=size)
    PROBABILITY.check(alpha=alpha)
    COUNT.check(n_cols=n_cols)
    FLAG.check(rasterized=rasterized)
    SEED.check(seed=seed)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    codes = _array(adata, use_rep, "use_rep", f"adata.obsm[{use_rep!r}] = model.get_latent_representation()")
    key = basis if basis in adata.obsm else f"X_{basis}"
    xy = _array(adata, key, "basis", f"sc.tl.{basis.removeprefix('X_')}(adata)")[:, :2]
    if xy.shape[1] < 2:
        raise ValueError(f"`.obsm[{key!r}]` has a single column: two are needed.")
    dims = range(codes.shape[1]) if dims is None else [int(j) for j in dims]
    if any(not 0 <= j < codes.shape[1] for j in dims):
        raise ValueError(f"`dims` must name latents between 0 and {codes.shape[1] - 1}, not {list(dims)}.")
    columns = [color] if isinstance(color, str) else list(color)
    if missing := [name for name in columns if name not in adata.obs]:
        raise KeyError(f"`color={missing}` is not in `adata.obs`; its columns are {list(adata.obs.columns)}.")

    names = _keys.latent_names(codes.shape[1])
    fig, axes = make_axes(
        len(columns) + len(dims), ax, n_cols=n_cols, panel_size=(2.3, 2.2), figsize=figsize, layout="constrained"
    )
    if size is None:
        size = float(np.clip(20_000 / adata.n_obs, 1, 10))
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    style = {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": rasterized}
    for panel, name in zip(axes, columns, strict=False):
        _draw_column(panel, adata, name, xy, order, cmap, limits, style)
        panel.set_title(plain(name))
    for panel, j in zip(axes[len(columns) :], dims, strict=True):
        _draw_numbers(panel, codes[:, j], xy, order, cmap, limits, style)
        vanished = codes[:, j].var() < ACTIVE_VARIANCE
        panel.set_title(f"{names[j]} (vanished)" if vanished else names[j], color="0.5" if vanished else "black")
    for panel in axes:
        panel.set(xticks=[], yticks=[])
        panel.set_box_aspect(1)
        panel.spines[:].set(color="0.7", linewidth=0.6)
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)


def _array(adata: AnnData, key: str, argument: str, remedy: str) -> np.ndarray:
    if key not in adata.obsm:
        raise KeyError(f"`{argument}`: there is no {key!r} in `adata.obsm` ({list(adata.obsm)}). Run `{remedy}`.")
    return np.asarray(adata.obsm[key])


def _draw_column(
    ax: Axes,
    adata: AnnData,
    name: str,
    xy: np.ndarray,
    order: np.ndarray,
    cmap: Any,
    limits: tuple[float, float],
    style: dict,
) -> None:
    column: pd.Series = adata.obs[name]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        _draw_numbers(ax, column.to_numpy(dtype=float, na_value=np.nan), xy, order, cmap, limits, style)
        return
    column = column.astype("category")
    colors = category_palette(list(column.cat.categories), name=name) | stored_colors(adata, name)
    values = column.astype(object).map(colors).fillna(MISSING_COLOR).to_numpy(dtype=str)
    ax.scatter(xy[order, 0], xy[order, 1], c=values[order], **style)
    handles = [ax.scatter([], [], s=14, c=colors[c], label=plain(c)) for c in column.cat.categories[:6]]
    ax.legend(handles=handles, fontsize=6, frameon=False, handletextpad=0.1, borderpad=0, labelspacing=0.2)


def _draw_numbers(
    ax: Axes, values: np.ndarray, xy: np.ndarray, order: np.ndarray, cmap: Any, limits: tuple[float, float], style: dict
) -> None:
    low, high = np.nanquantile(values, limits)
    drawn = ax.scatter(
        xy[order, 0], xy[order, 1], c=values[order], cmap=cmap, vmin=low, vmax=max(high, low + 1e-12), **style
    )
    bar = ax.figure.colorbar(drawn, ax=ax, fraction=0.05, pad=0.02, aspect=18)
    assert bar.solids is not None
    bar.solids.set(alpha=1)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, length=2)
    bar.locator = MaxNLocator(3)
    bar.update_ticks()
