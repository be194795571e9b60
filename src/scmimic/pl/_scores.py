"""Calibrated scores as points between two yardsticks: what the pictures of evaluations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT, CARETRIGHT

from scmimic.pl._figure import legend_below, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

LARGE, SMALL = 55, 20
"""Areas of the points in points squared."""
_ALPHA = 0.6
# Arrows whose tip is at the edge, so that they lie within the axes.
_BELOW: Any = CARETLEFT
_ABOVE: Any = CARETRIGHT
_GREY = "0.35"


class Scores:
    """A line of points for each name, and what the points mean.

    Scores beyond the limits are arrows at the edge. The number of a large one stands outside, where no point is.
    """

    def __init__(self, ax: Axes, limits: tuple[float, float], names: Sequence[str], yardsticks: tuple[str, str]):
        self.ax = ax
        self._limits = limits
        self._longest = 0
        self._has_arrows = False
        ax.axvspan(0, 1, color="0.95", zorder=0)
        for x in (0, 1):
            ax.axvline(x, color="0.45", linewidth=1, linestyle="--", zorder=1)
        ax.set(xlim=limits, ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)), yticklabels=names)
        ax.set_xticks([0, 0.5, 1])
        top = ax.secondary_xaxis("top")
        top.set_xticks([0, 1], yardsticks)
        top.tick_params(length=0)
        for axis in (ax, top):
            axis.spines[:].set_visible(False)

    def draw(self, scores: ArrayLike, y: float, color: str, *, small: bool = False) -> None:
        """Draw scores at one height."""
        values, (low, high) = np.atleast_1d(np.asarray(scores, dtype=float)), self._limits
        style: dict[str, Any] = {"color": color, "clip_on": False, "linewidths": 0} | (
            {"s": SMALL, "alpha": _ALPHA, "zorder": 2} if small else {"s": LARGE, "zorder": 3}
        )
        inside = (low <= values) & (values <= high)
        for marker, those in (("o", inside), (_BELOW, values < low), (_ABOVE, values > high)):
            if not those.any():
                continue
            self.ax.scatter(np.clip(values[those], low, high), np.full(those.sum(), y), marker=marker, **style)
            self._has_arrows |= marker != "o"
            if not small and marker != "o":
                for value in values[those]:
                    self._write_number(value, y, color, marker)

    def _write_number(self, value: float, y: float, color: str, marker: Any) -> None:
        text = (f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}").replace("-", "−")
        x, side, align = (self._limits[0], -1, "right") if marker == _BELOW else (self._limits[1], 1, "left")
        if marker == _BELOW:
            self._longest = max(self._longest, len(text))
        self.ax.annotate(
            text,
            (x, y),
            (4 * side, 0),
            textcoords="offset points",
            ha=align,
            va="center",
            fontsize="x-small",
            color=color,
            annotation_clip=False,
        )

    def explain(self, large: str, small: str | None, colors: Mapping[str, str] | None = None) -> None:
        """Make room for the numbers, and say below the axes what points, arrows and colours are."""
        # a point at the edge lies half beyond it
        self.ax.tick_params(axis="y", length=0, pad=8 + 5 * self._longest)
        marks: list[Any] = [_mark("o", LARGE, large)]
        if small is not None:
            marks.append(_mark("o", SMALL, small, alpha=_ALPHA))
        labels = [mark.get_label() for mark in marks]
        if self._has_arrows:
            marks.append((_mark("<", LARGE / 2), _mark(">", LARGE / 2)))
            whose = "with its score" if small is None else "large ones with their score"
            labels.append(f"beyond the axis, {whose}")
        named = [_mark("s", LARGE, plain(name), color=color) for name, color in (colors or {}).items()]
        if named:
            # as many rows in both columns
            n_rows = max(len(marks), len(named))
            nothing = _mark("", 0)
            marks += [nothing] * (n_rows - len(marks)) + named
            labels += [""] * (n_rows - len(labels)) + [mark.get_label() for mark in named]
        legend_below(
            self.ax,
            marks,
            labels,
            ncols=2 if named else len(marks),
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0.1)},
        )


def _mark(marker: Any, area: float, label: str = "", *, color: str = _GREY, alpha: float = 1) -> Line2D:
    return Line2D(
        [],
        [],
        marker=marker,
        markersize=area**0.5,
        color=color,
        alpha=alpha,
        linestyle="",
        markeredgewidth=0,
        label=label,
    )
