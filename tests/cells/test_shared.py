import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.cells._shared import leave_out_shared, shared_cells, unseen_cells

RNG = np.random.default_rng(0)
DEEP = RNG.poisson(3.0, (300, 40)).astype(np.float32)


def explicit_zeros(x):
    stored = sp.csr_matrix(np.ones_like(x))
    stored.data = x.ravel().copy()
    return stored


def split_entries(x):
    """Every count in two entries, as csr allows; the columns run backwards."""
    row, column = np.nonzero(x)
    value = x[row, column]
    order = np.arange(len(row))[::-1]
    indptr = np.concatenate([[0], np.cumsum(2 * (x != 0).sum(axis=1))])
    out = sp.csr_matrix(x.shape, dtype=x.dtype)
    by_row = np.argsort(np.r_[row[order], row[order]], kind="stable")
    columns, values = np.r_[column[order], column[order]], np.r_[value[order] - 1, np.ones(len(order))]
    out.indices, out.data, out.indptr = columns[by_row], values[by_row].astype(x.dtype), indptr
    return out


@pytest.mark.parametrize(
    "store",
    [
        np.asarray,
        sp.csr_matrix,
        sp.csc_matrix,
        sp.csr_array,
        explicit_zeros,
        split_entries,
        lambda x: x.astype(np.float64),
        lambda x: sp.csr_matrix(x.astype(np.int64)),
        lambda x: np.asfortranarray(x),
    ],
)
def test_found_however_they_are_stored(store):
    others = np.vstack([DEEP[150:][::-1], DEEP[20:60]])
    found = shared_cells(DEEP[:100], store(others))
    assert np.flatnonzero(found).tolist() == list(range(20, 60))
    assert np.array_equal(found, shared_cells(store(DEEP[:100]), others))


def test_logarithms_in_both_precisions():
    logs = np.log1p(DEEP.astype(np.float64) / 7)
    assert shared_cells(logs[:100], logs[50:].astype(np.float32)).sum() == 50


def test_one_count_more_is_another_cell():
    near = DEEP[:100].copy()
    near[:, 3] += 1
    assert not shared_cells(DEEP[:100], near).any()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("depth", [0.0, 0.05, 0.2, 0.5])
def test_shallow_cells_agree_by_chance(depth, seed):
    """Few counts of few genes: many cells have the same, and nobody copied them."""
    rng = np.random.default_rng(seed)
    x, y = (rng.poisson(depth, (n, 8)).astype(np.float32) for n in (400, 900))
    common = np.isin(*(np.array([row.tobytes() for row in side]) for side in (x, y)))
    assert common.mean() > 0.3
    assert not shared_cells(x, y).any()


@pytest.mark.parametrize("seed", range(5))
def test_shared_cells_are_found_among_shallow_ones(seed):
    rng = np.random.default_rng(seed)
    x, y = (rng.poisson(0.6, (n, 40)).astype(np.float32) for n in (300, 500))
    # three tenths of empty cells on both sides, which say nothing
    x[:90] = y[:150] = 0
    assert not shared_cells(x, y).any()
    y[200:300] = x[100:200]
    found = shared_cells(x, y)
    assert found[100:200].all()
    assert found.sum() < 110


def test_a_hundred_expressed_genes_are_certain():
    """A handful of shared cells is no excess over chance, unless each of them is too rich to agree by chance."""
    x, y = RNG.poisson(2.0, (2, 50, 200)).astype(np.float32)
    y[0] = x[7]
    assert np.flatnonzero(shared_cells(x, y)).tolist() == [7]
    expressed = np.flatnonzero(x[7])
    assert len(expressed) > 100
    for n in (99, 100):
        few, other = x.copy(), y.copy()
        few[7, expressed[n:]] = 0
        other[0] = few[7]
        assert shared_cells(few, other).sum() == (n >= 100)


def test_repeated_cells_are_shared_too():
    twice = np.vstack([DEEP[:100], DEEP[:100]])
    assert shared_cells(twice, DEEP[:100]).all()
    assert shared_cells(DEEP[:100], twice).all()


def test_what_is_left_out_is_told():
    rows, text = unseen_cells(DEEP[:100], DEEP[60:], name="a", other_name="b", why="So it is.")
    assert rows.tolist() == list(range(60))
    assert (
        text == "40 of the 100 cells of `a` are in `b` too, the same in every gene, and are left out of `a`. So it is."
    )
    rows, text = unseen_cells(DEEP[:100], DEEP[100:], name="a", other_name="b", why="")
    assert (len(rows), text) == (100, "")
    # half may be left out, and no more
    assert len(unseen_cells(DEEP[:100], DEEP[50:], name="a", other_name="b", why="")[0]) == 50
    with pytest.raises(ValueError, match="51 of the 100 cells of `a` are in `b` too, the same in every gene. Why"):
        unseen_cells(DEEP[:100], DEEP[49:], name="a", other_name="b", why="Why")


def test_sets_are_cut_with_their_columns():
    matrices = {"a": sp.csr_matrix(DEEP[:100]), "b": DEEP[80:200], "c": DEEP[190:]}
    columns = {"a": np.arange(100), "b": np.arange(80, 200)}
    told = leave_out_shared(matrices, columns, [("a", "b", "x"), ("b", "c", "y"), ("a", "d", "z")])
    assert [text[:20] for text in told] == ["20 of the 100 cells ", "10 of the 120 cells "]
    assert np.array_equal(matrices["a"].toarray(), DEEP[:80])
    assert columns["a"].tolist() == list(range(80))
    assert columns["b"].tolist() == list(range(80, 190))
    assert np.array_equal(matrices["b"], DEEP[80:190])
