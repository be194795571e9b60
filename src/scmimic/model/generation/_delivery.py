"""From cells that are asked for to an AnnData in memory or in a file, whole or in parts that outlive the process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad

from scmimic._progress import progress
from scmimic.model.generation._output import Chunk, collect, stack, stream
from scmimic.model.generation._planned import PlannedCells
from scmimic.model.generation.parts import Parts


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
