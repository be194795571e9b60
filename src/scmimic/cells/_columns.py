"""Columns of ``.obs`` that say what a cell is: its label, its batch.

Models work with codes and with names (text); users have numbers, truth values, text and categories of these. A
:class:`ObsColumn` leads from the one to the other and back, so that generated cells have the column as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from pandas.api.extensions import ExtensionDtype
from pandas.api.types import is_bool_dtype, is_numeric_dtype, pandas_dtype

from scmimic import _keys

Value: TypeAlias = str | int | float | bool
Values: TypeAlias = Value | Sequence[Value]
Kind = Literal["text", "integers", "decimals", "truth values"]

# How a column is brought to a kind.
_CONVERSION = {
    "text": ".astype(str)",
    "integers": ".astype(int)",
    "decimals": ".astype(float)",
    "truth values": ".astype(bool)",
}


def kind_of(value: Any) -> Kind | None:
    """Kind of a single value; None for what serves as no label.

    Examples
    --------
    >>> kind_of("B"), kind_of(np.int8(1)), kind_of(True), kind_of(None)
    ('text', 'integers', 'truth values', None)
    """
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | np.bool_):
        return "truth values"
    if isinstance(value, Integral):
        return "integers"
    return "decimals" if isinstance(value, Real) and value == value else None


def _reads_as(value: Any, kind: Kind) -> bool:
    """Whether a value is of a kind, or the text of such a number."""
    number = {"integers": int, "decimals": float}.get(kind)
    if isinstance(value, str) and number is not None:
        try:
            number(value)
        except ValueError:
            return False
        return True
    return kind_of(value) == kind


def as_list(values: Any) -> list[Any]:
    """Several values, or one, as a list.

    Examples
    --------
    >>> as_list("B"), as_list(0), as_list(np.array([0, 1]))
    (['B'], [0], [0, 1])
    """
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return list(values) if np.iterable(values) and not isinstance(values, str) else [values]


def _plain(value: Any) -> Any:
    """The value in Python's own type."""
    match kind_of(value):
        case "decimals":
            # by its digits, so that 1.1 in single precision is 1.1
            return float(str(value))
        case "text":
            return str(value)
        case "truth values":
            return bool(value)
        case "integers":
            return int(value)
    return value


def _same(value: Any, other: Any) -> bool:
    """Whether two values mean the same label: by their text, or as numbers."""
    kinds = {kind_of(value), kind_of(other)}
    if None in kinds:
        return False
    if "text" in kinds:
        return str(value) == str(other)
    return value == other and ("truth values" not in kinds or len(kinds) == 1)


def complete_column(
    obs: pd.DataFrame, key: str, argument: str, *, name: str = "adata", unlabeled: Any = None
) -> pd.Series:
    """A column without missing values, or what is wrong with it.

    Parameters
    ----------
    obs
        The table.
    key
        The column.
    argument
        What names the column, for messages.
    name
        What the cells are called.
    unlabeled
        The value that means "not known", where there can be one.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If values are missing, or several columns have the name.
    """
    if key not in obs:
        # those of scvi-tools' bookkeeping are nobody's to name
        columns = [column for column in obs.columns if not str(column).startswith("_scvi_")]
        raise KeyError(f"`{argument}={key!r}`: there is no such column in `{name}.obs`. Columns: {columns}.")
    values = obs[key]
    column = f"{name}.obs[{key!r}]"
    if isinstance(values, pd.DataFrame):
        raise ValueError(f"There are {values.shape[1]} columns `{column}`. Give each a name of its own.")
    n = int(values.isna().sum())
    if n:
        fill = f", or fill the column with the unlabeled category: `{column} = {column}.astype(object).fillna("
        raise ValueError(
            f"{n} of {len(obs)} cells have no value in `{column}`. Remove these cells: "
            f"`{name} = {name}[{column}.notna()].copy()`{'' if unlabeled is None else f'{fill}{unlabeled!r})`'}."
        )
    return values


def check_column(
    obs: pd.DataFrame, key: str, argument: str, *, name: str = "adata", unlabeled: Any = None
) -> pd.Series:
    """A complete column whose values are all of one kind, such as labels; or what is wrong with it.

    Parameters
    ----------
    obs, key, argument, name
        As for :func:`complete_column`.
    unlabeled
        The value that means "not known", where there can be one; it may be of another kind.

    Raises
    ------
    KeyError, ValueError
        As :func:`complete_column`; also if there are values of several kinds, such as 1 and "1".
    TypeError
        If values are neither text nor numbers nor truth values.

    Examples
    --------
    >>> check_column(pd.DataFrame({"x": [1, "1"]}), "x", "labels_key")
    Traceback (most recent call last):
    ...
    ValueError: `adata.obs['x']` holds integers (1) and text ('1'). Make them one kind...
    """
    values = complete_column(obs, key, argument, name=name, unlabeled=unlabeled)
    column = f"{name}.obs[{key!r}]"
    levels = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    examples: dict[Kind | None, Any] = {}
    # only columns of objects can hold several kinds
    for value in levels if levels.dtype == object else levels[:1]:
        kind = kind_of(value)
        if kind not in examples and not _same(value, unlabeled):
            examples[kind] = value
    if None in examples:
        raise TypeError(
            f"`{column}` holds values of type {type(examples[None]).__name__}, such as {examples[None]}. They must be "
            f"text, integers, decimals or truth values: `{column} = {column}.astype(str)`."
        )
    if len(examples) > 1:
        found = " and ".join(f"{kind} ({_plain(value)!r})" for kind, value in examples.items())
        raise ValueError(
            f"`{column}` holds {found}. Make them one kind: `{column} = {column}.astype(str)`, after which 1 and '1' "
            "are one value."
        )
    return values


def check_number_column(obs: pd.DataFrame, key: str, argument: str, *, name: str = "adata") -> pd.Series:
    """A complete column of finite numbers, in double precision; or what is wrong with it.

    Parameters
    ----------
    obs, key, argument, name
        As for :func:`complete_column`.

    Raises
    ------
    KeyError, ValueError
        As :func:`complete_column`; also if values are infinite.
    TypeError
        If the column does not hold numbers.
    """
    values = complete_column(obs, key, argument, name=name)
    column = f"{name}.obs[{key!r}]"
    if not is_numeric_dtype(values.dtype) or is_bool_dtype(values.dtype):
        raise TypeError(
            f"`{argument}`: a continuous covariate is a column of numbers, but `{column}` holds values such as "
            f"{_plain(values.iloc[0])!r} ({values.dtype}). Convert it, `{column} = pd.to_numeric({column})`, or name "
            "it in `categorical_covariate_keys`."
        )
    numbers = values.astype(float)
    if not np.isfinite(numbers).all():
        raise ValueError(f"`{column}` holds infinite values, which no network can read. Remove these cells.")
    return numbers


@dataclass(frozen=True)
class ObsColumn:
    """A column of ``.obs``, each of whose values has a code.

    Attributes
    ----------
    key
        Its name.
    values
        The values, in the order of their codes, without the one that means "not known".
    dtype
        Type of the column; ``"category"`` for categorical ones.
    categories
        Of a categorical column: all categories in their order, the unused ones too.
    categories_dtype
        Their type.
    ordered
        Whether they are ordered.
    unlabeled
        The value that means "not known", or None; its code comes after those of `values`.
    n_unlabeled
        Number of cells that have it.
    colors
        Name and colour of each value, where scanpy has left colours.

    Examples
    --------
    >>> obs = pd.DataFrame({"cluster": [2, 10, 2]})
    >>> column, codes = ObsColumn.read(obs["cluster"])
    >>> column.names, codes.tolist(), list(column.restore(codes))
    (['2', '10'], [0, 1, 0], [2, 10, 2])
    >>> column.code(10), column.code("10"), column.code(True)
    (1, 1, None)
    """

    IN_REGISTRY: ClassVar[str] = "column"
    """Where the state of a field of scvi-tools holds the description."""

    key: str
    values: tuple[Value, ...]
    dtype: str = "category"
    categories: tuple[Value, ...] = ()
    categories_dtype: str = "object"
    ordered: bool = False
    unlabeled: Value | None = None
    n_unlabeled: int = 0
    colors: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(
        cls, column: pd.Series, *, unlabeled: Value | None = None, colors: Any = None, by_value: bool = False
    ) -> tuple[ObsColumn, np.ndarray]:
        """Describe a column that :func:`check_column` has seen, and give the code of each cell.

        Parameters
        ----------
        column
            The column.
        unlabeled
            The value that means "not known".
        colors
            What scanpy keeps of it in ``.uns``.
        by_value
            Number the values that occur, in their natural order. Otherwise a categorical column is numbered as it
            stands, with unused categories.
        """
        is_categorical = isinstance(column.dtype, pd.CategoricalDtype)
        if is_categorical:
            found, codes = column.cat.categories, column.cat.codes.to_numpy(dtype=np.int64)
        else:
            codes, found = pd.factorize(column)
        # an array keeps what an index turns into numbers of double precision
        levels = [_plain(level) for level in np.asarray(found)]
        unknown = next((i for i, level in enumerate(levels) if _same(level, unlabeled)), None)
        known = [level for i, level in enumerate(levels) if i != unknown]
        odd = unknown is not None and bool(known) and kind_of(levels[unknown]) != kind_of(known[0])
        in_order = sorted(range(len(levels)), key=lambda i: (odd and i == unknown, levels[i]))
        as_shown = list(range(len(levels))) if is_categorical else in_order
        order = as_shown
        if is_categorical and by_value:
            used = set(codes.tolist())
            order = [i for i in in_order if i in used]
        if unknown in order:
            # scvi-tools exchanges it with the last: another order would give other cells for a seed
            order = list(order)
            i = order.index(unknown)
            order[i], order[-1] = order[-1], order[i]
        position = np.full(len(levels), -1, dtype=np.int64)
        position[order] = np.arange(len(order))

        kept = [level for i, level in enumerate(levels) if not (odd and i == unknown)]
        inferred = str(pd.Index(known).dtype)
        is_text = not known or kind_of(known[0]) == "text"
        about: dict[str, Any] = {"dtype": str(column.dtype) if is_text or column.dtype != object else inferred}
        if is_categorical:
            about = {
                "categories": tuple(kept),
                "categories_dtype": str(found.dtype) if is_text or found.dtype != object else inferred,
                "ordered": bool(column.cat.ordered),
            }
        described = cls(
            key=str(column.name),
            values=tuple(levels[i] for i in order if i != unknown),
            unlabeled=_plain(unlabeled) if unknown is None else levels[unknown],
            n_unlabeled=0 if unknown is None else int((codes == unknown).sum()),
            colors=_colors(colors, [str(levels[i]) for i in as_shown]),
            **about,
        )
        return described, position[codes]

    @classmethod
    def named(cls, key: str, names: Sequence[str]) -> ObsColumn:
        """A categorical column of text."""
        # text of the type that this pandas gives it
        return cls(key, tuple(names), categories=tuple(names), categories_dtype=str(pd.Index(list(names)).dtype))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ObsColumn:
        """The column that :meth:`record` has described."""
        items: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in record.items()}
        items["colors"] = tuple((name, color) for name, color in record["colors"])
        return cls(**items)

    @classmethod
    def registered(cls, state: Mapping[str, Any], key: str) -> ObsColumn:
        """The column that a field of scvi-tools has registered, by its state; of our kind of field or of theirs."""
        if cls.IN_REGISTRY in state:
            return cls.from_record(state[cls.IN_REGISTRY])
        values, unlabeled = np.asarray(state["categorical_mapping"]).tolist(), state.get("unlabeled_category")
        known = tuple(value for value in values if unlabeled is None or value != unlabeled)
        dtype = str(pd.Index(list(known)).dtype)
        return cls(key, known, categories=known, categories_dtype=dtype, unlabeled=unlabeled)

    def record(self) -> dict[str, Any]:
        """The description in text, numbers and lists."""
        items = asdict(self).items()
        record = {name: list(item) if isinstance(item, tuple) else item for name, item in items}
        return {**record, "colors": [list(pair) for pair in self.colors]}

    @cached_property
    def names(self) -> list[str]:
        """The values as text."""
        return [str(value) for value in self.values]

    @property
    def kind(self) -> Kind:
        """What the values are."""
        return (kind_of(self.values[0]) if self.values else None) or "text"

    @cached_property
    def _code_of(self) -> dict[tuple[str, Value], int]:
        by_name = {("name", name): code for code, name in enumerate(self.names)}
        return by_name | {("value", value): code for code, value in enumerate(self.values)}

    @cached_property
    def _precision(self) -> np.dtype | None:
        """Type of decimals that are not of double precision."""
        dtype = pandas_dtype(self.categories_dtype if self.dtype == "category" else self.dtype)
        dtype = getattr(dtype, "numpy_dtype", dtype)
        return dtype if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < 8 else None

    def code(self, asked: Any) -> int | None:
        """Code of a value, which may be given as text too; None for what is no value of the column."""
        kind = kind_of(asked)
        if kind == "decimals" and self._precision is not None:
            # pandas hands out 1.1 of single precision as 1.100000023841858
            asked = self._precision.type(asked)
        asked = _plain(asked)
        if kind is None:
            return None
        if "text" in (kind, self.kind):
            code = self._code_of.get(("name", str(asked)))
            if code is None and self.kind == "decimals":
                try:
                    code = self._code_of.get(("value", float(asked)))
                except ValueError:
                    return None
            return code
        # 1 == True, but neither means the other
        return (
            None if "truth values" in (kind, self.kind) and kind != self.kind else self._code_of.get(("value", asked))
        )

    def find(self, asked: Sequence[Any], argument: str, *, what: str = "labels") -> list[int]:
        """Codes of some values.

        Parameters
        ----------
        asked
            Values, or their text.
        argument
            What the user gave them as, for messages.
        what
            What they are called.

        Raises
        ------
        ValueError
            If one is no value of the column.
        """
        codes = [self.code(value) for value in asked]
        known = [code for code in codes if code is not None]
        if len(known) == len(codes):
            return known
        unknown = [_plain(value) for value, code in zip(asked, codes, strict=True) if code is None]
        hint = ""
        if any(_same(value, self.unlabeled) for value in unknown):
            hint = (
                f" {self.unlabeled!r} marks cells of no known type, by `unlabeled_category`. To make it a type, set "
                "the data up with `unlabeled_category=None`, or with another value."
            )
        elif self.values and (odd := [value for value in unknown if not _reads_as(value, self.kind)]):
            hint = f" The {what} are {self.kind}: {self.values[0]!r}, not {odd[0]!r}."
        raise ValueError(f"`{argument}`: {unknown} were not seen in training. Known {what}: {list(self.values)}.{hint}")

    def codes_of(self, column: pd.Series, *, name: str = "adata", way: str | None = None) -> np.ndarray:
        """Codes of other cells, by a column that :func:`check_column` has seen.

        Parameters
        ----------
        column
            The column.
        name
            What the cells are called.
        way
            What can be done about values that were not seen; None: what can be of cells.

        Raises
        ------
        ValueError
            If values are of another kind than the training cells', or were not seen in training.
        """
        is_categorical = isinstance(column.dtype, pd.CategoricalDtype)
        codes, found = pd.factorize(column.astype(column.cat.categories.dtype) if is_categorical else column)
        levels = [_plain(level) for level in np.asarray(found)]
        where = f"{name}.obs[{self.key!r}]"
        known = [None if _same(level, self.unlabeled) else self.code(level) for level in levels]
        numeric = {"integers", "decimals"}
        for level in levels:
            kinds = {kind_of(level), self.kind}
            if self.values and len(kinds) > 1 and not kinds <= numeric and not _same(level, self.unlabeled):
                is_text = kind_of(level) == "text"
                # any text but the empty one is true
                way = " == 'True'" if is_text and self.kind == "truth values" else _CONVERSION[self.kind]
                raise ValueError(
                    f"`{where}` holds {kind_of(level)} ({level!r}), but the training cells have {self.kind} "
                    f"({self.values[0]!r}). Give it the same kind: `{where} = {where}{way}`."
                )
        unseen = [
            level
            for level, code in zip(levels, known, strict=True)
            if code is None and not _same(level, self.unlabeled)
        ]
        if unseen:
            way = way or "Remove these cells" + ("" if self.unlabeled is None else f", or call them {self.unlabeled!r}")
            more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
            raise ValueError(
                f"`{where}` holds {unseen[:5]}{more}, which the training cells have not; theirs are "
                f"{list(self.values)}. {way}."
            )
        return np.array([len(self.values) if code is None else code for code in known], dtype=np.int64)[codes]

    def restore(self, codes: np.ndarray, index: pd.Index | None = None) -> pd.Series:
        """The column of cells with these codes, in its own type; `index` names the cells."""
        codes = np.asarray(codes, dtype=np.int64)
        if self.dtype == "category":
            position = {value: i for i, value in enumerate(self.categories)}
            dtype = pd.CategoricalDtype(pd.Index(list(self.categories), dtype=self.categories_dtype), self.ordered)
            taken = np.array([position[value] for value in self.values], dtype=np.int64)[codes]
            return pd.Series(pd.Categorical.from_codes(taken, dtype=dtype), index=index, name=self.key)
        dtype = pandas_dtype(self.dtype)
        if isinstance(dtype, ExtensionDtype):
            return pd.Series(pd.array(list(self.values), dtype=dtype).take(codes), index=index, name=self.key)
        # else text in an array of objects would become text of pandas' own type
        kind = object if dtype.kind == "O" else None
        return pd.Series(np.array(self.values, dtype=dtype)[codes], index=index, name=self.key, dtype=kind)

    def own_colors(self, codes: np.ndarray) -> dict[str, list[str]]:
        """What scanpy looks for in ``.uns`` of cells with these codes; empty where there are no colours."""
        if self.dtype == "category":
            names = [str(value) for value in self.categories]
        else:
            # scanpy makes categories of the values that occur
            names = [str(value) for value in sorted(self.values[code] for code in np.unique(codes))]
        color = dict(self.colors)
        if not names or not all(name in color for name in names):
            return {}
        return {_keys.colors(self.key): [color[name] for name in names]}


def _colors(colors: Any, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and colours, if there is a colour for each."""
    if colors is None or np.ndim(colors) != 1 or len(colors) < len(names):
        return ()
    if not all(isinstance(color, str) for color in colors):
        return ()
    return tuple(zip(names, map(str, colors), strict=False))


def label_array(
    adata: AnnData,
    labels_key: str,
    name: str = "adata",
    *,
    argument: str = "labels_key",
    like: AnnData | None = None,
) -> np.ndarray:
    """Labels of the cells as text, after checking that the column is there, complete and of one kind.

    Parameters
    ----------
    adata
        The cells.
    labels_key
        The column.
    name
        What to call the cells.
    argument
        What names the column.
    like
        Cells to whose labels these are compared: 1.0 has the text of their 1.
    """
    column, codes = label_column(adata, labels_key, name, argument=argument)
    names = column.names
    if like is not None and like is not adata:
        other, _ = label_column(like, labels_key, argument=argument)
        like_codes = [other.code(value) for value in column.values]
        names = [name if code is None else other.names[code] for name, code in zip(names, like_codes, strict=True)]
    return np.array(names, dtype=str)[codes]


def label_column(
    adata: AnnData, labels_key: str, name: str = "adata", *, argument: str = "labels_key", by_value: bool = False
) -> tuple[ObsColumn, np.ndarray]:
    """The column of labels and the code of each cell; arguments as :func:`label_array` and :meth:`ObsColumn.read`."""
    values = check_column(adata.obs, labels_key, argument, name=name)
    return ObsColumn.read(values, colors=adata.uns.get(_keys.colors(labels_key)), by_value=by_value)
