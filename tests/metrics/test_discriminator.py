import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import auc as area
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from scmimic import _arrays
from scmimic.metrics import DiscriminatorResult, _discriminator, discriminator_auc, random_forest_error


@pytest.fixture
def pair():
    """Overlapping sides: neither chance nor perfect."""
    rng = np.random.default_rng(0)
    return rng.poisson(2.0, (120, 15)).astype(float), rng.poisson(2.6, (120, 15)).astype(float)


def independent_forest(real, synthetic, *, trees, seed, of_classes=False):
    """The same definition through scikit-learn's own cross-validation."""
    x, y = np.vstack([real, synthetic]), np.r_[np.zeros(len(real)), np.ones(len(synthetic))]
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    if of_classes:
        forest = RandomForestClassifier(trees, criterion="gini", max_features="sqrt", random_state=seed)
        p = cross_val_predict(forest, x, y, cv=folds, method="predict_proba")[:, 1]
    else:
        p = cross_val_predict(RandomForestRegressor(trees, max_features="sqrt", random_state=seed), x, y, cv=folds)
    return roc_auc_score(y, p), 100 * ((p > 0.5) != y).mean()


def test_auc_equals_cross_val_predict(pair):
    expected, _ = independent_forest(*pair, trees=30, seed=3)
    assert 0.55 < expected < 0.95
    assert discriminator_auc(*pair, n_trees=30, seed=3) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_votes_are_those_of_scikit_learns_forest(kind):
    """Equal to the last digit, on any number of threads."""
    rng = np.random.default_rng(0)
    x, judged = (rng.poisson(0.5, (n, 30)).astype(np.float32) for n in (90, 40))
    y = rng.integers(0, 2, len(x))
    expected = RandomForestRegressor(25, max_features="sqrt", random_state=3).fit(x, y).predict(judged)
    for n_jobs in (1, 2):
        found = _discriminator.vote(kind(x), y, kind(judged), n_trees=25, seed=3, n_jobs=n_jobs)
        np.testing.assert_array_equal(found, expected)


def test_the_forest_is_that_of_gini_impurity():
    """The papers' forest, of classes: the same but for splits of the same impurity."""
    rng = np.random.default_rng(0)
    difference = []
    for seed in range(6):
        sides = rng.normal(0, 1, (150, 20)), rng.normal(0.15, 1, (150, 20))
        expected, _ = independent_forest(*sides, trees=50, seed=seed, of_classes=True)
        difference.append(discriminator_auc(*sides, n_trees=50, seed=seed) - expected)
    # another seed makes a difference of 0.04 here
    assert np.abs(difference).max() < 0.01


def test_error_equals_cross_val_predict_on_pcs_of_a_reference(pair):
    reference = np.random.default_rng(9).poisson(2.0, (80, 15)).astype(float)
    pca = PCA(6, svd_solver="full").fit(reference)
    _, expected = independent_forest(pca.transform(pair[0]), pca.transform(pair[1]), trees=30, seed=0)
    # equal up to trees that split ties of rounding
    assert random_forest_error(*pair, reference=reference, n_comps=6, n_trees=30) == pytest.approx(expected, abs=1.5)


def test_equal_distributions_give_chance():
    rng = np.random.default_rng(1)
    aucs, errors = [], []
    for seed in range(6):
        real, same = rng.normal(size=(2, 100, 10))
        aucs.append(discriminator_auc(real, same, n_trees=30, seed=seed))
        errors.append(random_forest_error(real, same, n_comps=5, n_trees=30, seed=seed))
    # the standard error of an AUC of 100 against 100 is 0.041, of the mean of six 0.017
    assert abs(np.mean(aucs) - 0.5) < 0.06
    assert abs(np.mean(errors) - 50) < 6


def test_separable_sides_are_found():
    rng = np.random.default_rng(0)
    real, shifted = rng.normal(size=(40, 5)), rng.normal(10, size=(40, 5))
    assert discriminator_auc(real, shifted, n_trees=20) == 1.0
    assert random_forest_error(real, shifted, n_trees=20) == 0.0


def test_shuffling_real_and_synthetic_destroys_the_signal():
    rng = np.random.default_rng(0)
    real, shifted = rng.normal(size=(100, 5)), rng.normal(2, size=(100, 5))
    assert discriminator_auc(real, shifted, n_trees=20) > 0.95
    mixed = rng.permutation(np.vstack([real, shifted]))
    assert abs(discriminator_auc(mixed[:100], mixed[100:], n_trees=20) - 0.5) < 0.15


@pytest.mark.parametrize("limit", [0, 2**30])
def test_sparse_dense_and_dtype_agree(pair, limit, monkeypatch):
    expected = discriminator_auc(*pair, n_trees=10)
    monkeypatch.setattr(_arrays, "_DENSE_LIMIT_BYTES", limit)
    sparse = discriminator_auc(sp.csr_array(pair[0]), sp.csc_matrix(pair[1].astype(np.float32)), n_trees=10)
    assert sparse == pytest.approx(expected, abs=1e-12)
    assert discriminator_auc(pair[0].astype(int), sp.csr_matrix(pair[1]), n_trees=10) == pytest.approx(expected)


def test_sides_are_balanced_and_cut(pair, monkeypatch):
    seen = []
    original = _discriminator.out_of_fold

    def spy(real, synthetic, **kwargs):
        seen.append((real.shape[0], synthetic.shape[0]))
        return original(real, synthetic, **kwargs)

    monkeypatch.setattr(_discriminator, "out_of_fold", spy)
    discriminator_auc(pair[0], pair[1][:50], n_trees=5)
    discriminator_auc(*pair, n_trees=5, max_cells=30)
    random_forest_error(*pair, n_trees=5, n_cells=20)
    assert seen == [(50, 50), (30, 30), (20, 20)]


def test_folds_hold_every_cell_once_and_the_curves_match_their_areas(pair):
    result = discriminator_auc(*pair, n_trees=20, return_folds=True)
    assert isinstance(result, DiscriminatorResult)
    assert result.auc == discriminator_auc(*pair, n_trees=20)
    assert len(result.folds) == 5
    for fold in result.folds:
        assert (fold.fpr[0], fold.tpr[0], fold.fpr[-1], fold.tpr[-1]) == (0, 0, 1, 1)
        assert fold.auc == pytest.approx(area(fold.fpr, fold.tpr))
    aucs = [fold.auc for fold in result.folds]
    assert result.mean == pytest.approx(np.mean(aucs))
    assert result.sd == pytest.approx(np.std(aucs))


def test_seed_decides(pair):
    assert discriminator_auc(*pair, n_trees=10, seed=1) == discriminator_auc(*pair, n_trees=10, seed=1)
    assert discriminator_auc(*pair, n_trees=10, seed=1) != discriminator_auc(*pair, n_trees=10, seed=2)


def test_pcs_of_the_reference_decide_what_is_seen():
    """A shift in a direction in which the reference does not vary is invisible on its first component."""
    rng = np.random.default_rng(0)
    scale = np.array([10.0, 0.01, 0.01])
    reference, real = rng.normal(size=(60, 3)) * scale, rng.normal(size=(60, 3)) * scale
    synthetic = rng.normal(size=(60, 3)) * scale + [0, 5, 0]
    assert discriminator_auc(real, synthetic, n_trees=20) == 1.0
    on_reference = discriminator_auc(real, synthetic, n_trees=20, use_pcs=1, reference=reference)
    assert abs(on_reference - 0.5) < 0.2
    assert discriminator_auc(real, synthetic, n_trees=20, use_pcs=2) == 1.0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"reference": np.ones((5, 15))}, "use_pcs"),
        ({"use_pcs": 0}, "at least 1"),
        ({"use_pcs": 2, "reference": np.ones((5, 3))}, "columns"),
        ({"max_cells": 3}, "folds"),
        ({"n_folds": 1}, "folds"),
        ({"n_trees": 0}, "`n_trees` must be a whole number"),
    ],
)
def test_bad_arguments(pair, kwargs, message):
    with pytest.raises(ValueError, match=message):
        discriminator_auc(*pair, **{"n_trees": 2} | kwargs)


def test_other_genes_are_refused(pair):
    with pytest.raises(ValueError, match="same features"):
        discriminator_auc(pair[0], pair[1][:, :4])


def test_intervals_hold_the_value_and_shrink_with_cells(pair):
    result = discriminator_auc(*pair, n_trees=20, return_folds=True)
    low, high = result.interval
    assert low < result.auc < high
    fewer = discriminator_auc(*pair, n_trees=20, max_cells=30, return_folds=True).interval
    # a quarter of the cells: about twice as wide
    assert 1.4 < (fewer[1] - fewer[0]) / (high - low) < 2.8


def test_error_with_interval(pair):
    error, (low, high) = random_forest_error(*pair, n_trees=20, return_interval=True)
    assert error == random_forest_error(*pair, n_trees=20)
    assert low < error < high
    # the half width of a binomial share of 240 cells
    assert (high - low) / 2 == pytest.approx(196 * np.sqrt(error / 100 * (1 - error / 100) / 240), rel=0.05)
