"""Bars of what each latent dimension has to do with each factor (MichiGAN, figures S1 and S2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic import _keys
from scmimic._arguments import KEY, Choice
from scmimic._keys import OVERALL
from scmimic.cells import ANNDATA
from scmimic.pl._bars import bars_width, grouped_bars
from scmimic.pl._figure import category_palette, check_figure, finish, make_axes

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def disentanglement(
    adata: AnnData,
    *,
    key: str = _keys.DISENTANGLEMENT,
    estimator: str | None = None,
    palette: Any = None,
    ax: Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw the correlation and the mutual information of each latent dimension with each factor.

    One group of bars per dimension, one colour per factor, as figures S1 and S2 of MichiGAN; above, the absolute
    Spearman correlation, below, the normalised mutual information. A disentangled representation has one high bar of
    each colour, each in a group of its own. The titles give the gap between the highest and the second highest bar of
    a colour, averaged over the factors.

    Parameters
    ----------
    adata
        Cells with the results of :func:`scmimic.tl.disentanglement` in `.uns`; not changed.
    key
        Key of `.uns` with the results.
    estimator
        `"posterior"` or `"histogram"`: which mutual information is drawn; that of the posterior by default, where it
        is there.
    palette
        Colours by factor (dict) or in their order.
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
        If the results are not there, or not those of the estimator.
    ValueError
        If `estimator` is unknown.

    See Also
    --------
    scmimic.tl.disentanglement : Makes the scores.
    scmimic.pl.latent : The cells coloured by latents.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=5)
    >>> table = sm.tl.disentanglement(adata, use_rep="X_pca", factors=["cell_type", "library_size"])
    >>> axes = sm.pl.disentanglement(adata, show=False)
    >>> len(axes)
    2
    """
    ANNDATA.check(adata=adata)
    KEY.check(key=key)
    Choice(("posterior", "histogram"), optional=True).check(estimator=estimator)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    if key not in adata.uns:
        raise KeyError(f"`adata.uns` has no {key!r}: run `sm.tl.disentanglement(adata, ...)` first.")
    stored = adata.uns[key]
    if estimator is None:
        estimator = "posterior" if "mutual_information_posterior" in stored else "histogram"
    name = "mutual_information_posterior" if estimator == "posterior" else "mutual_information"
    if name not in stored:
        raise KeyError(f"`adata.uns[{key!r}]` has no {name!r}: run `sm.tl.disentanglement` with `use_var`.")
    latents, factors = (list(stored[part]) for part in ("latents", "factors"))
    colors = category_palette(factors, palette, name="factor")
    if figsize is None:
        figsize = (bars_width(len(latents), len(factors), factors), 4.6)
    fig, axes = make_axes(2, ax, n_cols=1, panel_size=figsize, figsize=figsize)

    panels = (
        ("absolute Spearman\ncorrelation", "spearman_gap", "Spearman gap", np.abs(stored["spearman"])),
        ("normalised mutual\ninformation", f"mig_{estimator}", f"MIG ({estimator})", stored[name]),
    )
    for panel, (label, metric, title, matrix) in zip(axes, panels, strict=True):
        # estimates of no information may come out slightly below 0
        grouped_bars(panel, np.maximum(matrix, 0), latents, colors)
        table = stored["results"]
        score = table.loc[(table["metric"] == metric) & (table["factor"] == OVERALL), "value"].iloc[0]
        panel.set(ylim=(0, 1.02), ylabel=label)
        panel.set_title(f"{title} {score:.2f}", fontsize="medium", loc="left")
    axes[1].set_xlabel("latent dimension")
    axes[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize="small")
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)
