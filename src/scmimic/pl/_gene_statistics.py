"""Mean, variance, zeros and correlations of the genes, real against synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from scmimic._arguments import COUNT, FLAG, LAYER, POSITIVE, SEED
from scmimic._arrays import Matrix, as_dense, subsample
from scmimic.cells import ANNDATA, read_both, unit_name
from scmimic.metrics import gene_statistics_distance
from scmimic.pl._figure import (
    REAL_COLOR,
    SYNTHETIC_COLOR,
    TITLES,
    check_figure,
    finish,
    legend_below,
    log_ticks,
    make_axes,
    plain,
    plain_frame,
)
from scmimic.pl._points import color_bar

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Genes of each point of a median line, and the fewest that have one.
_GROUP, _FEWEST = 10, 40
# A broken line over a broad one: where they are one, both are seen.
_LINES = ({"linewidth": 3.2}, {"linewidth": 1.8, "linestyle": (0, (2.5, 1.5))})


def gene_statistics(
    adata: AnnData,
    synthetic: AnnData,
    *,
    layer: str | None = None,
    log1p: bool = True,
    target_sum: float = 1e4,
    max_genes: int = 200,
    max_cells: int = 5000,
    seed: int = 0,
    titles: tuple[str, str] = ("Real", "Synthetic"),
    cmap: Any = "viridis",
    rasterized: bool = True,
    ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw variance against mean, zero fractions and gene-gene correlations of real and synthetic cells.

    One point per gene in the first two panels, and in the first lines at the medians of genes of one mean. Synthetic
    points that lie below the real ones in the first panel mean smooth output, points below the diagonal of the second
    too few zeros. The third panel counts pairs of genes: a cloud
    flatter than the diagonal means that genes are correlated more weakly than in real cells. Genes that are the same in
    all cells of a side, such as those that no cell expresses, have no place on the logarithmic axes of the first panel;
    the legend below says how many these are.

    Parameters
    ----------
    adata, synthetic
        Real and synthetic cells with the same genes in the same order; neither is changed.
    layer
        Layer of the real cells; `.X` by default. Where `synthetic` has no such layer, its `.X` is taken.
    log1p
        Scale every cell to `target_sum` and take log(1 + x): right for counts and for linear values of any scale.
        `False` takes the values as they are.
    target_sum
        Total per cell before the logarithm.
    max_genes
        Genes of the third panel: those of highest variance in the real cells.
    max_cells
        Cells per side, drawn at random where there are more.
    seed
        Seed of that draw.
    titles
        Names of the two sides.
    cmap
        Colour map of the third panel.
    rasterized
        Draw points as pixels in vector files, which stay small then.
    ax
        Three axes to draw into; new ones by default.
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
    The figure if `return_fig`, nothing if shown, the list of the three axes otherwise.

    Raises
    ------
    ValueError
        If the genes or the units differ, values are missing, or negative with `log1p`.
    KeyError
        If `layer` is not in `adata`.

    See Also
    --------
    scmimic.metrics.gene_statistics_distance : The same in numbers.
    scmimic.metrics.correlation_distance : Correlations in numbers.
    scmimic.pl.markers : One gene for each type.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200)
    >>> axes = sm.pl.gene_statistics(adata[:100], adata[100:], show=False)
    >>> len(axes)
    3
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    LAYER.check(layer=layer)
    FLAG.check(log1p=log1p)
    POSITIVE.check(target_sum=target_sum)
    COUNT.check(max_genes=max_genes, max_cells=max_cells)
    SEED.check(seed=seed)
    TITLES.check(titles=titles)
    FLAG.check(rasterized=rasterized)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    rng = np.random.default_rng(seed)
    both = read_both(adata, synthetic, layer, log1p=log1p, target_sum=target_sum)
    real, fake = (subsample(x, max_cells, rng) for x in both)
    stats = gene_statistics_distance(real, fake)
    fig, axes = make_axes(3, ax, n_cols=3, panel_size=(4.1, 4.0), figsize=figsize, layout="compressed")
    point: dict[str, Any] = {"s": 7, "linewidths": 0, "rasterized": rasterized}

    spread, zeros, correlation = axes
    unit = "log1p" if log1p else unit_name(adata, layer)
    mean = np.r_[stats.real_mean, stats.synthetic_mean]
    variance = np.r_[stats.real_variance, stats.synthetic_variance]
    of_side = np.repeat([0, 1], adata.n_vars)
    seen = (mean > 0) & (variance > 0)
    # in random order, so that neither side hides the other
    order = rng.permutation(np.flatnonzero(seen))
    colors = np.array([REAL_COLOR, SYNTHETIC_COLOR])
    spread.scatter(mean[order], variance[order], c=colors[of_side[order]], alpha=0.45, **point)
    handles = []
    for side, title in enumerate(titles):
        drawn = seen & (of_side == side)
        n_left_out = adata.n_vars - int(drawn.sum())
        genes_left_out = f"{n_left_out:,} gene{'s' * (n_left_out > 1)}"
        label = f"{plain(title)} (without {genes_left_out} equal in all cells)" if n_left_out else plain(title)
        style: dict[str, Any] = {"color": colors[side], **_LINES[side]}
        spread.plot(*_median_line(mean[drawn], variance[drawn]), zorder=3 + side, **style)
        handles.append(Line2D([], [], marker="o", markersize=5, markeredgewidth=0, label=label, **style))
    if any(np.size(line.get_xdata()) for line in spread.lines):
        handles.append(Line2D([], [], color="0.4", linewidth=2, label="lines: medians of genes of similar mean"))
    of_unit = f", {unit}" if unit else ""
    spread.set(
        xscale="log",
        yscale="log",
        title="Mean and variance",
        xlabel=f"mean of a gene{of_unit}",
        ylabel=f"variance of a gene{of_unit}",
    )
    if seen.any():
        log_ticks(spread.xaxis, mean[seen].min(), mean[seen].max())
        log_ticks(spread.yaxis, variance[seen].min(), variance[seen].max())
    legend_below(spread, handles, [str(handle.get_label()) for handle in handles])

    zeros.scatter(
        stats.real_zero_fraction, stats.synthetic_zero_fraction, color=SYNTHETIC_COLOR, alpha=0.5, zorder=2, **point
    )
    _diagonal(zeros, (-0.03, 1.03), "share of zeros", titles)
    zeros.set_title("Zeros per gene")

    genes = np.sort(np.argsort(-stats.real_variance, kind="stable")[:max_genes])
    genes = genes[(stats.real_variance[genes] > 0) & (stats.synthetic_variance[genes] > 0)]
    pairs = [_correlations(x, genes) for x in (real, fake)]
    low, high = -1.0, 1.0
    if len(pairs[0]):
        low, high = min(p.min() for p in pairs), max(p.max() for p in pairs)
        margin = 0.05 * (high - low) or 0.05
        low, high = low - margin, high + margin
        pairs_there = correlation.hexbin(
            *pairs, gridsize=45, bins="log", mincnt=1, linewidths=0, cmap=cmap, extent=(low, high, low, high)
        )
        pairs_there.set_rasterized(rasterized)
        color_bar(correlation, pairs_there, "pairs of genes")
    _diagonal(correlation, (low, high), "correlation", titles)
    correlation.set_title(f"Correlations of {len(genes)} genes")
    for panel in axes:
        panel.set_box_aspect(1)
        plain_frame(panel)
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)


def _median_line(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medians of both over genes of about the same mean; nothing of a few genes."""
    order = np.argsort(mean, kind="stable")
    groups = np.array_split(order, min(len(order) // _GROUP, 25)) if len(order) >= _FEWEST else []
    return np.array([np.median(mean[group]) for group in groups]), np.array([np.median(variance[g]) for g in groups])


def _correlations(x: Matrix, genes: np.ndarray) -> np.ndarray:
    """Pearson correlation of every pair of `genes`, each pair once."""
    r = np.corrcoef(as_dense(x[:, genes]), rowvar=False)
    return np.atleast_2d(r)[np.triu_indices(len(genes), 1)]


def _diagonal(ax: Axes, limits: tuple[float, float], what: str, titles: tuple[str, str]) -> None:
    ax.plot(limits, limits, color="0.4", linestyle="--", linewidth=1, zorder=3)
    # a name of its own, such as that of a model, keeps its letters
    real, synthetic = (f"{what}, {plain(title.lower() if title.istitle() else title)}" for title in titles)
    ax.set(xlim=limits, ylim=limits, xlabel=real, ylabel=synthetic)
