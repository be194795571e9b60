import json
import warnings

import numpy as np
import pandas as pd
import pytest
import scvi
from anndata import AnnData
from scvi.data import fields

from scmimic.cells._columns import ObsColumn, as_list, check_column, complete_column, kind_of


def read(values, **kwargs):
    return ObsColumn.read(pd.Series(values, name="x"), **kwargs)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("1", "text"),
        (np.str_("1"), "text"),
        (1, "integers"),
        (np.uint8(1), "integers"),
        (1.0, "decimals"),
        (np.float16(1), "decimals"),
        (True, "truth values"),
        (np.True_, "truth values"),
        (None, None),
        (float("nan"), None),
        (pd.NA, None),
        ((1, 2), None),
        (1j, None),
    ],
)
def test_kinds(value, kind):
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("BT", ["BT"]),
        (3, [3]),
        (np.float64(3), [3]),
        (["B"], ["B"]),
        (pd.Index([1, 2]), [1, 2]),
        (np.array(["B"]), ["B"]),
        ((), []),
    ],
)
def test_one_or_several(values, expected):
    assert as_list(values) == expected


@pytest.mark.parametrize("is_categorical", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        list("BATA"),
        ["Unknown", "A", "Z", "A"],
        ["A", "Unknown", "X", "Z"],
        ["b", "a", "Unknown", "unknown"],
        ["Unknown"] * 3,
    ],
)
@pytest.mark.parametrize("unlabeled", [None, "Unknown"])
def test_text_is_numbered_as_scvi_tools_does(values, unlabeled, is_categorical):
    column = pd.Series(values, name="x")
    if is_categorical:
        column = column.astype(pd.CategoricalDtype(sorted(set(values), reverse=True)))
    adata = AnnData(np.ones((len(column), 1), dtype=np.float32), obs=pd.DataFrame({"x": column.to_numpy()}))
    adata.obs["x"] = column.array
    if unlabeled is None:
        field = fields.CategoricalObsField("labels", "x")
    else:
        field = fields.LabelsWithUnlabeledObsField("labels", "x", unlabeled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapping = field.register_field(adata)["categorical_mapping"].tolist()
    found, codes = ObsColumn.read(column, unlabeled=unlabeled)
    assert [*found.names, *([] if unlabeled is None else [unlabeled])] == mapping
    assert codes.tolist() == adata.obs["_scvi_labels"].tolist()
    assert found.n_unlabeled == (0 if unlabeled is None else values.count(unlabeled))


def test_numbers_are_in_their_own_order():
    column, codes = read([10, 9, 2, 10])
    assert column.values == (2, 9, 10) and codes.tolist() == [2, 1, 0, 2]
    assert column.names == ["2", "9", "10"]


def test_categories_keep_their_order_or_take_that_of_their_values():
    values = pd.Categorical([3, 1, 3], categories=[3, 2, 1], ordered=True)
    column, codes = read(values)
    assert column.values == (3, 2, 1) and codes.tolist() == [0, 2, 0]
    column, codes = read(values, by_value=True)
    assert column.values == (1, 3) and codes.tolist() == [1, 0, 1]
    restored = column.restore(codes)
    assert list(restored) == [3, 1, 3] and restored.dtype == values.dtype


@pytest.mark.parametrize(
    ("values", "known", "dtype"),
    [
        (pd.Series([2, "none", 1], dtype=object), (1, 2), "int64"),
        (pd.Series([2.5, "none", 1.0], dtype=object), (1.0, 2.5), "float64"),
        (pd.Series([True, "none", False], dtype=object), (False, True), "bool"),
        (pd.Categorical([2, "none", 1], categories=[2, "none", 1]), (2, 1), "category"),
    ],
)
def test_what_is_not_known_may_be_of_another_kind(values, known, dtype):
    column, codes = read(values, unlabeled="none")
    assert column.values == known and column.n_unlabeled == 1 and codes[1] == 2
    restored = column.restore(codes[[0, 2]])
    assert restored.dtype.name == dtype and list(restored) == [values[0], values[2]]
    if dtype == "category":
        # anndata cannot write categories of two kinds
        assert restored.cat.categories.tolist() == [2, 1]


def test_record_is_plain_and_gives_the_column_back():
    values = pd.Categorical(["T", "B"], categories=["T", "B", "none"], ordered=True)
    column, codes = read(values, unlabeled="none", colors=["red", "green", "grey"])
    again = ObsColumn.from_record(json.loads(json.dumps(column.record())))
    assert again == column
    assert again.own_colors(codes) == {"x_colors": ["red", "green", "grey"]}
    # a registry that went through scvi-tools' own container is the same
    manager = scvi.utils.attrdict({"column": column.record()})
    assert ObsColumn.from_record(manager.to_dict()["column"]) == column


@pytest.mark.parametrize(
    ("mapping", "unlabeled", "values"),
    [
        (np.array(["B", "T", "Unknown"], dtype=object), "Unknown", ("B", "T")),
        (np.array([1, 2]), None, (1, 2)),
        (["None", "T"], None, ("None", "T")),
    ],
)
def test_registrations_of_scvi_tools(mapping, unlabeled, values):
    column = ObsColumn.registered({"categorical_mapping": mapping, "unlabeled_category": unlabeled}, "x")
    assert column.values == values and column.unlabeled == unlabeled
    assert list(column.restore([1, 0])) == [values[1], values[0]]


@pytest.mark.parametrize(
    ("colors", "expected"),
    [
        (None, {}),
        (["red"], {}),
        (np.ones((3, 4)), {}),
        ([1, 2, 3], {}),
        (np.array(["red", "green", "blue", "more"]), {"x_colors": ["green", "blue"]}),
    ],
)
def test_colours_of_text_are_those_of_what_occurs(colors, expected):
    column, codes = read(["A", "B", "C"], colors=colors)
    assert column.own_colors(codes[[2, 1, 2]]) == expected


def test_incomplete_and_repeated_columns():
    obs = pd.DataFrame({"x": ["a", None]})
    with pytest.raises(ValueError, match=r"1 of 2 cells have no value in `cells.obs\['x'\]`"):
        complete_column(obs, "x", "key", name="cells")
    with pytest.raises(KeyError, match=r"`key='y'`: there is no such column in `cells.obs`. Columns: \['x'\]"):
        complete_column(obs, "y", "key", name="cells")
    twice = pd.DataFrame([[1, 2]], columns=["x", "x"])
    with pytest.raises(ValueError, match="2 columns"):
        check_column(twice, "x", "key")
