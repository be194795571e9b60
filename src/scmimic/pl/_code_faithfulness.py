"""Bars of what generated cells show of their codes (MichiGAN, section 3.3 and figure S5b)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic import _keys
from scmimic._arguments import KEY
from scmimic.cells import ANNDATA
from scmimic.pl._bars import bars_width, grouped_bars
from scmimic.pl._figure import MISSING_COLOR, SYNTHETIC_COLOR, category_palette, check_figure, finish, make_axes

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

_BARS = {"informative": SYNTHETIC_COLOR, "mostly prior": MISSING_COLOR}


def code_faithfulness(
    adata: AnnData,
    *,
    key: str = _keys.CODE_FAITHFULNESS,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw how well generated cells show each dimension of the codes that were asked for.

    One bar per dimension: the correlation of the codes asked for with those that the cells show. The black line is the
    ceiling, what a perfect generator would reach. Dimensions that are mostly prior are grey: no cell can show them, and
    the median in the title leaves them out.

    Parameters
    ----------
    adata
        Generated cells with the results of :func:`scmimic.tl.code_faithfulness` in `.uns`; not changed.
    key
        Key of `.uns` with the results.
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
        If the results are not there.

    See Also
    --------
    scmimic.tl.code_faithfulness : Makes the table.
    scmimic.pl.code_factor_correlation : Codes against known factors.

    Examples
    --------
    >>> import scmimic as sm
    >>> import scvi
    >>> scvi.settings.verbosity = 30
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.ACTIVA.setup_anndata(adata)
    >>> model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    >>> model.train(max_epochs=2, warmup_epochs=2, enable_progress_bar=False)
    >>> cells = model.generate(50, seed=0)
    >>> table = sm.tl.code_faithfulness(cells, model)
    >>> ax = sm.pl.code_faithfulness(cells, show=False)
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['Z1', 'Z2', 'Z3', 'Z4']
    """
    ANNDATA.check(adata=adata)
    KEY.check(key=key)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    table = _table(adata, key, "code_faithfulness")
    size = (bars_width(len(table), 1, _BARS), 2.8)
    fig, (panel,) = make_axes(1, ax, n_cols=1, panel_size=size, figsize=figsize)
    pearson, informative = table["pearson"].to_numpy(), table["informative"].to_numpy(dtype=bool)
    grouped_bars(panel, pearson[:, None], list(map(str, table.index)), {"informative": SYNTHETIC_COLOR})
    for bar, known in zip(panel.patches, informative, strict=True):
        bar.set_facecolor(_BARS["informative" if known else "mostly prior"])
    edges = np.arange(len(table))[:, None] + np.array([-0.45, 0.45])
    ceiling = panel.hlines(table["ceiling"], *edges.T, color="black", linewidth=1.5, zorder=3)
    handles: dict[str, Artist] = {"ceiling": ceiling}
    for name, known in (("informative", informative), ("mostly prior", ~informative)):
        if known.any():
            handles[name] = panel.patches[int(known.argmax())]
    panel.legend(handles.values(), handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize="small")
    panel.axhline(0, color="0.3", linewidth=0.8)
    panel.set(ylim=(min(0, pearson.min()) * 1.05, 1.04), xlabel="latent dimension", ylabel="correlation")
    panel.set_title(f"code faithfulness, median {adata.uns[key]['median']:.2f}", fontsize="medium", loc="left")
    return finish(fig, panel, show=show, return_fig=return_fig, save=save)


def code_factor_correlation(
    synthetic: AnnData,
    *,
    key: str = _keys.CODE_FACTORS,
    palette: Any = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw the correlation of each dimension of the codes with the factors that the cells show (figure S5b).

    One group of bars per dimension, one colour per factor. Compare it with :func:`~scmimic.pl.disentanglement` of the
    representation on real cells: a generator that keeps the meaning of the dimensions has the same high bars.

    Parameters
    ----------
    synthetic
        Generated cells with the results of :func:`scmimic.tl.code_factor_correlation` in `.uns`; not changed.
    key
        Key of `.uns` with the results.
    palette
        Colours by factor (dict) or in their order.
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
        If the results are not there.

    See Also
    --------
    scmimic.tl.code_factor_correlation : Makes the table.
    scmimic.pl.code_faithfulness : Codes against the codes of the cells.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> real, synthetic = adata[:100].copy(), adata[100:].copy()
    >>> synthetic.obsm["X_michigan"] = np.asarray(np.log(synthetic.obs[["library_size"]]))
    >>> table = sm.tl.code_factor_correlation(real, synthetic, factors=["cell_type"])
    >>> ax = sm.pl.code_factor_correlation(synthetic, show=False)
    >>> len(ax.patches)
    1
    """
    ANNDATA.check(synthetic=synthetic)
    KEY.check(key=key)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    table = _table(synthetic, key, "code_factor_correlation")
    colors = category_palette(list(table.columns), palette, name="factor")
    size = (bars_width(len(table), len(colors), colors), 2.8)
    fig, (panel,) = make_axes(1, ax, n_cols=1, panel_size=size, figsize=figsize)
    grouped_bars(panel, table.abs().to_numpy(), list(map(str, table.index)), colors)
    panel.set(ylim=(0, 1.02), xlabel="latent dimension", ylabel="absolute Spearman\ncorrelation")
    panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize="small")
    return finish(fig, panel, show=show, return_fig=return_fig, save=save)


def _table(adata: AnnData, key: str, function: str) -> DataFrame:
    if key not in adata.uns:
        raise KeyError(f"`adata.uns` has no {key!r}: run `sm.tl.{function}(...)` on these cells first.")
    return adata.uns[key]["table"]
