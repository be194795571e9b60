"""What registered data were like, in a few numbers, so that later changes are noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from scmimic._arrays import stored_values

# Cells whose every value is looked at.
_SAMPLED = 256
# Values of a dense matrix that are added in their own precision, row by row.
_MANY = 1_000_000
# The same values as another type or in another order of summation differ by less.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Changes:
    """What differs from a fingerprint, as parts of a sentence.

    Attributes
    ----------
    cells, genes
        Of their number, names or order.
    values
        Of the registered matrices, by where they are.
    columns
        Of the registered columns of ``.obs``, by where they are.
    """

    cells: str = ""
    genes: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.cells or self.genes or self.values or self.columns)

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.cells, self.genes, *self.values.values(), *self.columns.values())))


def take_fingerprint(manager: AnnDataManager, *, columns_only: bool = False) -> dict[str, Any]:
    """Fingerprint of what is registered with a manager, in plain numbers and texts.

    Shape, names of genes, and of each registered matrix the sum and a weighted sum of some cells, whatever their type
    and their sparse format; of each registered column its values. Nothing is copied but the cells of the sample.

    Parameters
    ----------
    manager
        That of the data.
    columns_only
        Leave the matrices and the genes out.
    """
    columns = {name: _of_column(column) for name, column in _columns(manager)}
    if columns_only:
        return {"columns": columns}
    names = _expression(manager).var_names.astype(str)
    return {
        "n_obs": int(manager.adata.n_obs),
        "n_vars": len(names),
        "genes": _digest("\n".join(names).encode()),
        "values": {name: matrix_fingerprint(x) for name, x in _matrices(manager)},
        "columns": columns,
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """What differs between two fingerprints of the same registration.

    Parameters
    ----------
    before, after
        As :func:`take_fingerprint` gives them; what one of them lacks is not compared.
    """
    columns = {
        name: f"`{name}` holds other values"
        for name, digest in after["columns"].items()
        if before["columns"].get(name, digest) != digest
    }
    if "values" not in before or "values" not in after:
        return Changes(columns=columns)
    cells = genes = ""
    if before["n_obs"] != after["n_obs"]:
        cells = f"there are {after['n_obs']} cells, and were {before['n_obs']}"
    if before["n_vars"] != after["n_vars"]:
        genes = f"there are {after['n_vars']} genes, and were {before['n_vars']}"
    elif before["genes"] != after["genes"]:
        genes = "the genes have other names or another order"
    values = {}
    for name, now in after["values"].items():
        then = before["values"].get(name, now)
        if not same_values(now, then):
            part = f", with a sum of {now[0]:,.8g} in place of {then[0]:,.8g}" if now[0] != then[0] else ""
            values[name] = f"the values of `{name}` changed{part}"
    return Changes(cells, genes, values, columns)


def same_values(now: list[float], then: list[float]) -> bool:
    """Whether two fingerprints of a matrix are those of the same values."""
    return bool(np.allclose(now, then, rtol=_ROUNDING, atol=0, equal_nan=True))


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def matrix_fingerprint(x: np.ndarray | sp.spmatrix) -> list[float]:
    """Sum of all values, and the sum of those of some cells, each with a weight of its own."""
    n, m = x.shape
    rows = np.unique(np.linspace(0, n - 1, min(n, _SAMPLED)).astype(np.int64))
    rng = np.random.default_rng(0)
    of_gene, of_cell = rng.uniform(0.5, 1.5, m), rng.uniform(0.5, 1.5, len(rows))
    return [_sum(stored_values(x)), float(of_cell @ (x[rows].astype(np.float64) @ of_gene))]


def _sum(values: np.ndarray) -> float:
    if values.ndim < 2 or values.dtype != np.float32 or values.size < _MANY:
        return float(values.sum(dtype=np.float64))
    # several times faster, and along memory NumPy adds in pairs, whose errors stay small and cancel each other
    return float(values.sum(axis=0 if values.flags.f_contiguous else 1).sum(dtype=np.float64))


def _of_column(values: pd.Series) -> str:
    """Of the values as text, whatever the type of the column."""
    codes, levels = pd.factorize(values)
    names = np.asarray(levels).astype(str).astype(object)
    # missing values have the last code
    hashes = np.append(pd.util.hash_array(names, categorize=False), 0)
    return _digest(hashes[codes].tobytes())


def _expression(manager: AnnDataManager) -> AnnData:
    where = manager.data_registry[REGISTRY_KEYS.X_KEY]
    return _holder(manager.adata, where)


def _holder(data: AnnData | MuData, where: Mapping[str, Any]) -> AnnData | MuData:
    """The object that a registered field is in."""
    modality = where.get("mod_key")
    if modality is None:
        return data
    assert isinstance(data, MuData)
    return data.mod[modality]


def _place(data: AnnData | MuData, where: Mapping[str, Any], attribute: str, key: str | None) -> str:
    modality = where.get("mod_key")
    holder = f"{'mdata' if isinstance(data, MuData) else 'adata'}{'' if modality is None else f'.mod[{modality!r}]'}"
    return f"{holder}.{attribute}" if key is None else f"{holder}.{attribute}[{key!r}]"


def _fields(manager: AnnDataManager) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for entry in manager.registry["field_registries"].values():
        if entry["data_registry"]:
            yield entry["data_registry"], entry["state_registry"]


def _own(key: str | None) -> bool:
    """Whether scvi-tools made an entry, of what the user named or of nothing."""
    return key is not None and str(key).startswith("_scvi")


def _matrices(manager: AnnDataManager) -> Iterator[tuple[str, Any]]:
    for where, _ in _fields(manager):
        attribute, key = where["attr_name"], where["attr_key"]
        if attribute in ("X", "layers", "obsm") and not _own(key):
            stored = getattr(_holder(manager.adata, where), attribute)
            if attribute == "X":
                yield _place(manager.adata, where, attribute, None), stored
            elif key in stored:
                yield _place(manager.adata, where, attribute, key), stored[key]


def _columns(manager: AnnDataManager) -> Iterator[tuple[str, pd.Series]]:
    for where, state in _fields(manager):
        keys = [*state.get("field_keys", ()), *state.get("columns", ())]
        if where["attr_name"] == "obs":
            keys = [state.get("original_key", where["attr_key"])]
        holder = _holder(manager.adata, where)
        for key in keys:
            if not _own(key) and key in holder.obs:
                yield _place(manager.adata, where, "obs", key), holder.obs[key]
