"""An embedding of cells, coloured by each latent (MichiGAN, figures 2b and S2b)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from scmimic import _keys
from scmimic._arguments import (
    ANY_DIMENSIONS,
    COLUMN,
    COUNT,
    FLAG,
    KEY,
    POSITIVE,
    PROBABILITY,
    QUANTILES,
    SEED,
    TEXT,
    Choice,
    Listed,
)
from scmimic.cells import ANNDATA
from scmimic.model.beta_tcvae import ACTIVE_VARIANCE
from scmimic.pl._figure import MISSING_COLOR, category_palette, check_figure, finish, make_axes, plain, stored_colors
from scmimic.pl._points import (
    LEGEND_LOCS,
    RIGHT_MARGIN,
    color_bar,
    drawing_order,
    frame,
    name_types,
    part_names,
    types_width,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches of a panel's cells, of its height with the title, and of a scale of colours beside it.
_PANEL_SIZE, _PANEL_HEIGHT, _BAR_WIDTH = 1.9, 2.4, 0.55


def latent(
    adata: AnnData,
    *,
    use_rep: str = _keys.latent("BetaTCVAE"),
    basis: str = "umap",
    dims: int | str | Sequence[int | str] | None = None,
    color: str | Sequence[str] = (),
    palette: Any = None,
    legend_loc: str | None = RIGHT_MARGIN,
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
        Latents to draw, by name (`"Z1"` is the first) or by position (0 is the first), one or several; all by default,
        none for an empty list.
    color
        Columns of `.obs` to draw first, such as known factors.
    palette
        Colours of the categories: a dict, or colours in their order. By default those of `adata.uns`, else scanpy's
        default palette.
    legend_loc
        Where the categories are named: `"right margin"` (beside the cells), `"on data"` (at their medians, and where
        the names are too many or too long as numbers of a legend), or `None`.
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
        Seed of the order in which cells are drawn; types of fewer than 5 % of the cells come on top.
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

    See Also
    --------
    scmimic.pl.disentanglement : Latents against known factors in bars.
    scmimic.model.BetaTCVAE.latent_activity : Which latents have vanished.

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
    ANY_DIMENSIONS.or_none.check(dims=dims)
    Listed(COLUMN, least=0, alone=True).check(color=color)
    Choice(LEGEND_LOCS, optional=True).check(legend_loc=legend_loc)
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
    drawn = _keys.latent_positions(dims, codes.shape[1])
    columns = [color] if isinstance(color, str) else list(color)
    if missing := [name for name in columns if name not in adata.obs]:
        raise KeyError(f"`color={missing}` is not in `adata.obs`; its columns are {list(adata.obs.columns)}.")

    names = _keys.latent_names(codes.shape[1])
    colors = {name: _colors(adata, name, palette) for name in columns}
    n_panels = len(columns) + len(drawn)
    if figsize is None:
        width = sum(_margins(n_panels, n_cols, columns, colors, legend_loc))
        figsize = (width, _PANEL_HEIGHT * -(-n_panels // min(n_panels, n_cols)))
    # in place of the constrained layout, which cuts wide legends off where panels are squares
    layout = "compressed"
    fig, axes = make_axes(
        n_panels, ax, n_cols=n_cols, panel_size=(_PANEL_SIZE, _PANEL_HEIGHT), figsize=figsize, layout=layout
    )
    if size is None:
        size = float(np.clip(20_000 / adata.n_obs, 1, 10))
    style = {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": rasterized}
    for panel, name in zip(axes, columns, strict=False):
        if (of_types := colors[name]) is None:
            values = adata.obs[name].to_numpy(dtype=float, na_value=np.nan)
            _draw_numbers(panel, values, xy, np.random.default_rng(seed), cmap, limits, style)
        else:
            _draw_types(panel, adata.obs[name], of_types, xy, np.random.default_rng(seed), legend_loc, style)
    for panel, j in zip(axes[len(columns) :], drawn, strict=True):
        _draw_numbers(panel, codes[:, j], xy, np.random.default_rng(seed), cmap, limits, style)
    vanished = [j for j in drawn if codes[:, j].var() < ACTIVE_VARIANCE]
    titles = [f"{names[j]} (vanished)" if j in vanished else names[j] for j in drawn]
    frame(axes, xy, key, [*map(plain, columns), *titles], n_cols=n_cols)
    for panel, j in zip(axes[len(columns) :], drawn, strict=True):
        panel.title.set_color("0.5" if j in vanished else "black")
    for panel in axes:
        panel.xaxis.label.set_fontsize("small")
        panel.yaxis.label.set_fontsize("small")
    part_names(axes)
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)


def _margins(
    n_panels: int,
    n_cols: int,
    columns: Sequence[str],
    colors: Mapping[str, dict[Any, str] | None],
    legend_loc: str | None,
) -> list[float]:
    """Width in inches of each column of panels: the cells, and the widest of what explains their colours."""
    widths = [_PANEL_SIZE + _BAR_WIDTH] * min(n_panels, n_cols)
    for i, name in enumerate(columns):
        of_types = colors[name]
        if of_types is not None:
            at = i % n_cols
            widths[at] = max(widths[at], _PANEL_SIZE + types_width(of_types, legend_loc, _PANEL_HEIGHT))
    return widths


def _array(adata: AnnData, key: str, argument: str, remedy: str) -> np.ndarray:
    if key not in adata.obsm:
        raise KeyError(f"`{argument}`: there is no {key!r} in `adata.obsm` ({list(adata.obsm)}). Run `{remedy}`.")
    return np.asarray(adata.obsm[key])


def _colors(adata: AnnData, name: str, palette: Any) -> dict[Any, str] | None:
    """Colours of the categories of a column that are there; None for numbers."""
    column: pd.Series = adata.obs[name]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return None
    column = column.astype("category")
    colors = category_palette(list(column.cat.categories), palette, name=name)
    if palette is None:
        colors |= stored_colors(adata, name)
    present = set(column.dropna().unique())
    return {category: colors[category] for category in column.cat.categories if category in present}


def _draw_types(
    ax: Axes,
    column: pd.Series,
    colors: dict[Any, str],
    xy: np.ndarray,
    rng: np.random.Generator,
    legend_loc: str | None,
    style: dict,
) -> None:
    order = drawing_order(len(column), rng, column)
    values = column.astype(object).map(colors).fillna(MISSING_COLOR).to_numpy(dtype=str)
    ax.scatter(xy[order, 0], xy[order, 1], c=values[order], **style)
    name_types([ax], [xy], [values], colors, legend_loc, side=_PANEL_HEIGHT)


def _draw_numbers(
    ax: Axes,
    values: np.ndarray,
    xy: np.ndarray,
    rng: np.random.Generator,
    cmap: Any,
    limits: tuple[float, float],
    style: dict,
) -> None:
    low, high = np.nanquantile(values, limits)
    order = drawing_order(len(values), rng)
    drawn = ax.scatter(
        xy[order, 0], xy[order, 1], c=values[order], cmap=cmap, vmin=low, vmax=max(high, low + 1e-12), **style
    )
    beside = color_bar(ax, drawn)
    beside.tick_params(labelsize="x-small", length=2)
    beside.yaxis.set_major_locator(MaxNLocator(3))
