import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from learning import SEED

import scmimic as sm
from scmimic.model.generation.calibration._calibration import compare_margins, counts_and_labels
from scmimic.model.generation.calibration._margins import GeneMargins, _Distribution, histogram

RNG = np.random.default_rng(0)


def blocks(x, labels, size=100):
    for start in range(0, len(x), size):
        yield sp.csr_matrix(x[start : start + size].astype(np.float32)), labels[start : start + size]


@pytest.fixture(scope="module")
def counts():
    """Two labels, four genes; the model's spread is wrong in each of them."""
    rng = np.random.default_rng(1)
    n = 3000
    labels = np.repeat([0, 1], n)
    library = rng.gamma(20, 0.05, (2 * n, 1))
    mean = np.where(labels[:, None] == 0, [0.3, 2.0, 30.0, 0.0], [4.0, 2.0, 5.0, 0.02]) * library
    data = rng.poisson(mean)
    model = rng.poisson(0.7 * mean * rng.gamma(1.0, 1.0, mean.shape))
    return data, model, labels


def test_histogram_counts_what_a_loop_counts(counts):
    data, _, labels = counts
    found = histogram(blocks(data, labels, 37), 2, 4)
    expected = {}
    for row, label in zip(data, labels, strict=True):
        for gene, value in enumerate(row):
            if value:
                key = (int(label), gene, int(value))
                expected[key] = expected.get(key, 0) + 1
    keys = {
        (int(k >> 31) // 4, int(k >> 31) % 4, int(k % 2**31)): c for k, c in zip(found.keys, found.counts, strict=True)
    }
    assert keys == expected
    assert found.n_cells.tolist() == [3000, 3000]
    assert (np.diff(found.keys) > 0).all()


def test_margins_become_those_of_the_data(counts):
    data, model, labels = counts
    margins = GeneMargins(histogram(blocks(model, labels), 2, 4), histogram(blocks(data, labels), 2, 4), prior_cells=0)
    moved = margins.apply(sp.csr_matrix(model.astype(np.float32)), labels, RNG.random(model.shape)).toarray()
    for label in (0, 1):
        rows = labels == label
        for gene in range(4):
            real, new = data[rows, gene], moved[rows, gene]
            values = np.union1d(real, new)
            gap = np.abs((real[:, None] <= values).mean(0) - (new[:, None] <= values).mean(0)).max()
            # two samples of 3,000 cells differ by 0.035 at the 5 % level; the model's own cells by up to 0.4
            assert gap < 0.035, (label, gene)
    assert np.abs(model[labels == 0, 2].var() / data[labels == 0, 2].var() - 1) > 1


def test_order_of_counts_is_kept(counts):
    data, model, labels = counts
    margins = GeneMargins(histogram(blocks(model, labels), 2, 4), histogram(blocks(data, labels), 2, 4))
    moved = margins.apply(sp.csr_matrix(model.astype(np.float32)), labels, np.full(model.shape, 0.5)).toarray()
    for label in (0, 1):
        order = np.argsort(model[labels == label, 2], kind="stable")
        assert (np.diff(moved[labels == label, 2][order]) >= 0).all()


def test_equal_margins_change_no_distribution(counts):
    data, _, labels = counts
    same = histogram(blocks(data, labels), 2, 4)
    x = sp.csr_matrix(data.astype(np.float32))
    moved = GeneMargins(same, same).apply(x, labels, RNG.random(data.shape))
    np.testing.assert_array_equal(moved.toarray(), data)
    assert moved.dtype == np.float32
    assert moved.has_canonical_format


def test_search_finds_what_a_loop_finds():
    rng = np.random.default_rng(0)
    tables = [
        dict(zip(rng.choice(30, n, replace=False), rng.dirichlet(np.ones(n)), strict=True)) for n in (1, 3, 9, 30)
    ]
    # a row without any count, and rows with gaps between counts
    tables.insert(1, {})
    entries = [(row, count, mass) for row, table in enumerate(tables) for count, mass in table.items() if count]
    keys, mass = np.array([row * 2**31 + count for row, count, _ in entries]), np.array([m for *_, m in entries])
    order = np.argsort(keys)
    law = _Distribution(keys[order], mass[order], len(tables))
    rows, u = rng.integers(len(tables), size=300), rng.random(300)
    guesses = rng.integers(60, size=300)
    found = law.quantile(rows, u, guesses)
    lower, upper = law.bounds(rows, guesses)
    for row, p, guess, count, low, high in zip(rows, u, guesses, found, lower, upper, strict=True):
        assert count == min((k for k in range(31) if sum(tables[row].get(i, 0) for i in range(k + 1)) > p), default=0)
        total = [sum(tables[row].get(i, 0) for i in range(k)) if tables[row] else min(k, 1) for k in (guess, guess + 1)]
        if tables[row].get(guess, 0) or guess == 0:
            np.testing.assert_allclose([low, high], total, atol=1e-12)


@pytest.mark.parametrize("n", [1, 5])
def test_few_cells_lean_on_the_model(n):
    labels = np.zeros(n, dtype=np.int64)
    data, model = np.full((n, 1), 9), np.ones((n, 1), dtype=int)
    margins = GeneMargins(histogram(blocks(model, labels), 1, 1), histogram(blocks(data, labels), 1, 1), prior_cells=15)
    x = sp.csr_matrix(np.ones((4000, 1), dtype=np.float32))
    moved = margins.apply(x, np.zeros(4000, dtype=np.int64), RNG.random((4000, 1))).toarray()
    assert set(np.unique(moved)) == {1.0, 9.0}
    assert (moved == 9).mean() == pytest.approx(n / (n + 15), abs=0.03)


def test_label_without_cells_and_unseen_counts_pass_through():
    labels = np.zeros(50, dtype=np.int64)
    x = RNG.poisson(2, (50, 3))
    margins = GeneMargins(histogram(blocks(x, labels), 2, 3), histogram(blocks(x + 1, labels), 2, 3), prior_cells=0)
    other = sp.csr_matrix(np.array([[4.0, 0.0, 1.0]], dtype=np.float32))
    assert margins.apply(other, np.array([1]), RNG.random((1, 3))).toarray().max() == 0
    huge = sp.csr_matrix(np.array([[500.0, 0.0, 1.0]], dtype=np.float32))
    assert margins.apply(huge, np.array([0]), RNG.random((1, 3))).toarray()[0, 0] == x[:, 0].max() + 1


@pytest.fixture(scope="module")
def model():
    adata = sm.datasets.synthetic_counts(n_obs=600, n_vars=30, seed=0)
    scvi.settings.seed = SEED
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=4, warmup_epochs=4, enable_progress_bar=False)
    return model


def ks(real, cells, label):
    sides = [a[a.obs["cell_type"] == label].X.toarray() for a in (real, cells)]
    values = np.arange(0, 60)
    cdf = [(x[:, :, None] <= values).mean(0) for x in sides]
    return np.abs(cdf[0] - cdf[1]).max(1).mean()


def test_generated_cells_have_the_margins_of_their_type(model, learned):
    label = model.label_categories_[0]
    plain = model.generate(800, label, seed=1, match_margins=False)
    matched = model.generate(800, label, seed=1)
    ratio = ks(model.adata, matched, label) / ks(model.adata, plain, label)
    learned("distance of the margins with the map over that without", ratio, below=0.6, off=1)
    assert matched.uns["scmimic"]["parameters"]["match_margins"]
    assert not plain.uns["scmimic"]["parameters"]["match_margins"]
    np.testing.assert_array_equal(matched.X.toarray(), np.rint(matched.X.toarray()))


def test_labels_are_compared_by_their_cells(model, monkeypatch):
    """Labels get their share of the generated cells, rare ones enough for a distribution; absent ones none."""
    made = []

    def spy(generated, observed):
        made.append(generated)
        return GeneMargins(generated, observed)

    monkeypatch.setattr("scmimic.model.generation.calibration._calibration.GeneMargins", spy)
    labels = np.repeat([0, 1, 2], [400, 194, 6])
    monkeypatch.setattr(model.posterior_, "labels", labels)
    observed = histogram(counts_and_labels(model._training_batches()), 4, 30)
    monkeypatch.setattr(model.module, "n_labels", 4)
    with torch.inference_mode():
        compare_margins(model.module, model.posterior_, observed, 0, n_cells=1200, min_cells=50)
        compare_margins(model.module, model.posterior_, observed, 0)
    assert made[0].n_cells.tolist() == [800, 388, 50, 0]
    assert made[1].n_cells.tolist() == [13333, 6467, 500, 0]


def test_margins_are_saved_and_seeded(model, tmp_path):
    model.save(tmp_path / "m")
    again = sm.ACTIVA.load(tmp_path / "m", adata=model.adata)
    a, b = model.generate(50, seed=3), again.generate(50, seed=3, batch_size=7)
    assert (a.X != b.X).nnz == 0


def test_library_sizes_exclude_margins(model):
    cells = model.generate(40, seed=0, library_size=500)
    assert not cells.uns["scmimic"]["parameters"]["match_margins"]
    with pytest.raises(ValueError, match="exclude each other"):
        model.generate(40, seed=0, library_size=500, match_margins=True)


def test_margins_can_be_left_out():
    adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=10, seed=0)
    sm.ACTIVA.setup_anndata(adata)
    model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
    model.train(max_epochs=1, calibrate_margins=False, enable_progress_bar=False)
    assert model.margins_ is None
    model.generate(5, seed=0)
    with pytest.raises(ValueError, match="calibrate_margins"):
        model.generate(5, seed=0, match_margins=True)
