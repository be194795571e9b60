import numpy as np

import scmimic as sm
from scmimic._arrays import fit_pca
from scmimic.cells._units import find_units
from scmimic.tl.evaluation._cells import _halves, _wanted, matched_rows, prepare_data, project
from scmimic.tl.evaluation._settings import complete


def test_halves_share_every_label():
    labels = np.repeat(["a", "b", "c"], [10, 7, 1])
    first, second = _halves(labels, np.random.default_rng(0))
    assert sorted([*first, *second]) == list(range(18))
    for name in "abc":
        assert abs((labels[first] == name).sum() - (labels[second] == name).sum()) <= 1


def test_matched_rows_have_the_targets_numbers():
    rng = np.random.default_rng(0)
    pool, target = np.repeat(["a", "b"], [50, 3]), np.repeat(["a", "b"], [20, 10])
    rows = matched_rows(pool, target, rng)
    assert len(set(rows)) == len(rows)
    assert (pool[rows] == "a").sum() == 20
    assert (pool[rows] == "b").sum() == 3


def test_wanted_numbers():
    real = np.repeat(["a", "b", "c"], [9000, 900, 100])
    wanted = _wanted(real, np.array(["a", "b"]), max_cells=1000)
    # the generator does not know c, so that the others share the 1,000; b is drawn beyond its share, for its own rows
    assert wanted == {"a": 910, "b": 300}
    assert _wanted(real, np.array(["c"]), max_cells=100_000) == {"c": 100}


def test_projection_in_chunks():
    x = np.random.default_rng(0).normal(size=(50, 6))
    pca = fit_pca(x, 3)
    np.testing.assert_allclose(project(pca, x, chunk_size=7), pca.transform(x), atol=1e-12)


def prepare(adata, synthetic, **changes):
    settings = {"labels_key": "cell_type", "baselines": ("multinomial",), "n_comps": 5, "max_cells": 1000}
    return prepare_data(adata, synthetic, complete(settings | changes))


def rows(cells):
    return {row.tobytes() for row in cells.raw.toarray()}


def test_real_cells_are_used_once():
    adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=20)
    data = prepare(adata, adata)
    assert len(data.real) == len(data.replicate) == 120
    assert not rows(data.real) & rows(data.replicate)
    train, reference = adata[:100].copy(), adata[100:150].copy()
    data = prepare(adata[150:].copy(), adata, train=train, reference=reference)
    assert len(data.real) == 150
    assert rows(data.replicate) <= {row.tobytes() for row in train.X.toarray()}
    # without a reference, a quarter of the training cells belongs to the PCA
    alone = prepare(adata[150:].copy(), adata, train=train)
    assert len(alone.replicate) <= 75
    assert "25 of the 100 training cells" in alone.notes["pca"]


def test_pca_is_fitted_on_the_reference():
    adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=20)
    a = prepare(adata[:100].copy(), adata[100:200].copy(), reference=adata[200:].copy())
    b = prepare(adata[:100].copy(), adata[:100].copy(), reference=adata[200:].copy(), baselines=())
    order = np.argsort([row.tobytes() for row in a.real.raw.toarray()])
    found = {row.tobytes(): pcs for row, pcs in zip(b.real.raw.toarray(), b.real.pcs, strict=True)}
    expected = np.array([found[row.tobytes()] for row in a.real.raw.toarray()])
    np.testing.assert_allclose(a.real.pcs[order], expected[order], atol=1e-4)


def test_trivial_generators_need_counts():
    adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=20)
    train, test = adata[:100].copy(), adata[100:].copy()
    scaled = train.copy()
    scaled.X = scaled.X * 0.37
    data = prepare(test, test, train=scaled)
    assert not data.trivial
    assert "no raw counts" in data.notes["trivial"]
    scaled.layers["counts"] = train.X
    data = prepare(test, test, train=scaled)
    assert find_units(data.trivial["multinomial"].raw)[0] == "counts"
