"""ROC curves of the discriminator (ACTIVA, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic._arguments import TEXT
from scmimic.metrics import DiscriminatorResult
from scmimic.pl._figure import (
    below_width,
    category_palette,
    check_figure,
    finish,
    legend_below,
    make_axes,
    of_interval,
    plain,
    plain_frame,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def roc(
    result: DiscriminatorResult | Mapping[str, DiscriminatorResult],
    *,
    palette: Any = None,
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw how well a random forest tells synthetic from real cells: every fold thin, their mean bold.

    A curve on the dashed diagonal (AUC 0.5) is ideal. The mean is taken of the true-positive rates at equal
    false-positive rates; the legend below gives the AUC of all folds together, as tables have it, and its 95 %
    interval.

    Parameters
    ----------
    result
        Result of :func:`scmimic.metrics.discriminator_auc` with `return_folds=True`, or several by name.
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
        If a result is a bare number.
    ValueError
        If there is no result.

    See Also
    --------
    scmimic.evaluate : Its ``curves`` are drawn.
    scmimic.metrics.discriminator_auc : Makes one curve.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> real, fake = np.random.default_rng(0).normal(size=(2, 40, 5))
    >>> result = sm.metrics.discriminator_auc(real, fake, n_trees=20, return_folds=True)
    >>> ax = sm.pl.roc({"noise": result}, show=False)
    """
    TEXT.or_none.check(title=title)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    results = dict(result) if isinstance(result, Mapping) else {"": result}
    if not results:
        raise ValueError("`result` is empty: there is nothing to draw.")
    for name, one in results.items():
        if not isinstance(one, DiscriminatorResult):
            raise TypeError(
                f"Expected the result of `discriminator_auc(..., return_folds=True)`, got {type(one).__name__}"
                f"{f' for {name!r}' if name else ''}."
            )
    colors = category_palette(list(results), palette, name="result")
    labels = {name: _label(name, one) for name, one in results.items()}
    size = (below_width(labels.values(), 4.2), 4.4 + 0.2 * len(results))
    fig, (ax,) = make_axes(1, ax, n_cols=1, panel_size=size, figsize=figsize)
    ax.plot([0, 1], [0, 1], color="0.55", linestyle="--", linewidth=1, label="chance: AUC 0.50", zorder=1)
    grid = np.linspace(0, 1, 201)
    for name, one in results.items():
        for fold in one.folds:
            ax.plot(fold.fpr, fold.tpr, color=colors[name], linewidth=0.7, alpha=0.4, zorder=2)
        mean = np.mean([np.interp(grid, fold.fpr, fold.tpr) for fold in one.folds], axis=0)
        ax.plot(np.r_[0, grid], np.r_[0, mean], color=colors[name], linewidth=2.4, label=labels[name], zorder=3)
    ax.set(
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        xlabel="real cells taken for synthetic",
        ylabel="synthetic cells recognised",
        title=title or "",
        xticks=np.linspace(0, 1, 6),
        yticks=np.linspace(0, 1, 6),
    )
    ax.set_box_aspect(1)
    # what the square leaves of the height is the legend's
    ax.set_anchor("N")
    plain_frame(ax)
    handles, names = ax.get_legend_handles_labels()
    legend_below(ax, handles[1:] + handles[:1], names[1:] + names[:1])
    return finish(fig, ax, show=show, return_fig=return_fig, save=save)


def _label(name: str, result: DiscriminatorResult) -> str:
    return f"{plain(name or 'all folds')}: AUC {result.auc:.2f}{of_interval(result.interval)}"
