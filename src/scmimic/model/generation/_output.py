"""Write generated cells chunk by chunk, in memory or to a file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr
from anndata.io import sparse_dataset, write_elem
from pandas.api.extensions import ExtensionDtype
from pandas.api.types import is_float_dtype

from scmimic import _keys
from scmimic._files import replacing
from scmimic._noise import without_noise
from scmimic.cells import (
    Attributes,
    AttributeValues,
    assemble,
    cell_names,
    gene_annotation,
    generated_type,
    generation_record,
    in_type,
    storable,
)
from scmimic.model.generation._unseen import GroupMeans
from scmimic.model.generation.codes._composition import Composition
from scmimic.model.generation.similarity import GOOD_TRUST

logger = logging.getLogger(__name__)


@dataclass
class Chunk:
    """Some generated cells: values (CSR), codes and attributes."""

    x: sp.csr_matrix
    z: np.ndarray
    attributes: AttributeValues


@dataclass
class CellDescription:
    """What is known of generated cells besides their values."""

    var: pd.DataFrame
    dtype: np.dtype
    model_name: str
    parameters: dict[str, Any]
    seed: int
    attributes: Attributes
    composition: Composition
    """The groups of the training cells."""
    means: GroupMeans | None
    """Their means, where cells of other groups are made by them."""
    source: str
    """Fingerprint of the model, and of what the parameters do not say of the request."""
    interrupted: bool
    """Whether the training of the model, or of what it was made on, was interrupted."""

    def __post_init__(self) -> None:
        self.dtype = generated_type(self.dtype)

    def check_names(self, path: Path) -> None:
        """Refuse columns that a file cannot hold before any cell is made."""
        names = [*(column.key for column in self.attributes.columns.values()), *self.attributes.continuous]
        if odd := [name for name in names if "/" in name]:
            raise ValueError(
                f"A {path.suffix} file holds no column with a slash in its name, and the model was set up with {odd}: "
                "generate without `path`, and rename the column before you write the cells."
            )

    def seen(self, values: AttributeValues) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
        """Whether the training cells have the like of each cell, and what is said of those that they have not.

        That is the number of cells of each combination, and how far its mean expression can be trusted; and of each
        number, how many cells lie beyond.
        """
        known, within = self.composition.has(values.codes), self.composition.within(values.numbers)
        codes, numbers = np.unique(values.codes[~known], axis=0, return_counts=True)
        names = [self.attributes.describe(row) for row in codes]
        said: dict[str, dict[str, Any]] = {_keys.UNSEEN: {name: int(n) for name, n in zip(names, numbers, strict=True)}}
        if self.means is not None:
            found = {name: self.means.foretell(row) for name, row in zip(names, codes, strict=True)}
            said[_keys.TRUST] = {name: float("nan") if one is None else one.trust for name, one in found.items()}
            _warn_of_distrust(said[_keys.TRUST])
        beyond = dict(zip(self.attributes.continuous, (~within).sum(axis=0).tolist(), strict=True))
        said[_keys.BEYOND] = {key: n for key, n in beyond.items() if n}
        self._warn_of_extrapolation(said[_keys.BEYOND])
        return known & within.all(axis=1), said

    def _warn_of_extrapolation(self, beyond: Mapping[str, int]) -> None:
        ranges = dict(zip(self.attributes.continuous, self.composition.bounds.T.tolist(), strict=True))
        for key, n in beyond.items():
            logger.warning("%r of %d cells lies beyond that of the training cells, %g to %g.", key, n, *ranges[key])


def _warn_of_distrust(trust: Mapping[str, float]) -> None:
    """Say which combinations are poorly foretold."""
    if unknown := [name for name, value in trust.items() if not np.isfinite(value)]:
        logger.warning(
            "Nothing says how good cells of %s are: it takes two other types or more that were seen both under what is "
            "asked and under what the type itself was seen.",
            _some(unknown),
        )
    told = {name: f"{name} (trust {value:.2f})" for name, value in trust.items()}
    if poor := [told[name] for name, value in trust.items() if value <= 0]:
        logger.warning(
            "The mean expression of %s is not foretold: what the other types say of one another's is no better than "
            "each type's mean.",
            _some(poor),
        )
    if doubtful := [told[name] for name, value in trust.items() if 0 < value < GOOD_TRUST]:
        logger.warning(
            "Take the mean expression of %s with caution: the other types foretell less than half of what sets such "
            "cells of theirs apart from the type's mean. A small difference has a low trust too, since it is mostly "
            "noise; on a large one, build nothing before `sm.tl.holdout_arithmetic` with combinations that you have, "
            "or real cells, confirm it.",
            _some(doubtful),
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def stack(chunks: Sequence[Chunk]) -> Chunk:
    """Several chunks as one."""
    return Chunk(
        sp.vstack([chunk.x for chunk in chunks], format="csr"),
        np.concatenate([chunk.z for chunk in chunks]),
        AttributeValues.stacked([chunk.attributes for chunk in chunks]),
    )


def in_order(chunks: Iterable[Chunk], order: np.ndarray) -> Chunk:
    """All chunks as one, whose cell i is the cell ``order[i]`` of theirs."""
    whole = stack(list(chunks))
    return Chunk(whole.x[order], whole.z[order], whole.attributes.take(order))


def collect(chunks: Iterable[Chunk], about: CellDescription) -> ad.AnnData:
    """Gather all chunks into one AnnData in memory."""
    whole = stack(list(chunks))
    result = assemble(
        whole.x,
        about.var,
        about.attributes,
        whole.attributes,
        model_name=about.model_name,
        parameters=about.parameters,
        seed=about.seed,
        source=about.source,
        obsm={_keys.latent(about.model_name): whole.z},
        dtype=about.dtype,
    )
    result.uns[_keys.UNS][_keys.INTERRUPTED] = about.interrupted
    if about.attributes.keys:
        result.obs[_keys.OBS_SEEN], said = about.seen(whole.attributes)
        result.uns[_keys.UNS] |= {key: storable(value) for key, value in said.items()}
    return result


def stream(
    chunks: Iterable[Chunk], about: CellDescription, n: int, path: Path, *, overwrite: bool = False
) -> ad.AnnData:
    """Write chunk after chunk to ``path``; only codes of labels are held for all cells."""
    about.check_names(path)
    with replacing(path, overwrite=overwrite) as partial, without_noise():
        group = h5py.File(partial, "w") if path.suffix == ".h5ad" else zarr.open_group(partial, mode="w")
        try:
            _write(group, chunks, about, n)
        finally:
            if isinstance(group, h5py.File):
                group.close()
    if path.suffix == ".h5ad":
        return ad.read_h5ad(path, backed="r")
    return _open_zarr(path)


def _write(group: h5py.File | zarr.Group, chunks: Iterable[Chunk], about: CellDescription, n: int) -> None:
    empty = ad.AnnData(obs=pd.DataFrame(index=pd.RangeIndex(0).astype(str)), var=gene_annotation(about.var))
    record = generation_record(about.model_name, about.parameters, about.seed)
    empty.uns[_keys.UNS] = record | {_keys.INTERRUPTED: about.interrupted}
    write_elem(group, "/", empty)
    # an empty `raw` would make a backed AnnData look for raw values
    if "raw" in group:
        del group["raw"]
    x: Any = None
    latent: Any = None
    attributes, start = [], 0
    for chunk in chunks:
        values = in_type(chunk.x, about.dtype)
        # 64-bit offsets from the start: the whole may outgrow what the first chunk needs
        values.indptr = values.indptr.astype(np.int64)
        if x is None:
            write_elem(group, "X", values)
            x = sparse_dataset(group["X"])
            latent = _latent_array(group["obsm"], _keys.latent(about.model_name), (n, chunk.z.shape[1]), chunk.z.dtype)
        else:
            x.append(values)
        latent[start : start + len(chunk.z)] = chunk.z
        start += len(chunk.z)
        attributes.append(chunk.attributes)
    obs = pd.DataFrame(index=cell_names(n, record, about.source))
    values = AttributeValues.stacked(attributes)
    for name, column, colors in about.attributes.restore(values, obs.index):
        obs[name] = _writable(column)
        for key, shades in colors.items():
            write_elem(group["uns"], key, shades)
    if about.attributes.keys:
        obs[_keys.OBS_SEEN], said = about.seen(values)
        for key, value in said.items():
            write_elem(group[f"uns/{_keys.UNS}"], key, storable(value))
    # anndata asks for consent to write pandas' nullable text, since its older versions cannot read it
    consent = {"allow_write_nullable_strings": True} if "string" in map(str, obs.dtypes) else {}
    with ad.settings.override(**consent):
        write_elem(group, "obs", obs)


def _writable(column: pd.Series) -> pd.Series:
    """The column, as NumPy's type where anndata cannot write pandas' own."""
    dtype = column.dtype
    is_odd = is_float_dtype(dtype) and isinstance(dtype, ExtensionDtype)
    return column.astype(dtype.numpy_dtype) if is_odd else column


def _latent_array(group, name: str, shape: tuple[int, int], dtype: np.dtype):
    create = group.create_dataset if isinstance(group, h5py.Group) else group.create_array
    array = create(name, shape=shape, dtype=dtype)
    array.attrs["encoding-type"] = "array"
    array.attrs["encoding-version"] = "0.2.0"
    return array


def _open_zarr(path: Path) -> ad.AnnData:
    group = zarr.open_group(path, mode="r")
    rest: dict[str, Any] = {key: ad.io.read_elem(group[key]) for key in ("obs", "var", "uns", "obsm")}
    return ad.AnnData(X=sparse_dataset(group["X"]), **rest)
