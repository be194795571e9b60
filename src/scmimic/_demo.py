"""The demonstration: train ACTIVA on packaged real cells, generate, and measure how real the result is."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import scvi

from scmimic import _keys, baselines, datasets, metrics, pl, pp, tl
from scmimic._report import report as write_report
from scmimic._sampling import package_version
from scmimic.metrics._arrays import log_normalise
from scmimic.model import ACTIVA

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

LABELS_KEY = "bulk_labels"
TEST_SIZE = 0.3
REPLICATE = "real cells (training set)"
MODEL = "ACTIVA"
BASELINE = "independent negative binomials"


@dataclass(frozen=True)
class Score:
    """How hard one set of cells is to tell from the held-out real cells."""

    source: str
    """Where the cells come from."""
    auc: float
    """Mean AUC of a random forest over the folds; 0.5 is ideal."""
    auc_sd: float
    """Standard deviation of that AUC over the folds."""
    error: float
    """Error of a random forest on principal components, in percent; 50 is ideal."""
    copy_ratio: float
    """Median distance to the nearest training cell over that of held-out real cells; near 0 means copies."""


@dataclass(frozen=True)
class DemoResult:
    """What :func:`run_demo` measured and wrote."""

    scores: tuple[Score, ...]
    """One row per source: real cells, ACTIVA, baseline."""
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
    n_trees: int = 1000,
    progress: bool = False,
    report: Callable[[str], None] = logger.info,
) -> DemoResult:
    """Train, generate, evaluate and draw, on 700 real blood cells x 765 genes that come with scanpy.

    The cells are divided by type into 70 % for training and 30 % for the test. ACTIVA sees the training cells alone and
    generates as many cells of each type as the test set has. Random forests then try to tell the generated cells from
    the test cells. Beside ACTIVA stand training cells of the same number and types (what a second sample of real cells
    scores) and a negative binomial per gene and type (what a generator without a model of the cell scores).

    Parameters
    ----------
    out
        Folder to write to; made where it does not exist, files of the same name are replaced.
    epochs
        Epochs of training; `None` for the default of :meth:`scmimic.ACTIVA.train`.
    seed
        Seed of split, training, generation and measures.
    n_trees
        Trees of each forest; 1,000 as in the paper.
    progress
        Show the progress of the training on the terminal.
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
        If `out` cannot be written to.

    Examples
    --------
    >>> from scmimic._demo import run_demo
    >>> result = run_demo("scmimic_demo", epochs=2, n_trees=10)  # doctest: +SKIP
    """
    if epochs is not None and epochs < 1:
        raise ValueError(f"The number of epochs must be at least 1, got {epochs}.")
    if n_trees < 1:
        raise ValueError(f"The number of trees must be at least 1, got {n_trees}.")
    start = time.perf_counter()
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file: choose another folder for the results.")
    out.mkdir(parents=True, exist_ok=True)

    train, test = _split(seed)
    counts = {str(name): int(n) for name, n in test.obs[LABELS_KEY].value_counts(sort=False).items() if n}
    report(f"Training ACTIVA on {train.n_obs} cells x {train.n_vars} genes")
    model = _train(train, epochs, seed, progress)
    report(f"Generating {test.n_obs} cells of {len(counts)} types")
    synthetic = model.generate(labels=counts, seed=seed)
    sources = {
        REPLICATE: baselines.Memoriser(train, labels_key=LABELS_KEY).fit().generate(labels=counts, seed=seed),
        MODEL: synthetic,
        BASELINE: baselines.IndependentNB(train, labels_key=LABELS_KEY).fit().generate(labels=counts, seed=seed),
    }
    report(f"Measuring realism with forests of {n_trees} trees")
    scores, curves = _measure(sources, train, test, n_trees, seed)
    report("Drawing")
    tl.joint_embedding(test, synthetic, reference=train, basis="umap", seed=seed)
    files = _draw(out, model, test, synthetic, curves)
    files["synthetic cells"] = out / "synthetic.h5ad"
    synthetic.write_h5ad(files["synthetic cells"])
    report("Writing the report")
    files["report"] = write_report(
        test,
        synthetic,
        out / "report.html",
        labels_key=LABELS_KEY,
        train=train,
        title=f"How real are {MODEL}'s cells?",
        n_trees=min(n_trees, 100),
        seed=seed,
    )
    files |= {"summary": out / "summary.md", "summary for programs": out / "summary.json"}
    result = DemoResult(
        scores=scores,
        n_train=train.n_obs,
        n_test=test.n_obs,
        epochs=len(model.history["train_loss_epoch"]),
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
    return model


def _measure(
    sources: dict[str, AnnData], train: AnnData, test: AnnData, n_trees: int, seed: int
) -> tuple[tuple[Score, ...], dict[str, metrics.DiscriminatorResult]]:
    known, real = log_normalise(train.X), log_normalise(test.X)
    scores, curves = [], {}
    for name, cells in sources.items():
        x = log_normalise(cells.X)
        curves[name] = metrics.discriminator_auc(real, x, n_trees=n_trees, seed=seed, return_folds=True)
        scores.append(
            Score(
                source=name,
                auc=curves[name].mean,
                auc_sd=curves[name].sd,
                error=metrics.random_forest_error(real, x, n_trees=n_trees, seed=seed),
                copy_ratio=metrics.distance_to_closest_record(known, x, real).ratio,
            )
        )
    return tuple(scores), curves


def _draw(
    out: Path, model: ACTIVA, test: AnnData, synthetic: AnnData, curves: dict[str, metrics.DiscriminatorResult]
) -> dict[str, Path]:
    from matplotlib import pyplot as plt

    figures = {
        "embedding": pl.embedding(
            test, synthetic, color=LABELS_KEY, titles=("Real (held out)", "Generated"), return_fig=True
        ),
        "roc": pl.roc(curves, return_fig=True),
        "training": pl.training(model, return_fig=True),
    }
    files = {}
    for name, figure in figures.items():
        files[name] = out / f"{name}.png"
        figure.savefig(files[name], dpi=150, bbox_inches="tight")
        plt.close(figure)
    return files


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
    heading = ("Cells", "Forest AUC (0.5 ideal)", "Forest error % (50 ideal)", "Copy ratio (1 ideal, 0 copies)")
    rows = [(s.source, f"{s.auc:.2f} ± {s.auc_sd:.2f}", f"{s.error:.1f}", f"{s.copy_ratio:.2f}") for s in result.scores]
    return heading, rows


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
            "The AUC is the mean over five folds ± their standard deviation, on log-normalised genes; the error is "
            "that of a forest on 50 principal components. The first row shows what real cells score; it is made of "
            "training cells, hence its copy ratio of 0.",
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
