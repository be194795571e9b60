import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from scmimic.metrics import label_agreement
from scmimic.metrics._label_agreement import fit_label_classifier


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    labels = np.repeat(["B", "NK", "T"], [60, 40, 80])
    centers = {"B": [0, 0, 6], "NK": [0, 6, 0], "T": [6, 0, 0]}
    x = np.array([centers[label] for label in labels]) + rng.normal(size=(180, 3))
    return x, labels


def test_swapped_labels_are_counted(cells):
    x, labels = cells
    asked = labels.copy()
    asked[:15] = "T"  # 15 of the cells asked for as T are B
    found = label_agreement(x, labels, x, asked)
    assert found.per_label == pytest.approx({"B": 1.0, "NK": 1.0, "T": 80 / 95}, abs=0.02)
    assert found.overall == pytest.approx(165 / 180, abs=0.02)


def test_independent_computation(cells):
    x, labels = cells
    rng = np.random.default_rng(1)
    noisy = x + rng.normal(scale=3, size=x.shape)
    scale = x.std(0)
    reference = LogisticRegression(C=0.01, max_iter=300).fit(x / scale, labels).predict(noisy / scale) == labels
    found = label_agreement(x, labels, noisy, labels)
    assert 0.5 < found.overall < 0.99
    assert found.overall == pytest.approx(reference.mean(), abs=0.006)
    assert found.per_label["NK"] == pytest.approx(reference[labels == "NK"].mean(), abs=0.026)


def test_sparse_and_given_classifier(cells):
    x, labels = cells
    x = np.maximum(x, 0)
    dense = label_agreement(x, labels, x, labels)
    assert label_agreement(sp.csr_matrix(x), labels, sp.csr_matrix(x), labels) == dense
    classifier = fit_label_classifier(x, np.roll(labels, 60))
    assert label_agreement(x, labels, x, labels, classifier=classifier).overall < dense.overall


def test_label_without_training_cells_is_never_met(cells):
    x, labels = cells
    found = label_agreement(x[:100], labels[:100], x, labels)
    assert found.per_label["T"] == 0


def test_bad_input(cells):
    x, labels = cells
    with pytest.raises(ValueError, match="two labels"):
        label_agreement(x[:60], labels[:60], x, labels)
    with pytest.raises(ValueError, match="features"):
        label_agreement(x, labels, x[:, :2], labels)
    with pytest.raises(ValueError, match="train_labels"):
        label_agreement(x, labels[:9], x, labels)
