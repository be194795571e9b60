import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import entropy

from scmimic.metrics._factors import as_factors, as_latent, as_variance, gap


def test_levels_and_classes():
    values = np.arange(100.0)
    text, flag, step, library = as_factors(
        {"text": np.resize(["x", "y", "z"], 100), "flag": values > 9, "step": values % 20, "library": values}, 100
    )
    assert text.levels == ["x", "y", "z"]
    assert text.values is None
    np.testing.assert_array_equal(flag.values, values > 9)
    assert step.n_levels == 20
    np.testing.assert_array_equal(step.codes, values % 20)
    # quartiles for the levels, the values themselves for what needs no levels
    np.testing.assert_array_equal(library.codes, np.repeat(range(4), 25))
    np.testing.assert_array_equal(library.values, values)
    assert flag.entropy == pytest.approx(entropy([0.1, 0.9]))
    np.testing.assert_array_equal(flag.indicators()[:, 1], values > 9)


def test_classes_may_be_fewer_where_values_tie():
    (factor,) = as_factors(np.r_[np.zeros(70), np.arange(1, 31)], 100)
    assert factor.n_levels == 2
    np.testing.assert_array_equal(np.bincount(factor.codes), [75, 25])


def test_arrays_and_mappings_say_the_same():
    array = np.random.default_rng(0).integers(3, size=(30, 2))
    by_name = as_factors({"factor_0": array[:, 0], "factor_1": array[:, 1]}, 30)
    for a, b in zip(as_factors(array, 30), by_name, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.codes, b.codes)
    assert as_factors(array[:, 0], 30)[0].levels == ["0", "1", "2"]


def test_a_data_frame_is_read_column_by_column():
    frame = pd.DataFrame({"step": np.resize([9, 10, 11], 60), "type": np.resize(["x", "y", "z", "x"], 60)})
    frame["flag"] = frame["step"] > 10
    frame["nullable"] = frame["step"].astype("Int64")
    by_name = as_factors({name: column.to_numpy() for name, column in frame.items()}, 60)
    for found, wanted in zip(as_factors(frame, 60), by_name, strict=True):
        assert (found.name, found.levels) == (wanted.name, wanted.levels)
        np.testing.assert_array_equal(found.values, wanted.values)
    # an array of mixed columns holds objects
    step, text, flag, _ = as_factors(frame.to_numpy(), 60)
    np.testing.assert_array_equal(step.values, frame["step"])
    assert (step.levels, text.values, flag.levels) == (["9", "10", "11"], None, ["False", "True"])


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({}, "empty"),
        (pd.DataFrame(index=range(4)), "empty"),
        ({"x": np.zeros(4)}, "same value"),
        ({"x": np.arange(3)}, "4 cells"),
        ({"x": [0, 1, np.nan, 2]}, "1 NaN"),
        ({"x": ["a", "b", None, "a"]}, "lacks the label of 1"),
        (np.zeros((4, 2, 2)), "cells x factors"),
    ],
)
def test_bad_factors(factors, message):
    with pytest.raises(ValueError, match=message):
        as_factors(factors, 4)


def test_latent_and_variance():
    dense = np.eye(3)
    assert (as_variance(0 * dense, dense, allow_zero=True) == 0).all()
    with pytest.raises(ValueError, match="non-negative"):
        as_variance(-dense, dense, allow_zero=True)
    np.testing.assert_array_equal(as_latent(sp.csr_matrix(dense)), dense)
    assert as_variance([1, 2, 3], dense).shape == (3, 3)
    with pytest.raises(ValueError, match="shape"):
        as_variance(np.ones((2, 3)), dense)
    with pytest.raises(ValueError, match="not their logarithms"):
        as_variance(-dense, dense)


def test_gap_is_that_of_the_sorted_column():
    scores = np.random.default_rng(0).random((6, 4))
    ordered = np.sort(scores, axis=0)
    np.testing.assert_allclose(gap(scores), ordered[-1] - ordered[-2])
    np.testing.assert_allclose(gap(scores[:1]), scores[0])
