import logging

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from scmimic.metrics import (
    DiscriminatorResult,
    discriminator_auc,
    discriminator_auc_per_label,
    split_discriminator_auc,
)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.poisson(2.0, (120, 15)).astype(float), rng.poisson(2.4, (120, 15)).astype(float)


@pytest.fixture
def labelled():
    """Type a is perfect, b is off, c is small, d and e occur on one side."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d"], [60, 60, 10, 40])
    other = np.repeat(["a", "b", "c", "e"], [60, 50, 60, 40])
    real, synthetic = rng.normal(size=(170, 6)), rng.normal(size=(210, 6))
    synthetic[other == "b"] += 9
    return real, labels, synthetic, other


def test_split_equals_an_independent_pipeline(pair):
    x, y = np.vstack(pair), np.repeat([0, 1], 120)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, stratify=y, random_state=5)
    forest = RandomForestClassifier(40, random_state=5)
    pipeline = make_pipeline(PCA(6, svd_solver="full"), forest).fit(x_train, y_train)
    expected = roc_auc_score(y_test, pipeline.predict_proba(x_test)[:, 1])
    assert 0.55 < expected < 0.95
    # equal up to the signs of the components and trees that split ties of rounding
    assert split_discriminator_auc(*pair, n_comps=6, n_trees=40, seed=5) == pytest.approx(expected, abs=0.06)


def test_limits_of_the_split():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(200, 5))
    assert split_discriminator_auc(real, real + 9, n_trees=20) == 1
    chance = [split_discriminator_auc(*rng.normal(size=(2, 100, 5)), n_trees=20, seed=s) for s in range(12)]
    # the standard error of the mean of twelve AUCs of 30 against 30 is 0.022
    assert abs(np.mean(chance) - 0.5) < 0.08


def test_result_of_the_split_holds_its_interval_and_curve(pair):
    result = split_discriminator_auc(*pair, n_trees=20, return_folds=True)
    assert isinstance(result, DiscriminatorResult)
    assert result.auc == split_discriminator_auc(*pair, n_trees=20) == result.folds[0].auc
    assert len(result.folds) == 1
    low, high = result.interval
    assert low < result.auc < high
    # 36 cells of each side are judged
    assert 0.1 < high - low < 0.35


def test_share_of_judged_cells_decides_the_width(pair):
    widths = []
    for fraction in (0.1, 0.6):
        low, high = split_discriminator_auc(*pair, n_trees=20, test_fraction=fraction, return_folds=True).interval
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_sparse_unequal_and_fewer_cells(pair):
    expected = split_discriminator_auc(pair[0], pair[1][:50], n_trees=20, n_comps=4)
    sparse = split_discriminator_auc(sp.csr_array(pair[0]), sp.csc_matrix(pair[1][:50]), n_trees=20, n_comps=4)
    assert sparse == pytest.approx(expected, abs=0.1)
    low, high = split_discriminator_auc(*pair, n_trees=20, max_cells=20, return_folds=True).interval
    assert high - low > 0.35


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"n_comps": 0}, "n_comps"), ({"test_fraction": 1.0}, "test_fraction"), ({"max_cells": 2}, "too few")],
)
def test_bad_arguments_of_the_split(pair, kwargs, message):
    with pytest.raises(ValueError, match=message):
        split_discriminator_auc(*pair, n_trees=2, **kwargs)


def test_labels_are_judged_one_by_one(labelled, caplog):
    real, labels, synthetic, other = labelled
    with caplog.at_level(logging.WARNING):
        aucs = discriminator_auc_per_label(*labelled, n_trees=20)
    assert list(aucs) == ["a", "b", "c", "d", "e"]
    assert aucs["a"] == discriminator_auc(real[labels == "a"], synthetic[other == "a"], n_trees=20)
    assert 0.25 < aucs["a"] < 0.75
    assert aucs["b"] == 1
    assert np.isnan([aucs["c"], aucs["d"], aucs["e"]]).all()
    assert "c, d, e" in caplog.text


def test_smallest_number_of_cells_is_an_argument(labelled):
    aucs = discriminator_auc_per_label(*labelled, n_trees=10, min_cells=10)
    assert np.isfinite(aucs["c"])
    assert np.isnan(discriminator_auc_per_label(*labelled, n_trees=10, min_cells=51)["b"])


def test_as_many_cells_as_folds_are_enough(labelled):
    real, labels, synthetic, other = labelled
    found = discriminator_auc_per_label(real, labels, synthetic, other, n_trees=5, n_folds=5, min_cells=5)
    assert np.isfinite(list(found.values())).any()


def test_results_per_label(labelled):
    results = discriminator_auc_per_label(*labelled, n_trees=10, return_folds=True)
    assert {label: r.auc for label, r in results.items()} == pytest.approx(
        discriminator_auc_per_label(*labelled, n_trees=10), nan_ok=True
    )
    assert results["a"].interval[0] < results["a"].auc < results["a"].interval[1]
    assert (results["c"].folds, np.isnan(results["c"].mean), np.isnan(results["c"].sd)) == ((), True, True)


def test_components_of_the_reference_serve_all_labels(labelled):
    """A reference that varies along the first feature alone hides a shift of type b in the others."""
    real, labels, synthetic, other = labelled
    synthetic = synthetic.copy()
    synthetic[other == "b", 0] -= 9
    reference = np.random.default_rng(5).normal(size=(50, 6)) * [1, 0.01, 0.01, 0.01, 0.01, 0.01]
    arrays = real, labels, synthetic, other
    hidden = discriminator_auc_per_label(*arrays, n_trees=20, use_pcs=1, reference=reference)["b"]
    assert hidden < 0.9
    assert discriminator_auc_per_label(*arrays, n_trees=20, use_pcs=2)["b"] == 1


def test_sparse_labelled_cells(labelled):
    real, labels, synthetic, other = labelled
    expected = discriminator_auc_per_label(*labelled, n_trees=10)
    sparse = discriminator_auc_per_label(
        sp.csr_matrix(real), list(labels), sp.csc_array(synthetic), other.astype(object), n_trees=10
    )
    assert sparse == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("change", "kwargs", "message"),
    [
        ({1: np.repeat("a", 3)}, {}, "real_labels.*170"),
        ({3: np.array(["a"] * 209 + [None])}, {}, "synthetic_labels.*lacks"),
        ({2: np.ones((210, 5))}, {}, "columns"),
        # also where no label has enough cells to be compared
        ({2: np.ones((210, 5))}, {"min_cells": 1000}, "columns"),
        ({}, {"min_cells": 4}, "min_cells"),
        ({}, {"reference": np.ones((9, 6))}, "use_pcs"),
    ],
)
def test_bad_arguments_per_label(labelled, change, kwargs, message):
    arrays = [change.get(i, array) for i, array in enumerate(labelled)]
    with pytest.raises(ValueError, match=message):
        discriminator_auc_per_label(*arrays, n_trees=2, **kwargs)
