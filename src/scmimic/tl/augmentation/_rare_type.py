"""A type that is made rare: its cells, its trials over seeds and fractions, and methods that may refuse."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic._arguments import (
    COLUMN,
    COUNT_OR_NONE,
    FLAG,
    KEY,
    LAYER,
    PART,
    POSITIVE,
    SEED,
    SETTINGS,
    TEXT,
    Kind,
    Listed,
    Range,
)
from scmimic._progress import progress
from scmimic.cells import Value, label_column, read_matrix
from scmimic.tl._workers import CLIENT, results
from scmimic.tl.augmentation._trial import Space, Trial, make_trial, split_rows, thin_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from distributed import Client

logger = logging.getLogger(__name__)

# what a fit on too few cells raises; mistakes in a program (TypeError, AttributeError) come through
_REFUSALS = (ValueError, RuntimeError, ArithmeticError, LookupError)

TRIAL_KINDS: dict[str, Kind] = {
    "labels_key": COLUMN,
    "layer": LAYER,
    "fractions": Listed(Range(0, 1, open_low=True)),
    "methods": Listed(TEXT, alone=True, optional=True),
    "test_size": PART,
    "seeds": Listed(SEED),
    "n_top_genes": COUNT_OR_NONE,
    "log1p": FLAG,
    "target_sum": POSITIVE,
    "model_kwargs": SETTINGS.or_none,
    "train_kwargs": SETTINGS.or_none,
    "key_added": KEY.or_none,
    "client": CLIENT,
}
"""Arguments of every tool that makes a type rare."""


@dataclass(frozen=True)
class RareType:
    """The type to make rare, among cells whose names and labels are fit for it."""

    adata: AnnData
    layer: str | None
    labels: np.ndarray
    """Label of each cell, as text."""
    label: str
    value: Value
    """The label in the type of its column."""

    @classmethod
    def find(cls, adata: AnnData, labels_key: str, label: Value, layer: str | None) -> RareType:
        """Look up a type, given in the type of the column or as text."""
        column, codes = label_column(adata, labels_key)
        labels = np.array(column.names, dtype=str)[codes]
        code = column.code(label)
        value = label if code is None else column.values[code]
        _check_cells(adata, labels, str(value), labels_key)
        if read_matrix(adata, layer) is None:
            raise ValueError("`adata.X` is empty: name the layer with the counts, `layer=`.")
        return cls(adata, layer, labels, str(value), value)

    def trials(
        self,
        seeds: Sequence[int],
        fractions: Sequence[float],
        *,
        test_size: float,
        n_top_genes: int | None,
        space: Space,
    ) -> Iterator[tuple[int, float, Trial]]:
        """Seed, fraction and cells of each trial; fractions of one seed have the same held-out cells."""
        for seed in seeds:
            train, test = split_rows(self.labels, test_size, seed)
            if not (self.labels[test] == self.label).any():
                raise ValueError(f"`test_size={test_size}` leaves no held-out cell of {self.label!r}: raise it.")
            for fraction in fractions:
                kept = thin_rows(self.labels, train, self.label, fraction, seed)
                yield (
                    seed,
                    fraction,
                    make_trial(
                        self.adata,
                        self.labels,
                        self.label,
                        self.layer,
                        kept,
                        test,
                        n_top_genes=n_top_genes,
                        space=space,
                    ),
                )


def compare(
    trials: Iterable[tuple[int, float, Trial]],
    n_trials: int,
    methods: Sequence[str],
    make: Callable[[str, Trial, int], Any],
    score: Callable[[str, Trial, int, Any], dict[str, float]],
    blank: Mapping[str, float],
    label: str,
    client: Client | None,
) -> pd.DataFrame:
    """One row per trial and method: the scores of what the method makes, or `blank` ones and why it refused."""
    work = partial(_row, make, score, blank, label)
    given = ((trial, [(method, seed, fraction) for method in methods]) for seed, fraction, trial in trials)
    rows = []
    with progress(n_trials * len(methods), "Trials") as advance:
        for row in results(work, given, client):
            if not row["error"]:
                logger.info("seed %(seed)d, fraction %(fraction)g, %(method)s: F1 %(f1).3f", row)
            rows.append(row)
            advance(1)
    return pd.DataFrame(rows)


def _row(
    make: Callable[[str, Trial, int], Any],
    score: Callable[[str, Trial, int, Any], dict[str, float]],
    blank: Mapping[str, float],
    label: str,
    trial: Trial,
    method: str,
    seed: int,
    fraction: float,
) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method, "fraction": fraction, "seed": seed}
    row |= {"n_real": int(trial.is_label.sum()), **blank}
    made, row["seconds"], row["error"] = _attempt(partial(make, method, trial, seed), method, trial, label)
    return row if row["error"] else row | score(method, trial, seed, made)


def _attempt(make: Callable[[], Any], method: str, trial: Trial, label: str) -> tuple[Any, float, str]:
    """What `make` returns, its seconds and `""`; or None, NaN and why it refused."""
    start = time.perf_counter()
    try:
        made = make()
    except _REFUSALS as error:
        text = f"{type(error).__name__}: {error}"
        logger.warning("%s with %d cells of %r: %s", method, trial.is_label.sum(), label, text)
        return None, float("nan"), text
    return made, time.perf_counter() - start, ""


def check_methods(
    methods: Sequence[str] | None, rivals: Sequence[str], others: Sequence[str], argument: str
) -> list[str]:
    """The names to run, among those of rivals and those given as `argument`; None: all."""
    if taken := sorted(set(rivals) & set(others)):
        raise ValueError(f"`{argument}`: the names {taken} are those of rivals. Choose others.")
    known = [*rivals, *others]
    if isinstance(methods, str):
        methods = [methods]
    if methods is None:
        return known
    if unknown := [name for name in methods if name not in known]:
        raise ValueError(f"`methods`: unknown {unknown}. Known: {known}.")
    if not methods:
        raise ValueError(f"`methods` is empty. Known: {known}.")
    return list(methods)


def _check_cells(adata: AnnData, labels: np.ndarray, label: str, labels_key: str) -> None:
    for names, what in ((adata.obs_names, "obs_names"), (adata.var_names, "var_names")):
        if not names.is_unique:
            raise ValueError(f"`adata.{what}` repeats names: call `adata.{what}_make_unique()` first.")
    known = sorted(set(labels))
    if label not in known:
        raise ValueError(f"No cell of `adata.obs[{labels_key!r}]` is {label!r}; the labels are {known}.")
    if len(known) < 2:
        raise ValueError(f"All cells of `adata.obs[{labels_key!r}]` are {label!r}: there is nothing to tell it from.")
    if (labels == label).sum() < 2:
        raise ValueError(f"There is a single cell of {label!r}: one to train on and one to hold out are needed.")
