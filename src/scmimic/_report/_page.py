"""Builds the page: evaluation, pictures, tables, template."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd

from scmimic._arguments import FLAG, PATH, TEXT, Choice
from scmimic._files import PAGE_ENDINGS, check_output, replacing
from scmimic._keys import OVERALL, Basis
from scmimic._progress import progress
from scmimic._report._pictures import Picture, draw_pictures, draw_scores
from scmimic._version import package_version
from scmimic.cells import label_array
from scmimic.tl.evaluation import MEASURES, Evaluation, Settings, metrics_by_name, run, takes

if TYPE_CHECKING:
    from anndata import AnnData

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
    "unseen_combinations": "Synthetic cells of combinations that their generator has not seen: share",
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


@takes(Settings)
def report(
    adata: AnnData | Evaluation,
    synthetic: AnnData | None = None,
    path: str | Path = "report.html",
    *,
    overwrite: bool = False,
    title: str = TITLE,
    basis: Basis | None = "umap",
    **settings: Unpack[Settings],
) -> Path:
    """Evaluate synthetic cells and write one self-contained HTML page about them.

    The page starts with a verdict in plain words; then come the diagnostic (are the numbers valid?), the quality (how
    close are the cells?), privacy (are they copies?), a table of the cell types, pictures, parameters and versions. It
    holds its pictures and loads nothing from anywhere.

    Parameters
    ----------
    adata
        Real cells that the generator has not been trained on; not changed. Or a finished evaluation, as
        :func:`scmimic.evaluate` returns it: then nothing is measured again.
    synthetic
        Synthetic cells with the same genes in the same order; not changed. None with a finished evaluation.
    path
        File to write, `.html`.
    **settings
        See :class:`~scmimic.tl.evaluation._settings.Settings`. None with a finished evaluation, which has its own.
    overwrite
        Replace a file that is there, once the new page is whole.
    title
        Heading of the page.
    basis
        `"umap"`, `"tsne"` or `"pca"` for the picture of the cells; `None` leaves it out.

    Returns
    -------
    The path of the page.

    Raises
    ------
    ValueError
        As :func:`scmimic.evaluate`, or if `basis` is unknown or `path` has another ending.
    TypeError
        As :func:`scmimic.evaluate`, or if cells or settings stand beside a finished evaluation.
    KeyError
        If `labels_key` or `layer` is not there.
    OSError
        If the file is there and `overwrite` is False (this one is a ValueError too), or cannot be written.

    Warns
    -----
    UserWarning
        If cells were left out because two sets share them, or a measure failed; the page has all other warnings.

    See Also
    --------
    scmimic.evaluate : The same as an object.

    Examples
    --------
    >>> import tempfile
    >>> import scmimic as sm
    >>> cells = sm.datasets.synthetic_counts(n_obs=300, n_vars=20, seed=0)
    >>> real, synthetic = cells[:200].copy(), cells[200:].copy()
    >>> path = f"{tempfile.mkdtemp()}/report.html"
    >>> sm.report(real, synthetic, path, labels_key="cell_type", metrics=["mmd"], basis="pca").name
    'report.html'
    """
    PATH.check(path=path)
    FLAG.check(overwrite=overwrite)
    TEXT.check(title=title)
    Choice(("umap", "tsne", "pca"), optional=True).check(basis=basis)
    evaluation = adata if isinstance(adata, Evaluation) else None
    if evaluation is None:
        cells: dict[str, Any] = {"adata": adata, "synthetic": synthetic, **settings}
        names = ("adata", "synthetic", "train", "reference")
        files = {name: getattr(cells.get(name), "filename", None) for name in names}
    elif synthetic is None and not settings:
        files = dict(evaluation.files)
    else:
        raise TypeError("A finished evaluation has its cells and settings: give `path`, by name, and no other.")
    files = {f"the file of `{name}`": file for name, file in files.items()}
    path = check_output(path, overwrite=overwrite, endings=PAGE_ENDINGS, others=files)
    if evaluation is None:
        evaluation = run(adata, synthetic, settings)
    with progress(2, "Drawing the page") as advance:
        scores = draw_scores(evaluation)
        advance(1)
        pictures = draw_pictures(evaluation, basis)
        advance(1)
    page = _render(evaluation, title, scores, pictures)
    with replacing(path, overwrite=overwrite) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _render(evaluation: Evaluation, title: str, scores: Picture | None, pictures: Sequence[Picture]) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("scmimic._report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": _number, "score": _score}
    table = evaluation.table
    return environment.get_template("template.html.jinja").render(
        title=title,
        verdict=evaluation.verdict,
        scores=scores,
        pictures=pictures,
        diagnostics=_diagnostics(table),
        quality=_quality(table),
        privacy=_metric_rows(table, "privacy"),
        types=_types(evaluation),
        has_train=evaluation.settings["train"] is not None,
        params=_texts(evaluation.params),
        versions=_versions(),
        seconds=sum(evaluation.seconds.values()),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


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
    sources = {metric.name: measure.source for measure in MEASURES.values() for metric in measure.metrics}
    metrics = metrics_by_name()
    return [
        {
            **row,
            "title": metrics[row["metric"]].title,
            "meaning": metrics[row["metric"]].meaning,
            "source": sources[row["metric"]],
        }
        for row in rows.to_dict("records")
    ]


def _quality(table: pd.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    groups = [(heading, _metric_rows(table, group)) for group, heading in _GROUPS.items()]
    return [(heading, rows) for heading, rows in groups if rows]


def _types(evaluation: Evaluation) -> dict[str, Any] | None:
    table, labels_key = evaluation.table, evaluation.settings["labels_key"]
    if labels_key is None:
        return None
    of_types = table[table["label"] != OVERALL]
    columns = {name: text for name, text in _TYPE_COLUMNS.items() if (of_types["metric"] == name).any()}
    counts = pd.Series(label_array(evaluation.adata, labels_key)).value_counts()
    rows = []
    for label in sorted(of_types["label"].unique(), key=lambda name: (-counts.get(name, 0), name)):
        of_type = of_types[of_types["label"] == label].set_index("metric")
        values = [float(of_type["value"].get(name, np.nan)) for name in columns]
        # the copy distance stands in a column of its own
        texts = of_type.loc[of_type["group"] != "privacy", "warning"].unique()
        notes = [text for text in texts if text and not text.startswith("No score")]
        rows.append(
            {
                "label": label,
                "n": int(counts.get(label, 0)),
                "values": values,
                "score": float(of_type["score"].astype(float).median()) if of_type["score"].notna().any() else np.nan,
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
