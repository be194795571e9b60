import dataclasses
import io
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from scmimic import _plain
from scmimic._plain import TYPE, from_plain, saved_as, to_plain

DATES = pd.to_datetime(["2020-01-01", None])


def through_a_file(value):
    """There and back as a saved model goes: read by torch's reader of plain values."""
    file = io.BytesIO()
    torch.save(to_plain(value, "x"), file)
    file.seek(0)
    return from_plain(torch.load(file, weights_only=True))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**40,
        -(2**70),
        0.1,
        float("inf"),
        1 + 2j,
        "naïve\n",
        b"\x00\xff",
        [1, [2.5, None], ("a",)],
        (1, (2,)),
        {1, 2},
        {"a": {1: [2], None: 3, (1, "b"): 4, 2.5: 5}},
        {TYPE: "array", "dtype": "mine"},
        {},
        [],
    ],
    ids=repr,
)
def test_plain_values_come_back_as_they_are(value):
    back = through_a_file(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("scalar", [np.float32(0.1), np.int64(2**62), np.bool_(True), np.str_("a")])
def test_numbers_of_numpy_become_numbers(scalar):
    back = through_a_file(scalar)
    assert back == scalar.item()
    assert type(back) is type(scalar.item())
    assert list(through_a_file({scalar: scalar})) == [scalar.item()]


@pytest.mark.parametrize(
    "array",
    [
        *(np.arange(6).astype(kind).reshape(2, 3) for kind in ("?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8")),
        np.array([1.5, np.nan, -np.inf]),
        np.array(2**63 + 5, dtype=np.uint64),
        np.empty((0, 4), dtype=np.float32),
        np.arange(6).reshape(2, 3).T,
        np.arange(10)[::-3],
        np.arange(3, dtype=">f4"),
        np.broadcast_to(np.float64(3), (2, 2)),
        np.array(["a", "bcd", ""]),
        np.array([["a", None], [1, 2.5]], dtype=object),
        np.array([], dtype=object),
        np.array([[1], [2, 3]], dtype=object),
        DATES.to_numpy(),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_come_back_bit_by_bit(array):
    back = through_a_file(array)
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.shape == array.shape
    if array.dtype == object:
        assert back.tolist() == array.tolist()
    else:
        assert back.tobytes() == array.astype(back.dtype).tobytes()
    assert back.flags.writeable


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1.5, np.nan]),
        pd.Series([1, 2], dtype="int8"),
        pd.Series([True, False]),
        pd.Series(["a", "b"]),
        pd.Series(["a", "b"], dtype=object),
        pd.Series([1, "b"], dtype=object),
        pd.Series([None, "b"], dtype="string"),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([True, None], dtype="boolean"),
        pd.Series(["b", None], dtype=pd.CategoricalDtype(["c", "b", "a"])),
        pd.Series([2, 1], dtype=pd.CategoricalDtype([2, 1], ordered=True)),
        pd.Series([2.5, 2.5], dtype="category"),
        pd.Series(DATES),
    ],
    ids=lambda column: str(column.dtype),
)
def test_columns_come_back(column):
    column.index = pd.Index(["x", "y"], name="genes")
    # plain text is of the type that pandas gives it by itself
    expected = column.astype(pd.Series(["a"]).dtype) if _plain._is_text(column) else column
    pd.testing.assert_series_equal(through_a_file(column), expected)
    frame = pd.DataFrame({"one": column, "two": [1, 2]})
    pd.testing.assert_frame_equal(through_a_file(frame), frame.assign(one=expected))


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(1, 7, 2, name="epoch"),
        pd.Index([3, 1], name="epoch"),
        pd.Index([3, 1], dtype=object),
        pd.Index(["a", "b"]),
        pd.Index([0.5, 1.0]),
        pd.CategoricalIndex(["b", "a"]),
        DATES,
    ],
)
def test_indices_come_back(index):
    pd.testing.assert_index_equal(through_a_file(index), index, exact=True)


@pytest.mark.filterwarnings("error")
def test_arrays_that_nobody_may_write_to():
    array = np.arange(3)
    array.flags.writeable = False
    assert through_a_file(array).tolist() == [0, 1, 2]


def test_columns_of_one_name_and_none():
    frame = pd.DataFrame([[1, "a"], [2, "b"]], columns=["x", "x"])
    pd.testing.assert_frame_equal(through_a_file(frame), frame)
    empty = pd.DataFrame(index=pd.Index(["a", "b"]))
    back = through_a_file(empty)
    assert back.shape == (2, 0)
    assert list(back.index) == ["a", "b"]


def test_a_tensor_brings_only_itself():
    whole = torch.arange(1000.0, requires_grad=True)
    back = through_a_file({"part": whole[3:5]})["part"]
    assert back.tolist() == [3, 4]
    assert not back.requires_grad
    assert back.untyped_storage().nbytes() == 8


class Unknown:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Unknown(), r"`x` holds a .*Unknown"),
        ({"a": [1, {"b": Unknown()}]}, r"`x\['a'\]\['b'\]` holds"),
        (len, "builtin_function"),
        (frozenset([1]), "frozenset"),
        (torch.nn.Linear(1, 1), "Linear"),
        (np.array([Unknown()], dtype=object), "Unknown"),
        (np.zeros(2, dtype=[("a", "f4")]), "array of"),
        (pd.Series(pd.period_range("2020", periods=2, freq="D")), "period"),
        (pd.DataFrame({"a": pd.interval_range(0, 2)}), r"x\['a'\]` is a column of interval"),
        (pd.MultiIndex.from_tuples([(1, 2)]), "several levels"),
    ],
)
def test_what_has_no_plain_form_is_named(value, message):
    with pytest.raises(TypeError, match=message):
        to_plain(value, "x")


def test_a_kind_of_a_later_version_is_named():
    with pytest.raises(ValueError, match="'hologram', which this version"):
        from_plain({"a": {TYPE: "hologram"}})


def test_classes_are_saved_by_name(monkeypatch):
    monkeypatch.setattr(_plain, "_CLASSES", {})

    @saved_as("Pair")
    @dataclasses.dataclass
    class Pair:
        one: np.ndarray
        two: object = None

    pair = through_a_file([Pair(np.arange(2), Pair(np.zeros(1)))])[0]
    assert type(pair) is type(pair.two) is Pair
    assert pair.one.tolist() == [0, 1]
    assert pair.two.two is None

    @saved_as("Pair")
    class Moved:
        """The same thing elsewhere, with other fields."""

        @classmethod
        def from_saved_state(cls, state):
            made = cls()
            made.values = list(state)
            return made

    assert from_plain(to_plain({"x": 1}, "x")) == {"x": 1}
    assert from_plain({TYPE: "Pair", "state": {"one": 1, "two": 2}}).values == ["one", "two"]


def test_lists_instead_of_arrays():
    given = {"n_hidden": np.array([8, 4]), "names": (np.array(["a"]),)}
    assert to_plain(given, "x", arrays=False) == {"n_hidden": [8, 4], "names": (["a"],)}


def test_no_pickle_of_ours_is_needed():
    """The reader of plain values refuses what is not, so that the tests above are able to fail."""
    file = io.BytesIO()
    torch.save({"x": np.arange(3)}, file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
