"""The five figures in front of the benchmarks: `python docs/summary.py` draws them anew.

What they show is in `benchmarks/results/index.json`, where each value names the cell of a page that it comes from.
"""

from pathlib import Path

import matplotlib.pyplot as plt

import results

PICTURES = Path(__file__).parent / "_static" / "summary"
COLORS = ("#1f5fa8", "#d9772b", "#4f9d69", "#8a5aa8")
MARKERS = "os^D"


def draw(table: results.Table) -> plt.Figure:
    """Draw points for each row, and a line where the ideal is."""
    rows, groups = table["rows"], table["columns"][1:]
    picture, ax = plt.subplots(figsize=(6.4, 0.9 + 0.36 * len(rows)), layout="constrained")
    for place, (_, *cells) in enumerate(rows):
        values = [results.number(cell) for cell in cells if cell is not None]
        ax.plot([table["best"], *values], [place] * (1 + len(values)), color="0.85", zorder=1)
    for column, name in enumerate(groups, 1):
        # above each other, so that equal values do not hide one another
        down = 0.16 * (column - (1 + len(groups)) / 2)
        points = [
            (results.number(row[column]), place + down) for place, row in enumerate(rows) if row[column] is not None
        ]
        color, marker = COLORS[column - 1], MARKERS[column - 1]
        ax.scatter(*zip(*points, strict=True), color=color, marker=marker, s=42, label=name, zorder=2)
    ax.update_datalim([(table["worst"], 0)])
    ax.axvline(table["best"], color="0.4", linestyle="--", linewidth=1, zorder=0)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.invert_yaxis()
    ax.set_xlabel(table["measure"], loc="right", fontsize=9)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if len(groups) > 1:
        picture.legend(loc="outside upper right", ncols=len(groups), frameon=False, fontsize=9)
    return picture


if __name__ == "__main__":
    plt.switch_backend("agg")
    PICTURES.mkdir(exist_ok=True)
    for name, table in results.read("index").items():
        draw(table).savefig(PICTURES / f"{name}.png", dpi=130)
