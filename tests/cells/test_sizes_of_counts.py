"""Sizes of counts, and types that hold them."""

import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.cells._checks import LARGEST_COUNT, check_size_of_counts
from scmimic.cells._generated import generated_type, in_type
from scmimic.model.generation.calibration._margins import whole_counts


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "float64"])
def test_largest_is_allowed(dtype):
    check_size_of_counts(np.array([0, LARGEST_COUNT], dtype=dtype), "x")


@pytest.mark.parametrize(
    "values",
    [
        np.array([2**31], dtype=np.int64),
        # single precision has no number between this and 2^31 - 128
        np.array([2**31], dtype=np.float32),
        np.array([1e10]),
        np.array([1e30], dtype=np.float32),
    ],
)
def test_larger_is_not(values):
    with pytest.raises(ValueError, match="`x` holds counts up to .* 2,147,483,647 is the most"):
        check_size_of_counts(values, "x")


def test_no_values():
    check_size_of_counts(np.array([], dtype=np.float32), "x")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_whole(dtype):
    values = np.array([0, 3, 2**31 - 128, 2**31, 2**40], dtype=dtype)
    assert whole_counts(values).tolist() == [0, 3, 2**31 - 128, LARGEST_COUNT, LARGEST_COUNT]
    assert whole_counts(values).dtype == np.int64


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        *((narrow, "int32") for narrow in ("bool", "int8", "uint8", "int16", "uint16")),
        ("float16", "float32"),
        *((wide, wide) for wide in ("int32", "uint32", "int64", "float32", "float64")),
    ],
)
def test_generated_type(dtype, expected):
    assert generated_type(dtype) == expected
    assert in_type(sp.csr_matrix(np.array([[0, 300]])), dtype).toarray().tolist() == [[0, 300]]


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_in_type(dtype):
    x = sp.csr_matrix(np.array([[0, 3, 2.0**24]], dtype=np.float32))
    found = in_type(x, dtype)
    assert found.dtype == dtype and found.toarray().tolist() == [[0, 3, 2**24]]
    assert in_type(x.toarray(), None).dtype == np.float32


@pytest.mark.parametrize(
    ("value", "dtype"), [(2.0**31, "int32"), (1e10, "int32"), (1e30, "int64"), (2.0**63, "int64"), (np.inf, "int64")]
)
@pytest.mark.parametrize("given", ["float32", "float64", "int64"])
def test_not_in_type(value, dtype, given):
    if given == "int64" and value > 2**62:
        return
    with pytest.raises(ValueError, match=f"counts of a gene, more than {dtype} holds.*smaller `library_size`"):
        in_type(sp.csr_matrix(np.array([[0, value]], dtype=given)), dtype)
