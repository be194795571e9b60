"""What an evaluation gives: numbers, a verdict, a picture and a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scmimic._keys import OVERALL
from scmimic.tl.evaluation._diagnostics import AGREEMENT, REPEATS
from scmimic.tl.evaluation._measures import beyond_chance, metrics_by_name
from scmimic.tl.evaluation._verdict import KEY_METRICS, Verdict, judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scmimic._keys import Basis


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How real synthetic cells are, as :func:`scmimic.evaluate` found it: computed once, then shown, drawn or saved.

    Attributes
    ----------
    table
        One row per metric and type, as :func:`scmimic.tl.evaluate` describes it.
    verdict
        The table in plain words: `headline`, `tone`, `summary`, and `answers` to three questions (is it valid, how
        close are the cells, are they new); `is_meaningful`, and the `score` that decides, with its interval.
    params
        The settings, from which cells PCA, replicate and trivial generators come, and which cells were left out.
    seconds
        Time of each measure.
    curves
        By metric, what its numbers are taken from: the ROC curves of each forest (of the synthetic cells, of the
        replicate and of the best trivial generator) for :func:`scmimic.pl.roc`, and the distances within the sides for
        :func:`scmimic.pl.self_distance`.
    failed
        Which measures could not be taken of which cells, and why.
    adata
        The real cells, for the pictures of the page; no copy, but of a file the cells that were read.
    synthetic
        The synthetic cells, likewise.
    settings
        The settings, with the cells that were given as such.
    files
        Where cells lie that were given as a file, by the name of their argument: of these, what was compared is held.

    See Also
    --------
    scmimic.evaluate : Makes it.

    Examples
    --------
    >>> import scmimic as sm
    >>> cells = sm.datasets.synthetic_counts(n_obs=600, n_vars=50)
    >>> train, test = cells[:300].copy(), cells[300:].copy()
    >>> synthetic = sm.baselines.Memoriser(train, labels_key="cell_type").fit().generate(300, seed=0)
    >>> evaluation = sm.evaluate(test, synthetic, train=train, metrics=["rf_auc_genes", "duplicates"], n_trees=10)
    >>> evaluation.verdict.headline
    'These cells are copies, at least in part: their realism means nothing.'
    """

    table: pd.DataFrame
    params: Mapping[str, Any]
    seconds: Mapping[str, float]
    curves: Mapping[str, Mapping[str, Any]]
    failed: tuple[str, ...]
    adata: AnnData
    synthetic: AnnData
    settings: Mapping[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def verdict(self) -> Verdict:
        """The table in plain words."""
        return judge(self.table)

    @property
    def faults(self) -> list[str]:
        """What was not done: the cells left out, and all failed measures in one text."""
        texts = list(self.params["left_out"])
        if self.failed:
            texts.append("Some metrics have no value, or no yardstick (column `warning`). " + " ".join(self.failed))
        return texts

    @property
    def alarms(self) -> list[str]:
        """What rows over all cells say against them: diagnostics, copies, repeats, labels, values beyond chance."""
        rows = self.table[(self.table["label"] == OVERALL) & (self.table["warning"] != "")]
        alarming = rows["group"].isin(["diagnostic", "privacy"]) | rows["metric"].isin([REPEATS, AGREEMENT])
        alarming &= np.isfinite(rows["value"].to_numpy(dtype=float))
        beyond = np.array([beyond_chance(row) != "" for row in rows.itertuples()], dtype=bool)
        texts = rows["warning"].where(alarming, rows["metric"] + ": " + rows["warning"])
        return list(dict.fromkeys(texts[alarming | beyond]))

    def plot(
        self,
        *,
        per_label: bool = True,
        limits: tuple[float, float] = (-0.6, 1.3),
        title: str | None = None,
        ax: Axes | None = None,
        figsize: tuple[float, float] | None = None,
        show: bool | None = None,
        return_fig: bool = False,
        save: str | Path | None = None,
    ) -> Figure | Axes | None:
        """Draw the calibrated scores, as :func:`scmimic.pl.report` does.

        Parameters
        ----------
        per_label
            Draw the scores of the cell types.
        limits
            Ends of the axis.
        title
            Title of the plot.
        ax
            Axes to draw into; new ones by default.
        figsize
            Size of a new figure in inches.
        show
            Show the plot; by default where there is a screen.
        return_fig
            Return the figure.
        save
            File to write the figure to, such as ``"scores.png"``; its ending gives the format.

        Returns
        -------
        The figure if `return_fig`, nothing if shown, the axes otherwise.

        Examples
        --------
        >>> import scmimic as sm
        >>> cells = sm.datasets.synthetic_counts(n_obs=300, n_vars=20, seed=0)
        >>> evaluation = sm.evaluate(cells[:200].copy(), cells[200:].copy(), metrics=["mmd"])
        >>> ax = evaluation.plot(show=False)
        """
        from scmimic import pl

        return pl.report(
            self.table,
            per_label=per_label,
            limits=limits,
            title=title,
            ax=ax,
            figsize=figsize,
            show=show,
            return_fig=return_fig,
            save=save,
        )

    def to_html(
        self,
        path: str | Path = "report.html",
        *,
        overwrite: bool = False,
        title: str | None = None,
        basis: Basis | None = "umap",
    ) -> Path:
        """Write one self-contained HTML page, as :func:`scmimic.report` does.

        Parameters
        ----------
        path
            File to write, `.html`.
        overwrite
            Replace a file that is there, once the new page is whole.
        title
            Heading of the page.
        basis
            `"umap"`, `"tsne"` or `"pca"` for the picture of the cells; `None` leaves it out.

        Returns
        -------
        The path of the page.

        Examples
        --------
        >>> import tempfile
        >>> import scmimic as sm
        >>> cells = sm.datasets.synthetic_counts(n_obs=300, n_vars=20, seed=0)
        >>> evaluation = sm.evaluate(cells[:200].copy(), cells[200:].copy(), metrics=["mmd"])
        >>> evaluation.to_html(f"{tempfile.mkdtemp()}/report.html", basis=None).name
        'report.html'
        """
        from scmimic._report import TITLE, report

        return report(self, path=path, overwrite=overwrite, title=TITLE if title is None else title, basis=basis)

    def to_json(self, path: str | Path = "evaluation.json", *, overwrite: bool = False) -> Path:
        """Write what a program asks of an evaluation, as JSON.

        Parameters
        ----------
        path
            File to write, `.json`.
        overwrite
            Replace a file that is there, once the new one is whole.

        Returns
        -------
        The path of the file. It holds `verdict` (with `is_meaningful`, `score` and `answers`), `alarms` and `faults`,
        `table` (a list of the rows over all cells) and `params`. A number that is missing is null.

        Examples
        --------
        >>> import json
        >>> import tempfile
        >>> import scmimic as sm
        >>> cells = sm.datasets.synthetic_counts(n_obs=300, n_vars=20, seed=0)
        >>> evaluation = sm.evaluate(cells[:200].copy(), cells[200:].copy(), metrics=["mmd"])
        >>> path = evaluation.to_json(f"{tempfile.mkdtemp()}/evaluation.json")
        >>> json.loads(path.read_text(encoding="utf-8"))["verdict"]["is_meaningful"]
        True
        """
        from scmimic._report import write_json

        return write_json(self, path, overwrite=overwrite)

    def __repr__(self) -> str:
        n = self.params
        lines = [
            f"Evaluation of {n['n_synthetic']} synthetic against {n['n_real']} real cells, {n['n_genes']} genes",
            repr(self.verdict),
        ]
        columns = {"value": "synthetic", "replicate": "real", "trivial_value": "best trivial", "score": "score"}
        overall = self.table[self.table["label"] == OVERALL].set_index("metric")
        shown = overall.reindex([name for name in KEY_METRICS if name in overall.index])
        if len(shown):
            titles = metrics_by_name()
            shown = shown.rename(index={name: titles[name].title for name in shown.index}, columns=columns)
            numbers = shown[list(columns.values())].rename_axis(index=None)
            lines.append(numbers.to_string(float_format="{:.2f}".format, na_rep="–"))
        return "\n".join(lines)
