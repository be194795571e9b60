"""From cells that are asked for to an AnnData in memory or in a file, whole or in parts that outlive the process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad

from scmimic._files import CELL_ENDINGS, check_output
from scmimic._progress import progress
from scmimic.model.generation._output import Chunk, collect, stack, stream
from scmimic.model.generation._parts import Parts
from scmimic.model.generation._planned import PlannedCells


def check_path(path: str | os.PathLike | None, *, overwrite: bool, resume: bool, seed: int | None) -> Path | None:
    """Refuse a place that cells cannot be written to, and parts that no later call could go on with."""
    if resume and path is None:
        raise ValueError("`resume=True` goes on with a file that was begun: give its `path`.")
    if resume and seed is None:
        raise ValueError("`resume=True` needs a `seed`: a call that goes on must ask for the cells that were begun.")
    return None if path is None else check_output(path, overwrite=overwrite, endings=CELL_ENDINGS)


def deliver(
    planned: PlannedCells, *, batch_size: int, path: Path | None, overwrite: bool, resume: bool, silent: bool
) -> ad.AnnData:
    """Make the cells, in memory or to `path`, in chunks of at least `batch_size` cells or in parts."""
    with progress(planned.total, "Generating cells", silent=silent) as advance:
        if resume:
            assert path is not None
            parts = Parts(path, planned)
            advance(planned.total - parts.open())
            for n in parts.make(parts.missing()):
                advance(n)
            return parts.join(overwrite=overwrite)
        chunks = _told(_merge(planned.all(), batch_size), advance)
        if path is None:
            return collect(chunks, planned.about)
        return stream(chunks, planned.about, planned.total, path, overwrite=overwrite)


def _merge(blocks: Iterable[Chunk], batch_size: int) -> Iterator[Chunk]:
    """Gather blocks until they hold ``batch_size`` cells."""
    held: list[Chunk] = []
    for block in blocks:
        held.append(block)
        if sum(len(chunk.z) for chunk in held) >= batch_size:
            yield stack(held)
            held = []
    if held:
        yield stack(held)


def _told(chunks: Iterable[Chunk], advance: Any) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        advance(len(chunk.z))
