"""Cells from a file."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad

from scmimic._files import CELL_ENDINGS


def read_cells(path: str | os.PathLike, *, backed: bool = False) -> ad.AnnData:
    """Read an AnnData from an ``.h5ad`` file or a ``.zarr`` folder.

    Parameters
    ----------
    path
        The file or folder.
    backed
        Leave the values of an ``.h5ad`` file on disk.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If its name has another ending, or it holds no AnnData.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}: give the path of an {' or '.join(CELL_ENDINGS)} file.")
    if path.suffix not in CELL_ENDINGS:
        raise ValueError(f"{path} must end in {' or '.join(CELL_ENDINGS)}: other files of cells are not read.")
    try:
        if path.suffix == ".zarr":
            return ad.read_zarr(path)
        return ad.read_h5ad(path, backed="r" if backed else None)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} holds no AnnData, or is damaged: {said or type(error).__name__}") from error
