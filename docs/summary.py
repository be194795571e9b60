"""The five figures in front of the benchmarks, and their tables: `python docs/summary.py` draws and writes them anew.

What is shown stands in `benchmarks/summary.json`, each value with the place in the page that it is quoted from.
"""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

DOCS = Path(__file__).parent
PAGE = DOCS / "benchmarks" / "index.md"
PICTURES = DOCS / "_static" / "summary"
BEGIN, END = "% docs/summary.py writes what follows\n", "% as far as here\n"
FIGURES: list[dict[str, Any]] = json.loads((DOCS / "benchmarks" / "summary.json").read_text(encoding="utf-8"))
COLORS = ("#1f5fa8", "#d9772b", "#4f9d69", "#8a5aa8")
MARKERS = "os^D"


def section(figure: dict[str, Any]) -> str:
    """Write heading, sentence, picture and table of a figure, as Markdown."""
    page = figure["rows"][0]["cells"][0]["page"]
    lines = [f"## {figure['title']}", "", f"{figure['sentence']} All rows: {{doc}}`{page}`.", ""]
    picture = (PICTURES / f"{figure['name']}.png").relative_to(DOCS)
    lines += [f"```{{image}} ../{picture}", f":alt: {figure['measure']}; the values are in the table below", "```", ""]
    lines += ["<details><summary>The values</summary>", "", "| | " + " | ".join(figure["groups"]) + " |"]
    lines += ["|---" * (1 + len(figure["groups"])) + "|"]
    for row in figure["rows"]:
        values = [shown(cell["value"]) for cell in row["cells"]] + [""] * (len(figure["groups"]) - len(row["cells"]))
        lines.append(f"| {row['name']} | " + " | ".join(values) + " |")
    return "\n".join([*lines, "", "</details>", ""])


def shown(value: float) -> str:
    """Round a value for the tables, halves upwards: 0.945 is no binary number."""
    return f"{value:.1f}" if value > 1.5 else f"{value + 1e-9:.2f}"


def draw(figure: dict[str, Any]) -> plt.Figure:
    """Draw points for each row, and a line where the ideal is."""
    rows = figure["rows"]
    picture, ax = plt.subplots(figsize=(6.4, 0.9 + 0.36 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        values = [cell["value"] for cell in row["cells"]]
        ax.plot([figure["best"], *values], [place] * (1 + len(values)), color="0.85", zorder=1)
    for group, name in enumerate(figure["groups"]):
        points = [(row["cells"][group]["value"], place) for place, row in enumerate(rows) if group < len(row["cells"])]
        ax.scatter(*zip(*points, strict=True), color=COLORS[group], marker=MARKERS[group], s=42, label=name, zorder=2)
    ax.update_datalim([(figure["worst"], 0)])
    ax.axvline(figure["best"], color="0.4", linestyle="--", linewidth=1, zorder=0)
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel(figure["measure"], loc="right", fontsize=9)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if len(figure["groups"]) > 1:
        picture.legend(loc="outside upper right", ncols=len(figure["groups"]), frameon=False, fontsize=9)
    return picture


def page() -> str:
    """The page, with the sections of all figures."""
    text = PAGE.read_text(encoding="utf-8")
    sections = "\n".join(section(figure) for figure in FIGURES)
    return re.sub(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", lambda _: f"\n{sections}\n", text, flags=re.DOTALL)


if __name__ == "__main__":
    plt.switch_backend("agg")
    PICTURES.mkdir(exist_ok=True)
    for figure in FIGURES:
        draw(figure).savefig(PICTURES / f"{figure['name']}.png", dpi=130)
    PAGE.write_text(page(), encoding="utf-8")
