"""Builds the page: evaluation, pictures, tables, template."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic import pl
from scmimic._arguments import FLAG, PATH, TEXT, Choice
from scmimic._files import PAGE_ENDINGS, check_output, replacing
from scmimic._report._pictures import draw_pictures, encode
from scmimic.cells._columns import label_array
from scmimic.cells._generated import package_version
from scmimic.tl._evaluate import Settings, fault_texts, run_evaluation
from scmimic.tl.evaluation._cells import TRIVIAL
from scmimic.tl.evaluation._measures import MEASURES, METRICS
from scmimic.tl.evaluation._run import OVERALL
from scmimic.tl.evaluation._verdict import Verdict, judge

if TYPE_CHECKING:
    from anndata import AnnData

    from scmimic.metrics import DiscriminatorResult

_PACKAGES = ("anndata", "scanpy", "scikit-learn", "numpy", "scipy", "POT")
_TYPE_COLUMNS = {
    "rf_auc_genes": "Forest AUC, genes",
    "rf_auc_pcs": "Forest AUC, PCs",
    "de_slope": "DE slope",
    "variance_ratio": "Variance ratio",
    "coverage": "Coverage",
    "dcr_ratio": "Copy distance",
}
_DIAGNOSTICS = {
    "same_space": "Real and synthetic cells hold the same kind of values",
    "zero_fraction_ratio": "Zeros: share in synthetic over real cells",
    "variance_ratio": "Variation within a type: synthetic over real, median gene",
    "real_copies": "Synthetic cells that are copies of the real cells which judge them: share",
    "label_composition": "Proportions of the types: total variation distance",
}
_GROUPS = {
    "discriminator": "Can a forest tell them apart?",
    "distribution": "Do the clouds of cells agree?",
    "genes": "Do the genes agree?",
    "types": "Do the types differ as they should?",
}
TITLE = "How real are the cells?"


def report(
    adata: AnnData,
    synthetic: AnnData,
    path: str | Path = "report.html",
    *,
    overwrite: bool = False,
    labels_key: str | None = None,
    train: AnnData | None = None,
    reference: AnnData | None = None,
    layer: str | None = None,
    title: str = TITLE,
    metrics: str | Sequence[str] = "all",
    baselines: Sequence[str] | Mapping[str, AnnData] = tuple(TRIVIAL),
    log1p: bool = True,
    target_sum: float = 1e4,
    n_comps: int = 50,
    min_cells: int = 30,
    max_cells: int | None = None,
    n_trees: int | None = None,
    basis: str | None = "umap",
    seed: int = 0,
    n_jobs: int = -1,
) -> Path:
    """Evaluate synthetic cells and write one self-contained HTML page about them.

    The page starts with a verdict in plain words; then come the diagnostic (are the numbers valid?), the quality (how
    close are the cells?), privacy (are they copies?), a table of the cell types, pictures, parameters and versions. It
    holds its pictures and loads nothing from anywhere.

    Parameters
    ----------
    adata
        Real cells that the generator has not been trained on; not changed.
    synthetic
        Synthetic cells with the same genes in the same order; not changed.
    path
        File to write, `.html`.
    overwrite
        Replace a file that is there, once the new page is whole.
    labels_key
        Column of `.obs` of all objects with the cell types.
    train
        Cells that the generator was trained on. Without them copies cannot be found.
    reference
        Further real cells, on which PCA and UMAP are fitted.
    layer
        Layer of the real cells, `.X` by default.
    title
        Heading of the page.
    metrics, baselines, log1p, target_sum, n_comps, min_cells, max_cells, n_trees
        As in :func:`scmimic.tl.evaluate`.
    basis
        `"umap"`, `"tsne"` or `"pca"` for the picture of the cells; `None` leaves it out.
    seed
        Seed of everything random.
    n_jobs
        Threads of forests and neighbour searches; `-1` for all cores.

    Returns
    -------
    The path of the page.

    Raises
    ------
    ValueError
        As :func:`scmimic.tl.evaluate`, or if `basis` is unknown or `path` has another ending.
    KeyError
        If `labels_key` or `layer` is not there.
    OSError
        If the file is there and `overwrite` is False (this one is a ValueError too), or cannot be written.

    Warns
    -----
    UserWarning
        If cells were left out because two sets share them, or a measure failed; the page has all other warnings.

    Examples
    --------
    >>> import scmimic as sm
    >>> real = sm.datasets.pbmc68k_reduced()  # doctest: +SKIP
    >>> sm.report(real[350:], synthetic, "report.html", labels_key="bulk_labels", train=real[:350])  # doctest: +SKIP
    """
    settings = Settings.among(locals())
    return write_report(adata, synthetic, path, settings, overwrite=overwrite, title=title, basis=basis).path


@dataclass(frozen=True)
class Report:
    """What :func:`write_report` found and wrote."""

    path: Path
    table: pd.DataFrame
    verdict: Verdict
    curves: Mapping[str, Mapping[str, DiscriminatorResult]]
    """ROC curves of each forest, by source."""


def write_report(
    adata: AnnData,
    synthetic: AnnData,
    path: str | Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    title: str = TITLE,
    basis: str | None = "umap",
) -> Report:
    """Do the work of :func:`report`, and hand back the table and the verdict too."""
    PATH.check(path=path)
    FLAG.check(overwrite=overwrite)
    TEXT.check(title=title)
    Choice(("umap", "tsne", "pca"), optional=True).check(basis=basis)
    cells = {"adata": adata, "synthetic": synthetic, "train": settings.train, "reference": settings.reference}
    files = {f"the file of `{name}`": getattr(given, "filename", None) for name, given in cells.items()}
    path = check_output(path, overwrite=overwrite, endings=PAGE_ENDINGS, others=files)
    result, params = run_evaluation(adata, synthetic, settings)
    for text in fault_texts(result):
        warnings.warn(text, UserWarning, stacklevel=3)
    table, verdict = result.table, judge(result.table)
    scored = table.loc[table["label"] == OVERALL, "score"].notna().any()
    page = _render(
        title=title,
        verdict=verdict,
        scores=encode(pl.report(table, return_fig=True)) if scored else "",
        pictures=draw_pictures(adata, synthetic, settings, result.curves, basis),
        diagnostics=_diagnostics(table),
        quality=_quality(table),
        privacy=_metric_rows(table, "privacy"),
        types=_types(table, adata, settings.labels_key),
        has_train=settings.train is not None,
        params=_texts(params),
        versions=_versions(),
        seconds=sum(result.seconds.values()),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )
    with replacing(path, overwrite=overwrite) as partial:
        partial.write_text(page, encoding="utf-8")
    return Report(path, table, verdict, result.curves)


def _render(**context: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("scmimic._report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": _number, "score": _score}
    return environment.get_template("template.html.jinja").render(**context)


def _number(value: float) -> str:
    """A number in three digits; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    if value != 0 and abs(value) < 0.01:
        return f"{value:.1e}" if abs(value) < 0.001 else f"{value:.4f}"
    if 0 < abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _score(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"


_ANSWERS = {1.0: "yes", 0.0: "no"}


def _diagnostics(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table[(table["group"] == "diagnostic") & (table["label"] == OVERALL)]
    return [
        {
            "what": _DIAGNOSTICS[row.metric],
            "value": _ANSWERS.get(row.value, "does not show") if row.metric == "same_space" else _number(row.value),
            "ideal": "yes" if row.metric == "same_space" else _number(row.ideal),
            "warning": row.warning,
        }
        for row in rows.itertuples()
    ]


def _metric_rows(table: pd.DataFrame, group: str) -> list[dict[str, Any]]:
    rows = table[(table["group"] == group) & (table["label"] == OVERALL)]
    sources = {metric.name: measure.source for measure in MEASURES for metric in measure.metrics}
    return [
        {
            **row._asdict(),
            "title": METRICS[row.metric].title,
            "meaning": METRICS[row.metric].meaning,
            "source": sources[row.metric],
        }
        for row in rows.itertuples(index=False)
    ]


def _quality(table: pd.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    groups = [(heading, _metric_rows(table, group)) for group, heading in _GROUPS.items()]
    return [(heading, rows) for heading, rows in groups if rows]


def _types(table: pd.DataFrame, adata: AnnData, labels_key: str | None) -> dict[str, Any] | None:
    if labels_key is None:
        return None
    of_types = table[table["label"] != OVERALL]
    columns = {name: text for name, text in _TYPE_COLUMNS.items() if (of_types["metric"] == name).any()}
    counts = pd.Series(label_array(adata, labels_key)).value_counts()
    rows = []
    for label in sorted(of_types["label"].unique(), key=lambda name: (-counts.get(name, 0), name)):
        own = of_types[of_types["label"] == label].set_index("metric")
        values = [float(own["value"].get(name, np.nan)) for name in columns]
        # the copy distance stands in a column of its own
        texts = own.loc[own["group"] != "privacy", "warning"].unique()
        notes = [text for text in texts if text and not text.startswith("No score")]
        rows.append(
            {
                "label": label,
                "n": int(counts.get(label, 0)),
                "values": values,
                "score": float(own["score"].astype(float).median()) if own["score"].notna().any() else np.nan,
                "notes": " ".join(notes[:2]),
            }
        )
    return {"columns": list(columns.values()), "rows": rows}


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for name, value in params.items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        texts[name] = text or "none"
    return texts


def _versions() -> dict[str, str]:
    found = {"scmimic": package_version(), "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
