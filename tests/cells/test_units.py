import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.cells import _units
from scmimic.cells._units import ExpressionSpace, convert, count_units, expression_space, find_units
from scmimic.datasets import synthetic_counts


@pytest.fixture
def counts():
    return synthetic_counts(n_obs=200, n_vars=80, seed=0).X


def scaled(counts, target):
    x = counts.toarray().astype(np.float64)
    return (x * (target / x.sum(1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("units", ["counts", "linear", "log1p"])
def test_units_and_library_sizes_are_found(counts, units, dense):
    x = {"counts": counts.toarray(), "linear": scaled(counts, 20_000), "log1p": np.log1p(scaled(counts, 1e4))}[units]
    found = count_units(x if dense else sp.csr_matrix(x))
    assert found.units == units
    total = np.asarray(counts.sum(1)).ravel()
    single = np.where(counts.toarray() == 0, np.inf, counts.toarray()).min(1) == 1
    assert single.mean() > 0.9
    np.testing.assert_allclose(found.library_size[single], total[single])


@pytest.mark.parametrize("units", ["counts", "linear", "log1p"])
def test_blocks_of_cells_are_looked_at_as_one(counts, units, monkeypatch):
    x = sp.csr_matrix(
        {"counts": counts.toarray(), "linear": scaled(counts, 20_000), "log1p": np.log1p(scaled(counts, 1e4))}[units]
    )
    whole = count_units(x)
    monkeypatch.setattr(_units, "_BLOCK", 7)
    for given in (x, x.tocsc(), x.toarray()):
        found = count_units(given)
        assert found.units == whole.units == units
        np.testing.assert_array_equal(found.library_size, whole.library_size)
    # counts in the first block alone
    x[50:] *= 1.37
    assert count_units(x).units != "counts"


def test_the_matrix_stays_as_it_is(counts):
    x = counts.astype(np.float32)
    x.data[::3] = 0
    before = x.copy()
    assert count_units(x).units == "counts"
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(x, name), getattr(before, name))


def test_other_values_are_left_alone():
    rng = np.random.default_rng(0)
    found = count_units(rng.gamma(1.0, size=(50, 20)))
    assert found.units is None
    assert np.isnan(found.library_size).all()
    assert count_units(np.log2(1 + rng.poisson(2.0, (50, 20)) + 0.3)).units is None


def amounts(mean, n_cells=120, n_genes=150, seed=0):
    """Counts of cells of unequal depth, with genes of unequal means."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 2 * mean, n_genes) * np.exp(rng.normal(0, 0.4, (n_cells, 1)))
    counts = rng.poisson(rng.gamma(2, rate / 2)).astype(np.float64)
    return counts[counts.sum(1) > 2]


DATA = {
    "shallow": amounts(0.2),
    "deep": amounts(60),
    "few cells": amounts(3, n_cells=3),
    "one cell": amounts(3, n_cells=1),
    "few genes": amounts(4, n_genes=8),
}


def _scaled(x, total):
    return x * (total / x.sum(1, keepdims=True))


def _factors(x):
    return x / np.exp(np.random.default_rng(1).normal(0, 0.5, (len(x), 1)))


def _smooth(x):
    rng = np.random.default_rng(2)
    return (x.mean(0) + 0.05) * np.exp(rng.normal(0, 0.5, (len(x), 1)) + rng.normal(0, 0.2, x.shape))


def _part(x):
    return x[:, ::3]


def _standard(x):
    x = np.log1p(_scaled(x, 1e4))
    return (x - x.mean()) / x.std()


# What was done to counts, what that must be taken for, and what it may be taken for.
KINDS = {
    "integers": (lambda x: x.astype(np.int64), "counts"),
    "unsigned": (lambda x: x.astype(np.uint16), "counts"),
    "floats": (lambda x: x, "counts"),
    "zeros and ones": (lambda x: (x > 0).astype(float), "counts"),
    "shares": (lambda x: _scaled(x, 1), "linear"),
    "10k": (lambda x: _scaled(x, 1e4), "linear"),
    "20k": (lambda x: _scaled(x, 2e4), "linear"),
    "million": (lambda x: _scaled(x, 1e6), "linear"),
    "median": (lambda x: _scaled(x, 1.1 * np.median(x.sum(1))), "linear"),
    "size factors": (_factors, "linear"),
    "part of 10k": (lambda x: _part(_scaled(x, 1e4)), "linear"),
    "log of shares": (lambda x: np.log1p(_scaled(x, 1)), "log1p"),
    "log of 10k": (lambda x: np.log1p(_scaled(x, 1e4)), "log1p"),
    "log of a million": (lambda x: np.log1p(_scaled(x, 1e6)), "log1p"),
    "log of size factors": (lambda x: np.log1p(_factors(x)), "log1p"),
    "log of counts": (np.log1p, "log1p"),
    "genes chosen after the log": (lambda x: _part(np.log1p(_scaled(x, 1e4))), "log1p"),
    "log2": (lambda x: np.log2(1 + _scaled(x, 1e4)), "log2"),
    "log2 of size factors": (lambda x: np.log2(1 + _factors(x)), "log2"),
    "log10": (lambda x: np.log10(1 + _scaled(x, 1e4)), "log10"),
    "standardised": (_standard, "scaled"),
    "standardised and cut": (lambda x: _standard(x).clip(0), None),
    "roots": (lambda x: np.sqrt(x + 0.0), None),
    "roots of 10k": (lambda x: np.sqrt(_scaled(x, 1e4)), None),
    "smooth": (_smooth, None),
    "smooth shares": (lambda x: _scaled(_smooth(x), 1), "linear"),
    "smooth 10k": (lambda x: _scaled(_smooth(x), 1e4), "linear"),
    "smooth log": (lambda x: np.log1p(_scaled(_smooth(x), 1e4)), "log1p"),
    "smooth log of a part": (lambda x: np.log1p(_part(_scaled(_smooth(x), 1e4))), None),
    "ambient counts taken away": (lambda x: (x - 0.3 * np.random.default_rng(3).random(x.shape)).clip(0), None),
    "nothing": (np.zeros_like, None),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DATA)
def test_kinds_of_values(name, kind, dtype):
    """Where values do not show what they are, the answer is that; it is never another kind."""
    function, expected = KINDS[kind]
    x = function(DATA[name])
    x = x.astype(dtype) if x.dtype.kind == "f" else x
    found = find_units(x)[0]
    assert found == find_units(sp.csr_matrix(x))[0]
    allowed = {expected, None}
    if kind in ("smooth", "ambient counts taken away"):
        # large amounts
        allowed.add("linear")
    assert found in allowed
    sure = name in ("shallow", "few cells") or (name, expected) in (("deep", "counts"), ("deep", "linear"))
    if sure and kind not in ("smooth", "ambient counts taken away"):
        assert found == expected


@pytest.fixture
def layers():
    """Counts; shares of 500 and of 1,000 per cell, and their log1p."""
    counts = np.random.default_rng(0).poisson(2, size=(50, 20)).astype(np.float32)
    share = counts / counts.sum(1, keepdims=True)
    return {"counts": counts, "linear": 500 * share, "thousand": 1000 * share, "log": np.log1p(500 * share)}


def test_space_of_a_layer(layers):
    spaces = {name: expression_space(x, name) for name, x in layers.items()}
    assert {name: space.units for name, space in spaces.items()} == {
        "counts": "counts",
        "linear": "linear",
        "thousand": "linear",
        "log": "log1p",
    }
    assert spaces["log"].total == pytest.approx(500, rel=1e-4)
    assert spaces["thousand"].total == pytest.approx(1000, rel=1e-4)
    # a part of the genes has no common total
    assert expression_space(layers["linear"][:, :5], None).total is None


@pytest.mark.parametrize("dense", [True, False])
def test_exact_ways_between_spaces(layers, dense):
    for have in layers:
        for want in layers:
            x = layers[have] if dense else sp.csr_matrix(layers[have])
            ways = (expression_space(layers[name], name) for name in (have, want))
            if want == "counts" and have != "counts":
                with pytest.raises(ValueError, match="`as_counts=True`"):
                    convert(x, *ways)
                continue
            found = convert(x, *ways)
            np.testing.assert_allclose(found if dense else found.toarray(), layers[want], rtol=1e-3)


def test_no_way_without_a_total_or_units(layers):
    have, whole = expression_space(layers["counts"], None), layers["linear"]
    with pytest.raises(ValueError, match="no total common"):
        convert(layers["counts"], have, expression_space(whole[:, :5], "part"))
    unknown = ExpressionSpace("odd", None)
    with pytest.raises(ValueError, match="values of unknown units"):
        convert(whole, unknown, expression_space(whole, "linear"))
    assert convert(whole, unknown, unknown) is whole


def test_genes_chosen_after_the_logarithm(layers):
    """A count becomes what it is in the median cell, where cells have no total in common."""
    counts, log = layers["counts"][:, :8], layers["log"][:, :8]
    want = expression_space(log, "log")
    unit = 500 / layers["counts"].sum(1)
    assert want.total is None
    assert want.one_count == pytest.approx(np.median(unit), rel=1e-4)
    found = convert(counts, expression_space(counts, None), want)
    np.testing.assert_allclose(found, np.log1p(counts * np.median(unit)), rtol=1e-4)
    # off by one factor for all genes of a cell
    factor = np.expm1(found) / np.maximum(np.expm1(log), 1e-9)
    factor = np.where(counts > 0, factor, np.nan)
    np.testing.assert_allclose(np.nanmax(factor, 1), np.nanmin(factor, 1), rtol=1e-3)


@pytest.mark.parametrize(("units", "log"), [("log2", np.log2), ("log10", np.log10)])
def test_logarithms_to_other_bases_are_converted(layers, units, log):
    other = log(1 + layers["linear"])
    want = expression_space(other, "other")
    assert want.units == units
    assert want.total == pytest.approx(500, rel=1e-4)
    for have in ("counts", "linear", "log"):
        found = convert(layers[have], expression_space(layers[have], have), want)
        np.testing.assert_allclose(found, other, rtol=1e-3)


def test_smallest_values_of_several_counts():
    """In the cell of 2, 3 and 5 counts, the smallest is two of them."""
    counts = np.array([[1, 2, 7, 3], [1, 4, 2, 9], [2, 3, 5, 0], [3, 5, 4, 7], [2, 4, 6, 8], [1, 1, 2, 3]] * 20)
    found = count_units(np.log1p(counts * np.linspace(1, 9, len(counts))[:, None]))
    # part of the cells says otherwise, so that not enough of the values are whole multiples
    assert found.units is None
    mostly = np.vstack([counts[np.arange(len(counts)) % 6 < 2]] * 6 + [counts[2:5]])
    found = count_units(np.log1p(mostly * np.linspace(1, 9, len(mostly))[:, None]))
    assert found.units == "log1p"
    np.testing.assert_array_equal(found.library_size[:-1], mostly.sum(1)[:-1])
    # nothing in the cell of 2, 4, 6 and 8 shows it
    assert found.library_size[-1] == 10


def test_entries_that_stand_twice_are_one_value():
    x = sp.csr_matrix(DATA["shallow"])
    halves = sp.csr_matrix((np.repeat(x.data / 2, 2), np.repeat(x.indices, 2), 2 * x.indptr), x.shape)
    assert find_units(halves)[0] == "counts"
    found = count_units(halves)
    assert found.units == "counts"
    np.testing.assert_allclose(found.library_size, DATA["shallow"].sum(1))
