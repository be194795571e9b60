"""What the user asks for, read from the text of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scmimic.model.base import CellModel, GenerativeVAE

# What stands in the place of a file that is not there.
_WAYS_OUT = {
    "MODEL_DIR": "train a model with `scmimic train` first",
    "--like": "give the path of a .csv, .tsv, .h5ad or .zarr file",
}


def find_files(files: Mapping[str, Path | None]) -> None:
    """Refuse what is not there, by the names that the command line has for it; None is left out."""
    for name, file in files.items():
        if file is None or (file.is_dir() if name == "MODEL_DIR" or file.suffix == ".zarr" else file.is_file()):
            continue
        kind = "folder" if name == "MODEL_DIR" else "file"
        way_out = _WAYS_OUT.get(name, "give the path of an .h5ad or .zarr file")
        raise FileNotFoundError(f"There is no {kind} {file}: {way_out}.")


def parse_labels(labels: list[str] | None, n: int | None) -> list[str] | dict[str, int] | None:
    """Read `TYPE` and `TYPE=COUNT`; a number after the last `=` is a count only where `n` is left out."""
    if n is None and not labels:
        raise ValueError("Say how many cells: --n 1000, or --labels TYPE=COUNT.")
    if not labels or n is not None:
        return labels or None
    counts: dict[str, int] = {}
    for text in labels:
        name, number = _type_and_count(text)
        if number is None:
            raise ValueError(f"--labels {text!r} has no number of cells: write {text}=COUNT, or give --n.")
        counts[name] = counts.get(name, 0) + number
    return counts


def refuse_counts(labels: list[str] | None, model: CellModel) -> None:
    """Refuse `TYPE=COUNT` beside `--n`, unless a type is called so."""
    known = model._labels
    for text in labels or ():
        name, number = _type_and_count(text)
        if known is not None and number is not None and known.code(text) is None:
            raise ValueError(f"--labels {text!r} has a number of its own: leave --n out, or write {name!r}.")


def _type_and_count(text: str) -> tuple[str, int | None]:
    name, _, number = text.rpartition("=")
    return (name, int(number)) if "=" in text and number.isdigit() else (text, None)


def parse_covariates(texts: list[str] | None, model: GenerativeVAE) -> dict[str, list[Any]] | None:
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


def read_like(path: Path, model: GenerativeVAE) -> Any:
    """A table whose columns have the types of the training cells', or cells."""
    import pandas as pd

    from scmimic._files import CELL_ENDINGS
    from scmimic.cells import read_cells

    if path.suffix in CELL_ENDINGS:
        return read_cells(path, backed=True)
    if path.suffix not in (".csv", ".tsv"):
        raise ValueError(f"--like must end in .csv, .tsv, .h5ad or .zarr, not {path.name!r}.")
    # a donor 1015 may be text to the model and a number to pandas
    table = pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t", dtype=str)
    return model._attributes.typed(table)
