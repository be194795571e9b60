"""Kinds of values that arguments may be."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scmimic._arguments import (
    COLUMN,
    COLUMNS,
    COUNT,
    DIMENSIONS,
    FLAG,
    NATURAL,
    ORDERED,
    PART,
    PATH,
    POSITIVE,
    QUANTILES,
    SEED,
    SEED_OR_NONE,
    SETTINGS,
    THREADS,
    Choice,
    Instance,
    Listed,
    Ordered,
    PairRange,
    Range,
    check_arguments,
    check_keywords,
    check_rows,
    check_widths,
)

CHOICE = Choice(("a", "b"))
NUMBER_OR_TWO = Choice((1, 2))

HELD = [
    *((COUNT, value) for value in (1, np.int64(3), np.uint8(200), 2**62)),
    *((NATURAL, value) for value in (0, np.int32(0))),
    *((POSITIVE, value) for value in (1e-300, 3, np.float32(0.5), 1e300)),
    *((SEED, value) for value in (0, 2**32 - 1)),
    (SEED_OR_NONE, None),
    *((PART, value) for value in (0.5, np.float64(1e-9))),
    *((THREADS, value) for value in (-1, 1, 8, np.int64(-2))),
    *((FLAG, value) for value in (True, False, np.True_)),
    *((CHOICE, value) for value in ("a", np.str_("b"))),
    *((NUMBER_OR_TWO, value) for value in (1, np.int64(2))),
    *((COLUMN, value) for value in ("x", "", np.str_("x"))),
    *((PATH, value) for value in ("x", Path("x"))),
    *((QUANTILES, value) for value in ((0, 1), [0.1, 0.9], np.array([0.1, 0.2]))),
    *((COLUMNS, value) for value in ("a", ["a"], ("a", "b"), np.array(["a"]), pd.Series(["a"]), pd.Index(["a"]))),
    *((DIMENSIONS, value) for value in (0, [0, 3], range(2), np.arange(3))),
    (Listed(COUNT, least=0), []),
    *((ORDERED, value) for value in (None, "a", 3, ["a"], {"a": 1}, pd.Series({"a": 1}))),
    (SETTINGS, {}),
    (SETTINGS, {"a": 1}),
    (Instance((np.ndarray,)), np.zeros(1)),
]


@pytest.mark.parametrize(("kind", "value"), HELD)
def test_held(kind, value):
    assert kind.holds(value)
    kind.check(value=value)


NOT_HELD = [
    *((COUNT, value, ValueError) for value in (0, -1, 1.0, 2.5, "5", True, np.True_, None, [1], math.nan, 2**63)),
    *((POSITIVE, value, ValueError) for value in (0, -1e-9, math.inf, math.nan, "1", 1j, 10**400, True)),
    *((SEED, value, ValueError) for value in (-1, 2**32, 1.5, None, "0")),
    *((PART, value, ValueError) for value in (0, 1, math.nan)),
    *((THREADS, value, ValueError) for value in (0, 1.5, "2", None, True)),
    *((FLAG, value, ValueError) for value in ("no", 1, 0, 0.0, None, [], np.array([True, False]))),
    *((CHOICE, value, ValueError) for value in ("c", 3, None, ["a"], np.array(["a", "b"]))),
    *((NUMBER_OR_TWO, value, ValueError) for value in (3, True, 1.0, "1")),
    *((COLUMN, value, TypeError) for value in (["x"], 3, None, b"x")),
    *((PATH, value, TypeError) for value in (3, None, ["x"])),
    *((QUANTILES, value, ValueError) for value in ((1, 0), (0.5, 0.5), (0, 2), (0,), 3, "01", (0, "1"), np.eye(2))),
    *((COLUMNS, value, TypeError) for value in ({"a"}, frozenset("a"), {"a": 1}, 3, None, (c for c in "ab"))),
    *((COLUMNS, value, ValueError) for value in ([], ["a", 3], [["a"]])),
    *((DIMENSIONS, value, ValueError) for value in ([], [-1], [0.5], [True])),
    *((DIMENSIONS, value, ValueError) for value in (-1, 0.5, "0", np.array(1.5))),
    (DIMENSIONS, {0, 1}, TypeError),
    *((ORDERED, value, TypeError) for value in ({"a"}, frozenset())),
    *((SETTINGS, value, TypeError) for value in (None, [("a", 1)], "a", {1: 2})),
    *((Instance((np.ndarray,)), value, TypeError) for value in ([0], "x.npy", None)),
]


@pytest.mark.parametrize(("kind", "value", "error"), NOT_HELD)
def test_not_held(kind, value, error):
    assert not kind.holds(value)
    said = rf"`value` must be {re.escape(str(kind))}, not .+\.$"
    if isinstance(value, set | frozenset) and isinstance(kind, Listed | Ordered):
        said = r"`value` is a set, .*: give a list, such as `sorted\(value\)`\.$"
    elif isinstance(value, list) and not value and isinstance(kind, Listed):
        said = r"`value` is empty: give at least one\.$"
    with pytest.raises(error, match=said) as raised:
        kind.check(value=value)
    assert raised.type is error


def test_messages():
    assert str(COUNT) == "a whole number at least 1"
    assert str(SEED_OR_NONE) == "a whole number at least 0 and at most 4,294,967,295, or None"
    assert str(PART) == "a number above 0 and below 1"
    assert str(Range()) == "a number"
    assert str(PairRange(0, 1, open_high=True)) == "a pair, each a number at least 0 and below 1"
    assert str(Choice(("a", "b", None))) == "'a', 'b' or None"
    assert str(Choice(("a",))) == "'a'"
    assert str(Listed(COUNT)) == "a list of at least 1, each a whole number at least 1"
    assert str(Listed(COLUMN, least=2, most=2)) == "a list of 2, each the name of a column"
    assert str(Listed(COLUMN, least=0, alone=True)) == "the name of a column, or a list of such"
    with pytest.raises(ValueError, match=r"not array\(\[0., .*\.\.\.\.$") as raised:
        COUNT.check(n=np.zeros(100))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 160


def test_or_none():
    assert COUNT.or_none.holds(None) and not COUNT.holds(None)
    assert COUNT.or_none == replace(COUNT, optional=True)


def test_table():
    check_arguments({"a": 3, "unknown": object()}, {"a": COUNT, "b": FLAG})
    with pytest.raises(ValueError, match="`a` must be a whole number"):
        check_arguments({"a": 0}, {"a": COUNT, "b": FLAG})


def test_widths():
    assert check_widths("w", [np.int64(3), 4]) == (3, 4)
    for wrong, error in (((), ValueError), (3, ValueError), ([2.5], ValueError), ({3}, TypeError), ("3", TypeError)):
        with pytest.raises(error, match="`w` (must|is)"):
            check_widths("w", wrong)


def test_keywords():
    known = ["max_epochs", "warmup_epochs", "batch_size"]
    check_keywords(["batch_size"], known, what="it")
    for wrong, meant in (("epochs", "max_epochs"), ("batchsize", "batch_size"), ("max_epoch", "max_epochs")):
        with pytest.raises(TypeError, match=f"^it does not take `{wrong}`: is `{meant}` meant"):
            check_keywords([wrong], known, what="it")
    with pytest.raises(TypeError, match="`colour`: it takes max_epochs, warmup_epochs, batch_size"):
        check_keywords(["colour"], known, what="it")
    with pytest.raises(TypeError, match="`lr`: write it elsewhere"):
        check_keywords(["lr"], known, what="it", hints={"lr": "write it elsewhere"})


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ([2, 0, 2], [2, 0, 2]),
        ([-1], [3]),
        (np.array([True, False, False, True]), [0, 3]),
        ([], []),
        (slice(1, None), [1, 2, 3]),
        (pd.Series([1]), [1]),
    ],
)
def test_rows(rows, expected):
    assert check_rows("rows", rows, 4).tolist() == expected


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([4], ValueError),
        ([-5], ValueError),
        ([True, False], ValueError),
        ([0.5], TypeError),
        (["a"], TypeError),
        (3, TypeError),
        ({1, 2}, TypeError),
        (np.eye(2, dtype=int), TypeError),
    ],
)
def test_wrong_rows(rows, error):
    with pytest.raises(error, match="`rows`"):
        check_rows("rows", rows, 4)


def test_the_order_of_a_set_is_that_of_the_process():
    # why sets are refused
    code = "import sys; sys.stdout.write(repr(list({'type_%d' % i for i in range(20)})))"
    orders = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(orders) > 1
