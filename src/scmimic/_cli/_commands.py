"""The commands. What they need is imported when they run, so that ``--help`` is there at once."""

from __future__ import annotations

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scmimic._cli._errors import one_line_errors, own_words
from scmimic._cli._requests import find_files, parse_covariates, parse_labels, read_like, refuse_counts
from scmimic._interrupts import Terminated, stop_if_interrupted

if TYPE_CHECKING:
    from scmimic.model.base import CellModel

logger = logging.getLogger(__name__)

app = typer.Typer(
    help="Realistic synthetic single cells: AnnData files in, AnnData files out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

CELLS = ".h5ad or .zarr"
ModelName = Literal["ACTIVA", "ACTINN", "BetaTCVAE", "WGANGP", "InfoWGANGP", "MichiGAN"]
ModelDir = Annotated[Path, typer.Argument(help="Folder that `scmimic train` or model.save() wrote.")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load pickled objects too, which can run any program code.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there, once the new results are whole.")]
# What the cells of an evaluation are called here.
_OF_EVALUATE = {"adata": "REAL"}
# Exit status of an evaluation that was made and says nothing.
_NO_MEANING = 3
# What the arguments of a check are called here.
_OUT: dict[str, Any] = {"name": "--out", "flag": "--overwrite"}


def _quiet() -> None:
    """Keep the terminal for what the user asked for: no device banners, no hints on data loaders."""
    # it sets the levels of its own loggers when it is imported
    import lightning.pytorch  # noqa: F401

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", module="scvi")
    warnings.filterwarnings("ignore", module="umap")


def _show_version(value: bool) -> None:
    if value:
        from scmimic import __version__

        Console().print(f"scmimic {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log what happens, with the traceback of an error.")] = False,
) -> None:
    """Realistic synthetic single cells: AnnData files in, AnnData files out."""
    if debug:
        logging.basicConfig(level=logging.INFO)
        logging.getLogger("scmimic").setLevel(logging.DEBUG)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("scmimic_demo"),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of training; the model's default if left out.")
    ] = None,
    seed: Seed = 0,
    trees: Annotated[int, typer.Option(min=1, help="Trees of each random forest.")] = 500,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace also files of the same names that no demo has written.")
    ] = False,
) -> None:
    """Train on 700 packaged real cells, generate, measure and draw; minutes on a laptop, offline."""
    console = Console()
    with one_line_errors() as ending:
        _quiet()
        from scmimic._demo import run_demo, table

        ending.message = f"nothing was written to {out}."
        result = run_demo(
            out,
            epochs=epochs,
            seed=seed,
            n_trees=trees,
            progress=console.is_terminal,
            overwrite=overwrite,
            report=lambda line: console.print(f"[bold cyan]>[/] {line}", highlight=False),
        )
    heading, rows = table(result)
    view = Table(title=f"{result.n_test} generated cells against {result.n_test} held-out real cells")
    for i, name in enumerate(heading):
        view.add_column(name, justify="right" if i else "left")
    for row in rows:
        view.add_row(*row)
    console.print(view)
    console.print(f"{result.seconds:.0f} seconds. Results in {escape(str(out))}:", highlight=False)
    for what, path in result.files.items():
        console.print(f"  {escape(path.name)}  ({what})", highlight=False)


@app.command()
def train(
    file: Annotated[Path, typer.Argument(help=f"Cells to train on, {CELLS}.")],
    model: Annotated[
        ModelName,
        typer.Option(
            case_sensitive=False,
            metavar="|".join(get_args(ModelName)),
            help="What to train. ACTINN classifies cells and needs --labels; MichiGAN needs --codes or "
            "--representation.",
        ),
    ] = "ACTIVA",
    labels: Annotated[str | None, typer.Option(help="Column of .obs with the cell types.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("scmimic_model"),
    batch: Annotated[str | None, typer.Option(help="Column of .obs with the batch; of ACTIVA and BetaTCVAE.")] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="Column of .obs with a condition, a donor, ... that cells can be asked for by; repeatable."),
    ] = None,
    continuous_covariate: Annotated[
        list[str] | None, typer.Option(help="The same of a column with numbers, such as a dose; repeatable.")
    ] = None,
    unlabeled: Annotated[
        str | None,
        typer.Option(help='Value of --labels that stands for no known type, "Unknown" if left out; "": there is none.'),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer with the expression; .X if left out.")] = None,
    likelihood: Annotated[
        Literal["nb", "zinb", "poisson", "normal"] | None,
        typer.Option(
            help="nb, zinb or poisson for raw counts; normal for any non-negative expression. If left out, nb for "
            "ACTIVA and normal for the others."
        ),
    ] = None,
    codes: Annotated[
        str | None, typer.Option(help="Of MichiGAN: key of .obsm with a code for each cell, such as X_pca.")
    ] = None,
    representation: Annotated[
        Path | None, typer.Option(help="Of MichiGAN: folder of a model trained on FILE, whose codes are taken.")
    ] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; the model's default if left out.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    keep_partial: Annotated[
        bool,
        typer.Option("--keep-partial", help="Where the training is interrupted, save the model to OUT.interrupted."),
    ] = False,
) -> None:
    """Train a model on a file of cells and save it.

    Ctrl-C and SIGTERM end the training with the exit status 130 or 143. Nothing is saved then, and an older model in
    the folder stays as it is; with --keep-partial the half-trained model goes to a folder beside it.
    """
    console = Console()
    with one_line_errors() as ending:
        from scmimic._files import check_output

        ending.message = "nothing was saved."
        find_files({"FILE": file})
        half = Path(f"{out}.interrupted") if keep_partial else None
        for folder in (out, half):
            if folder is not None:
                others = {"FILE": file, "--representation": representation}
                check_output(folder, overwrite=overwrite, folder=True, others=others, **_OUT)
        _quiet()
        import scvi

        from scmimic._cli._models import make_model
        from scmimic._progress import epochs
        from scmimic.cells import read_cells

        adata = read_cells(file)
        scvi.settings.seed = seed
        made = make_model(
            model,
            adata,
            representation,
            labels_key=labels,
            batch_key=batch,
            categorical_covariate_keys=covariate or None,
            continuous_covariate_keys=continuous_covariate or None,
            unlabeled_category=unlabeled,
            layer=layer,
            code_key=codes,
            gene_likelihood=likelihood,
        )
        try:
            further: dict[str, Any] = {} if console.is_terminal else {"callbacks": [epochs("Training")]}
            made.train(max_epochs=max_epochs, enable_progress_bar=console.is_terminal, **further)
            stop_if_interrupted(made)
        except (KeyboardInterrupt, Terminated):
            ending.message = _end_of_training(made, half)
            raise
        made.save(out, overwrite=overwrite)
    console.print(
        f"Trained {model} on {adata.n_obs} cells x {adata.n_vars} genes. Model in {escape(str(out))}.", highlight=False
    )


def _end_of_training(model: CellModel, half: Path | None) -> str:
    """Save a half-trained model to `half`, where there are both, and say what was done."""
    if not model.is_trained:
        return "training had not taken a step; nothing was saved."
    after = f"after {model.trainer.current_epoch} of {model.trainer.max_epochs} epochs of training"
    if half is None:
        return f"{after}; nothing was saved."
    model.save(half, overwrite=True)
    return f"{after}; the half-trained model is in {half}."


@app.command()
def generate(
    model_dir: ModelDir,
    n: Annotated[int | None, typer.Option(min=1, help="Number of cells.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="A cell type; repeat for several. TYPE=COUNT asks for a number of its own, without --n."),
    ] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE of the batch or a covariate; repeat for several, which share the cells."),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Table (.csv, .tsv) or cells (.h5ad, .zarr): one cell is made for each row, as its columns say."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write, .h5ad or .zarr.")] = Path("synthetic.h5ad"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Write in parts, and go on with those that a killed command has left.")
    ] = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Generate cells with a saved model."""
    console = Console()
    with one_line_errors() as ending:
        from scmimic._files import CELL_ENDINGS, check_output

        ending.message = f"nothing was written to {out}."
        find_files({"MODEL_DIR": model_dir, "--like": like})
        if like is not None and (n is not None or labels or covariate):
            raise ValueError("--like says what every cell is: leave --n, --labels and --covariate out.")
        request = None if like is not None else parse_labels(labels, n)
        others = {"MODEL_DIR": model_dir} | ({} if like is None else {"--like": like})
        check_output(out, overwrite=overwrite, endings=CELL_ENDINGS, others=others, **_OUT)
        _quiet()
        from scmimic._cli._models import load_model, refuse_unknown

        model = load_model(model_dir, allow_pickle=allow_pickle)
        name = type(model).__name__
        if not hasattr(model, "generate"):
            raise ValueError(f"{model_dir} holds {name}, which generates no cells. Classify some: scmimic predict.")
        if model.was_interrupted_:
            logger.warning("The training of this model was interrupted before its end.")
        refuse_unknown(name, "generate", {"covariates": covariate, "like": like})
        if n is not None:
            refuse_counts(labels, model)
        further: dict[str, Any] = {}
        if covariate:
            further["covariates"] = parse_covariates(covariate, model)
        if like is not None:
            further["like"] = read_like(like, model)
        if resume:
            ending.message = f"the same command goes on with what is in {out}.unfinished."
        result = model.generate(n, labels=request, seed=seed, path=out, overwrite=overwrite, resume=resume, **further)
    console.print(f"{result.n_obs} cells x {result.n_vars} genes in {escape(str(out))}.", highlight=False)


@app.command()
def predict(
    model_dir: ModelDir,
    file: Annotated[Path, typer.Argument(help=f"Cells to classify, {CELLS}, with the genes of the training cells.")],
    out: Annotated[Path, typer.Option(help="Table to write, .csv: the cells and their types.")] = Path("types.csv"),
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each type, one column each.")
    ] = False,
    overwrite: Overwrite = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Classify cells with a saved ACTINN, or the classifier of an ACTIVA: their methods predict and classify."""
    console = Console()
    with one_line_errors() as ending:
        from scmimic._files import TABLE_ENDINGS, check_output, replacing

        ending.message = f"nothing was written to {out}."
        files = {"MODEL_DIR": model_dir, "FILE": file}
        find_files(files)
        check_output(out, overwrite=overwrite, endings=TABLE_ENDINGS, others=files, **_OUT)
        _quiet()
        from scmimic._cli._models import load_model
        from scmimic.cells import read_cells

        model = load_model(model_dir, allow_pickle=allow_pickle)
        ask = getattr(model, "predict", None) or getattr(model, "classify", None)
        if ask is None:
            raise ValueError(f"{model_dir} holds {type(model).__name__}, which knows no types: train an ACTINN.")
        types = ask(read_cells(file), soft=probabilities)
        with replacing(out, overwrite=overwrite) as path:
            types.to_csv(path, index_label="cell", header=True if probabilities else [model.labels_key_])
    console.print(f"Types of {len(types)} cells in {escape(str(out))}.", highlight=False)


@app.command()
def evaluate(
    real: Annotated[Path, typer.Argument(help=f"Real cells, {CELLS}, held out from the training.")],
    synthetic: Annotated[Path, typer.Argument(help="Synthetic cells with the same genes, .h5ad or .zarr.")],
    labels: Annotated[str | None, typer.Option(help="Column of .obs with the cell types, in all files.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="The training cells: needed to find copies, and a better yardstick.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Further real cells, to fit the PCA on.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer with the expression; .X if left out.")] = None,
    log1p: Annotated[
        bool, typer.Option("--log1p/--as-is", help="Log-normalise, or take the values as they are.")
    ] = True,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="all, a protocol (activa, michigan, groundgan) or a metric; repeat for several."),
    ] = None,
    report: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("report.html"),
    table: Annotated[Path | None, typer.Option(help="CSV file for the table, if wanted.")] = None,
    json: Annotated[
        Path | None, typer.Option(help="JSON file for verdict, alarms and overall rows, if wanted: for programs.")
    ] = None,
    trees: Annotated[
        int | None, typer.Option(min=1, help="Trees of each random forest; the default if left out.")
    ] = None,
    max_cells: Annotated[
        int | None, typer.Option(min=1, help="Cells compared per side; the default if left out.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Measure how real synthetic cells are, and write a page about it.

    The exit status is 3 where the numbers mean nothing: cells that cannot be compared, labels that are mixed up,
    copies. The page, which says why, is written then too. Cells that are only far from real ones are a result: 0.
    """
    # whole lines for who reads them from a file
    console = Console(highlight=False, soft_wrap=True)
    with one_line_errors(**_OF_EVALUATE) as ending:
        from scmimic._files import JSON_ENDINGS, PAGE_ENDINGS, TABLE_ENDINGS, check_output, replacing

        ending.message = "the evaluation is not complete."
        files = {"REAL": real, "SYNTHETIC": synthetic, "--train": train, "--reference": reference}
        find_files(files)
        check = partial(check_output, overwrite=overwrite, flag=_OUT["flag"])
        check(report, endings=PAGE_ENDINGS, others=files, name="--report")
        if table is not None:
            check(table, endings=TABLE_ENDINGS, others=files | {"--report": report}, name="--table")
        if json is not None:
            check(json, endings=JSON_ENDINGS, others=files, name="--json")
        _quiet()
        from scmimic.cells import read_cells
        from scmimic.tl.evaluation import run

        cells = {name: read_cells(file) for name, file in files.items() if file is not None}
        settings = {
            "labels_key": labels,
            "train": cells.get("--train"),
            "reference": cells.get("--reference"),
            "layer": layer,
            "log1p": log1p,
            "metrics": metrics or "all",
            "n_trees": trees,
            "max_cells": max_cells,
            "seed": seed,
        }
        evaluation = run(cells["REAL"], cells["SYNTHETIC"], settings)
        evaluation.to_html(report, overwrite=overwrite)
        if table is not None:
            with replacing(table, overwrite=overwrite) as path:
                evaluation.table.to_csv(path, index=False)
        if json is not None:
            evaluation.to_json(json, overwrite=overwrite)
    console.print(f"[bold]{escape(evaluation.verdict.headline)}[/]")
    for answer in evaluation.verdict.answers:
        detail = own_words(answer.detail, **_OF_EVALUATE)
        console.print(f"  {escape(answer.question)} {escape(answer.answer)}. {escape(detail)}")
    console.print(f"Report in {escape(str(report))}.")
    if not evaluation.verdict.is_meaningful:
        raise typer.Exit(_NO_MEANING)
