"""Scores of predicted perturbations between baseline and replicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scmimic import _keys
from scmimic._arguments import FLAG, KEY, TEXT, Instance, PairRange
from scmimic._keys import OVERALL
from scmimic.pl._figure import SYNTHETIC_COLOR, category_palette, check_figure, finish, make_axes
from scmimic.pl._points import legend_beside, legend_width
from scmimic.pl._scores import Scores
from scmimic.tl.perturbation import TITLES

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = TITLES | {OVERALL: "mean"}


def evaluate_perturbation(
    results: pd.DataFrame | AnnData,
    *,
    key: str = _keys.EVALUATE_PERTURBATION,
    per_context: bool = True,
    limits: tuple[float, float] = (-1.1, 1.6),
    palette: Any = None,
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw the scores of :func:`scmimic.tl.evaluate_perturbation`: 0 is the mean response, 1 a repeated experiment.

    One line per metric, and below them the mean; one large point per prediction, and small ones for the contexts where
    there are several. Scores beyond the limits are drawn as arrows at the edge, that of a large point with its number.
    A legend below says so. Metrics without a score are left out.

    Parameters
    ----------
    results
        The table, or the `AnnData` that holds it.
    key
        `.uns` key of the table in the `AnnData`.
    per_context
        Draw the scores of the contexts.
    limits
        Ends of the axis.
    palette
        Colours by the names of the predictions (dict) or in their order.
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
    scmimic.tl.evaluate_perturbation : Makes the table.

    Examples
    --------
    >>> import pandas as pd
    >>> import scmimic as sm
    >>> row = {"context": "overall", "method": "predicted", "metric": "pds_cosine", "score": 0.7}
    >>> ax = sm.pl.evaluate_perturbation(pd.DataFrame([row]), show=False)
    """
    Instance((pd.DataFrame, AnnData)).check(results=results)
    KEY.check(key=key)
    FLAG.check(per_context=per_context)
    PairRange(growing=True).check(limits=limits)
    TEXT.or_none.check(title=title)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    if isinstance(results, AnnData):
        if key not in results.uns:
            raise KeyError(
                f"`adata.uns` has no {key!r}: run `sm.tl.evaluate_perturbation(adata, predicted, ...)` first."
            )
        results = results.uns[key]["results"]
    # text that was read from a file is categorical
    table = results.astype({"context": str, "method": str, "metric": str})
    table = table[np.isfinite(table["score"].to_numpy(dtype=float))]
    if table.empty:
        raise ValueError("No metric has a score: `note` in the table says why.")
    several = table["context"].nunique() > 1
    main = table[table["context"] == OVERALL] if several else table
    metrics = [name for name in _NAMES if (main["metric"] == name).any()]
    methods = list(dict.fromkeys(results["method"].astype(str)))
    colors = category_palette(methods, palette, name="method")
    if palette is None and len(methods) == 1:
        colors = {methods[0]: SYNTHETIC_COLOR}

    size = (max(7.5, 5.5 + legend_width(methods)), 1.6 + (0.25 + 0.12 * len(methods)) * len(metrics))
    fig, (ax,) = make_axes(1, ax, n_cols=1, panel_size=size, figsize=figsize)
    lines = Scores(ax, limits, [_NAMES[name] for name in metrics], ("mean\nresponse", "experiment\nrepeated"))
    if OVERALL in metrics and len(metrics) > 1:
        ax.axhline(len(metrics) - 1.5, color="0.8", linewidth=1, zorder=1)
    of_contexts = table[table["context"] != OVERALL] if several and per_context else table[:0]
    for k, method in enumerate(methods):
        shift = 0.7 * ((k + 0.5) / len(methods) - 0.5)
        for i, metric in enumerate(metrics):
            for scores, small in ((of_contexts, True), (main, False)):
                own = (scores["method"] == method) & (scores["metric"] == metric)
                lines.draw(scores.loc[own, "score"], i + shift, colors[method], small=small)
    ax.set(xlabel="score", title=title or "")
    lines.explain("all contexts" if several else "prediction", "one context" if len(of_contexts) else None)
    if len(methods) > 1:
        legend_beside(ax, {method: colors[method] for method in methods}, height=size[1])
    return finish(fig, ax, show=show, return_fig=return_fig, save=save)
