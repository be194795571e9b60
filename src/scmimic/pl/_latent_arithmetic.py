"""Predicted, real and control cells of a combination on one map (MichiGAN, figure 5)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from scmimic import _keys
from scmimic._arguments import FLAG, KEY, POSITIVE, PROBABILITY, SEED, TEXT
from scmimic.cells import ANNDATA, label_array
from scmimic.pl._embedding import joint_coordinates
from scmimic.pl._figure import (
    CONTROL_COLOR,
    MISSING_COLOR,
    REAL_COLOR,
    SYNTHETIC_COLOR,
    category_palette,
    check_figure,
    finish,
    make_axes,
    plain,
)
from scmimic.pl._points import frame

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {"control": CONTROL_COLOR, "real": REAL_COLOR, "predicted": SYNTHETIC_COLOR}


def latent_arithmetic(
    adata: AnnData,
    predicted: AnnData,
    *,
    basis: str = "umap",
    key: str = _keys.LATENT_ARITHMETIC,
    palette: Mapping[str, Any] | None = None,
    size: float | None = None,
    background_size: float | None = None,
    alpha: float = 0.7,
    title: str | None = None,
    rasterized: bool = True,
    seed: int = 0,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | Axes | None:
    """Draw predicted cells of a combination beside its real cells and the control cells they were made from.

    All other real cells are grey. Predicted cells should lie on the real ones, and not on the control cells. Without
    real cells of the combination two of the three remain.

    Parameters
    ----------
    adata
        Real cells, with those of the combination where there are any.
    predicted
        Cells of :func:`~scmimic.tl.latent_arithmetic`, placed by `sm.tl.joint_embedding(adata, predicted)`, which fits
        on the real cells. Neither is changed.
    basis
        `"umap"`, `"tsne"` or `"pca"` of the joint embedding, or another key that `.obsm` of both has.
    key
        Key in `predicted.uns` of the record of the prediction.
    palette
        Colours of `"predicted"`, `"real"` and `"control"`: red, blue and yellow by default.
    size, background_size
        Point areas of these cells and of all others in points squared; by their numbers by default.
    alpha
        Opacity of the points.
    title
        Title; the combination and its delta-H by default.
    rasterized
        Draw points as pixels in vector files.
    seed
        Seed of the order in which cells are drawn, so that none systematically hides another.
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
        If `predicted.uns` has no such record, a column is missing, or the embedding is missing in one of the objects.
    ValueError
        If `palette` names something else.

    See Also
    --------
    scmimic.tl.latent_arithmetic : Makes the cells.
    scmimic.pl.holdout_arithmetic : All combinations.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30, n_batches=2)
    >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    >>> model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    >>> new = sm.tl.latent_arithmetic(
    ...     adata, model, group_key="cell_type", condition_key="batch", target=("type_0", "batch_1"), seed=0
    ... )
    >>> sm.tl.joint_embedding(adata, new, basis="pca")
    >>> ax = sm.pl.latent_arithmetic(adata, new, basis="pca", show=False)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['predicted', 'real', 'control']
    """
    ANNDATA.check(adata=adata, predicted=predicted)
    TEXT.check(basis=basis)
    KEY.check(key=key)
    POSITIVE.or_none.check(size=size, background_size=background_size)
    PROBABILITY.check(alpha=alpha)
    TEXT.or_none.check(title=title)
    FLAG.check(rasterized=rasterized)
    SEED.check(seed=seed)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    record = predicted.uns.get(key)
    if not isinstance(record, Mapping) or "controls" not in record:
        raise KeyError(f"`predicted.uns` has no {key!r}: pass the cells that `sm.tl.latent_arithmetic` returned.")
    if unknown := [name for name in palette or {} if name not in _COLORS]:
        raise ValueError(f"`palette` has colours of {unknown}, but what is drawn is called {list(_COLORS)}.")
    colors = _COLORS | category_palette(list(palette or {}), palette, name="palette")
    params = record["params"]
    group, condition = (str(name) for name in params["target"])
    groups, conditions = (label_array(adata, params[name]) for name in ("group_key", "condition_key"))
    real, new = joint_coordinates(adata, predicted, basis, name="predicted")
    in_group, treated = groups == group, conditions == condition
    if params.get("shift") == "group":
        moved = treated & np.isin(groups, np.asarray(record["reference_groups"], dtype=str))
    else:
        moved = in_group & np.isin(conditions, np.asarray(record["controls"], dtype=str))
    parts = {
        "control": real[moved],
        "real": real[in_group & treated],
        "predicted": new,
    }
    n_points = sum(map(len, parts.values()))
    if size is None:
        size = float(np.clip(12_000 / n_points, 2, 16))
    if background_size is None:
        background_size = float(np.clip(8_000 / adata.n_obs, 0.8, 8))

    fig, (panel,) = make_axes(1, ax, n_cols=1, panel_size=(4.6, 3.7), figsize=figsize)
    panel.scatter(real[:, 0], real[:, 1], c=MISSING_COLOR, s=background_size, linewidths=0, rasterized=rasterized)
    order = np.random.default_rng(seed).permutation(n_points)
    xy = np.vstack(list(parts.values()))[order]
    color = np.repeat([colors[name] for name in parts], [len(part) for part in parts.values()])[order]
    panel.scatter(xy[:, 0], xy[:, 1], c=color, s=size, alpha=alpha, linewidths=0, rasterized=rasterized)
    if title is None:
        # the layout makes no room for titles that are wider than the panel
        title = textwrap.fill(f"{plain(group)}, {plain(condition)}", 36, break_long_words=False)
        if np.isfinite(record["delta_entropy"]):
            of = "" if record["delta_entropy_of"] == "target" else " (references)"
            title += f"\nΔH = {record['delta_entropy']:.2f}{of}"
    frame([panel], np.vstack([real, new]), basis, [title])
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=6, markeredgewidth=0, color=colors[name], label=name)
        for name in reversed(parts)
        if len(parts[name])
    ]
    panel.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        handletextpad=0.1,
        fontsize="small",
    )
    return finish(fig, panel, show=show, return_fig=return_fig, save=save)
