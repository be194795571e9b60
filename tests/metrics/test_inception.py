import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import entropy
from sklearn.ensemble import RandomForestClassifier

from scmimic import _arrays
from scmimic.metrics import inception_score


@pytest.fixture
def cells():
    """Three overlapping types and cells to judge."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["B", "NK", "T"], 40)
    real = rng.poisson(np.repeat([[1, 3], [3, 1], [4, 4]], 40, axis=0).repeat(4, axis=1)).astype(float)
    return real, labels, rng.poisson(2.5, (70, 8)).astype(float)


def test_equals_the_definition_term_by_term(cells):
    real, labels, synthetic = cells
    forest = RandomForestClassifier(25, max_features="sqrt", random_state=4).fit(real.astype(np.float32), labels)
    p = forest.predict_proba(synthetic.astype(np.float32))
    expected = np.exp(np.mean([entropy(row, p.mean(axis=0)) for row in p]))
    assert 1.1 < expected < 2.5
    assert inception_score(*cells, n_trees=25, seed=4) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shares", [(10, 10, 10), (1, 4, 25), (0, 0, 30)])
def test_separable_types_give_the_exponent_of_their_entropy(shares):
    centres = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    real, labels = np.repeat(centres, 20, axis=0), np.repeat(["a", "b", "c"], 20)
    synthetic = np.repeat(centres, shares, axis=0)
    score = inception_score(real, labels, synthetic, n_trees=50)
    assert score == pytest.approx(np.exp(entropy(shares)), rel=0.01)


def test_order_of_the_cells_is_nothing(cells):
    real, labels, synthetic = cells
    order = np.random.default_rng(0).permutation(len(synthetic))
    expected = inception_score(*cells, n_trees=10)
    assert inception_score(real, labels, synthetic[order], n_trees=10) == pytest.approx(expected, abs=1e-12)


def test_noise_scores_one(cells):
    """Cells that the forest cannot tell apart, all at one point."""
    assert inception_score(*cells[:2], np.full((9, 8), 2.0), n_trees=10) == pytest.approx(1)


@pytest.mark.parametrize("limit", [0, 2**30])
def test_sparse_input(cells, limit, monkeypatch):
    real, labels, synthetic = cells
    expected = inception_score(*cells, n_trees=10)
    monkeypatch.setattr(_arrays, "_DENSE_LIMIT_BYTES", limit)
    sparse = inception_score(sp.csr_array(real), labels.astype(object), sp.csc_matrix(synthetic), n_trees=10)
    assert sparse == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["max_cells", "n_cells", "n_trees"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_bad_numbers(cells, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number at least 1"):
        inception_score(*cells, **{"n_trees": 2} | {name: value})


def test_cells_are_drawn(cells):
    expected = inception_score(*cells, n_trees=10)
    assert inception_score(*cells, n_trees=10, n_cells=60) != expected
    assert inception_score(*cells, n_trees=10, max_cells=20) != expected
    assert inception_score(*cells, n_trees=10, n_cells=None, max_cells=None) == expected
    assert inception_score(*cells, n_trees=10, n_cells=60, seed=1) == inception_score(
        *cells, n_trees=10, n_cells=60, seed=1
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["B"] * 120, "two labels"),
        (["B"] * 119, "one label for each"),
        (["B"] * 118 + ["T", None], "lacks the label of 1"),
        (["B"] * 118 + [np.nan, None], "lacks the label of 2"),
    ],
)
def test_bad_labels(cells, labels, message):
    with pytest.raises(ValueError, match=message):
        inception_score(cells[0], np.array(labels, dtype=object), cells[2], n_trees=2)


def test_other_genes_are_named(cells):
    real, labels, synthetic = cells
    with pytest.raises(ValueError, match="`real` has 8 features, `synthetic` has 7|same"):
        inception_score(real, labels, synthetic[:, :7])
