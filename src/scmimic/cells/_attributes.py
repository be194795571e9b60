"""What a model was told of its cells besides their expression, and what is asked of new ones: type, batch, covariates.

Cells are described by codes, one column each for the label, the batch and every categorical covariate, and by numbers,
one column for every continuous covariate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from pandas.api.types import pandas_dtype

from scmimic._arguments import NUMBER, shown
from scmimic.cells._columns import ObsColumn, as_list, check_column, check_number_column, complete_column

OPEN = -1
"""Code of what is not asked for; of a number it is NaN."""
LABEL, BATCH = 0, 1
"""Columns of the codes; those of the covariates follow."""


class AttributeValues(NamedTuple):
    """Attributes of cells.

    Attributes
    ----------
    codes
        ``(n, 2 + categorical covariates)`` int64: label, batch, covariates.
    numbers
        ``(n, continuous covariates)`` float64.
    """

    codes: np.ndarray
    numbers: np.ndarray

    @classmethod
    def open(cls, n: int, like: Attributes) -> AttributeValues:
        """Of cells of which nothing is asked."""
        return cls(np.full((n, like.n_codes), OPEN, dtype=np.int64), np.full((n, len(like.continuous)), np.nan))

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.codes)

    @property
    def labels(self) -> np.ndarray:
        """Label code of each cell."""
        return self.codes[:, LABEL]

    def take(self, rows: Any) -> AttributeValues:
        """Of these cells."""
        return AttributeValues(self.codes[rows], self.numbers[rows])

    def filled(self, given: AttributeValues) -> AttributeValues:
        """With the attributes of `given` where they are open."""
        codes = np.where(self.codes == OPEN, given.codes, self.codes)
        return AttributeValues(codes, np.where(np.isnan(self.numbers), given.numbers, self.numbers))

    def opened(self) -> AttributeValues:
        """As many cells of which nothing is asked."""
        return AttributeValues(np.full_like(self.codes, OPEN), np.full_like(self.numbers, np.nan))

    def patterns(self) -> tuple[AttributeValues, np.ndarray]:
        """The combinations that occur, by their first cell, and the combination of each cell."""
        columns = [*self.codes.T, *np.nan_to_num(self.numbers, nan=np.inf).T]
        _, first, index = np.unique(np.column_stack(columns), axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return self.take(first[order]), rank[index.ravel()]

    @classmethod
    def stacked(cls, parts: Sequence[AttributeValues]) -> AttributeValues:
        """The cells of all parts."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Attributes:
    """The columns of ``.obs`` that a model was told.

    Attributes
    ----------
    labels, batches
        Those of types and batches, where there are any.
    categorical
        Categorical covariates.
    continuous
        Names of continuous covariates.
    dtypes
        Types of their columns.
    """

    labels: ObsColumn | None = None
    batches: ObsColumn | None = None
    categorical: tuple[ObsColumn, ...] = ()
    continuous: tuple[str, ...] = ()
    dtypes: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_codes(self) -> int:
        """Number of columns of codes."""
        return 2 + len(self.categorical)

    @cached_property
    def columns(self) -> dict[int, ObsColumn]:
        """Columns by the position of their codes."""
        known = (self.labels, self.batches, *self.categorical)
        return {position: column for position, column in enumerate(known) if column is not None}

    @cached_property
    def covariates(self) -> dict[str, int]:
        """Positions of the codes of batch and categorical covariates, by the name of the column."""
        return {column.key: position for position, column in self.columns.items() if position != LABEL}

    @property
    def keys(self) -> list[str]:
        """Names of batch and covariates."""
        return [*self.covariates, *self.continuous]

    def restore(
        self, values: AttributeValues, index: pd.Index
    ) -> Iterator[tuple[str, pd.Series, dict[str, list[str]]]]:
        """Each column in its own type, with what scanpy keeps of its colours."""
        for position, column in self.columns.items():
            codes = values.codes[:, position]
            yield column.key, column.restore(codes, index), column.own_colors(codes)
        for position, key in enumerate(self.continuous):
            numbers = pd.Series(values.numbers[:, position], index=index, name=key)
            dtype = pandas_dtype(self.dtypes.get(key, "float64"))
            # a dose of 1.5 may be asked for where all that were measured are whole
            fits = dtype.kind not in "iu" or np.array_equal(numbers, np.rint(numbers))
            yield key, numbers.astype(dtype) if fits else numbers, {}

    def describe(self, codes: np.ndarray) -> str:
        """A combination in words: ``B cell, stimulated, 1015``."""
        return ", ".join(column.names[codes[position]] for position, column in self.columns.items())

    def asked(self, covariates: Mapping[str, Any]) -> list[AttributeValues]:
        """One row for each combination of the values that are asked for.

        Parameters
        ----------
        covariates
            Column to value, or to several.

        Raises
        ------
        ValueError, TypeError
            If a column or a value is unknown, or one is given twice.
        """
        choices: list[list[tuple[int, float]]] = []
        for key, values in covariates.items():
            listed = as_list(values)
            if not listed:
                raise ValueError(f"`covariates[{key!r}]` is empty: give a value, or leave the key out.")
            if key in self.covariates:
                position = self.covariates[key]
                codes = self.columns[position].find(listed, f"covariates[{key!r}]", what="values")
                chosen = [(position, float(code)) for code in codes]
            elif key in self.continuous:
                for value in listed:
                    NUMBER.check(**{f"covariates[{key!r}]": value})
                chosen = [(self.n_codes + self.continuous.index(key), float(value)) for value in listed]
            else:
                raise ValueError(self._unknown(key))
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"`covariates[{key!r}]` names a value more than once: {listed}.")
            choices.append(chosen)
        rows = []
        for combination in product(*choices):
            row = AttributeValues.open(1, self)
            for position, value in combination:
                if position < self.n_codes:
                    row.codes[0, position] = int(value)
                else:
                    row.numbers[0, position - self.n_codes] = value
            rows.append(row)
        return rows

    def _unknown(self, key: Any) -> str:
        if self.labels is not None and key == self.labels.key:
            return f"`covariates` names {key!r}, the column of the types: these are asked for by `labels`."
        if not self.keys:
            return (
                f"`covariates` names {key!r}, but the model knows neither batch nor covariates. Set the data up with "
                "`batch_key`, `categorical_covariate_keys` or `continuous_covariate_keys`."
            )
        return f"`covariates` names {key!r}, which the model was not set up with. It knows {self.keys}."

    def typed(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of text with the values that its text stands for.

        Raises
        ------
        ValueError
            If text is no value of a column.
        """
        table = table.copy()
        for column in self.columns.values():
            if column.key in table:
                complete_column(table, column.key, "like", name="like")
                texts = table[column.key].unique().tolist()
                codes = column.find(texts, "like", what=f"values of {column.key!r}")
                values = {text: column.values[code] for text, code in zip(texts, codes, strict=True)}
                table[column.key] = table[column.key].map(values)
        for key in self.continuous:
            if key in table:
                table[key] = pd.to_numeric(table[key])
        return table

    def read(self, like: pd.DataFrame | AnnData | MuData) -> AttributeValues:
        """What is asked by a table with one row per cell; what it has no column of is open.

        Parameters
        ----------
        like
            A table as ``.obs``, or cells that have it.

        Raises
        ------
        TypeError
            If it is no such thing.
        ValueError, KeyError
            If it has no row or none of the model's columns, or values are missing or unknown.
        """
        if not isinstance(like, pd.DataFrame | AnnData | MuData):
            raise TypeError(f"`like` must be a DataFrame or an AnnData with one row per cell, not {shown(like)}.")
        obs = like if isinstance(like, pd.DataFrame) else like.obs
        known = [column.key for column in self.columns.values()] + list(self.continuous)
        found = [key for key in known if key in obs]
        if not len(obs):
            raise ValueError("`like` has no row: one cell is made for each.")
        if not found:
            raise KeyError(f"`like` has none of the columns that the model knows: {known}. It has {list(obs.columns)}.")
        rows = AttributeValues.open(len(obs), self)
        for position, column in self.columns.items():
            if column.key in found:
                values = check_column(obs, column.key, "like", name="like", unlabeled=column.unlabeled)
                codes = column.codes_of(values, name="like", way="Remove these rows, or leave the column out")
                if (codes == len(column.values)).any():
                    raise ValueError(
                        f"`like.obs[{column.key!r}]` holds {column.unlabeled!r}, which stands for no known type: there "
                        "is none to generate. Remove these rows, or leave the column out."
                    )
                rows.codes[:, position] = codes
        for position, key in enumerate(self.continuous):
            if key in found:
                rows.numbers[:, position] = check_number_column(obs, key, "like", name="like")
        return rows
