"""Cells of one request, made by many processes or machines, through Dask."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anndata import AnnData

from scmimic import model as models
from scmimic._arguments import COUNT_OR_NONE, FLAG, PATH, SEED, check_arguments
from scmimic._extras import need
from scmimic._progress import progress
from scmimic.model.base import saved_name
from scmimic.model.generation.parts import Parts, check_path, plan_parts
from scmimic.tl._workers import sent

if TYPE_CHECKING:
    from distributed import Client

_CHECKED = {
    **dict.fromkeys(("model_dir", "store"), PATH),
    "n": COUNT_OR_NONE,
    "seed": SEED,
    **dict.fromkeys(("overwrite", "silent"), FLAG),
}

# Of processes of our own: Dask's setting, 64 KiB, hands every larger array back to the system at once, which takes as
# long again as the work does.
_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**25)}

# Times that a part is tried again whose maker raised an error, as a file system that is away does.
_RETRIES = 2


@dataclass(frozen=True)
class Work:
    """What a worker needs to make parts of the cells.

    Attributes
    ----------
    model_dir, path
        The saved model, and where the cells go; both as every worker sees them.
    token
        Tells the cells from others.
    arguments
        Those of the model's ``generate``.
    """

    model_dir: str
    path: str
    token: str
    arguments: Mapping[str, Any] = field(compare=False)

    def parts(self) -> Parts:
        """The parts of the cells."""
        model = getattr(models, saved_name(self.model_dir)).load(self.model_dir, allow_pickle=False)
        return plan_parts(model, Path(self.path), self.arguments)


_opening = threading.Lock()


@lru_cache(maxsize=1)
def _opened(work: Work) -> Parts:
    parts = work.parts()
    # the model, or the package, may be another one on this machine
    parts.check()
    return parts


@torch.inference_mode()
def _make(work: Work, number: int) -> int:
    """Make one part, and give its number of cells."""
    with _opening:
        parts = _opened(work)
    return sum(parts.make([number]))


def generate_distributed(
    model_dir: str | os.PathLike,
    n: int | None,
    store: str | os.PathLike,
    *,
    client: Client | None = None,
    labels: Any = None,
    seed: int = 0,
    overwrite: bool = False,
    silent: bool = False,
    **request: Any,
) -> AnnData:
    """Generate cells with all workers of a Dask cluster, into one store.

    The cells are those of the model's own ``generate`` with the same arguments, whatever the number of workers. They
    are made in parts of 4,096, each of which is written whole to the folder ``<store>.unfinished``, and put together
    when all are there. What a worker that is killed was at is made by another one; a part that is made twice is the
    same part. Where the call itself ends early, the same call goes on with the parts that are missing.

    Parameters
    ----------
    model_dir
        Directory of a saved model that generates, where every worker finds it.
    n
        Total number of cells; None where `labels` or ``like`` say it.
    store
        Where to write, ``.zarr`` or ``.h5ad``, on a disk that all workers and this process share.
    client
        Dask's client of the cluster. None: the current one, or where there is none a cluster on this machine with a
        process for each processor, for this call.
    labels
        Types, as in the model's ``generate``.
    seed
        Same seed, same cells, on one kind of device.
    overwrite
        Replace what is at `store`, once the new cells are whole.
    silent
        Show no progress bar.
    **request
        What else the model's ``generate`` takes to say which cells are made: ``covariates``, ``like``, ``codes``,
        ``library_size``, ``match_margins``, ``as_counts``. Not ``min_confidence``, since cells that may be rejected are
        drawn one after the other.

    Returns
    -------
    AnnData as of the model's ``generate``, backed by the store.

    Raises
    ------
    ImportError
        If Dask is not installed.
    ValueError
        If `model_dir` holds no model that generates, or an argument does not fit it, or ``<store>.unfinished`` holds
        parts of cells that were asked for otherwise.
    OSError
        If something is at `store` and `overwrite` is False, or nothing can be written there.

    See Also
    --------
    scmimic.model.ACTIVA.generate : In one process, with `path` into a file.
    scmimic.tl.augment : Real and synthetic cells together.

    Notes
    -----
    Each worker loads the model once, and draws for all `n` cells who they are (some tens of bytes per cell) before it
    makes its parts. Processes that Dask starts run torch on one thread each. A script that has a cluster made on
    this machine does so under ``if __name__ == "__main__":``, since the processes read the script again.

    Examples
    --------
    >>> import scmimic as sm
    >>> sm.tl.generate_distributed("model", 1_000_000, "cells.zarr", client=client)  # doctest: +SKIP
    """
    check_arguments(locals(), _CHECKED)
    need("distributed", extra="dask", what="`generate_distributed`")
    path = check_path(store, overwrite=overwrite, resume=True, seed=seed)
    assert path is not None
    arguments = {"n": n, "labels": labels, "seed": seed, **request}
    work = Work(os.fspath(Path(model_dir).resolve()), os.fspath(path.resolve()), "", arguments)
    parts = work.parts()
    work = Work(work.model_dir, work.path, parts.token, arguments)
    with _client(client) as connected, progress(parts.total, "Generating cells", silent=silent) as advance:
        advance(parts.total - parts.open())
        for made in _made(connected, work, parts.missing()):
            advance(made)
        return parts.join(overwrite=overwrite)


def _made(client: Client, work: Work, numbers: list[int]) -> Iterator[int]:
    """Have parts made; gives the number of cells of each."""
    from distributed import as_completed

    if not numbers:
        return
    shared = sent(work, client)
    futures = client.map(_make, [shared] * len(numbers), numbers, pure=False, retries=_RETRIES)
    try:
        for _, cells in as_completed(futures, with_results=True):
            yield cells
    finally:
        client.cancel([*futures, shared])


@contextmanager
def _client(given: Client | None) -> Iterator[Client]:
    """The client that is given, the current one, or one of a cluster of this machine's processors."""
    from distributed import Client, LocalCluster, default_client

    if given is None:
        try:
            given = default_client()
        except ValueError:
            n_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            # errors of the work are raised; what else would be told is that processes take long to end
            quiet: Any = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
            # also of processes that come in the place of killed ones
            with (
                _environment(_ENVIRONMENT),
                LocalCluster(n_workers=n_workers, threads_per_worker=1, **quiet) as cluster,
                Client(cluster) as own,
            ):
                yield own
            return
    yield given


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of processes that start meanwhile.

    Dask's configuration would not do: a former cluster of this process has left its settings among the variables, and
    these count more.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
