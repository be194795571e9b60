"""The demonstration: train ACTIVA on packaged real cells, generate, and measure how real the result is."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scvi

from scmimic import _keys, datasets, metrics, pl, pp, tl
from scmimic._arguments import COUNT, COUNT_OR_NONE, SEED
from scmimic._files import OutputExistsError, check_output, replacing
from scmimic._interrupts import stop_if_interrupted
from scmimic._keys import OVERALL
from scmimic._version import package_version
from scmimic.model import ACTIVA
from scmimic.tl.evaluation import Evaluation, run

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

LABELS_KEY = "bulk_labels"
TEST_SIZE = 0.3
MODEL = "ACTIVA"
REPLICATE = "other real cells"
TRIVIAL = "best trivial generator"
_NAMES = {"synthetic": MODEL, "replicate": REPLICATE}
FILES = {
    "embedding": "embedding.png",
    "roc": "roc.png",
    "training": "training.png",
    "synthetic cells": "synthetic.h5ad",
    "report": "report.html",
    "summary": "summary.md",
    "summary for programs": "summary.json",
}
"""Names of the files that are written, by what they hold."""


@dataclass(frozen=True)
class Score:
    """How hard one set of cells is to tell from the held-out real cells, as the report has it; None: not measured."""

    source: str
    """Where the cells come from."""
    auc: float | None
    """AUC of a random forest on genes; 0.5 is ideal."""
    auc_interval: tuple[float, float] | None
    """95 % interval of that AUC."""
    error: float | None
    """Error of a random forest on principal components, in percent; 50 is ideal."""
    copy_ratio: float | None
    """Median distance to the nearest training cell over that of held-out real cells; near 0 means copies."""


@dataclass(frozen=True)
class DemoResult:
    """What :func:`run_demo` measured and wrote."""

    scores: tuple[Score, ...]
    """One row per source: ACTIVA, other real cells, the best trivial generator."""
    n_train: int
    """Real cells that the model was trained on."""
    n_test: int
    """Real cells held out, and cells generated."""
    epochs: int
    """Epochs trained."""
    seed: int
    """Seed of split, training, generation and measures."""
    seconds: float
    """Wall time of the whole demonstration."""
    version: str
    """Version of scmimic."""
    files: dict[str, Path]
    """Files by what they hold."""


def run_demo(
    out: str | Path = "scmimic_demo",
    *,
    epochs: int | None = None,
    seed: int = 0,
    n_trees: int = 500,
    progress: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = logger.info,
) -> DemoResult:
    """Train, generate, evaluate and draw, on 700 real blood cells x 765 genes that come with scanpy.

    The cells are divided by type into 70 % for training and 30 % for the test. ACTIVA sees the training cells alone and
    generates as many cells of each type as the test set has. Random forests then try to tell the generated cells from
    the test cells. Beside ACTIVA stand training cells of the same number and types (what a second sample of real cells
    scores) and the best of the generators that draw genes without a model of the cell. Everything is measured once, by
    :func:`scmimic.tl.evaluate`: the summary, the curves and the report have the same numbers.

    Parameters
    ----------
    out
        Folder to write to; made where it does not exist. The files of an earlier demonstration are replaced, all at
        once at the end, other files stay.
    epochs
        Epochs of training; `None` for the default of :meth:`scmimic.ACTIVA.train`.
    seed
        Seed of split, training, generation and measures.
    n_trees
        Trees of each forest. The paper has 1,000; half of them take two thirds of the time, and AUCs differ by 0.02 at
        most, well within their intervals.
    progress
        Show the progress of the training on the terminal.
    overwrite
        Replace files of these names that no demonstration has written, too.
    report
        Called with one line before each step.

    Returns
    -------
    :class:`DemoResult`. Written to `out`: `synthetic.h5ad` (the generated cells), `embedding.png`, `roc.png`,
    `training.png`, `report.html` (every measure, calibrated), `summary.md` and `summary.json`.

    Raises
    ------
    ValueError
        If `epochs` or `n_trees` is below 1.
    OSError
        If `out` cannot be written to, or holds files of these names that no demonstration has written.
    KeyboardInterrupt
        If the training is interrupted: half a training says nothing of the model.

    Examples
    --------
    >>> from scmimic._demo import run_demo
    >>> result = run_demo("scmimic_demo", epochs=2, n_trees=10)  # doctest: +SKIP
    """
    COUNT_OR_NONE.check(epochs=epochs)
    COUNT.check(n_trees=n_trees)
    SEED.check(seed=seed)
    out = _check_folder(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out, keep=lambda name: name not in FILES.values()) as folder:
        folder.mkdir()
        result = _run(folder, epochs, seed, n_trees, progress, report)
    return replace(result, files={what: out / name for what, name in FILES.items()})


def _check_folder(out: str | Path, overwrite: bool) -> Path:
    """Refuse a folder that is none, or holds files of the user by the names of the demonstration's."""
    out = check_output(out, overwrite=True, folder=True, name="--out")
    taken = {name for name in FILES.values() if (out / name).exists()}
    try:
        taken -= set(json.loads((out / FILES["summary for programs"]).read_text(encoding="utf-8"))["files"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        logger.debug("%s holds no summary of a demonstration.", out)
    if taken and not overwrite:
        raise OutputExistsError(
            f"{out} holds {sorted(taken)}, which no demonstration wrote: choose another --out, or pass --overwrite."
        )
    return out


def _run(
    out: Path, epochs: int | None, seed: int, n_trees: int, progress: bool, report: Callable[[str], None]
) -> DemoResult:
    """Do the work of :func:`run_demo`, in a folder that is new."""
    start = time.perf_counter()
    train, test = _split(seed)
    counts = {str(name): int(n) for name, n in test.obs[LABELS_KEY].value_counts(sort=False).items() if n}
    report(f"Training ACTIVA on {train.n_obs} cells x {train.n_vars} genes")
    model = _train(train, epochs, seed, progress)
    report(f"Generating {test.n_obs} cells of {len(counts)} types")
    synthetic = model.generate(labels=counts, seed=seed)
    report(f"Measuring realism with forests of {n_trees} trees, and writing the report")
    evaluation = run(test, synthetic, {"labels_key": LABELS_KEY, "train": train, "n_trees": n_trees, "seed": seed})
    evaluation.to_html(out / FILES["report"], title=f"How real are {MODEL}'s cells?")
    report("Drawing")
    tl.joint_embedding(test, synthetic, reference=train, basis="umap", seed=seed)
    _draw(out, model, test, synthetic, evaluation.curves["rf_auc_genes"])
    files = {what: out / name for what, name in FILES.items()}
    synthetic.write_h5ad(files["synthetic cells"])
    result = DemoResult(
        scores=_scores(evaluation),
        n_train=train.n_obs,
        n_test=test.n_obs,
        epochs=len(model.history["train_loss"]),
        seed=seed,
        seconds=round(time.perf_counter() - start, 1),
        version=package_version(),
        files=files,
    )
    files["summary"].write_text(_markdown(result), encoding="utf-8")
    files["summary for programs"].write_text(_json(result), encoding="utf-8")
    return result


def _split(seed: int) -> tuple[AnnData, AnnData]:
    adata = datasets.pbmc68k_reduced()
    pp.balanced_split(adata, LABELS_KEY, test_size=TEST_SIZE, seed=seed)
    is_test = adata.obs[_keys.OBS_SPLIT] == _keys.SPLIT_TEST
    return adata[~is_test].copy(), adata[is_test].copy()


def _train(train: AnnData, epochs: int | None, seed: int, progress: bool) -> ACTIVA:
    scvi.settings.seed = seed
    ACTIVA.setup_anndata(train, labels_key=LABELS_KEY)
    model = ACTIVA(train)
    model.train(max_epochs=epochs, enable_progress_bar=progress)
    stop_if_interrupted(model)
    return model


def _scores(evaluation: Evaluation) -> tuple[Score, ...]:
    """The rows of the table that the summary shows."""
    overall = evaluation.table[evaluation.table["label"] == OVERALL].set_index("metric")
    auc, error, copies = (overall.loc[name] for name in ("rf_auc_genes", "rf_error", "dcr_ratio"))
    curves = evaluation.curves["rf_auc_genes"]
    rows = (
        (MODEL, "value", curves.get("synthetic")),
        (REPLICATE, "replicate", curves.get("replicate")),
        (TRIVIAL, "trivial_value", curves.get(auc["trivial"])),
    )
    return tuple(
        Score(
            source=source,
            auc=_known(auc[column]),
            auc_interval=None if curve is None else curve.interval,
            error=_known(error[column]),
            copy_ratio=_known(copies[column]),
        )
        for source, column, curve in rows
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _draw(
    out: Path, model: ACTIVA, test: AnnData, synthetic: AnnData, curves: Mapping[str, metrics.DiscriminatorResult]
) -> None:
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    figures = {
        "embedding": pl.embedding(
            test, synthetic, color=LABELS_KEY, titles=("Real (held out)", "Generated"), return_fig=True
        ),
        "roc": pl.roc({_NAMES.get(name, name): curve for name, curve in curves.items()}, return_fig=True),
        "training": pl.training(model, return_fig=True),
    }
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        figure.savefig(out / FILES[name], dpi=150, bbox_inches="tight")
        plt.close(figure)


def table(result: DemoResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heading and rows of the summary, as text.

    Parameters
    ----------
    result
        What :func:`run_demo` returned.

    Returns
    -------
    The column names, and one tuple of strings per source.
    """
    names = ("Cells", "Forest AUC (0.5 ideal)", "Forest error % (50 ideal)", "Copy ratio (1 ideal, 0 copies)")
    rows: list[tuple[str, ...]] = []
    for score in result.scores:
        interval = "" if score.auc_interval is None else " ({:.2f} to {:.2f})".format(*score.auc_interval)
        numbers = (_text(score.auc, ".2f") + interval, _text(score.error, ".1f"), _text(score.copy_ratio, ".2f"))
        rows.append((score.source, *numbers))
    return names, rows


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _markdown(result: DemoResult) -> str:
    heading, rows = table(result)
    lines = ["| " + " | ".join(row) + " |" for row in (heading, ("---",) * len(heading), *rows)]
    return "\n".join(
        [
            "# Real or generated?",
            "",
            f"ACTIVA was trained on {result.n_train} real blood cells for {result.epochs} epochs. It then generated "
            f"{result.n_test} cells, as many of each type as stand in a held-out set of {result.n_test} real cells, "
            "and random forests tried to tell the two apart.",
            "",
            *lines,
            "",
            "The AUC is that of a forest on log-normalised genes, with its 95 % interval; the error is that of one on "
            "50 principal components. The second row shows what other real cells score in the place of the "
            "generated ones: training cells, and for the copy ratio held-out cells. The third is the best generator "
            "that knows each gene but no cell, chosen for each measure. The numbers are those of report.html.",
            "",
            "![Real and generated cells](embedding.png)",
            "![ROC curves](roc.png)",
            "![Losses](training.png)",
            "",
            f"scmimic {result.version}, seed {result.seed}, {result.seconds:.0f} seconds.",
            "",
        ]
    )


def _json(result: DemoResult) -> str:
    values = asdict(result) | {"files": {name: path.name for name, path in result.files.items()}}
    return json.dumps(values, indent=2) + "\n"
