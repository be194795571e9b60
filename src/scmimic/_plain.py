"""Objects as plain values, which every version of Python, pandas and torch reads, and back.

Plain are None, numbers, text, bytes, lists, tuples, sets, dicts and tensors: what ``torch.load(weights_only=True)``
reads, which runs no code. Everything else becomes a dict that says what it is under the key :data:`TYPE`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

TYPE = "scmimic_type"
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_MASKED = ("Int", "UInt", "Float", "boolean", "string")

T = TypeVar("T", bound=type)
_CLASSES: dict[str, type] = {}


def saved_as(name: str) -> Callable[[T], T]:
    """Have objects of a class saved under a name, which stays when the class is moved or renamed.

    A dataclass is saved by its fields; another class has ``saved_state()``, a dict, and a class method
    ``from_saved_state(state)``.
    """

    def register(cls: T) -> T:
        _CLASSES[name] = cls
        return cls

    return register


def to_plain(value: Any, where: str, *, arrays: bool = True) -> Any:
    """The plain form of a value.

    Parameters
    ----------
    value
        Plain values, arrays, pandas objects, objects of a class with :func:`saved_as`, and containers of these.
    where
        What the user calls it, for the error.
    arrays
        Keep arrays as such. False: as lists, for what is handed on without :func:`from_plain`.

    Raises
    ------
    TypeError
        If something has no plain form.

    Examples
    --------
    >>> import numpy as np
    >>> to_plain({"weights": np.float32(0.5), "names": np.array(["a", "b"])}, "x", arrays=False)
    {'weights': 0.5, 'names': ['a', 'b']}
    >>> from_plain(to_plain(np.arange(3), "x"))
    array([0, 1, 2])
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach()
        # a view would bring along all that it is a part of
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, np.generic):
        if type(item := value.item()) in _SCALARS:
            return item
    elif isinstance(value, np.ndarray):
        return _plain_array(value, where) if arrays else to_plain(value.tolist(), where)
    elif isinstance(value, Mapping):
        items = [(to_plain(k, where), to_plain(v, f"{where}[{k!r}]", arrays=arrays)) for k, v in value.items()]
        return dict(items) if TYPE not in value else {TYPE: "dict", "items": items}
    elif isinstance(value, list | tuple | set):
        kind = next(kind for kind in (list, tuple, set) if isinstance(value, kind))
        return kind(to_plain(item, where, arrays=arrays) for item in value)
    elif isinstance(value, pd.DataFrame):
        columns = [_plain_column(value.iloc[:, i], f"{where}[{name!r}]") for i, name in enumerate(value.columns)]
        index, names = (_plain_index(axis, where) for axis in (value.index, value.columns))
        return {TYPE: "DataFrame", "index": index, "columns": names, "values": columns}
    elif isinstance(value, pd.Series):
        index, name = _plain_index(value.index, where), to_plain(value.name, where)
        return {TYPE: "Series", "index": index, "name": name, "values": _plain_column(value, where)}
    elif isinstance(value, pd.Index):
        return _plain_index(value, where)
    elif isinstance(value, str):
        return str.__str__(value)
    for name, cls in _CLASSES.items():
        if type(value) is cls:
            state_of = cls.saved_state if hasattr(cls, "saved_state") else _fields
            return {TYPE: name, "state": to_plain(state_of(value), where)}
    raise TypeError(
        f"`{where}` holds a {type(value).__module__}.{type(value).__qualname__}, which cannot be saved: a saved model "
        "consists of numbers, text, arrays, tables and tensors. Put one of these in its place, or delete it."
    )


def from_plain(value: Any) -> Any:
    """The value that :func:`to_plain` was given."""
    if isinstance(value, list | tuple | set):
        return type(value)(from_plain(item) for item in value)
    if not isinstance(value, Mapping):
        return value
    kind = value.get(TYPE)
    if kind is None:
        return {key: from_plain(item) for key, item in value.items()}
    if kind in _CLASSES:
        cls, state = _CLASSES[kind], from_plain(value["state"])
        return cls.from_saved_state(state) if hasattr(cls, "from_saved_state") else cls(**state)
    if kind not in _FROM:
        raise ValueError(f"It holds a {kind!r}, which this version of scmimic does not know.")
    return _FROM[kind](value)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain_array(values: np.ndarray, where: str) -> dict[str, Any]:
    plain = {TYPE: "array", "dtype": values.dtype.str, "shape": values.shape}
    if values.dtype.kind in "OU":
        return {**plain, "items": [to_plain(item, where) for item in values.ravel().tolist()]}
    if values.dtype.kind not in "biufcmM":
        raise TypeError(f"`{where}` holds an array of {values.dtype}, which cannot be saved: use numbers or text.")
    # bytes: the devices that tensors are loaded on do not know all types
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return {**plain, "bytes": torch.from_numpy(flat if flat.flags.writeable else flat.copy())}


def _array(plain: Mapping[str, Any]) -> np.ndarray:
    dtype, shape = np.dtype(plain["dtype"]), tuple(plain["shape"])
    if "bytes" in plain:
        values = plain["bytes"].cpu().numpy().view(dtype).reshape(shape)
        return values.astype(dtype.newbyteorder("="), copy=False)
    return np.fromiter(map(from_plain, plain["items"]), dtype=dtype, count=len(plain["items"])).reshape(shape)


def _plain_column(values: pd.Series | pd.Index, where: str) -> dict[str, Any]:
    """Values of a column or an index, without names."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categorical = values.array
        categories = _plain_index(dtype.categories, where)
        codes = _plain_array(np.asarray(categorical.codes), where)
        return {TYPE: "Categorical", "codes": codes, "categories": categories, "ordered": bool(dtype.ordered)}
    if _is_text(values):
        # plain text is an object column to one version of pandas and a text column to another
        return {TYPE: "text", "items": [None if pd.isna(item) else str(item) for item in values]}
    if isinstance(dtype, np.dtype):
        return _plain_array(values.to_numpy(), where)
    if str(dtype).startswith(_MASKED):
        items = [None if pd.isna(item) else to_plain(item, where) for item in values]
        return {TYPE: "masked", "dtype": str(dtype), "items": items}
    raise TypeError(f"`{where}` is a column of {dtype}, which cannot be saved: turn it into numbers or text.")


def _is_text(values: pd.Series | pd.Index) -> bool:
    if isinstance(values.dtype, pd.StringDtype):
        return values.dtype.na_value is np.nan
    return values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) == "string"


def _plain_index(index: pd.Index, where: str) -> dict[str, Any]:
    name = to_plain(index.name, where)
    if isinstance(index, pd.RangeIndex):
        return {TYPE: "RangeIndex", "range": (index.start, index.stop, index.step), "name": name}
    if isinstance(index, pd.MultiIndex):
        raise TypeError(f"`{where}` has an index of several levels, which cannot be saved: use one.")
    return {TYPE: "Index", "values": _plain_column(index, where), "name": name}


def _index(plain: Mapping[str, Any]) -> pd.Index:
    values = from_plain(plain["values"])
    # numbers in an object array stay objects, text becomes what pandas makes of it
    dtype = object if isinstance(values, np.ndarray) and values.dtype == object else None
    return pd.Index(values, dtype=dtype, name=plain["name"])


def _frame(plain: Mapping[str, Any]) -> pd.DataFrame:
    index, columns = from_plain(plain["index"]), from_plain(plain["columns"])
    frame = pd.DataFrame({i: from_plain(values) for i, values in enumerate(plain["values"])}, index=index)
    frame.columns = columns
    return frame


def _series(plain: Mapping[str, Any]) -> pd.Series:
    return pd.Series(from_plain(plain["values"]), index=from_plain(plain["index"]), name=plain["name"])


_FROM: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "array": _array,
    "dict": lambda plain: {key: from_plain(item) for key, item in plain["items"]},
    "text": lambda plain: plain["items"],
    "masked": lambda plain: pd.array(plain["items"], dtype=plain["dtype"]),
    "Categorical": lambda plain: pd.Categorical.from_codes(
        from_plain(plain["codes"]), from_plain(plain["categories"]), ordered=plain["ordered"]
    ),
    "Index": _index,
    "RangeIndex": lambda plain: pd.RangeIndex(*plain["range"], name=plain["name"]),
    "DataFrame": _frame,
    "Series": _series,
}
