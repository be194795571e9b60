"""Groups of bars: one group per latent dimension, one colour per factor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic.pl._figure import plain, plain_frame
from scmimic.pl._points import legend_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUP_WIDTH = 0.82


def bars_width(n_groups: int, n_bars: int, names: Iterable[str]) -> float:
    """Width in inches of a figure of `n_groups` groups of `n_bars` bars, with a legend of these names beside them."""
    return 1.1 + legend_width(names) + max(max(0.14 * n_bars + 0.1, 0.3) * n_groups, 1)


def grouped_bars(ax: Axes, matrix: np.ndarray, groups: Sequence[str], colors: Mapping[str, Any]) -> None:
    """Draw a matrix, groups x names, as bars in the colours of the names."""
    centers, width = np.arange(len(groups)), _GROUP_WIDTH / len(colors)
    for k, (name, color) in enumerate(colors.items()):
        x = centers - _GROUP_WIDTH / 2 + (k + 0.5) * width
        ax.bar(x, matrix[:, k], width=0.94 * width, color=color, label=plain(name), zorder=2)
    names = [plain(group) for group in groups]
    ax.set_xticks(centers, names, rotation=90 if max(map(len, names)) > 3 else 0)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.yaxis.grid(True, color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    plain_frame(ax)
