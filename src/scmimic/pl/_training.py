"""Training curves of any scvi-style model."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic._arguments import COUNT, TEXT, Listed
from scmimic.pl._figure import REAL_COLOR, SYNTHETIC_COLOR, check_figure, finish, make_axes, plain, plain_frame

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SETS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_COLORS = {"train": "#1f77b4", "validation": "#ff7f0e", "test": "#279e68", "": "#1f77b4"}
_SET_PATTERN = re.compile(r"(?:^|_)(train|validation|val|test)(?=_|$)")
_OTHER_COLOR = "#e8a735"
_ALL = "all"
_PLAYERS = "losses of the players"

_NATS = "nats per cell"
# What panels are called and what their values are, by the name of the record.
_TITLES = {
    "loss": ("loss", ""),
    "elbo": ("negative ELBO", "−get_elbo(), nats"),
    "reconstruction_loss": ("reconstruction loss", _NATS),
    "kl_local": ("KL of the codes", _NATS),
    "cell_type_loss": ("cell-type loss, $L_{CT}$", "squared, of logits"),
    "classifier_loss": ("classifier loss", _NATS),
    "classifier_accuracy": ("classifier accuracy", "share of cells"),
    "accuracy": ("accuracy", "share of cells"),
    "label_loss": ("label loss", _NATS),
    "mutual_information": ("mutual information", "nats"),
    "total_correlation": ("total correlation", "nats"),
    "dimension_wise_kl": ("dimension-wise KL", "nats"),
    "wasserstein": ("Wasserstein estimate", "critic's scores"),
    "gradient_penalty": ("gradient penalty", "(norm − 1)²"),
    "gradient_norm": ("slope of the critic", "norm"),
    "random_forest_error": ("random-forest error", "% (50: cannot tell)"),
    "inception_score": ("inception score", "score"),
    "code_faithfulness": ("code faithfulness", "median correlation"),
}
# Those of ACTIVA have letters in its paper and guide.
_LETTERS = {"reconstruction_loss": "$L_{AE}$", "kl_local": "$L_{REG}$"}
# Curves that say something beside each other: the title, the unit, and what each record is called.
_TOGETHER: tuple[tuple[str, str, dict[str, tuple[str, str]]], ...] = (
    (
        _PLAYERS,
        _NATS,
        {
            "loss_encoder": ("encoder, $L_{Enc}$", REAL_COLOR),
            "loss_generator": ("generator, $L_{Gen}$", SYNTHETIC_COLOR),
        },
    ),
    (
        _PLAYERS,
        "critic's scores",
        {"critic_loss": ("critic", REAL_COLOR), "generator_loss": ("generator", SYNTHETIC_COLOR)},
    ),
    (
        "KL of the codes, $L_{REG}$",
        _NATS,
        {
            "kl_local": ("real", REAL_COLOR),
            "kl_reconstructed": ("reconstructed", _OTHER_COLOR),
            "kl_generated": ("generated", SYNTHETIC_COLOR),
            "m": ("hinge, $m$", "0.45"),
        },
    ),
)
# Repeats of other records: the first is left out where the second is there.
_REPEATS = {"loss": "loss_encoder", "kl_real": "kl_local"}
# Records that only the game of ACTIVA has.
_GAME = "loss_encoder"
# Settings, not losses: of interest where they change.
_SETTINGS = {"kl_weight", "m"}

# Losses that are 0 at best, and shares: how far they are from it is what counts.
_FROM_ZERO = {
    "cell_type_loss",
    "classifier_loss",
    "label_loss",
    "gradient_penalty",
    "kl_local",
    "classifier_accuracy",
    "accuracy",
}
# Every other panel spans at least this part of its largest value, or noise would fill it.
_LEAST_SPAN = 0.2
# Names of a legend that are looked for room among the curves, and height of a row of it in parts of the panel.
_FEW_NAMES, _ROW_HEIGHT = 3, 0.1

_Groups = dict[str, dict[str, tuple[str, pd.Series]]]


@dataclass(frozen=True)
class _Curve:
    label: str | None
    values: pd.Series
    color: str
    linewidth: float = 1.6
    linestyle: str = "-"


@dataclass(frozen=True)
class _Panel:
    title: str
    unit: str
    curves: list[_Curve]
    from_zero: bool = False

    @property
    def values(self) -> np.ndarray:
        return np.concatenate([curve.values.to_numpy(dtype=float) for curve in self.curves])

    @property
    def changes(self) -> bool:
        """Whether there is a curve to see; of a single epoch nothing can be said."""
        return any(len(curve.values) == 1 or np.ptp(curve.values.to_numpy(dtype=float)) > 0 for curve in self.curves)


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
    """Draw the course of a training: the losses of the players, the parts of the ELBO, and what else changes.

    Training and validation curves of one loss (`elbo_train` and `elbo_validation`, `train_loss` and `validation_loss`)
    share a panel, and so do the losses of two players, and the KL of real and generated cells. Left out are records
    that never change, values of single steps, and records that repeat another; `keys="all"` draws them too. A dotted
    line marks the end of ACTIVA's warm-up.

    An axis is logarithmic where all its values are positive and span more than two decades. Of the others, those of
    losses that are 0 at best begin there (cell-type loss, classifier, labels, gradient penalty, KL of the codes), and
    so do shares of cells; all others span at least a fifth of their largest value. What hardly changes is thus a level
    line, and no drama.

    What scvi-tools records as `elbo` is the loss, which falls: the negative ELBO. `model.get_elbo()` is the ELBO.

    Parameters
    ----------
    model_or_history
        A trained model, or its `history`: a dict from name to a DataFrame indexed by epoch, as scvi-tools keeps it.
    keys
        Panels to draw, by the name of the loss (`"elbo"`) or of one record (`"elbo_train"`); `"all"` for every record
        in a panel of its own, and those that matter by default.
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

    See Also
    --------
    scmimic.train.RealismCallback : Realism while a model trains.

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
    groups = _group(history)
    if keys is None or keys == _ALL:
        if not groups:
            raise ValueError(f"The training history holds no finite value: {list(history)}.")
        panels = _overview(groups) if keys is None else [_alone(name, curves) for name, curves in groups.items()]
    else:
        panels = [_alone(name, groups[name]) for name in _select(groups, keys, list(history))]
    fig, axes = make_axes(len(panels), ax, n_cols=n_cols, panel_size=(3.2, 2.6), figsize=figsize)
    for part, panel in zip(axes, panels, strict=True):
        _draw(part, panel)
    _span(axes, panels)
    _mark_warmups(axes, panels, groups)
    for part in axes:
        _legend(part)
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


def _group(history: Mapping[str, Any]) -> _Groups:
    """Loss -> set -> (record's name, finite values by epoch), in the order of the records but with the loss first."""
    groups: _Groups = {}
    for key, record in history.items():
        column = record.iloc[:, 0] if isinstance(record, pd.DataFrame) else pd.Series(record)
        values = pd.to_numeric(column, errors="coerce").replace([np.inf, -np.inf], np.nan).dropna()
        if values.empty:
            continue
        name, which = _parse(key)
        if which in groups.get(name, {}):
            name = key
        groups.setdefault(name, {})[which] = (key, values)
    order = list(_COLORS)
    return {
        name: dict(sorted(groups[name].items(), key=lambda item: order.index(item[0])))
        for name in sorted(groups, key=lambda name: name != "loss")
    }


def _select(groups: _Groups, keys: str | Sequence[str], recorded: list[str]) -> list[str]:
    """The names of the losses that `keys` asks for, each once."""
    owner = {key: name for name, curves in groups.items() for key, _ in curves.values()}
    chosen: dict[str, None] = {}
    for key in [keys] if isinstance(keys, str) else keys:
        name = key if key in groups else owner.get(key)
        if name is None:
            raise KeyError(f"{key!r} is not in the training history, which holds {sorted({*groups, *recorded})}.")
        chosen[name] = None
    return list(chosen)


def _alone(name: str, curves: dict[str, tuple[str, pd.Series]], letter: str = "") -> _Panel:
    """The panel of one loss, with its curves in training and validation."""
    # lines no longer than a panel
    title, unit = _TITLES.get(name, (textwrap.fill(plain(name.replace("_", " ")), 28), ""))
    return _Panel(
        f"{title}, {letter}" if letter else title,
        unit or title,
        [
            _Curve(
                (which or None) if len(curves) > 1 else None,
                values,
                _COLORS[which],
                # thinner on top, since validation often hides training
                linewidth=1.2 if which == "validation" else 2.2 if len(curves) > 1 else 1.6,
            )
            for which, (_, values) in curves.items()
        ],
        name in _FROM_ZERO,
    )


def _together(title: str, unit: str, names: dict[str, tuple[str, str]], groups: _Groups) -> _Panel:
    """The panel of several losses, each in a colour of its own, validation dashed."""
    curves = [
        _Curve(
            f"{label}, {which}" if which in ("validation", "test") else label,
            values,
            color,
            linewidth=1.2 if which == "validation" else 1.8,
            linestyle="--" if which == "validation" or name in _SETTINGS else "-",
        )
        for name, (label, color) in names.items()
        if name in groups
        for which, (_, values) in groups[name].items()
    ]
    return _Panel(title, unit, curves, not _FROM_ZERO.isdisjoint(names))


def _overview(groups: _Groups) -> list[_Panel]:
    """The panels that matter: players first, then what was recorded and changes, in the order of the records."""
    names = [name for name in groups if not _is_repeat(name, groups)]
    # what is no curve of losses, such as a hinge, is drawn beside one alone
    owner = {
        name: together
        for together in _TOGETHER
        if sum(name in names and name not in _SETTINGS for name in together[2]) > 1
        for name in together[2]
    }
    letters = _LETTERS if _GAME in groups else {}
    panels: dict[str, _Panel] = {}
    for name in sorted(names, key=lambda name: owner.get(name, ("",))[0] != _PLAYERS):
        if name in owner:
            title, unit, curves = owner[name]
            panels.setdefault(title, _together(title, unit, curves, groups))
        else:
            panels[name] = _alone(name, groups[name], letters.get(name, ""))
            if not panels[name].changes or (name in _SETTINGS and np.ptp(panels[name].values) == 0):
                del panels[name]
    return list(panels.values()) or [_alone(name, curves) for name, curves in groups.items()]


def _is_repeat(name: str, groups: _Groups) -> bool:
    """Whether a record says what another one says."""
    repeated = name.removesuffix("_step") if name.endswith("_step") else _REPEATS.get(name)
    return repeated in groups


def _draw(ax: Axes, panel: _Panel) -> None:
    for curve in panel.curves:
        ax.plot(
            curve.values.index,
            curve.values.to_numpy(),
            color=curve.color,
            linewidth=curve.linewidth,
            linestyle=curve.linestyle,
            label=curve.label,
            # a line through a single point is invisible
            marker="o" if len(curve.values) == 1 else None,
            markersize=4,
        )
    low, high = panel.values.min(), panel.values.max()
    if low > 0 and high / low > 100:
        ax.set_yscale("log")
    elif panel.from_zero and low >= 0 and high > 0:
        ax.set_ylim(0, 1.05 * high)
    elif high - low < (least := _LEAST_SPAN * max(abs(low), abs(high))):
        middle = (low + high) / 2
        ax.set_ylim(middle - least / 2, middle + least / 2)
    ax.set_title(panel.title, fontsize="medium")
    ax.set(xlabel=plain(panel.curves[0].values.index.name or "epoch"), ylabel=panel.unit)
    if all(np.issubdtype(curve.values.index.dtype, np.integer) for curve in panel.curves):
        ax.locator_params(axis="x", integer=True)
    ax.margins(x=0.02)
    plain_frame(ax)


def _legend(ax: Axes) -> None:
    """Name the curves where they leave room; above them where the names are many."""
    names = ax.get_legend_handles_labels()[1]
    if len(names) > _FEW_NAMES:
        part = _ROW_HEIGHT * -(-len(names) // 2)
        scale = ax.yaxis.get_transform()
        low, high = scale.transform(ax.get_ylim())
        ax.set_ylim(top=float(scale.inverted().transform(high + (high - low) * part / (1 - part))))
        # white, so that the line of the warm-up does not run through the names
        style = {"facecolor": "white", "edgecolor": "none", "framealpha": 1, "borderaxespad": 0, "columnspacing": 1}
        ax.legend(fontsize="small", loc="upper center", ncols=2, **style)
    elif names:
        ax.legend(frameon=False, fontsize="small")


def _by_epochs(axes: Sequence[Axes], panels: Sequence[_Panel]) -> Iterator[tuple[Axes, _Panel]]:
    """The panels whose curves go by epochs."""
    for ax, panel in zip(axes, panels, strict=True):
        if all(curve.values.index.name == "epoch" for curve in panel.curves):
            yield ax, panel


def _span(axes: Sequence[Axes], panels: Sequence[_Panel]) -> None:
    """Give all panels of epochs the same range, so that what began late is seen to."""
    found = list(_by_epochs(axes, panels))
    ends = [float(end) for _, panel in found for c in panel.curves for end in (c.values.index[0], c.values.index[-1])]
    if ends and max(ends) > min(ends):
        margin = 0.02 * (max(ends) - min(ends))
        for ax, _ in found:
            ax.set_xlim(min(ends) - margin, max(ends) + margin)


def _mark_warmups(axes: Sequence[Axes], panels: Sequence[_Panel], groups: _Groups) -> None:
    """Draw a line where a game follows a warm-up; one of several trainings in a row begins each time anew."""
    played = groups.get(_GAME, {}).get("train")
    all_epochs = groups.get("elbo", {}).get("train")
    if played is None or all_epochs is None:
        return
    epochs, before = set(played[1].index), set(all_epochs[1].index)
    starts = [epoch for epoch in sorted(epochs) if epoch - 1 in before and epoch - 1 not in epochs]
    for i, (ax, _) in enumerate(_by_epochs(axes, panels)):
        for j, epoch in enumerate(starts):
            label = "end of the warm-up" if i == j == 0 else None
            ax.axvline(epoch - 0.5, color="0.35", linestyle=":", linewidth=1.2, zorder=0, label=label)
