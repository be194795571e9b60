"""How well held-out combinations were predicted (MichiGAN, figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

from scmimic import _keys
from scmimic._arguments import KEY, TEXT, Choice
from scmimic.cells import ANNDATA
from scmimic.pl._figure import (
    CONTROL_COLOR,
    REAL_COLOR,
    SYNTHETIC_COLOR,
    category_palette,
    check_figure,
    finish,
    make_axes,
    plain,
    plain_frame,
)
from scmimic.pl._points import are_short, legend_beside, legend_width
from scmimic.tl.holdout import CONTROL, LINEAR, MEAN_SHIFT, SCORES, VAE

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {
    "rf_error": "random forest error (%)",
    "r2": "R² of all genes' means",
    "r2_de": "R² of changed genes' means",
    "correlation_change": "correlation of the change",
}
# Height of a name, in parts of the axes.
_NAME_HEIGHT = 0.07
_RIVALS = {CONTROL: CONTROL_COLOR, MEAN_SHIFT: "0.45", LINEAR: "0.7", VAE: "0.25"}


def holdout_arithmetic(
    adata: AnnData,
    *,
    key: str = _keys.HOLDOUT_ARITHMETIC,
    score: str = "rf_error",
    method: str | None = None,
    rival: str = CONTROL,
    palette: Any = None,
    ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw the score of every method on held-out combinations, and a model's gain against delta-H (figure 4).

    Left, one point per combination (the mean over seeds) and method, and a line at the median. Right, the gain of
    `method` over `rival` for each combination, by name, or by number where the names are too many or too long, against
    its delta-H: where delta-H tells which predictions to trust, the points fall from left to right. The titles say over
    how many combinations and seeds.

    Parameters
    ----------
    adata
        Cells with the results of :func:`scmimic.tl.holdout_arithmetic` in `.uns`; not changed.
    key
        Key of `.uns` with the results.
    score
        Column to draw: `"rf_error"`, `"r2"`, `"r2_de"` or `"correlation_change"`; more is better in each.
    method, rival
        The two methods that are compared on the right. `None`: the first model.
    palette
        Colours by method (dict) or in their order.
    ax
        Two axes to draw into; new ones by default.
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
    The figure if `return_fig`, nothing if shown, the list of the two axes otherwise.

    Raises
    ------
    KeyError
        If the results are not there.
    ValueError
        If `score`, `method` or `rival` is not among them.

    See Also
    --------
    scmimic.tl.holdout_arithmetic : Makes the table.
    scmimic.pl.latent_arithmetic : One combination.

    Examples
    --------
    >>> import scmimic as sm
    >>> import scvi
    >>> scvi.settings.verbosity = 30
    >>> adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=30, n_batches=2)
    >>> def fit(train, seed):
    ...     sm.ACTIVA.setup_anndata(train, labels_key="cell_type")
    ...     model = sm.ACTIVA(train, n_latent=4, n_hidden=(16,))
    ...     model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    ...     return model
    >>> keys = {"group_key": "cell_type", "condition_key": "batch"}
    >>> table = sm.tl.holdout_arithmetic(adata, **keys, control="batch_0", fit=fit, n_trees=20)
    >>> axes = sm.pl.holdout_arithmetic(adata, show=False)
    >>> len(axes)
    2
    """
    ANNDATA.check(adata=adata)
    KEY.check(key=key)
    Choice(tuple(SCORES)).check(score=score)
    TEXT.or_none.check(method=method)
    TEXT.check(rival=rival)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    if key not in adata.uns:
        raise KeyError(f"`adata.uns` has no {key!r}: run `sm.tl.holdout_arithmetic(adata, ...)` first.")
    results = adata.uns[key]["results"]
    methods = list(dict.fromkeys(results["method"].astype(str)))
    method = methods[0] if method is None else method
    for argument, name in (("method", method), ("rival", rival)):
        if name not in methods:
            raise ValueError(f"`{argument}={name!r}` is not among the methods {methods}.")
    models = [name for name in methods if name not in _RIVALS]
    if palette is None:
        first = dict(zip(models, (SYNTHETIC_COLOR, REAL_COLOR), strict=False))
        palette = category_palette(methods) | _RIVALS | first
    colors = category_palette(methods, palette, name="method")
    means = results.groupby(["group", "condition", "method"], sort=False, observed=True)
    means = means[[score, "delta_entropy"]].mean().unstack("method")

    gain, entropy = means[score][method] - means[score][rival], means["delta_entropy"][method]
    known = (gain.notna() & entropy.notna()).to_numpy()
    gain, entropy = gain[known].to_numpy(), entropy[known].to_numpy()
    several = len(set(means.index.get_level_values("condition"))) > 1
    names = [f"{group}, {condition}" if several else str(group) for group, condition in means.index[known]]
    size = (2.6 + 0.45 * len(methods), 3.4)
    numbered = not are_short(names, size[1])
    if figsize is None:
        figsize = (2 * size[0] + (legend_width(names, size[1], numbered=True) if numbered else 0), size[1])
    fig, (left, right) = make_axes(2, ax, n_cols=2, panel_size=size, figsize=figsize)
    rng = np.random.default_rng(0)
    for at, name in enumerate(methods):
        values = means[score][name].dropna().to_numpy()
        left.scatter(at + rng.uniform(-0.16, 0.16, len(values)), values, s=22, color=colors[name], linewidths=0)
        if len(values):
            left.hlines(np.median(values), at - 0.3, at + 0.3, color="black", linewidth=1.5)
    left.set_xticks(
        range(len(methods)), [plain(name) for name in methods], rotation=40, ha="right", rotation_mode="anchor"
    )
    left.set(xlim=(-0.6, len(methods) - 0.4), ylabel=_LABELS[score])
    left.yaxis.grid(True, color="0.9", linewidth=0.8)
    left.set_axisbelow(True)

    right.axhline(0, color="0.3", linewidth=0.8)
    right.scatter(entropy, gain, s=26, color=colors[method], linewidths=0)
    varies = len(gain) > 2 and np.ptp(gain) > 0 and np.ptp(entropy) > 0
    if numbered:
        legend_beside(right, dict.fromkeys(names, colors[method]), height=size[1], numbered=True)
    _name_points(right, entropy, gain, [str(i + 1) if numbered else plain(name) for i, name in enumerate(names)])
    title = f"Spearman {spearmanr(entropy, gain).statistic:.2f}" if varies else "no correlation"
    right.set_title(f"{title}, n = {len(gain)}", fontsize="medium", loc="left")
    n_seeds = results["seed"].nunique() if "seed" in results else 1
    counts = f"n = {len(means)} combination{'s' * (len(means) > 1)}, {n_seeds} seed{'s' * (n_seeds > 1)}"
    left.set_title(counts, fontsize="medium", loc="left")
    right.set(
        xlabel=f"ΔH of {plain(method)}\n(low: a prediction to trust)",
        ylabel=f"gain over {plain(rival)}\n{_LABELS[score]}",
    )
    for panel in (left, right):
        plain_frame(panel)
    return finish(fig, [left, right], show=show, return_fig=return_fig, save=save)


def _name_points(ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    """Write names beside points, towards the middle, and apart from each other where points lie close."""
    if not len(x):
        return
    ax.margins(x=0.12, y=0.12)
    at = np.column_stack([(v - low) / (high - low) for v, (low, high) in ((x, ax.get_xlim()), (y, ax.get_ylim()))])
    on_right = at[:, 0] < 0.5
    for side in (True, False):
        members = np.flatnonzero(on_right == side)
        members = members[np.argsort(at[members, 1], kind="stable")]
        heights = _spread(at[members, 1], _NAME_HEIGHT)
        for i, height in zip(members.tolist(), heights, strict=True):
            ax.annotate(
                names[i],
                (x[i], y[i]),
                (at[i, 0] + (0.03 if side else -0.03), height),
                textcoords="axes fraction",
                ha="left" if side else "right",
                va="center",
                fontsize="x-small",
                color="0.25",
                arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
            )


def _spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Sorted heights between 0 and 1, moved as little as it takes to keep a gap; a smaller one where there are many.

    Examples
    --------
    >>> _spread(np.array([0.2, 0.5, 0.52, 0.9]), 0.1).round(3).tolist()
    [0.2, 0.46, 0.56, 0.9]
    """
    gap = min(gap, 1 / max(len(heights) - 1, 1))
    offsets = gap * np.arange(len(heights))
    # with the gaps taken away, heights need only not fall
    moved = isotonic_regression(heights - offsets).x if len(heights) else heights
    return np.clip(moved, 0, 1 - gap * (len(heights) - 1)) + offsets
