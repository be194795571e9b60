"""Cells as points: the order in which they are drawn, the names of their colours, and the frame of an embedding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from scmimic.pl._figure import plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

_AXIS_NAMES = {"pca": "PC", "umap": "UMAP", "tsne": "tSNE"}
RIGHT_MARGIN, ON_DATA = "right margin", "on data"
LEGEND_LOCS = (RIGHT_MARGIN, ON_DATA)
"""Where the categories can be named, as in scanpy."""

# Types of fewer cells would be hidden by the others.
_RARE = 0.05
# Rows of a legend beside a panel, for each inch of its height.
_ROWS_PER_INCH = 4


def drawing_order(n: int, rng: np.random.Generator, types: pd.Series | None = None) -> np.ndarray:
    """Cells in the order in which they are drawn: at random, so that no type systematically hides another.

    Of `types`, those of fewer than 5 % of the cells come last, the rarest on top; cells of no type come first.
    """
    order = rng.permutation(n)
    if types is None:
        return order
    share = types.astype(object).map(types.value_counts(normalize=True)).to_numpy(dtype=float)
    height = np.where(np.isnan(share), -1, np.where(share < _RARE, 1 - share, 0))
    return order[np.argsort(height[order], kind="stable")]


def axis_name(basis: str) -> str:
    """What the axes of an embedding are called, without their number: ``"UMAP"``."""
    name = basis.removeprefix("X_")
    return plain(_AXIS_NAMES.get(name.removeprefix("joint_"), name))


def frame(axes: Sequence[Axes], both: np.ndarray, basis: str, titles: Sequence[str], *, n_cols: int = 0) -> None:
    """Give the panels of an embedding the same limits around all points, names instead of ticks, and titles.

    The vertical axis is named in the first panel of each row of `n_cols`; 0: they are one row.
    """
    low, high = both.min(axis=0), both.max(axis=0)
    margin = 0.04 * np.where(high > low, high - low, 1)
    name = axis_name(basis)
    for i, ax in enumerate(axes):
        ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
        ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
        ax.set(xticks=[], yticks=[], xlabel=f"{name}1")
        ax.set_box_aspect(1)
        ax.spines[:].set(color="0.6", linewidth=0.8)
        if i % (n_cols or len(axes)) == 0:
            ax.set_ylabel(f"{name}2")
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)


def legend_columns(names: Mapping[Any, str], height: float = 3.5) -> int:
    """Columns of a legend beside a panel of that height in inches."""
    return 1 + (len(names) - 1) // int(_ROWS_PER_INCH * height)


def legend_width(names: Mapping[Any, str], height: float = 3.5) -> float:
    """Width in inches that such a legend takes."""
    longest = max((len(plain(name)) for name in names), default=0)
    return 0.5 + 0.085 * longest * legend_columns(names, height)


def legend(ax: Axes, names: Iterable[tuple[str, str]], **kwargs: Any) -> None:
    """Name colours: pairs of a text and a colour."""
    names = list(names)
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=6, markeredgewidth=0, color=color, label=name)
        for name, color in names
    ]
    options: dict[str, Any] = {
        "fontsize": "small",
        "frameon": False,
        "handletextpad": 0.1,
        "columnspacing": 0.8,
    } | kwargs
    # added as an artist, since a second legend would replace the first
    artist = ax.add_artist(Legend(ax, handles, [name for name, _ in names], **options))
    # the layout makes no room for what is clipped to the axes
    artist.set_clip_on(False)


def legend_beside(ax: Axes, names: Mapping[Any, str], *, height: float = 3.5, **kwargs: Any) -> None:
    """Name all categories, with their colours, right of a panel of that height in inches."""
    legend(
        ax,
        [(plain(category), color) for category, color in names.items()],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=legend_columns(names, height),
        alignment="left",
        **kwargs,
    )


def names_on_data(ax: Axes, xy: np.ndarray, values: np.ndarray, names: Mapping[Any, str]) -> None:
    """Name all categories at the medians of their cells, by the colours of the cells."""
    for name, color in names.items():
        cells = xy[values == color]
        if len(cells):
            x, y = np.median(cells, axis=0)
            ax.text(
                x,
                y,
                plain(name),
                ha="center",
                va="center",
                fontsize="small",
                fontweight="bold",
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )


def color_bar(ax: Axes, drawn: ScalarMappable, label: str = "") -> Axes:
    """Draw the scale of the colours right of a panel, and return its axes."""
    beside = ax.inset_axes((1.03, 0.06, 0.05, 0.88))
    bar = ax.figure.colorbar(drawn, cax=beside)
    assert bar.solids is not None
    bar.solids.set(alpha=1)
    bar.outline.set_visible(False)
    bar.set_label(label)
    return beside
