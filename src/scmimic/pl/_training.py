"""Training curves of any scvi-style model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic._arguments import COUNT, TEXT, Listed
from scmimic.pl._figure import check_figure, finish, make_axes, plain, plain_frame

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SETS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_COLORS = {"train": "#1f77b4", "validation": "#ff7f0e", "test": "#279e68", "": "#1f77b4"}
_SET_PATTERN = re.compile(r"(?:^|_)(train|validation|val|test)(?=_|$)")


def training(
    model_or_history: Any,
    *,
    keys: str | Sequence[str] | None = None,
    n_cols: int = 4,
    title: str | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    figsize: tuple[float, float] | None = None,
    show: bool | None = None,
    return_fig: bool = False,
    save: str | Path | None = None,
) -> Figure | list[Axes] | None:
    """Draw every loss that was recorded during training, one panel per loss.

    Training and validation curves of one loss (`elbo_train` and `elbo_validation`, `train_loss_epoch` and
    `validation_loss`) share a panel. An axis is logarithmic where all its values are positive and span more than two
    decades.

    Parameters
    ----------
    model_or_history
        A trained model, or its `history`: a dict from name to a DataFrame indexed by epoch, as scvi-tools keeps it.
    keys
        Panels to draw, by the name of the loss (`"elbo"`) or of one record (`"elbo_train"`); all by default.
    n_cols
        Panels per row.
    title
        Title of the figure.
    ax
        Axes to draw into, one per panel; new ones by default.
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
    ValueError
        If there is no history, as before training.
    KeyError
        If a key was not recorded.

    Examples
    --------
    >>> import pandas as pd
    >>> import scmimic as sm
    >>> history = {
    ...     "elbo_train": pd.DataFrame({"elbo_train": [9.0, 5.0, 4.0]}),
    ...     "elbo_validation": pd.DataFrame({"elbo_validation": [9.5, 6.0, 5.0]}),
    ... }
    >>> axes = sm.pl.training(history, show=False)
    >>> len(axes)
    1
    """
    Listed(TEXT, alone=True, optional=True).check(keys=keys)
    COUNT.check(n_cols=n_cols)
    TEXT.or_none.check(title=title)
    check_figure(figsize=figsize, show=show, return_fig=return_fig, save=save)
    history = model_or_history if isinstance(model_or_history, Mapping) else getattr(model_or_history, "history", None)
    if not history:
        raise ValueError("There is no training history: train the model first, or pass a dict of DataFrames.")
    panels = _select(_group(history), keys, list(history))
    fig, axes = make_axes(len(panels), ax, n_cols=n_cols, panel_size=(3.1, 2.6), figsize=figsize)
    for panel, (name, curves) in zip(axes, panels.items(), strict=True):
        _draw(panel, name, curves)
    if title is not None:
        if ax is None:
            fig.suptitle(title)
        else:
            axes[0].set_title(f"{title}\n{axes[0].get_title()}")
    return finish(fig, axes, show=show, return_fig=return_fig, save=save)


def _parse(key: str) -> tuple[str, str]:
    """Split a record's name into loss and set: `"train_loss_epoch"` is `("loss", "train")`."""
    match = _SET_PATTERN.search(key)
    which = _SETS[match.group(1)] if match else ""
    name = (key[: match.start()] + key[match.end() :]).strip("_") if match else key
    return (name.removesuffix("_epoch") or key), which


def _group(history: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, pd.Series]]]:
    """Loss -> set -> (record's name, finite values by epoch), in the order of the records but with the loss first."""
    groups: dict[str, dict[str, tuple[str, pd.Series]]] = {}
    for key, record in history.items():
        column = record.iloc[:, 0] if isinstance(record, pd.DataFrame) else pd.Series(record)
        values = pd.to_numeric(column, errors="coerce").replace([np.inf, -np.inf], np.nan).dropna()
        if values.empty:
            continue
        name, which = _parse(key)
        if which in groups.get(name, {}):
            name = key
        groups.setdefault(name, {})[which] = (key, values)
    return dict(sorted(groups.items(), key=lambda item: item[0] != "loss"))


def _select(groups: dict[str, Any], keys: str | Sequence[str] | None, recorded: list[str]) -> dict[str, Any]:
    if keys is None:
        if not groups:
            raise ValueError(f"The training history holds no finite value: {recorded}.")
        return groups
    owner = {key: name for name, curves in groups.items() for key, _ in curves.values()}
    chosen: dict[str, Any] = {}
    for key in [keys] if isinstance(keys, str) else keys:
        name = key if key in groups else owner.get(key)
        if name is None:
            raise KeyError(f"{key!r} is not in the training history, which holds {sorted({*groups, *recorded})}.")
        chosen[name] = groups[name]
    return chosen


def _draw(ax: Axes, name: str, curves: dict[str, tuple[str, pd.Series]]) -> None:
    for which, (_, values) in curves.items():
        ax.plot(
            values.index,
            values.to_numpy(),
            color=_COLORS[which],
            # thinner on top, since validation often hides training
            linewidth=1.2 if which == "validation" else 2.2 if len(curves) > 1 else 1.6,
            label=which or None,
            # a line through a single point is invisible
            marker="o" if len(values) == 1 else None,
            markersize=4,
        )
    everything = np.concatenate([values.to_numpy(dtype=float) for _, values in curves.values()])
    if everything.min() > 0 and everything.max() / everything.min() > 100:
        ax.set_yscale("log")
    index = next(iter(curves.values()))[1].index.name
    ax.set_title(plain(name.replace("_", " ")), fontsize="medium")
    ax.set_xlabel(plain(index or "epoch"))
    if all(np.issubdtype(values.index.dtype, np.integer) for _, values in curves.values()):
        ax.locator_params(axis="x", integer=True)
    ax.margins(x=0.02)
    plain_frame(ax)
    if len(curves) > 1:
        ax.legend(frameon=False, fontsize="small")
