"""Real beside synthetic cells in one embedding (ACTIVA, figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic import _keys
from scmimic._arguments import COLUMNS, FLAG, LAYER, POSITIVE, PROBABILITY, SEED, TEXT, Choice, Listed
from scmimic.cells import ANNDATA, check_one_map, read_gene
from scmimic.pl._figure import (
    MISSING_COLOR,
    REAL_COLOR,
    SYNTHETIC_COLOR,
    TITLES,
    category_palette,
    check_figure,
    finish,
    make_axes,
    plain,
    stored_colors,
)
from scmimic.pl._points import (
    LEGEND_LOCS,
    color_bar,
    drawing_order,
    frame,
    legend,
    name_types,
    part_names,
    types_width,
)

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

# Inches of the cells, and their height with a title.
_PANEL_SIZE = (3.2, 3.6)


def embedding(
    adata: AnnData,
    synthetic: AnnData,
    *,
    basis: str = "umap",
    color: str | Sequence[str] | None = None,
    groups: str | Sequence[str] | None = None,
    layer: str | None = None,
    log1p: bool | None = None,
    target_sum: float = 1e4,
    palette: Any = None,
    cmap: Any = "viridis",
    size: float | None = None,
    alpha: float = 0.8,
    legend_loc: str | None = "right margin",
    titles: tuple[str, str] = ("Real", "Synthetic"),
    rasterized: bool = True,
    seed: int = 0,
    ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw real cells, synthetic cells, and both on top of each other, on the same axes.

    Each colour has a row, with real and synthetic cells side by side; both together are drawn once, beside the first.

    Parameters
    ----------
    adata, synthetic
        Real and synthetic cells, both with the embedding; neither is changed.
    basis
        `"umap"`, `"tsne"` or `"pca"` of :func:`scmimic.tl.joint_embedding`, or any other key that `.obsm` of both has
        (its first two columns are drawn).
    color
        A column of `.obs` of both, categorical or numeric, or a gene; several have a row of panels each. `None` colours
        real and synthetic cells.
    groups
        Categories to show in their colours, one or several; all others are grey and lie below. All by default.
    layer
        Layer of the real cells with the gene's expression; `.X` by default. Where `synthetic` has no such layer, its
        `.X` is taken.
    log1p
        Scale every cell to `target_sum` and take log(1 + x) of a gene, so that few cells of many counts do not take the
        colours. `None` does so where both sides hold counts or scaled counts, and takes other values as they are.
    target_sum
        Total per cell before the logarithm.
    palette
        Colours of the categories: a dict, or colours in their order. By default those of `adata.uns`, else scanpy's
        default palette.
    cmap
        Colour map of numbers.
    size
        Point area in points squared; `20,000 / cells` of the larger side, but 2 to 14, by default.
    alpha
        Opacity of the points.
    legend_loc
        Where the categories are named: `"right margin"`, `"on data"` (at their medians, where names would lie on each
        other joined to them by a line, and where they are too many or too long as numbers of a legend), or `None`. More
        than ten colours are hard to tell apart: then `"on data"` or `groups` helps.
    titles
        Names of the two sides: titles of their panels, and legend over the third.
    rasterized
        Draw points as pixels in vector files, which stay small then.
    seed
        Seed of the order in which cells are drawn, so that none systematically hides another. Types of fewer than 5 %
        of the cells of a side come on top.
    ax
        Axes to draw into, as they are returned; new ones by default.
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
    The figure if `return_fig`, nothing if shown, the list of the axes otherwise (real, synthetic, both, and for
    each further `color` real and synthetic).

    Raises
    ------
    KeyError
        If the embedding, the colour or `layer` is missing in one of the objects.
    ValueError
        If the embedding was fitted to each of the objects apart, a gene is in other units in one of them or negative
        with `log1p`, one of `groups` is not there, or `legend_loc` is none of its values.

    See Also
    --------
    scmimic.tl.joint_embedding : Makes the embedding.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200)
    >>> real, synthetic = adata[:100].copy(), adata[100:].copy()
    >>> sm.tl.joint_embedding(real, synthetic, basis="pca")
    >>> axes = sm.pl.embedding(real, synthetic, basis="pca", color="cell_type", show=False)
    >>> len(axes)
    3
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    TEXT.check(basis=basis)
    COLUMNS.or_none.check(color=color)
    Listed(TEXT, alone=True, optional=True).check(groups=groups)
    LAYER.check(layer=layer)
    FLAG.or_none.check(log1p=log1p)
    POSITIVE.check(target_sum=target_sum)
    POSITIVE.or_none.check(size=size)
    PROBABILITY.check(alpha=alpha)
    Choice(LEGEND_LOCS, optional=True).check(legend_loc=legend_loc)
    TITLES.check(titles=titles)
    FLAG.check(rasterized=rasterized)
    SEED.check(seed=seed)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    coordinates = joint_coordinates(adata, synthetic, basis)
    shown = [color] if color is None or isinstance(color, str) else list(color)
    colorings = [
        _coloring(adata, synthetic, name, palette, layer=layer, log1p=log1p, target_sum=target_sum) for name in shown
    ]
    if groups is not None:
        colorings = _only(colorings, [groups] if isinstance(groups, str) else groups)
    if size is None:
        size = float(np.clip(20_000 / max(adata.n_obs, synthetic.n_obs), 2, 14))
    style = {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": rasterized}
    if figsize is None:
        width = max(coloring.width(legend_loc) for coloring in colorings)
        figsize = (3 * _PANEL_SIZE[0] + width, _PANEL_SIZE[1] * len(colorings))
    fig, axes = make_axes(
        2 * len(shown) + 1,
        ax,
        n_cols=3,
        panel_size=_PANEL_SIZE,
        figsize=figsize,
        layout="compressed",
        # both sides on each other are the same for every colour
        empty=range(5, 3 * len(shown), 3),
    )
    together = axes[2]
    rows = [axes[:2], *(axes[i : i + 2] for i in range(3, len(axes), 2))]
    for panels, coloring in zip(rows, colorings, strict=True):
        drawn = _scatter(panels, coordinates, coloring, style, cmap, np.random.default_rng(seed))
        of_row = f"\n{coloring.title}" if len(shown) > 1 else ""
        frame(panels, np.vstack(coordinates), basis, [f"{title}{of_row}" for title in titles])
        _explain(panels, coordinates, coloring, drawn, legend_loc)
    _scatter_both(together, coordinates, style, np.random.default_rng(seed))
    frame([together], np.vstack(coordinates), basis, ())
    together.set_ylabel("")
    # stands where the other panels have their titles
    legend(
        together,
        zip(titles, (REAL_COLOR, SYNTHETIC_COLOR), strict=True),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        borderpad=0,
        borderaxespad=0.25,
        ncols=2,
        fontsize=axes[0].title.get_fontsize(),
    )
    part_names(axes)
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)


def _scatter(
    panels: Sequence[Axes],
    coordinates: tuple[np.ndarray, np.ndarray],
    coloring: _Coloring,
    style: dict[str, Any],
    cmap: Any,
    rng: np.random.Generator,
) -> ScalarMappable:
    """Draw real cells and synthetic cells; what a colour bar is of."""
    numeric = {} if coloring.limits is None else dict(zip(("vmin", "vmax"), coloring.limits, strict=True), cmap=cmap)
    for panel, xy, values, types in zip(panels, coordinates, coloring.values, coloring.types, strict=True):
        order = drawing_order(len(xy), rng, types)
        drawn = panel.scatter(xy[order, 0], xy[order, 1], c=values[order], **numeric, **style)
    return drawn


def _scatter_both(
    ax: Axes, coordinates: tuple[np.ndarray, np.ndarray], style: dict[str, Any], rng: np.random.Generator
) -> None:
    both = np.vstack(coordinates)
    source = np.repeat([REAL_COLOR, SYNTHETIC_COLOR], [len(xy) for xy in coordinates])
    order = drawing_order(len(both), rng)
    # a quarter more transparent, since twice as many cells share the panel
    style = {**style, "alpha": 0.75 * style["alpha"]}
    ax.scatter(both[order, 0], both[order, 1], c=source[order], **style)


def _explain(
    panels: Sequence[Axes],
    coordinates: tuple[np.ndarray, np.ndarray],
    coloring: _Coloring,
    drawn: ScalarMappable,
    legend_loc: str | None,
) -> None:
    """Say what the colours mean: beside the panels, or on the points."""
    if coloring.limits is not None:
        color_bar(panels[1], drawn, coloring.scale)
    elif coloring.names is not None:
        name_types(
            panels,
            coordinates,
            coloring.values,
            coloring.names,
            legend_loc,
            side=_PANEL_SIZE[0],
            title=coloring.title,
            title_fontsize="small",
        )


@dataclass(frozen=True)
class _Coloring:
    """What the points of two panels are coloured with."""

    values: tuple[np.ndarray, np.ndarray]
    """Real and synthetic: a colour per cell, or a number per cell where `limits` is given."""
    names: dict[Any, str] | None = None
    """Colour of each category, where the colours are categories."""
    limits: tuple[float, float] | None = None
    """Ends of the colour map, where the colours are numbers."""
    title: str = ""
    """What the colours are of."""
    scale: str = ""
    """The same with its unit, where the colours are numbers."""
    types: tuple[pd.Series | None, pd.Series | None] = (None, None)
    """Category of each cell, where the colours are categories."""

    def only(self, groups: Sequence[str]) -> _Coloring:
        """Cells of other categories as those of none; the same where it has none of these."""
        names = {name: color for name, color in (self.names or {}).items() if name in groups}
        if not names:
            return self
        types = [of_side.where(of_side.isin(groups)) for of_side in self.types if of_side is not None]
        values = [np.where(t.isna(), MISSING_COLOR, v) for t, v in zip(types, self.values, strict=True)]
        return replace(self, values=(values[0], values[1]), names=names, types=(types[0], types[1]))

    def width(self, legend_loc: str | None) -> float:
        """Width in inches of what explains the colours beside the panels."""
        if self.names is not None:
            return types_width(self.names, legend_loc, _PANEL_SIZE[0])
        return 0.8 if self.limits is not None else 0.0


def joint_coordinates(
    adata: AnnData, other: AnnData, basis: str, *, name: str = "synthetic"
) -> tuple[np.ndarray, np.ndarray]:
    """Points of both objects in an embedding that they share; `name` is what to call `other`."""
    candidates = [_keys.joint(basis), basis, f"X_{basis}"]
    key = next((k for k in candidates if k in adata.obsm and k in other.obsm), None)
    if key is None:
        raise KeyError(
            f"No embedding for `basis={basis!r}` in both objects: `.obsm` has {list(adata.obsm)} in `adata` and "
            f"{list(other.obsm)} in `{name}`. Run `sm.tl.joint_embedding(adata, {name}, basis={basis!r})`."
        )
    first: np.ndarray = np.asarray(adata.obsm[key])[:, :2]
    second: np.ndarray = np.asarray(other.obsm[key])[:, :2]
    check_one_map(adata, other, key, name=name)
    if first.shape[1] < 2 or second.shape[1] < 2:
        raise ValueError(f"`.obsm[{key!r}]` has a single column: two are needed.")
    return first, second


def _coloring(adata: AnnData, synthetic: AnnData, color: str | None, palette: Any, **units: Any) -> _Coloring:
    if color is None:
        return _Coloring((np.full(adata.n_obs, REAL_COLOR), np.full(synthetic.n_obs, SYNTHETIC_COLOR)))
    objects = {"adata": adata, "synthetic": synthetic}
    for name, a in objects.items():
        if color not in a.obs and color not in a.var_names:
            raise KeyError(f"`color={color!r}` is neither a column of `{name}.obs` nor a gene of `{name}`.")
    if not all(color in a.obs for a in objects.values()):
        if without := [name for name, a in objects.items() if color not in a.var_names]:
            raise KeyError(f"`color={color!r}` is a gene, but not of `{without[0]}`: only its `.obs` has the name.")
        real, fake, unit = read_gene(adata, synthetic, color, **units)
        return _numbers(real, fake, plain(color), unit)
    columns = [a.obs[color] for a in objects.values()]
    if all(pd.api.types.is_numeric_dtype(c) and not pd.api.types.is_bool_dtype(c) for c in columns):
        real, fake = (c.to_numpy(dtype=float, na_value=np.nan) for c in columns)
        return _numbers(real, fake, plain(color))
    first, second = (c.astype("category") for c in columns)
    categories = list(first.cat.categories) + [c for c in second.cat.categories if c not in set(first.cat.categories)]
    present = set(first.dropna().unique()) | set(second.dropna().unique())
    colors = category_palette(categories, palette, name=color)
    if palette is None:
        colors |= stored_colors(adata, color)
    of_real, of_fake = (c.astype(object).map(colors).fillna(MISSING_COLOR).to_numpy(dtype=str) for c in (first, second))
    names = {c: colors[c] for c in categories if c in present}
    return _Coloring((of_real, of_fake), names=names, title=plain(color), types=(first, second))


def _numbers(real: np.ndarray, fake: np.ndarray, title: str, unit: str = "") -> _Coloring:
    """One scale for both sides."""
    joined = np.concatenate([real, fake])
    finite = joined[np.isfinite(joined)]
    limits = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return _Coloring((real, fake), limits=limits, title=title, scale=f"{title}, {unit}" if unit else title)


def _only(colorings: Sequence[_Coloring], groups: Sequence[str]) -> list[_Coloring]:
    """The same with these categories alone in colours, where a column has one of them."""
    known = [name for coloring in colorings for name in coloring.names or {}]
    if missing := [name for name in groups if name not in known]:
        raise ValueError(f"`groups`: {missing} are no categories of `color`, which has {known}.")
    return [coloring.only(groups) for coloring in colorings]
