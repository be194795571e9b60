"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A place beside `path` to write to; what stands there at the end takes the place of `path`.

    If writing fails, an older file stays as it was and nothing is left behind. A folder replaces a folder, as zarr
    needs it. What is no file, such as ``/dev/stdout``, is handed back to be written to directly.

    Parameters
    ----------
    path
        Where the result is wanted; a link is followed.

    Yields
    ------
    Path with the same endings.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        yield path
        return
    target = Path(os.path.realpath(path))
    # the ending stays: some writers choose format or compression by it
    partial = target.with_name(f".partial-{target.name}")
    _remove(partial)
    try:
        yield partial
        if partial.is_dir() and target.is_dir():
            _remove(target)
        os.replace(partial, target)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
