"""Axes, colours and the end of every plot: shared by all plotting functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from scmimic._arguments import FLAG, PATH, SIZE, TEXT, Listed
from scmimic._files import check_output, replacing

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

REAL_COLOR = "#2f6db3"
SYNTHETIC_COLOR = "#d1442f"
"""Blue for real and red for synthetic cells, as in the papers; apart also for the colour-blind and in grey."""

CONTROL_COLOR = "#e8a735"
"""Yellow for the cells that a prediction starts from."""

MISSING_COLOR = "lightgray"

PICTURE_ENDINGS = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".tif", ".tiff", ".eps", ".ps", ".webp")

# matplotlib's own 100 leave small text hard to read
_DPI = 150

_OneOrSeveral = TypeVar("_OneOrSeveral", Axes, list[Axes])

# matplotlib's backends without a screen; plt.show() only warns there
_NON_INTERACTIVE = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}


def make_axes(
    n: int,
    ax: Axes | Sequence[Axes] | None,
    *,
    n_cols: int,
    panel_size: tuple[float, float],
    figsize: tuple[float, float] | None = None,
    layout: str = "constrained",
    empty: Collection[int] = (),
) -> tuple[Figure, list[Axes]]:
    """Return `n` axes and their figure: those of the caller, or new ones in a grid of `n_cols` columns.

    Places of the grid that are in `empty` stay so; they are counted along the rows.
    """
    if ax is not None:
        axes: list[Axes] = [ax] if isinstance(ax, Axes) else list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) != n:
            raise ValueError(f"This plot has {n} panels, but `ax` holds {len(axes)} axes. Give {n}, or leave `ax` out.")
        # a SubFigure serves as well
        owner: Any = axes[0].figure
        return owner, axes
    n_cols = min(n, n_cols)
    n_rows = -(-(n + len(empty)) // n_cols)
    if figsize is None:
        figsize = (panel_size[0] * n_cols, panel_size[1] * n_rows)
    fig, grid = plt.subplots(n_rows, n_cols, figsize=figsize, squeeze=False, layout=layout)
    axes = [panel for i, panel in enumerate(grid.flat) if i not in empty][:n]
    for spare in set(grid.flat).difference(axes):
        spare.remove()
    return fig, axes


_LONGEST_NAME = 40


def plain(name: Any) -> str:
    r"""A name of the data (of a gene, a type, a batch) as pictures show it.

    Dollar signs are dollar signs and begin no formula, which would take matplotlib minutes or fail. Line breaks are
    spaces, the middle of long names is left out, and no name is hidden, as legends hide names that begin with an
    underscore or are empty.

    Examples
    --------
    >>> plain(r"$\frac{g0}$"), plain("_B cells"), plain(""), plain(3)
    ('\\$\\frac{g0}\\$', ' _B cells', '(empty)', '3')
    >>> plain("a" * 30 + "b" * 30)
    'aaaaaaaaaaaaaaaaaaa…bbbbbbbbbbbbbbbbbbbb'
    """
    text = " ".join(str(name).split()) or "(empty)"
    if len(text) > _LONGEST_NAME:
        half = _LONGEST_NAME // 2
        text = f"{text[: half - 1]}…{text[-half:]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


TITLES = Listed(TEXT, least=2, most=2)
"""Names of the two sides."""


def check_figure(*, figsize: Any, show: Any, return_fig: Any, save: Any) -> None:
    """Refuse, before anything is drawn, what no plotting function can do with its figure."""
    SIZE.or_none.check(figsize=figsize)
    FLAG.or_none.check(show=show)
    FLAG.check(return_fig=return_fig)
    PATH.or_none.check(save=save)
    if save is not None:
        check_output(save, overwrite=True, endings=PICTURE_ENDINGS, name="`save`")


def finish(
    fig: Figure, axes: _OneOrSeveral, *, show: bool | None, return_fig: bool, save: str | Path | None = None
) -> Figure | _OneOrSeveral | None:
    """Write the figure, show it or hand it back, as every plotting function does at its end.

    `show=None` shows where there is a screen and scanpy's `settings.autoshow` is on, and returns the axes otherwise.
    """
    if save is not None:
        dpi = mpl.rcParams["savefig.dpi"]
        with replacing(save) as partial:
            # a SubFigure cannot be written alone
            fig.figure.savefig(partial, dpi=_DPI if dpi == "figure" else dpi, bbox_inches="tight")
    if return_fig:
        return fig
    has_screen = mpl.get_backend().lower() not in _NON_INTERACTIVE
    if show is None:
        show = has_screen and sc.settings.autoshow
    if not show:
        return axes
    if has_screen:
        plt.show()
    return None


def category_palette(categories: Sequence[Any], palette: Any = None, *, name: str = "category") -> dict[Any, str]:
    """Colour of each category: from `palette` (dict, colours in order, matplotlib sequence) or scanpy's default.

    Parameters
    ----------
    categories
        What to colour.
    palette
        The user's choice; `None` takes scanpy's default palette for as many categories.
    name
        How error messages call the categories.
    """
    if isinstance(palette, Mapping):
        if missing := [c for c in categories if c not in palette]:
            raise ValueError(f"`palette` has no colour for these values of {name!r}: {missing}.")
        return {c: to_hex(palette[c]) for c in categories}
    n = len(categories)
    colors: list[Any] | None
    if palette is not None:
        colors = list(mpl.color_sequences[palette] if isinstance(palette, str) else palette)
        if len(colors) < n:
            raise ValueError(f"`palette` has {len(colors)} colours for {n} values of {name!r}.")
    else:
        defaults = (sc.pl.palettes.default_20, sc.pl.palettes.default_28, sc.pl.palettes.default_102)
        colors = next((p for p in defaults if n <= len(p)), None)
        if colors is None:
            colors = list(plt.get_cmap("gist_ncar")(np.linspace(0.02, 0.95, n)))
    return {c: to_hex(color) for c, color in zip(categories, colors, strict=False)}


def stored_colors(adata: AnnData, key: str) -> dict[Any, str]:
    """Colours that scanpy has stored in `adata.uns` for the categories of `adata.obs[key]`; empty without them."""
    stored, column = adata.uns.get(f"{key}_colors"), adata.obs.get(key)
    if stored is None or column is None or not isinstance(column.dtype, pd.CategoricalDtype):
        return {}
    if len(stored) != len(column.cat.categories):
        return {}
    return {c: to_hex(color) for c, color in zip(column.cat.categories, stored, strict=True)}


def _short(x: float) -> str:
    """A number of an axis.

    Examples
    --------
    >>> [_short(x) for x in (1e-5, 0.003, 0.5, 3000, 3e5)]
    ['1e-5', '0.003', '0.5', '3,000', '3e5']
    """
    if 1e-3 <= x < 1e5:
        return f"{x:,.0f}" if x >= 1 else f"{x:g}"
    return f"{x:.0e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Numbers of a logarithmic axis over that range: some within a decade, and none on each other."""
    decades = np.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if decades < 1 else (1, 3) if decades < 3 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
    axis.set_minor_formatter(NullFormatter())


def plain_frame(ax: Axes) -> None:
    """Leave only the left and bottom line of the frame."""
    ax.spines[["top", "right"]].set_visible(False)


def of_interval(interval: tuple[float, float]) -> str:
    """An interval as text behind a number, if there is one."""
    return " ({:.2f} to {:.2f})".format(*interval) if np.isfinite(interval).all() else ""


def below_width(labels: Iterable[str], least: float) -> float:
    """Width in inches of a figure with such a legend below its axes."""
    return max(least, 1.2 + 0.07 * max(map(len, labels)))


def legend_below(ax: Axes, handles: Sequence[Any], labels: Sequence[str], **kwargs: Any) -> None:
    """Name curves below the axes, where the legend lies on none of them."""
    # the label of the axis and its numbers stand between
    under = ax.transAxes + ScaledTranslation(0, -40 / 72, ax.figure.dpi_scale_trans)
    ax.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=under,
        frameon=False,
        fontsize="small",
        borderpad=0,
        borderaxespad=0,
        **kwargs,
    )
