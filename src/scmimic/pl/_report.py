"""All calibrated scores of an evaluation in one figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scmimic import _keys
from scmimic._arguments import FLAG, KEY, TEXT, Instance, PairRange
from scmimic._keys import OVERALL
from scmimic.pl._figure import check_figure, finish, make_axes, plain
from scmimic.pl._scores import Scores
from scmimic.tl.evaluation import metrics_by_name

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GROUP_COLORS = {
    "discriminator": "#2f6db3",
    "distribution": "#2a9d8f",
    "genes": "#b8860b",
    "types": "#8e5aa8",
}
_GROUP_TITLES = {
    "discriminator": "told apart by a forest",
    "distribution": "clouds of cells",
    "genes": "genes",
    "types": "cell types",
}


def report(
    results: pd.DataFrame | AnnData,
    *,
    key: str = _keys.REALISM,
    per_label: bool = True,
    limits: tuple[float, float] = (-0.6, 1.3),
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw the calibrated scores of :func:`scmimic.tl.evaluate`: 0 is the best trivial generator, 1 are real cells.

    One line per metric, coloured by its kind: a large point for all cells, small ones for the cell types. Scores beyond
    the limits are drawn as arrows at the edge, that of all cells with its number. A legend below says so. Metrics
    without a score are left out.

    Parameters
    ----------
    results
        The table, or the `AnnData` that holds it.
    key
        `.uns` key of the table in the `AnnData`.
    per_label
        Draw the scores of the cell types.
    limits
        Ends of the axis.
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
    KeyError
        If there is no such table.
    ValueError
        If no metric has a score.

    See Also
    --------
    scmimic.tl.evaluate : Makes the table.
    scmimic.Evaluation.plot : The same for an evaluation.
    scmimic.report : As a page.

    Examples
    --------
    >>> import pandas as pd
    >>> import scmimic as sm
    >>> row = {"metric": "rf_auc_genes", "group": "discriminator", "label": "overall", "score": 0.7}
    >>> ax = sm.pl.report(pd.DataFrame([row]), show=False)
    """
    KEY.check(key=key)
    FLAG.check(per_label=per_label)
    PairRange(growing=True).check(limits=limits)
    TEXT.or_none.check(title=title)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    Instance((pd.DataFrame, AnnData)).check(results=results)
    if not isinstance(results, pd.DataFrame):
        if key not in results.uns:
            raise KeyError(f"`adata.uns` has no {key!r}: run `sm.tl.evaluate(adata, synthetic)` first.")
        results = results.uns[key]["table"]
    scored = results[np.isfinite(results["score"].to_numpy(dtype=float))]
    overall = scored[scored["label"] == OVERALL].reset_index(drop=True)
    if overall.empty:
        raise ValueError("No metric has a score: there was no calibration, or nothing to calibrate with.")
    fig, (ax,) = make_axes(1, ax, n_cols=1, panel_size=(8, 2.2 + 0.27 * len(overall)), figsize=figsize)
    metrics = metrics_by_name()
    names = [metrics[name].title if name in metrics else plain(name) for name in overall["metric"]]
    lines = Scores(ax, limits, names, ("best trivial\ngenerator", "real cells"))
    colors = [_GROUP_COLORS.get(name, "0.3") for name in overall["group"]]
    of_types = scored[scored["label"] != OVERALL] if per_label else scored[:0]
    for y, (row, color) in enumerate(zip(overall.itertuples(), colors, strict=True)):
        lines.draw(of_types.loc[of_types["metric"] == row.metric, "score"], y, color, small=True)
        lines.draw(row.score, y, color)
    ax.set(xlabel="calibrated score", title=title or "")
    for label, color in zip(ax.get_yticklabels(), colors, strict=True):
        label.set_color(color)
    groups = {_GROUP_TITLES.get(name, name): color for name, color in zip(overall["group"], colors, strict=True)}
    lines.explain("all cells", "cells of one type" if len(of_types) else None, groups)
    return finish(fig, ax, show=show, return_fig=return_fig, save=save)
