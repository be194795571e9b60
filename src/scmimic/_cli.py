"""Command line: thin wrappers that say what went wrong in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scmimic import _keys
from scmimic._interrupts import SIGINT_STATUS, Terminated, stop_if_interrupted, terminable

if TYPE_CHECKING:
    from scmimic.model import ACTIVA

logger = logging.getLogger(__name__)

app = typer.Typer(
    help="Realistic synthetic single cells: AnnData files in, AnnData files out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything random.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there, once the new results are whole.")]
# What the arguments of a check are called here.
_OUT: dict[str, Any] = {"name": "--out", "flag": "--overwrite"}


@dataclass
class _Ending:
    """What to say where Ctrl-C or SIGTERM ends a command."""

    message: str = "nothing was written."


@contextmanager
def _one_line_errors() -> Iterator[_Ending]:
    """Turn an error of the user into one line on stderr and exit status 1, Ctrl-C into 130 and SIGTERM into 143."""
    ending, notes = _Ending(), logging.getLogger("scmimic._interrupts")
    disabled, notes.disabled = notes.disabled, True
    try:
        with terminable(by_ctrl_c=True):
            yield ending
    except (KeyboardInterrupt, Terminated) as error:
        _fail(f"Interrupted: {ending.message}", SIGINT_STATUS if isinstance(error, KeyboardInterrupt) else error.code)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, ImportError) as error:
        logger.debug("The command failed.", exc_info=True)
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        _fail(f"Error: {' '.join(str(message).split()) or type(error).__name__}", 1)
    finally:
        notes.disabled = disabled


def _fail(line: str, status: int) -> NoReturn:
    kind, _, text = line.partition(" ")
    Console(stderr=True).print(f"[bold red]{kind}[/] {escape(text)}", soft_wrap=True, highlight=False)
    raise typer.Exit(status) from None


def _quiet() -> None:
    """Keep the terminal for what the user asked for: no device banners, no hints on data loaders."""
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
    trees: Annotated[int, typer.Option(min=1, help="Trees of each random forest.")] = 1000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace also files of the same names that no demo has written.")
    ] = False,
) -> None:
    """Train on 700 packaged real cells, generate, measure and draw; minutes on a laptop, offline."""
    console = Console()
    _quiet()
    with _one_line_errors() as ending:
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
    file: Annotated[Path, typer.Argument(help="AnnData file (.h5ad) to train on.")],
    labels: Annotated[str | None, typer.Option(help="Column of .obs with the cell types.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("scmimic_model"),
    batch: Annotated[str | None, typer.Option(help="Column of .obs with the batch.")] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="Column of .obs with a condition, a donor, ... that cells can be asked for by; repeatable."),
    ] = None,
    continuous_covariate: Annotated[
        list[str] | None, typer.Option(help="The same of a column with numbers, such as a dose; repeatable.")
    ] = None,
    unlabeled: Annotated[
        str, typer.Option(help='Value of --labels that stands for no known type; "" where there is none.')
    ] = _keys.UNLABELED,
    layer: Annotated[str | None, typer.Option(help="Layer with the expression; .X if left out.")] = None,
    likelihood: Annotated[
        Literal["nb", "zinb", "poisson", "normal"],
        typer.Option(help="nb, zinb or poisson for raw counts; normal for any non-negative expression."),
    ] = "nb",
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; the model's default if left out.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    keep_partial: Annotated[
        bool,
        typer.Option("--keep-partial", help="Where the training is interrupted, save the model to OUT.interrupted."),
    ] = False,
) -> None:
    """Train ACTIVA on an AnnData file and save the model.

    Ctrl-C and SIGTERM end the training with the exit status 130 or 143. Nothing is saved then, and an older model in
    the folder stays as it is; with --keep-partial the half-trained model goes to a folder beside it.
    """
    console = Console()
    _quiet()
    with _one_line_errors() as ending:
        import scanpy as sc
        import scvi

        from scmimic._files import check_output
        from scmimic.model import ACTIVA

        ending.message = "nothing was saved."
        if not file.is_file():
            raise FileNotFoundError(f"There is no file {file}: give the path of an .h5ad file.")
        half = Path(f"{out}.interrupted") if keep_partial else None
        for folder in (out, half):
            if folder is not None:
                check_output(folder, overwrite=overwrite, folder=True, others={"FILE": file}, **_OUT)
        adata = sc.read_h5ad(file)
        scvi.settings.seed = seed
        ACTIVA.setup_anndata(
            adata,
            layer=layer,
            labels_key=labels,
            unlabeled_category=unlabeled or None,
            batch_key=batch,
            categorical_covariate_keys=covariate or None,
            continuous_covariate_keys=continuous_covariate or None,
        )
        model = ACTIVA(adata, gene_likelihood=likelihood)
        try:
            model.train(max_epochs=max_epochs, enable_progress_bar=console.is_terminal)
            stop_if_interrupted(model)
        except (KeyboardInterrupt, Terminated):
            ending.message = _end_of_training(model, half)
            raise
        model.save(out, overwrite=overwrite)
    console.print(
        f"Trained on {adata.n_obs} cells x {adata.n_vars} genes. Model in {escape(str(out))}.", highlight=False
    )


def _end_of_training(model: ACTIVA, half: Path | None) -> str:
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
    model_dir: Annotated[Path, typer.Argument(help="Folder that `scmimic train` or model.save() wrote.")],
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
        typer.Option(help="Table (.csv, .tsv) or cells (.h5ad): one cell is made for each row, as its columns say."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write, .h5ad or .zarr.")] = Path("synthetic.h5ad"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Load pickled objects too, which can run any program code.")
    ] = False,
) -> None:
    """Generate cells with a saved ACTIVA model."""
    console = Console()
    _quiet()
    with _one_line_errors() as ending:
        from scmimic._files import CELL_ENDINGS, check_output
        from scmimic.model import ACTIVA

        ending.message = f"nothing was written to {out}."
        if not model_dir.is_dir():
            raise FileNotFoundError(f"There is no folder {model_dir}: train a model with `scmimic train` first.")
        if like is not None and not like.is_file():
            raise FileNotFoundError(f"There is no file {like}: give the path of a .csv, .tsv or .h5ad file.")
        if like is not None and (n is not None or labels or covariate):
            raise ValueError("--like says what every cell is: leave --n, --labels and --covariate out.")
        request = None if like is not None else _parse_labels(labels, n)
        others = {"MODEL_DIR": model_dir} | ({} if like is None else {"--like": like})
        check_output(out, overwrite=overwrite, endings=CELL_ENDINGS, others=others, **_OUT)
        model = ACTIVA.load(model_dir, allow_pickle=allow_pickle)
        if model.was_interrupted_:
            logger.warning("The training of this model was interrupted before its end.")
        result = model.generate(
            n,
            labels=request,
            covariates=_parse_covariates(covariate, model),
            like=None if like is None else _read_like(like, model),
            seed=seed,
            path=out,
            overwrite=overwrite,
            silent=not console.is_terminal,
        )
    console.print(f"{result.n_obs} cells x {result.n_vars} genes in {escape(str(out))}.", highlight=False)


@app.command()
def evaluate(
    real: Annotated[Path, typer.Argument(help="AnnData file (.h5ad) of real cells, held out from the training.")],
    synthetic: Annotated[Path, typer.Argument(help="AnnData file of synthetic cells with the same genes.")],
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
    trees: Annotated[
        int | None, typer.Option(min=1, help="Trees of each random forest; the default if left out.")
    ] = None,
    max_cells: Annotated[
        int | None, typer.Option(min=1, help="Cells compared per side; the default if left out.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Measure how real synthetic cells are, and write a page about it."""
    console = Console()
    _quiet()
    with _one_line_errors() as ending:
        import scanpy as sc

        from scmimic._files import PAGE_ENDINGS, TABLE_ENDINGS, check_output, replacing
        from scmimic.tl.evaluation import run

        ending.message = "the evaluation is not complete."
        files = {"REAL": real, "SYNTHETIC": synthetic, "--train": train, "--reference": reference}
        for file in files.values():
            if file is not None and not file.is_file():
                raise FileNotFoundError(f"There is no file {file}: give the path of an .h5ad file.")
        check = partial(check_output, overwrite=overwrite, flag=_OUT["flag"])
        check(report, endings=PAGE_ENDINGS, others=files, name="--report")
        if table is not None:
            check(table, endings=TABLE_ENDINGS, others=files | {"--report": report}, name="--table")
        cells = {name: sc.read_h5ad(file) for name, file in files.items() if file is not None}
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
    console.print(f"[bold]{escape(evaluation.verdict.headline)}[/]", highlight=False)
    for answer in evaluation.verdict.answers:
        console.print(f"  {escape(answer.question)} {escape(answer.answer)}. {escape(answer.detail)}", highlight=False)
    console.print(f"Report in {escape(str(report))}.", highlight=False)


def _parse_labels(labels: list[str] | None, n: int | None) -> list[str] | dict[str, int] | None:
    """Read `TYPE` and `TYPE=COUNT`; a number after the last `=` is a count only where `n` is left out."""
    if n is None and not labels:
        raise ValueError("Say how many cells: --n 1000, or --labels TYPE=COUNT.")
    if not labels or n is not None:
        return labels or None
    counts: dict[str, int] = {}
    for text in labels:
        name, found, number = text.rpartition("=")
        if not found or not number.isdigit():
            raise ValueError(f"--labels {text!r} has no number of cells: write {text}=COUNT, or give --n.")
        counts[name] = counts.get(name, 0) + int(number)
    return counts


def _parse_covariates(texts: list[str] | None, model: ACTIVA) -> dict[str, list[Any]] | None:
    """Read `COLUMN=VALUE`; a column that stands several times has several values."""
    asked: dict[str, list[Any]] = {}
    for text in texts or ():
        key, found, value = text.partition("=")
        if not found or not value:
            raise ValueError(f"--covariate {text!r} has no value: write {key}=VALUE.")
        if key in model.continuous_covariates_:
            try:
                asked.setdefault(key, []).append(float(value))
            except ValueError:
                raise ValueError(f"--covariate {text!r}: {key!r} holds numbers, and {value!r} is none.") from None
        else:
            asked.setdefault(key, []).append(value)
    return asked or None


def _read_like(path: Path, model: ACTIVA) -> Any:
    """A table whose columns have the types of the training cells', or cells."""
    import pandas as pd
    import scanpy as sc

    if path.suffix == ".h5ad":
        return sc.read_h5ad(path, backed="r")
    if path.suffix not in (".csv", ".tsv"):
        raise ValueError(f"--like must end in .csv, .tsv or .h5ad, not {path.name!r}.")
    # a donor 1015 may be text to the model and a number to pandas
    table = pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t", dtype=str)
    return model._attributes.typed(table)
