from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from scmimic.metrics.parts import proportion_interval
from scmimic.tl.evaluation._cells import Cells, EvaluationData
from scmimic.tl.evaluation._diagnostics import copy_warning, diagnose, label_warning, space_warning


def side(x, labels=None):
    x = np.asarray(x, dtype=np.float32)
    labels = np.full(len(x), "") if labels is None else np.asarray(labels)
    return Cells(sp.csr_matrix(x), sp.csr_matrix(x), x, labels)


def data(real, synthetic, labels=(), spaces=("counts", "counts")):
    return EvaluationData(
        real=real, synthetic=synthetic, train=None, replicate=None, trivial={}, labels=labels, spaces=spaces
    )


def found(d, **kwargs):
    rows = diagnose(d, **{"log1p": True, "min_cells": 10} | kwargs)
    return {(row.metric, row.label): row for row in rows}


def test_variance_ratio_is_that_within_types():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], [40, 60])
    centre = np.where(labels == "a", 50.0, 100.0)[:, None]
    real, fake = (centre + s * rng.normal(size=(100, 7)) for s in (1.0, 0.5))
    rows = found(data(side(real, labels), side(fake, labels), ("a", "b")))
    of_types = []
    for name in "ab":
        m = labels == name
        ratio = np.median(fake[m].var(axis=0) / real[m].var(axis=0))
        assert rows["variance_ratio", name].value == pytest.approx(ratio, rel=1e-2)
        of_types.append((m.mean(), real[m].var(axis=0), fake[m].var(axis=0)))
    pooled = [sum(share * pair[i] for share, *pair in of_types) for i in (0, 1)]
    row = rows["variance_ratio", "overall"]
    assert row.value == pytest.approx(np.median(pooled[1] / pooled[0]), rel=1e-2)
    assert "Smooth output" in row.warning
    same = found(data(side(real, labels), side(real, labels), ("a", "b")))
    assert same["variance_ratio", "overall"].warning == ""
    noisy = found(data(side(fake, labels), side(real, labels), ("a", "b")))
    assert "Noisy output" in noisy["variance_ratio", "overall"].warning


@pytest.mark.parametrize(
    ("share", "train", "trivial", "own", "expected"),
    [
        (0.6, False, True, True, "the very truth that was to be predicted"),
        (0.6, True, True, True, "come from `train`, which has none of these"),
        (0.6, True, True, False, "come from `train`, which has none of these"),
        # the user's own trivial cells, and none at all
        (0.6, False, True, False, ""),
        (0.6, True, False, True, ""),
        (0.4, False, True, True, ""),
    ],
)
def test_predicted_cells_have_no_scale_of_cells_that_know_them(share, train, trivial, own, expected):
    cells = side(np.ones((10, 3)))
    given = replace(
        data(cells, cells),
        unseen=share,
        train=cells if train else None,
        trivial={"multinomial": cells} if trivial else {},
        notes={"trivial": "fitted"} if own else {},
    )
    row = found(given)["unseen_combinations", "overall"]
    assert row.value == share and expected in row.warning and bool(row.warning) == bool(expected)
    assert ("unseen_combinations", "overall") not in found(replace(given, unseen=0.0))


def test_zeros():
    real, fake = np.ones((20, 10)), np.ones((20, 10))
    real[:, :5] = 0
    fake[:, :3] = 0
    row = found(data(side(real), side(fake)))["zero_fraction_ratio", "overall"]
    assert row.value == pytest.approx(0.6)
    assert "too few zeros (0.30 of the values, 0.50 in real cells)" in row.warning
    assert "Too many zeros" in found(data(side(fake), side(real)))["zero_fraction_ratio", "overall"].warning
    # one zero in a hundred more or less, as of proteins, is no fault
    real, fake = np.ones((20, 10)), np.ones((20, 10))
    real[:2, 0], fake[:4, 0] = 0, 0
    row = found(data(side(real), side(fake)))["zero_fraction_ratio", "overall"]
    assert row.value == pytest.approx(2) and row.warning == ""
    # no zeros in real cells, as in standardised values: nothing to compare
    assert ("zero_fraction_ratio", "overall") not in found(data(side(np.ones((5, 2))), side(real)))


def test_composition():
    x = np.ones((20, 2))
    a, b = np.repeat(["a", "b"], [10, 10]), np.repeat(["a", "b"], [16, 4])
    row = found(data(side(x, a), side(x, b), ("a", "b")))["label_composition", "overall"]
    assert row.value == pytest.approx(0.3)
    assert "0.30" in row.warning
    assert found(data(side(x, a), side(x, a), ("a", "b")))["label_composition", "overall"].warning == ""


@pytest.mark.parametrize(
    ("spaces", "log1p", "same"),
    [
        (("counts", "counts"), True, True),
        (("counts", "linear"), True, True),
        (("counts", "linear"), False, False),
        (("counts", "log1p"), True, False),
        (("log1p", "log1p"), False, True),
        (("log1p", "log2"), False, False),
        (("scaled", "log1p"), False, False),
    ],
)
def test_space(spaces, log1p, same):
    d = data(side(np.ones((4, 2))), side(np.ones((4, 2))), spaces=spaces)
    assert found(d, log1p=log1p)["same_space", "overall"].value == same
    assert bool(space_warning(d, log1p)) != same


def test_units_that_do_not_show_are_no_finding():
    d = data(side(np.ones((4, 2))), side(np.ones((4, 2))), spaces=("counts", None))
    row = found(d, log1p=True)["same_space", "overall"]
    assert np.isnan(row.value)
    assert row.warning == ""


def test_double_logarithm_is_named():
    assert "log1p=False" in space_warning(data(side([[1.0]]), side([[1.0]]), spaces=("log1p", "log1p")), True)


@pytest.mark.parametrize(
    ("real", "synthetic", "text"),
    [
        ({"B": 50, "T": 50}, {"B": 50, "T": 50}, ""),
        ({"B": 50, "T": 50}, {"B": 30, "T": 70}, "other proportions (total variation distance 0.20)"),
        # a type that is rare may be lacking by chance
        ({"B": 990, "T": 9}, {"B": 999}, ""),
        ({"B": 990, "T": 10}, {"B": 1000}, "No synthetic cell is labelled 'T'. Overall rows"),
        ({"B": 1000}, {"B": 990, "T": 10}, "No real cell is labelled 'T'. Overall rows"),
        (
            {"B": 50, "NK": 50},
            {"B": 50, "NK cells": 50},
            "No real cell is labelled 'NK cells'; no synthetic cell is labelled 'NK': do the types have the same names",
        ),
        ({str(i): 10 for i in range(7)} | {"B": 1}, {"B": 71}, "labelled '0', '1', '2', '3', '4' and 2 more. Overall"),
    ],
)
def test_types_that_one_side_lacks_are_named(real, synthetic, text):
    sides = [np.repeat(list(numbers), list(numbers.values())) for numbers in (real, synthetic)]
    d = data(*(side(np.ones((len(x), 1)), x) for x in sides), labels=tuple(sorted({*real, *synthetic})))
    warning = found(d, min_cells=2000)["label_composition", "overall"].warning
    assert text in warning and bool(text) == bool(warning)


def test_label_warnings():
    assert "19 % of the synthetic cells" in label_warning("label_agreement", 0.19, 0.16, 0.22, 0.33)
    assert label_warning("label_agreement", 0.29, 0.26, 0.32, 0.33) == ""
    assert label_warning("label_agreement", 0.5, 0.4, 0.6, 0.33) == ""
    assert label_warning("label_agreement", 0.1, 0.05, 0.2, np.nan) == ""
    assert label_warning("rf_auc_genes", 0.1, 0.05, 0.2, 0.5) == ""


@pytest.mark.parametrize("n", [400, 1000])
@pytest.mark.parametrize(
    ("right", "replicate", "exaggerated"),
    # what real cells of PBMC3k and Kang score by other real ones, what ACTIVA's do, and means of a type
    [(0.924, 0.904, False), (0.945, 0.922, False), (0.984, 0.948, False), (0.9975, 0.915, True), (1.0, 0.94, True)],
)
def test_exaggerated_labels_are_named(right, replicate, exaggerated, n):
    low, high = proportion_interval(round(right * n), n)
    assert ("exaggerated" in label_warning("label_agreement", right, low, high, replicate)) is exaggerated


def test_too_few_cells_exaggerate_nothing():
    assert label_warning("label_agreement", 1.0, *proportion_interval(50, 50), 0.94) == ""
    assert label_warning("label_agreement", 1.0, *proportion_interval(5000, 5000), 1.0) == ""


def test_copy_warnings():
    assert "the generator copies" in copy_warning("dcr_ratio", 0.1, 0.1)
    assert "too typical" in copy_warning("dcr_ratio", 0.8, 0.7)
    assert copy_warning("dcr_ratio", 0.95, 0.9) == ""
    assert copy_warning("dcr_ratio", np.nan, np.nan) == ""
    assert "30 %" in copy_warning("duplicates", 0.3, 0.2)
    # few equal cells may be chance
    assert copy_warning("duplicates", 0.01, 0.001) == ""
    assert "0.80" in copy_warning("membership_auc", 0.8, 0.7)
    assert copy_warning("membership_auc", 0.53, 0.51) == ""
    assert "(ratio 0.80): the generator repeats" in copy_warning("self_distance_ratio", 0.8, 0.7, high=0.9)
    # too few cells to tell, or too little to mind
    assert copy_warning("self_distance_ratio", 0.8, 0.5, high=1.1) == ""
    assert copy_warning("self_distance_ratio", 0.97, 0.96, high=0.98) == ""
