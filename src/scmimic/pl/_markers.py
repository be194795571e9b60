"""Marker genes of each cell type, real beside synthetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scmimic._arguments import COLUMN, COUNT, FLAG, LAYER, POSITIVE, SEED, TEXT, Listed
from scmimic._arrays import Matrix, as_dense, column_variance
from scmimic.cells import ANNDATA, label_array, label_column, read_both, unit_name
from scmimic.pl._figure import REAL_COLOR, SYNTHETIC_COLOR, TITLES, check_figure, finish, make_axes, plain, plain_frame

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MARKED_COLOR = "0.9"


def markers(
    adata: AnnData,
    synthetic: AnnData,
    *,
    labels_key: str,
    genes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    n_genes: int = 1,
    layer: str | None = None,
    log1p: bool = True,
    target_sum: float = 1e4,
    max_cells: int = 5000,
    seed: int = 0,
    titles: tuple[str, str] = ("Real", "Synthetic"),
    ax: Axes | Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw violins of marker genes in every cell type: real cells on the left of each, synthetic ones on the right.

    One row per gene, one violin per type, of equal width; a line marks the mean of each half. The type that a gene
    marks stands right of its row, and is shaded in it. A type that is absent, or a gene that is 0 in all its cells, has
    no half there.

    Parameters
    ----------
    adata, synthetic
        Real and synthetic cells with the same genes in the same order; neither is changed.
    labels_key
        Column of `.obs` of both with the cell types.
    genes
        Genes to draw, as a list, or as a dict from a type to its markers. By default the markers of the real cells: for
        each type its `n_genes` highest genes in :func:`scanpy.tl.rank_genes_groups` (t-test against all other cells),
        at least twice as high as elsewhere where there are such genes.
    n_genes
        Markers per type where `genes` is left out.
    layer
        Layer of the real cells; `.X` by default. Where `synthetic` has no such layer, its `.X` is taken.
    log1p
        Scale every cell to `target_sum` and take log(1 + x): right for counts and for linear values of any scale.
        `False` takes the values as they are: right for values already logged.
    target_sum
        Total per cell before the logarithm.
    max_cells
        Cells per side and type, drawn at random where there are more.
    seed
        Seed of that draw.
    titles
        Names of the two sides.
    ax
        Axes to draw into, one per gene; new ones by default.
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
    The figure if `return_fig`, nothing if shown, the list of axes otherwise.

    Raises
    ------
    KeyError
        If the labels, the layer, a gene or a type of `genes` are not there.
    ValueError
        If the genes or the units of the two sides differ, a label is missing, there is nothing to draw, or there are
        negative values with `log1p`.

    See Also
    --------
    scmimic.pl.gene_statistics : All genes at once.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200)
    >>> axes = sm.pl.markers(adata[:100], adata[100:], labels_key="cell_type", show=False)
    >>> len(axes)
    3
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    COLUMN.check(labels_key=labels_key)
    if isinstance(genes, Mapping):
        genes = {name: [of] if isinstance(of, str) else of for name, of in genes.items()}
        Listed(TEXT, least=0).check(**{f"genes[{name!r}]": of for name, of in genes.items()})
    else:
        Listed(TEXT, optional=True).check(genes=genes)
    COUNT.check(n_genes=n_genes, max_cells=max_cells)
    LAYER.check(layer=layer)
    FLAG.check(log1p=log1p)
    POSITIVE.check(target_sum=target_sum)
    SEED.check(seed=seed)
    TITLES.check(titles=titles)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    real, fake = read_both(adata, synthetic, layer, log1p=log1p, target_sum=target_sum)
    labels = (label_array(adata, labels_key), label_array(synthetic, labels_key, "synthetic", like=adata))
    types = _types(adata, labels_key, labels)
    marked: dict[str, list[str]] = {}
    if genes is None:
        genes = _find_markers(real, labels[0], types, adata.var_names, n_genes)
    if isinstance(genes, Mapping):
        if unknown := [name for name in genes if name not in types]:
            raise KeyError(f"These types of `genes` are not in {labels_key!r}: {unknown[:5]}. It has {types}.")
        for name, of in genes.items():
            for gene in of:
                marked.setdefault(gene, []).append(name)
        genes = [gene for of in genes.values() for gene in of]
    if missing := [gene for gene in genes if gene not in adata.var_names]:
        raise KeyError(f"These `genes` are not in `adata.var_names`: {missing[:5]}.")
    genes = list(dict.fromkeys(genes))
    if not genes:
        raise ValueError("There is no gene to draw: give `genes`, or raise `n_genes`.")

    rng = np.random.default_rng(seed)
    columns = adata.var_names.get_indexer(genes)
    values = [_by_type(x, columns, side, types, max_cells, rng) for x, side in zip((real, fake), labels, strict=True)]
    width = float(np.clip(0.75 * len(types), 5.5, 16))
    names = [plain(name) for name in types]
    longest = max(map(len, names))
    long_names = longest * 0.09 > 0.75
    height = 0.75 * len(genes) + 0.5 + (0.07 * longest if long_names else 0.2)
    # the types that genes mark stand right of the rows
    width_of_names = 0.8 + (0.075 * longest if marked else 0)
    fig, axes = make_axes(
        len(genes), ax, n_cols=1, panel_size=(width, 0.8), figsize=figsize or (width + width_of_names, max(height, 1.8))
    )
    for row, (panel, gene) in enumerate(zip(axes, genes, strict=True)):
        for name in marked.get(gene, []):
            at = types.index(name)
            panel.axvspan(at - 0.5, at + 0.5, color=_MARKED_COLOR, linewidth=0, zorder=0)
        if gene in marked:
            text = "\n".join(map(plain, marked[gene]))
            panel.annotate(
                text, (1, 0.5), (6, 0), "axes fraction", "offset points", va="center", fontsize="x-small", color="0.3"
            )
        for side, color, sign in ((values[0], REAL_COLOR, -1), (values[1], SYNTHETIC_COLOR, 1)):
            for position, name in enumerate(types):
                if name in side:
                    _half_violin(panel, side[name][:, row], position, sign, color)
        panel.set(xlim=(-0.55, len(types) - 0.45), xticks=range(len(types)), xticklabels=[])
        panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]) if not log1p else 0)
        panel.set_ylabel(plain(gene), rotation=0, ha="right", va="center", style="italic")
        panel.tick_params(axis="y", labelsize="x-small")
        # large values would have their power of ten in the legend
        panel.yaxis.set_major_formatter("{x:g}")
        plain_frame(panel)
    if long_names:
        axes[-1].set_xticklabels(names, rotation=45, ha="right", rotation_mode="anchor")
    else:
        axes[-1].set_xticklabels(names)
    if unit := "log1p" if log1p else unit_name(adata, layer):
        axes[0].set_title(f"expression, {unit}", loc="left", fontsize="small")
    handles: list[Artist] = [
        Patch(color=c, label=plain(t)) for c, t in zip((REAL_COLOR, SYNTHETIC_COLOR), titles, strict=True)
    ]
    handles.append(Line2D([], [], color="black", linewidth=1, label="mean"))
    if marked:
        handles.append(Patch(color=_MARKED_COLOR, label="marked type"))
    axes[0].legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(handles),
        handlelength=1.2,
        columnspacing=1,
        frameon=False,
        fontsize="small",
        borderaxespad=0,
    )
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)


def _types(adata: AnnData, labels_key: str, labels: tuple[np.ndarray, np.ndarray]) -> list[str]:
    """All types of either side: categories in their order, those of the real cells first."""
    present = set(labels[0]) | set(labels[1])
    ordered = [*label_column(adata, labels_key)[0].names, *np.unique(labels[1])]
    return [name for name in dict.fromkeys(ordered) if name in present]


def _find_markers(
    x: Matrix, labels: np.ndarray, types: list[str], names: pd.Index, n_genes: int
) -> list[str] | dict[str, list[str]]:
    """The `n_genes` best markers of each type among the real cells, none twice, in the order of the types.

    A type alone has no markers: of it, the genes that vary most.
    """
    counts = pd.Series(labels).value_counts()
    groups = [name for name in types if counts.get(name, 0) >= 2]
    if len(groups) < 2:
        return [names[i] for i in np.argsort(-column_variance(x), kind="stable")[:n_genes]]
    # the fields of its result cannot have every name that a type can
    numbers = {name: str(i) for i, name in enumerate(types)}
    column = pd.Categorical([numbers[label] for label in labels])
    cells = AnnData(x, obs=pd.DataFrame({"type": column}, index=pd.RangeIndex(len(labels)).astype(str)))
    # fold changes of values that are no logarithms are beyond floats
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sc.tl.rank_genes_groups(
            cells, "type", groups=[numbers[name] for name in groups], method="t-test", n_genes=min(len(names), 50)
        )
    ranked = cells.uns["rank_genes_groups"]
    chosen: dict[str, list[str]] = {}
    taken: set[str] = set()
    for name in groups:
        group = numbers[name]
        # at least twice as high as elsewhere where there are such genes: scores favour abundant genes
        order = np.argsort(ranked["logfoldchanges"][group] < 1, kind="stable")
        best = [gene for gene in ranked["names"][group][order] if gene not in taken][:n_genes]
        taken.update(best)
        chosen[name] = [names[int(gene)] for gene in best]
    return chosen


def _by_type(
    x: Matrix, columns: np.ndarray, labels: np.ndarray, types: list[str], max_cells: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Values of the drawn genes in the cells of each type that is there."""
    x = as_dense(x[:, columns])
    cells = {name: np.flatnonzero(labels == name) for name in types}
    return {name: x[rng.permutation(rows)[:max_cells]] for name, rows in cells.items() if len(rows)}


def _half_violin(ax: Axes, values: np.ndarray, position: int, sign: int, color: str) -> None:
    if not values.any():
        return
    # a list, which matplotlib's types take for one collection
    bodies: Any = ax.violinplot(values, positions=[position], widths=0.9, showextrema=False, points=100)["bodies"]
    (body,) = bodies
    outline = body.get_paths()[0].vertices
    inside = (position, np.inf) if sign > 0 else (-np.inf, position)
    outline[:, 0] = np.clip(outline[:, 0], *inside)
    body.set(facecolor=color, edgecolor="none", alpha=0.85)
    left, right = sorted((position, position + 0.25 * sign))
    ax.hlines(values.mean(), left, right, color="black", linewidth=1)
