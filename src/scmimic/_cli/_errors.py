"""What a command says on stderr: errors in one line and the words of the command line, and progress in a file."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from scmimic._interrupts import SIGINT_STATUS, Terminated, terminable

logger = logging.getLogger(__name__)

WORDS = {
    "adata": "FILE",
    "allow_pickle": "--allow-pickle",
    "batch_key": "--batch",
    "categorical_covariate_keys": "--covariate",
    "code_key": "--codes",
    "continuous_covariate_keys": "--continuous-covariate",
    "covariates": "--covariate",
    "gene_likelihood": "--likelihood",
    "labels": "--labels",
    "labels_key": "--labels",
    "layer": "--layer",
    "like": "--like",
    "log1p": "--log1p",
    "max_cells": "--max-cells",
    "max_epochs": "--max-epochs",
    "metrics": "--metrics",
    "n": "--n",
    "n_trees": "--trees",
    "overwrite": "--overwrite",
    "reference": "--reference",
    "resume": "--resume",
    "seed": "--seed",
    "synthetic": "SYNTHETIC",
    "train": "--train",
    "unlabeled_category": "--unlabeled",
}
"""What the arguments of Python are called on the command line, where a command has no other name for them."""
_VALUES = {
    "allow_pickle=True": "--allow-pickle",
    "log1p=False": "--as-is",
    "overwrite=True": "--overwrite",
    "resume=True": "--resume",
    "unlabeled_category=None": '--unlabeled ""',
}
# an argument in backticks, or with its value
_ARGUMENT = re.compile(
    r"`(?P<name>{0})(?:=(?P<value>[^`]*))?`|(?<![\w.`])(?P<bare>{0})=(?P<bare_value>'[^']*'|[\w.]+)".format(
        "|".join(WORDS)
    )
)


@dataclass
class Ending:
    """What to say where Ctrl-C or SIGTERM ends a command."""

    message: str = "nothing was written."


@contextmanager
def one_line_errors(**words: str) -> Iterator[Ending]:
    """Turn an error of the user into one line on stderr and exit status 1, Ctrl-C into 130 and SIGTERM into 143.

    Parameters
    ----------
    **words
        What the command calls arguments of Python, where that is not as in :data:`WORDS`.
    """
    ending, notes = Ending(), logging.getLogger("scmimic._interrupts")
    disabled, notes.disabled = notes.disabled, True
    try:
        with _lines_of_progress(), warnings.catch_warnings(), terminable(by_ctrl_c=True):
            warnings.showwarning = partial(_say, words=words)
            # for who writes programs, not for who runs one
            for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            yield ending
    except (KeyboardInterrupt, Terminated) as error:
        _fail(f"Interrupted: {ending.message}", SIGINT_STATUS if isinstance(error, KeyboardInterrupt) else error.code)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, ImportError) as error:
        logger.debug("The command failed.", exc_info=True)
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        _fail(f"Error: {own_words(' '.join(str(message).split()), **words) or type(error).__name__}", 1)
    finally:
        notes.disabled = disabled


@contextmanager
def _lines_of_progress() -> Iterator[None]:
    """Within the block, write the lines of works that have no bar since nobody watches."""
    progress, handler = logging.getLogger("scmimic._progress"), logging.StreamHandler()
    before = progress.level, progress.propagate
    progress.addHandler(handler)
    progress.setLevel(logging.INFO)
    progress.propagate = False
    try:
        yield
    finally:
        progress.removeHandler(handler)
        progress.setLevel(before[0])
        progress.propagate = before[1]


def own_words(message: str, **words: str) -> str:
    """A message of the Python functions, with their arguments as the options of the command line, or as `words` say."""
    names = WORDS | words

    def option(found: re.Match) -> str:
        name, value = found["name"] or found["bare"], found["value"] or found["bare_value"]
        if value is None:
            return names[name]
        return _VALUES.get(f"{name}={value}", f"{names[name]} {value.strip(chr(39))}")

    return _ARGUMENT.sub(option, message)


def _say(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
    *,
    words: Mapping[str, str],
) -> None:
    """Show a warning without the place in the code that it comes from."""
    text = own_words(" ".join(str(message).split()), **words)
    Console(stderr=True).print(f"[bold yellow]Warning:[/] {escape(text)}", soft_wrap=True, highlight=False)


def _fail(line: str, status: int) -> NoReturn:
    kind, _, text = line.partition(" ")
    Console(stderr=True).print(f"[bold red]{kind}[/] {escape(text)}", soft_wrap=True, highlight=False)
    raise typer.Exit(status) from None
