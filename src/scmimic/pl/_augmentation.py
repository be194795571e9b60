"""Bars of the experiment with a rare type (ACTIVA, figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.lines import Line2D

from scmimic import _keys
from scmimic._arguments import COLUMN, KEY, TEXT, Listed
from scmimic.pl._figure import (
    REAL_COLOR,
    SYNTHETIC_COLOR,
    category_palette,
    check_figure,
    finish,
    make_axes,
    plain,
    plain_frame,
)
from scmimic.pl._points import legend_width
from scmimic.tl.augmentation import OVERSAMPLING, SMOTE, UNWEIGHTED, WEIGHTED

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {
    "f1": "F1 score",
    "precision": "precision",
    "recall": "recall",
    "average_precision": "average precision",
    "accuracy": "accuracy over all types",
}
# blue without and red with the model, as in the paper; the rivals between them
_COLORS = {
    UNWEIGHTED: "#c4c8cd",
    WEIGHTED: REAL_COLOR,
    OVERSAMPLING: "#8db4dd",
    SMOTE: "#56788f",
    "independent NB": "#e3c565",
    "Gaussian copula": "#b58a2c",
    "ACTIVA": SYNTHETIC_COLOR,
}
_GROUP_WIDTH = 0.84
# Bars below this cannot be told from none.
_SEEN = 0.015
NO_CELLS = "no cells"
SEEDS = "each seed, and their range"


def augmentation(
    result: AnnData | pd.DataFrame,
    *,
    key: str | None = None,
    score: str = "f1",
    methods: Sequence[str] | None = None,
    palette: Any = None,
    title: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw how well a rare type is found with each method: mean over the seeds, range, and every seed as a dot.

    One group of bars per fraction of cells kept, the largest first, as figure 7 of ACTIVA; classifiers of
    :func:`scmimic.tl.rare_classification` are methods too (`key="rare_classification"`). A cross stands where a
    method gave no cells for any seed; a bar over some of the seeds only says over how many, and one that is too low to
    be seen says how high it is.

    Parameters
    ----------
    result
        Table of :func:`scmimic.tl.rare_augmentation` or :func:`scmimic.tl.rare_classification`, or the AnnData that it
        was written to; not changed.
    key
        Key of `.uns` with the results; `"rare_augmentation"` by default.
    score
        Column to draw: `"f1"`, `"precision"`, `"recall"`, `"average_precision"`, or of classifiers `"accuracy"`.
    methods
        Methods to draw, in this order; all by default.
    palette
        Colours by method (dict) or in their order.
    title
        Title of the plot; the name of the type by default, where it is known.
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
        If `result` is neither a table nor an AnnData.
    KeyError
        If the results are not there, or a column is missing.
    ValueError
        If the table is empty, or has no such method.

    See Also
    --------
    scmimic.tl.rare_augmentation : Makes the table.
    scmimic.tl.rare_classification : Makes another.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=20)
    >>> table = sm.tl.rare_augmentation(
    ...     adata,
    ...     labels_key="cell_type",
    ...     label="type_1",
    ...     fractions=[0.1],
    ...     seeds=[0, 1],
    ...     methods=["class weights", "oversampling"],
    ...     n_synthetic=50,
    ...     n_trees=20,
    ... )
    >>> ax = sm.pl.augmentation(adata, show=False)
    >>> ax.get_ylabel()
    'F1 score'
    """
    KEY.or_none.check(key=key)
    COLUMN.check(score=score)
    Listed(TEXT, alone=True, optional=True).check(methods=methods)
    TEXT.or_none.check(title=title)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    table, label = _table(result, key or _keys.RARE_AUGMENTATION)
    if missing := [column for column in ("method", "fraction", "n_real", score) if column not in table]:
        raise KeyError(f"The table has no column {missing}; it has {list(table.columns)}.")
    if table.empty:
        raise ValueError("The table is empty: there is nothing to draw.")
    known = list(dict.fromkeys(table["method"]))
    methods = known if methods is None else [methods] if isinstance(methods, str) else list(methods)
    if unknown := [name for name in methods if name not in known]:
        raise ValueError(f"`methods`: unknown {unknown}. The table has {known}.")
    colors = _method_colors(methods, palette)
    fractions = sorted(set(table["fraction"]), reverse=True)
    if figsize is None:
        figsize = (1.2 + legend_width([*methods, SEEDS]) + max(0.3 * len(methods), 0.9) * len(fractions), 3.6)
    fig, (ax,) = make_axes(1, ax, n_cols=1, panel_size=figsize, figsize=figsize)

    width = _GROUP_WIDTH / len(methods)
    group = np.arange(len(fractions))
    has_failed = False
    for i, method in enumerate(methods):
        x = group - _GROUP_WIDTH / 2 + (i + 0.5) * width
        runs = [
            table.loc[(table["method"] == method) & (table["fraction"] == f), score].to_numpy(dtype=float)
            for f in fractions
        ]
        found = [values[np.isfinite(values)] for values in runs]
        drawn = [i for i, values in enumerate(found) if len(values)]
        mean, low, high = (np.array([f(found[i]) for i in drawn]) for f in (np.mean, np.min, np.max))
        ax.bar(x[drawn], mean, width=0.92 * width, color=colors[method], label=plain(method), zorder=2)
        ax.errorbar(
            x[drawn],
            mean,
            # the mean of equal numbers may differ from them in the last digit
            yerr=np.maximum([mean - low, high - mean], 0),
            fmt="none",
            ecolor="0.15",
            elinewidth=1,
            capsize=min(3, 20 * width),
            zorder=3,
        )
        for i in drawn:
            ax.scatter(np.full(len(found[i]), x[i]), found[i], s=7, color="0.15", linewidths=0, zorder=4)
            notes = [_small(found[i].mean())] if found[i].mean() < _SEEN else []
            if len(found[i]) < len(runs[i]):
                notes.append(f"{len(found[i])}/{len(runs[i])}")
            if notes:
                above = (x[i], found[i].max())
                ax.annotate(
                    "\n".join(notes), above, (0, 3), textcoords="offset points", ha="center", fontsize="xx-small"
                )
        failed = [i for i, values in enumerate(runs) if len(values) and not np.isfinite(values).any()]
        if failed:
            has_failed = True
            ax.scatter(x[failed], np.full(len(failed), 0.025), marker="x", s=22, color=colors[method], zorder=3)
    if has_failed:
        ax.scatter([], [], marker="x", s=22, color="0.3", label=NO_CELLS)

    one_training = Line2D([], [], marker="o", markersize=2.7, color="0.15", linewidth=1, label=SEEDS)
    ax.set_xticks(group, [_group_name(table, f) for f in fractions])
    ax.tick_params(axis="x", length=0)
    ax.set(
        xlim=(-0.55, len(fractions) - 0.45),
        ylim=(0, 1.02),
        xlabel="training cells of the type",
        ylabel=_NAMES.get(score, score),
        title=(plain(label) if label else "") if title is None else title,
    )
    ax.yaxis.grid(True, color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    plain_frame(ax)
    handles, names = ax.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: names[i] == NO_CELLS)
    ax.legend(
        [*(handles[i] for i in order), one_training],
        [*(names[i] for i in order), SEEDS],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize="small",
    )
    return finish(fig, ax, show=show, return_fig=return_fig, save=save)


def _table(result: AnnData | pd.DataFrame, key: str) -> tuple[pd.DataFrame, str]:
    """Table of results, and the name of the type where it is known."""
    if isinstance(result, pd.DataFrame):
        return result, ""
    if not isinstance(result, AnnData):
        raise TypeError(
            f"`result` must be the table of `sm.tl.rare_augmentation` or an AnnData, not {type(result).__name__}."
        )
    if key not in result.uns:
        raise KeyError(f"`adata.uns` has no {key!r}: run `sm.tl.{_tool(key)}(adata, ...)` first.")
    return result.uns[key]["results"], str(result.uns[key]["params"]["label"])


def _small(value: float) -> str:
    """A score near 0, as text that says whether it is 0."""
    return f"{value:.1g}"


def _tool(key: str) -> str:
    return key if key == _keys.RARE_CLASSIFICATION else _keys.RARE_AUGMENTATION


def _method_colors(methods: list[str], palette: Any) -> dict[str, str]:
    if palette is not None:
        return category_palette(methods, palette, name="method")
    others = [m for m in methods if m not in _COLORS]
    # without scanpy's blue and red, which are much like those of the others
    colors = [color for i, color in category_palette(range(len(others) + 4)).items() if i not in (0, 3)]
    return dict(zip(others, colors, strict=False)) | _COLORS


def _group_name(table: pd.DataFrame, fraction: float) -> str:
    numbers = table.loc[table["fraction"] == fraction, "n_real"]
    low, high = int(numbers.min()), int(numbers.max())
    cells = f"{low} cell{'s' if low > 1 else ''}" if low == high else f"{low} to {high} cells"
    return f"{100 * fraction:.3g} %\n{cells}"
