"""Distance within synthetic over that within real cells, against the number of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic._arguments import TEXT
from scmimic.metrics import SelfDistance
from scmimic.pl._figure import (
    below_width,
    category_palette,
    check_figure,
    finish,
    legend_below,
    log_ticks,
    make_axes,
    of_interval,
    plain,
    plain_frame,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def self_distance(
    result: SelfDistance | Mapping[str, SelfDistance],
    *,
    palette: Any = None,
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw how far synthetic cells lie apart, beside as many real ones, against the number of cells.

    The dashed line at 1 is ideal. A curve that falls is a generator that repeats cells: the more of them are asked
    for, the closer the nearest relative. A level curve below 1 are cells that vary too little. The shaded band is the
    95 % interval.

    Parameters
    ----------
    result
        Result of :func:`scmimic.metrics.self_distance_ratio`, or several by name.
    palette
        Colours by name (dict) or in the order of the results; scanpy's default palette otherwise.
    title
        Title of the plot.
    ax
        Axes to draw into; new ones by default.
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
    The figure if `return_fig`, nothing if shown, the axes otherwise.

    Raises
    ------
    TypeError
        If a result is something else.
    ValueError
        If there is no result.

    See Also
    --------
    scmimic.evaluate : Its ``curves`` are drawn.
    scmimic.metrics.self_distance_ratio : Makes one curve.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> rng = np.random.default_rng(0)
    >>> real, new = rng.normal(size=(300, 5)), rng.normal(size=(900, 5))
    >>> ax = sm.pl.self_distance({"new cells": sm.metrics.self_distance_ratio(real, new)}, show=False)
    """
    TEXT.or_none.check(title=title)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    results = dict(result) if isinstance(result, Mapping) else {"": result}
    if not results:
        raise ValueError("`result` is empty: there is nothing to draw.")
    for name, one in results.items():
        if not isinstance(one, SelfDistance):
            raise TypeError(
                f"Expected the result of `self_distance_ratio`, got {type(one).__name__}"
                f"{f' for {name!r}' if name else ''}."
            )
    colors = category_palette(list(results), palette, name="result")
    labels = {name: _label(name, one) for name, one in results.items()}
    size = (below_width(labels.values(), 5.2), 3.8 + 0.2 * len(results))
    fig, (ax,) = make_axes(1, ax, n_cols=1, panel_size=size, figsize=figsize)
    ax.axhline(1, color="0.55", linestyle="--", linewidth=1, label="as far apart as real cells", zorder=1)
    for name, one in results.items():
        low, high = one.intervals.T
        ax.fill_between(one.sizes, low, high, color=colors[name], alpha=0.15, linewidth=0, zorder=2)
        ax.plot(one.sizes, one.ratios, color=colors[name], linewidth=2, label=labels[name], zorder=3)
        ax.plot(one.sizes[-1], one.ratios[-1], color=colors[name], marker="o", markersize=5, zorder=3)
    ax.set(xscale="log", xlabel="number of cells", ylabel="distance, synthetic / real", title=title or "")
    sizes = np.concatenate([one.sizes for one in results.values()])
    log_ticks(ax.xaxis, sizes.min(), sizes.max())
    plain_frame(ax)
    handles, names = ax.get_legend_handles_labels()
    legend_below(ax, handles[1:] + handles[:1], names[1:] + names[:1])
    return finish(fig, ax, show=show, return_fig=return_fig, save=save)


def _label(name: str, result: SelfDistance) -> str:
    return f"{plain(name or 'synthetic cells')}: {result.ratio:.2f}{of_interval(result.interval)}"
