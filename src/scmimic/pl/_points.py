"""Cells as points: the order in which they are drawn, the names of their colours, and the frame of an embedding."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

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
# Rows of a legend beside a panel, for each inch of its height, and of one in smaller letters.
_ROWS_PER_INCH, _SMALLER_ROWS_PER_INCH = 4, 6.5
# Letters of a line of a name on data, and how often names are moved at most.
_LINE, _STEPS = 20, 50
# How names on data are known among other texts of the axes.
_ON_DATA_NAME = "name on data"
# Part of a panel that names among its points may take.
_MOST_OF_PANEL = 0.2


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


def _legend_size(n: int, height: float) -> tuple[int, str]:
    """Columns and letters of a legend of `n` names beside a panel of that height in inches."""
    if n <= _ROWS_PER_INCH * height:
        return 1, "small"
    return -(-n // int(_SMALLER_ROWS_PER_INCH * height)), "x-small"


def legend_width(names: Iterable[Any], height: float = 3.5, *, numbered: bool = False) -> float:
    """Width in inches that such a legend takes."""
    names = list(names)
    longest = max((len(plain(name)) for name in names), default=0) + 5 * numbered
    n_columns, letters = _legend_size(len(names), height)
    return 0.6 + (0.085 if letters == "small" else 0.07) * longest * n_columns


def are_short(names: Iterable[Any], side: float) -> bool:
    """Whether names can stand among the points of a square panel of that side in inches."""
    lines = [_in_lines(name).split("\n") for name in names]
    inches = [0.085 * max(map(len, parts)) * 0.16 * len(parts) for parts in lines]
    return sum(inches) <= _MOST_OF_PANEL * side**2


def _in_lines(name: Any) -> str:
    return textwrap.fill(plain(name), _LINE, break_long_words=False)


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


def legend_beside(
    ax: Axes, names: Mapping[Any, str], *, height: float = 3.5, numbered: bool = False, **kwargs: Any
) -> None:
    """Name all categories, with their colours and if asked numbers, right of a panel of that height in inches."""
    n_columns, letters = _legend_size(len(names), height)
    texts = [f"{i}  {plain(name)}" if numbered else plain(name) for i, name in enumerate(names, start=1)]
    legend(
        ax,
        zip(texts, names.values(), strict=True),
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        ncols=n_columns,
        alignment="left",
        fontsize=letters,
        **({} if letters == "small" else {"labelspacing": 0.3, "markerscale": 0.85}),
        **kwargs,
    )


def types_width(names: Mapping[Any, str], legend_loc: str | None, side: float) -> float:
    """Width in inches that :func:`name_types` takes beside a panel of that side."""
    numbered = legend_loc == ON_DATA and not are_short(names, side)
    if legend_loc == RIGHT_MARGIN or numbered:
        return legend_width(names, side, numbered=numbered)
    return 0.0


def name_types(
    panels: Sequence[Axes],
    coordinates: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    names: Mapping[Any, str],
    legend_loc: str | None,
    *,
    side: float,
    **kwargs: Any,
) -> None:
    """Name all categories: beside the last panel of that side in inches, or at the medians of their cells.

    Cells are known by their colours. Names that are too long to stand among the cells are numbers there, and stand with
    these beside the last panel.
    """
    numbered = legend_loc == ON_DATA and not are_short(names, side)
    if legend_loc == RIGHT_MARGIN or numbered:
        legend_beside(panels[-1], names, height=side, numbered=numbered, **kwargs)
    if legend_loc != ON_DATA:
        return
    for ax, xy, of_cells in zip(panels, coordinates, values, strict=True):
        for i, (name, color) in enumerate(names.items(), start=1):
            cells = xy[of_cells == color]
            if len(cells):
                middle = np.median(cells, axis=0)
                ax.annotate(
                    str(i) if numbered else _in_lines(name),
                    middle,
                    middle,
                    ha="center",
                    va="center",
                    gid=_ON_DATA_NAME,
                    fontsize="small",
                    fontweight="bold",
                    path_effects=[withStroke(linewidth=2.5, foreground="white")],
                    # from the name to the cells, where it had to move
                    arrowprops={"arrowstyle": "-", "color": "0.2", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
                )


def part_names(axes: Sequence[Axes]) -> None:
    """Move names on data up and down until none lies on another, as far as the panel has room.

    Called once all is drawn, since it needs the sizes that the layout gives.
    """
    names = [[text for text in ax.texts if text.get_gid() == _ON_DATA_NAME] for ax in axes]
    if not any(names):
        return
    # the whole figure, also where the axes belong to a part of it
    axes[0].figure.figure.draw_without_rendering()
    for ax, texts in zip(axes, names, strict=True):
        if not texts:
            continue
        extents = np.array([Text.get_window_extent(text).extents for text in texts])
        middle, half = (extents[:, :2] + extents[:, 2:]) / 2, (extents[:, 2:] - extents[:, :2]) / 2
        medians = middle.copy()
        room = ax.get_window_extent()
        low, high = np.array([room.x0, room.y0]) + half, np.array([room.x1, room.y1]) - half
        for _ in range(_STEPS):
            middle = np.clip(middle, low, high)
            before = middle.copy()
            for i, j in combinations(range(len(texts)), 2):
                overlap = half[i] + half[j] - np.abs(middle[i] - middle[j])
                if (overlap > 0).all():
                    step = (overlap[1] / 2 + 0.5) * (1 if middle[i, 1] >= middle[j, 1] else -1)
                    middle[i, 1] += step
                    middle[j, 1] -= step
            if np.array_equal(middle, before):
                break
        middle = np.clip(middle, low, high)
        moved = (middle != medians).any(axis=1)
        for i, position in zip(
            np.flatnonzero(moved).tolist(), ax.transData.inverted().transform(middle[moved]), strict=True
        ):
            texts[i].set_position(position)


def color_bar(ax: Axes, drawn: ScalarMappable, label: str = "") -> Axes:
    """Draw the scale of the colours right of a panel, and return its axes."""
    beside = ax.inset_axes((1.03, 0.06, 0.05, 0.88))
    bar = ax.figure.colorbar(drawn, cax=beside)
    assert bar.solids is not None
    bar.solids.set(alpha=1)
    bar.outline.set_visible(False)
    bar.set_label(label)
    return beside
