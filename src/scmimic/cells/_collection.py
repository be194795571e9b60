"""Collections of cells on disk, sharded zarr stores that annbatch writes and reads in pieces."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from scmimic._arrays import Matrix
from scmimic._extras import need
from scmimic._files import check_output, replacing
from scmimic.cells._checks import check_unique_genes
from scmimic.cells._layers import where_is

CHUNK, HELD = 256, 8192
"""Cells that lie beside each other and are read together, and cells that are held and mixed at once."""


class Batch(NamedTuple):
    """Some cells of a collection, and their rows in it."""

    x: Matrix
    rows: np.ndarray


def need_annbatch(what: str) -> Any:
    """The package annbatch, or an ImportError that says how to get it."""
    way = "It is for Python 3.12 or newer. " if sys.version_info < (3, 12) else ""
    hint = f"{way}Data that fit in memory need none of it: `setup_anndata`."
    return need("annbatch", extra="annbatch", what=what, hint=hint)


def build_collection(
    path: str | os.PathLike,
    files: Sequence[str | os.PathLike],
    *,
    layer: str | None,
    overwrite: bool,
    shuffle: bool,
    dataset_size: int | str,
    rng: np.random.Generator,
) -> None:
    """Write cells of several files to one collection, which takes its place when it is whole.

    Parameters
    ----------
    path
        Folder to write, a ``.zarr``.
    files
        The ``.h5ad`` and ``.zarr`` with the cells.
    layer
        Layer of the expression; None: ``X``.
    overwrite
        Replace what is there.
    shuffle
        Write the cells in random order.
    dataset_size
        Cells, or a size such as ``"2GB"``, that are held in memory and shuffled at once.
    rng
        Of the order.
    """
    annbatch = need_annbatch("A collection of cells")
    import zarr

    target = check_output(
        path,
        overwrite=overwrite,
        endings=(".zarr",),
        others={f"`paths` ({file})": file for file in files},
        name="`collection_path`",
        flag="`rebuild=True`",
    )
    with ExitStack() as opened:
        sources = {os.fspath(file): _open(file, opened) for file in files}
        first, names = None, None
        for file, source in sources.items():
            genes = _checked(source, file, layer)
            if names is None:
                first, names = file, genes
            elif set(genes) != set(names):
                raise ValueError(
                    f"{file} has other genes than {first}: {len(set(genes) - set(names))} that the first lacks, "
                    f"{len(set(names) - set(genes))} that it lacks itself. Write files of the same genes."
                )
        order = pd.Index(names)

        def load(file: str) -> ad.AnnData:
            source = sources[file]
            x = ad.experimental.read_elem_lazy(_expression(source, layer))
            cells = ad.AnnData(X=x, obs=ad.io.read_elem(source["obs"]), var=ad.io.read_elem(source["var"]))
            return cells if cells.var_names.equals(order) else cells[:, order]

        with replacing(target, overwrite=overwrite) as folder:
            annbatch.DatasetCollection(zarr.open_group(folder, mode="w", zarr_format=3)).add_adatas(
                list(sources), load_adata=load, shuffle=shuffle, dataset_size=dataset_size, rng=rng
            )


def _open(file: str | os.PathLike, opened: ExitStack) -> Any:
    """A file of cells, for reading."""
    if not Path(file).exists():
        raise FileNotFoundError(f"There is no {os.fspath(file)}, which `paths` names.")
    if Path(file).is_dir():
        import zarr

        return zarr.open_group(file, mode="r")
    import h5py

    return opened.enter_context(h5py.File(file, "r"))


def _expression(source: Any, layer: str | None) -> Any:
    return source["X" if layer is None else f"layers/{layer}"]


def _checked(source: Any, file: str, layer: str | None) -> pd.Index:
    """Names of the genes of a file whose expression can be streamed."""
    layers = list(source["layers"]) if "layers" in source else []
    if (layer is None and "X" not in source) or (layer is not None and layer not in layers):
        raise KeyError(f"{file} has no {where_is(layer)}. Layers: {layers}.")
    if _expression(source, layer).attrs.get("encoding-type") == "csc_matrix":
        raise ValueError(
            f"{where_is(layer)} of {file} is stored by gene (CSC), from which no cells can be read one after the "
            "other. Write it by cell: `.tocsr()`."
        )
    names = pd.Index(ad.io.read_elem(source["var"]).index)
    check_unique_genes(names, file)
    return names


class CellCollection:
    """Cells of a collection, read in pieces.

    Parameters
    ----------
    path
        The collection.

    Attributes
    ----------
    obs
        What is said of all cells, in their order there.
    var
        The genes.
    """

    def __init__(self, path: str | os.PathLike):
        annbatch = need_annbatch("A collection of cells")
        import zarr

        self._collection = annbatch.DatasetCollection(zarr.open_group(path, mode="r"))
        if self._collection.is_empty:
            raise ValueError(
                f"{os.fspath(path)} holds no collection that was written to its end. Give the files it is made of, "
                "`paths=[...]`, and `rebuild=True`."
            )
        parts = [ad.io.read_elem(group["obs"]) for group in self._collection]
        self.obs = pd.concat(parts, ignore_index=True)
        self.obs.index = self.obs.index.astype(str)
        self.var = ad.io.read_elem(next(iter(self._collection))["var"])

    @property
    def n_obs(self) -> int:
        """Cells of the collection."""
        return len(self.obs)

    def pieces(self, rows: slice, size: int = 1024) -> Batches:
        """Its cells from one row to another, in their order."""
        from annbatch.samplers import SequentialSampler

        return self._batches(SequentialSampler(**self._reading(size), batch_size=size, mask=rows))

    def at(self, rows: np.ndarray) -> Iterator[Batch]:
        """Cells of these ascending rows."""
        for x, read in self.pieces(slice(int(rows[0]), int(rows[-1]) + 1)):
            low, high = np.searchsorted(rows, [read[0], read[-1] + 1])
            if low < high:
                yield Batch(x[rows[low:high] - read[0]], rows[low:high])

    def shuffled(self, rows: slice, size: int, rng: np.random.Generator) -> Batches:
        """Batches of its cells from one row to another, in random order, another one at each pass."""
        from annbatch.samplers import RandomSampler

        return self._batches(RandomSampler(**self._reading(size), batch_size=size, mask=rows, rng=rng))

    def _reading(self, size: int) -> dict[str, int]:
        """What is read at once: whole batches, about as many as hold the usual number of cells."""
        chunk = CHUNK if size % CHUNK == 0 else size
        return {"chunk_size": chunk, "preload_nchunks": max(round(HELD / size), 1) * size // chunk}

    def _batches(self, sampler: Any) -> Batches:
        loader = need_annbatch("A collection of cells").Loader(
            batch_sampler=sampler, return_index=True, preload_to_gpu=False
        )
        with _fast_codecs():
            loader.use_collection(self._collection, load_adata=_expression_alone)
        return Batches(loader)


def _expression_alone(group: Any) -> ad.AnnData:
    x = group["X"]
    return ad.AnnData(X=x if hasattr(x, "dtype") else ad.io.sparse_dataset(x))


class Batches:
    """Cells of a collection in batches, as often as they are asked for; annbatch's loader with names."""

    def __init__(self, loader: Any):
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        batches = (Batch(batch["X"], batch["index"]) for batch in self._loader)
        # the first one opens the arrays
        with _fast_codecs():
            first = list(islice(batches, 1))
        return chain(first, batches)


@contextmanager
def _fast_codecs() -> Iterator[None]:
    """Have arrays that are opened within the block read by zarrs, in a quarter of the time."""
    import zarr

    path = "zarrs.ZarrsCodecPipeline" if find_spec("zarrs") else zarr.config.get("codec_pipeline.path")
    with zarr.config.set({"codec_pipeline.path": path}):
        yield
