import copy

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from anndata import AnnData
from learning import SEED
from scvi.distributions import Poisson

import scmimic as sm
from scmimic.cells import AttributeValues
from scmimic.model.generation.calibration import _calibration
from scmimic.model.generation.calibration._calibration import compare_margins, counts_and_labels
from scmimic.model.generation.calibration._margins import (
    LOG_ODDS,
    GeneMargins,
    MappedRecorder,
    MarginBlocks,
    MarginRecorder,
    _crossing,
    _Distribution,
    foretold_weights,
    histogram,
    kept,
    tilted,
)
from scmimic.model.generation.codes._composition import Composition

RNG = np.random.default_rng(0)


def blocks(x, labels, size=100):
    for start in range(0, len(x), size):
        yield sp.csr_matrix(x[start : start + size].astype(np.float32)), labels[start : start + size]


def recorded(x, labels, zero, n_labels=None):
    """Cells of a model, with their P(x = 0), as a sampler shows them."""
    recorder = MarginRecorder(MarginBlocks(labels.max() + 1 if n_labels is None else n_labels), x.shape[1])
    for start in range(0, len(x), 100):
        rows = slice(start, start + 100)
        recorder.note(sp.csr_matrix(x[rows].astype(np.float32)), labels[rows], zero[rows])
    return recorder


def lost(zero, odds):
    """Chance of a zero to become a count, so that zeros are as `tilted` has them."""
    return np.maximum(1 - odds, 0) * (1 - zero) / (zero * odds + 1 - zero)


def moved_by(margins, x, blocks, zero, uniform=None):
    """Counts of any law after the map: each entry loses or gains its zero by its chance, positive ones are moved."""
    uniform = np.random.default_rng(7).random(x.shape) if uniform is None else uniform
    zero = np.ascontiguousarray(zero, dtype=np.float64)
    genes = np.arange(x.shape[1])
    after = 1 - margins.positive(torch.as_tensor(1 - zero), blocks[:, None], genes).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        stays = np.where(after > zero, (1 - after) / (1 - zero), 1.0)
        flips = np.where(after < zero, (zero - after) / zero, 0.0)
    chance = np.where(x > 0, stays, flips)
    cell, gene = np.nonzero(uniform < chance)
    place = (uniform / np.maximum(chance, 1e-300))[cell, gene]
    found = np.zeros(x.shape)
    counts = np.maximum(x[cell, gene], 1).astype(np.float64)
    found[cell, gene] = margins.values(blocks[cell], gene, counts, place, x[cell, gene] == 0)
    return found


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
    # P(x = 0) of a negative binomial with the inverse dispersion 1
    return data, model, labels, 1 / (1 + 0.7 * mean)


def test_histogram_counts_what_a_loop_counts(counts):
    data, _, labels, _ = counts
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


@pytest.fixture(scope="module")
def follow(counts):
    """The map that follows the training cells as they are."""
    data, model, labels, zero = counts
    return GeneMargins(recorded(model, labels, zero), histogram(blocks(data, labels), 2, 4), weights=np.ones(8))


def test_margins_become_those_of_the_data(counts, follow):
    data, model, labels, zero = counts
    moved = moved_by(follow, model, labels, zero)
    for label in (0, 1):
        rows = labels == label
        for gene in range(4):
            real, new = data[rows, gene], moved[rows, gene]
            values = np.union1d(real, new)
            gap = np.abs((real[:, None] <= values).mean(0) - (new[:, None] <= values).mean(0)).max()
            # two samples of 3,000 cells differ by 0.035 at the 5 % level; the model's own cells by up to 0.4
            assert gap < 0.035, (label, gene)
    assert np.abs(model[labels == 0, 2].var() / data[labels == 0, 2].var() - 1) > 1


def test_order_of_counts_is_kept(counts, follow):
    _, model, labels, zero = counts
    moved = moved_by(follow, model, labels, zero, np.full(model.shape, 0.01))
    for label in (0, 1):
        order = np.argsort(model[labels == label, 2], kind="stable")
        assert (np.diff(moved[labels == label, 2][order]) >= 0).all()


@pytest.mark.parametrize("weights", [None, np.zeros(8), np.full(8, 0.4)], ids=["chosen", "none", "some"])
def test_equal_margins_change_no_distribution(counts, weights):
    _, model, labels, zero = counts
    margins = GeneMargins(recorded(model, labels, zero), histogram(blocks(model, labels), 2, 4), weights)
    moved = moved_by(margins, model, labels, zero, RNG.random(model.shape))
    # the model's zeros are those that its probabilities say, which the drawn ones miss by their sampling error
    assert (moved != model).mean() < 0.02


@pytest.mark.parametrize("odds", [0.2, 0.9, 1.0, 3.0])
def test_chances_of_single_entries_give_the_tilted_zeros(odds):
    zero = np.linspace(0, 1, 11)
    after = zero * (1 - lost(zero, odds)) + (1 - zero) * (1 - kept(zero, odds))
    np.testing.assert_allclose(after, tilted(zero, odds), atol=1e-12)
    # odds are multiplied, which is what a shift of the logits does
    inner = zero[1:-1]
    logit = np.log(inner / (1 - inner)) + np.log(odds)
    np.testing.assert_allclose(tilted(inner, odds), 1 / (1 + np.exp(-logit)))


def test_log_odds_of_wanted_zeros_are_found():
    zero = RNG.uniform(0.05, 0.95, (400, 3))
    zeros = np.stack([tilted(zero, np.exp(step)).mean(0) for step in LOG_ODDS])
    true = np.array([-0.45, 0.0, 1.7])
    wanted = np.array([tilted(zero[:, gene], np.exp(true[gene])).mean() for gene in range(3)])
    np.testing.assert_allclose(_crossing(zeros, wanted), true, atol=0.02)
    # what cannot be reached is come near to
    np.testing.assert_allclose(_crossing(zeros, np.array([0.0, 1.0, 0.5]))[:2], LOG_ODDS[[0, -1]])


@pytest.mark.parametrize("factor", [0.6, 1.6], ids=["zeros lost", "zeros gained"])
def test_zeros_move_by_the_odds_of_the_cell(factor):
    """Two depths of cells in one type; the data have fewer, or more, zeros."""
    rng = np.random.default_rng(3)
    n, labels = 20_000, np.zeros(20_000, dtype=np.int64)
    rate = np.where(np.arange(n) % 2 == 0, 0.2, 2.0)[:, None]
    x, zero = rng.poisson(rate), np.exp(-rate)
    wanted = tilted(zero, factor)
    data = np.where(rng.random((n, 1)) < wanted, 0, 1 + rng.poisson(rate))
    margins = GeneMargins(recorded(x, labels, zero), histogram(blocks(data, labels), 1, 1), np.ones(1))
    moved = moved_by(margins, x, labels, zero)
    for cells in (slice(0, None, 2), slice(1, None, 2)):
        assert (moved[cells] == 0).mean() == pytest.approx(wanted[cells].mean(), abs=0.015)


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


def test_weight_is_that_by_which_cells_foretell_one_another():
    """Against a loop over left-out cells and weights."""
    rng = np.random.default_rng(5)
    x, drawn = rng.poisson(2.0, 7), rng.poisson(3.5, 400)
    values = np.arange(drawn.max() + 1)
    model = (drawn[:, None] <= values).mean(0)
    mass = np.diff(model, prepend=0)

    def error(weight):
        total = 0.0
        for i, left_out in enumerate(x):
            others = (np.delete(x, i)[:, None] <= values).mean(0)
            total += mass @ ((1 - weight) * model + weight * others - (left_out <= values)) ** 2
        return total

    weights = np.linspace(0, 1, 2001)
    best = weights[np.argmin([error(weight) for weight in weights])]
    assert 0.1 < best < 0.9
    sides = (_Distribution(values[1:], np.diff((cells[:, None] <= values).mean(0)), 1) for cells in (drawn, x))
    found = foretold_weights(*sides, np.array([10**9]), np.array([7]), 1, np.zeros(1))
    assert found[0] == pytest.approx(best, abs=0.001)


def test_weights_grow_with_the_cells_and_with_the_error_of_the_model():
    rng = np.random.default_rng(6)
    n_genes = 60
    mean = rng.uniform(0.2, 5, n_genes)

    def weight(n, error):
        """Of a model that has followed all noise of its cells, and is wrong by a factor."""
        data = rng.poisson(mean, (n, n_genes))
        drawn = rng.binomial(data[rng.integers(n, size=4000)], error)
        labels = np.zeros(4000, dtype=np.int64)
        zero = np.broadcast_to(((1 - error) ** data).mean(0), drawn.shape)
        return GeneMargins(recorded(drawn, labels, zero), histogram(blocks(data, labels[:n]), 1, n_genes)).weights

    for n in (1, 5, 30, 600):
        assert weight(n, 1.0).max() == 0
    of_wrong = [weight(n, 0.4).mean() for n in (1, 5, 30, 600)]
    np.testing.assert_allclose(of_wrong, [0, 5 / 125, 30 / 150, 600 / 720])
    # five cells cannot show a small error
    assert weight(5, 0.85).max() == 0
    assert weight(600, 0.85).mean() > 0.3


def test_genes_are_sorted_by_other_types():
    """A gene that ten cells happen not to show is no gene that the model has too much of."""
    rng = np.random.default_rng(8)
    n_genes, mean = 400, 0.1
    labels = np.repeat([0, 1], [10, 2000])
    data = rng.poisson(mean, (2010, n_genes))
    of_model = np.repeat([0, 1], [1000, 1000])
    # the model has seen the ten cells and expresses less what they do not show
    rate = np.where(of_model[:, None] == 0, 0.05 + 0.5 * data[:10].mean(0), mean)
    recorder = recorded(rng.poisson(rate), of_model, np.exp(-rate))
    observed = histogram(blocks(data, labels), 2, n_genes)
    every = np.union1d(recorder.drawn[0], observed.keys)
    sides = []
    for keys, n in ((recorder.drawn[0], of_model), (observed.keys, labels)):
        counts = np.zeros(len(every))
        if n is labels:
            counts[np.searchsorted(every, keys)] = observed.counts
        else:
            np.add.at(counts, np.searchsorted(every, keys), 1)
        sides.append(_Distribution(every, counts / np.bincount(n)[every // 2**31 // n_genes], 2 * n_genes))
    n_model, n_data = (np.repeat(np.bincount(n), n_genes) for n in (of_model, labels))
    weights = foretold_weights(*sides, n_model, n_data, n_genes, np.full(2 * n_genes, 0.5))[:n_genes]
    assert weights.max() < 0.35


SIZES = (5, 12, 30, 100, 600)


def of_types(law, seed, n_genes=150):
    """Cells of types with `SIZES` cells and 600 others of each, and a negative binomial with their means and spreads.

    The model is fitted to the cells that it learns from by moments, so that its errors are those of its cells, as a
    network's are.
    """
    rng = np.random.default_rng([seed, 11])
    spread = rng.uniform(0.4, 1.1, n_genes)
    off = rng.beta(1, 4, n_genes)

    def cells(mean, n):
        rate = mean * rng.lognormal(-0.08, 0.4, (n, 1))
        if law == "nb":
            return rng.poisson(rate * rng.gamma(2.0, 0.5, rate.shape))
        burst = np.exp(rng.normal(size=rate.shape) * spread - spread**2 / 2)
        return rng.poisson(rate * burst * (rng.random(rate.shape) >= off) / (1 - off))

    parts = []
    for n in SIZES:
        mean = rng.lognormal(-0.5, 1.4, n_genes)
        train, held_out = cells(mean, n), cells(mean, 600)
        fitted = (train.sum(0) + 0.5) / (n + 1)
        # nine cells in ten of the spread come from other types, as pooled dispersions do
        theta = 1.5
        rate = fitted * rng.lognormal(-0.08, 0.4, (2000, 1))
        drawn = rng.poisson(rate * rng.gamma(theta, 1 / theta, rate.shape))
        parts.append((train, held_out, drawn, (theta / (theta + rate)) ** theta))
    return parts


def distance(x, y):
    values = np.arange(max(x.max(), y.max()) + 1)
    return np.mean(
        [
            np.abs((a[:, None] <= values).mean(0) - (b[:, None] <= values).mean(0)).max()
            for a, b in zip(x.T, y.T, strict=True)
        ]
    )


@pytest.mark.parametrize("law", ["nb", "bursts"])
def test_held_out_margins_are_no_worse_than_unmatched_at_any_size(law):
    """The gain on cells that neither the model nor the map has seen."""
    gains = {n: [] for n in SIZES}
    for seed in range(3):
        for n, (train, held_out, drawn, zero) in zip(SIZES, of_types(law, seed), strict=True):
            labels = np.zeros(2000, dtype=np.int64)
            margins = GeneMargins(
                recorded(drawn, labels, zero), histogram(blocks(train, labels[:n]), 1, train.shape[1])
            )
            moved = moved_by(margins, drawn, labels, zero)
            gains[n].append(distance(drawn, held_out) - distance(moved, held_out))
    mean = {n: np.mean(gain) for n, gain in gains.items()}
    # with the weight n / (n + 10) negative binomials lose 0.01 to 0.02 at 5 to 100 cells
    assert min(mean.values()) > -0.003
    if law == "bursts":
        assert mean[30] > 0.002
        assert mean[100] > 0.008
        assert mean[600] > 0.02


def test_label_without_cells_and_unseen_counts_pass_through():
    labels = np.zeros(50, dtype=np.int64)
    x = RNG.poisson(2, (50, 3))
    zero = np.full(x.shape, np.exp(-2.0))
    margins = GeneMargins(recorded(x, labels, zero, 2), histogram(blocks(x + 1, labels), 2, 3), np.ones(6))
    other = moved_by(margins, np.array([[4, 0, 1]]), np.array([1]), zero[:1])
    assert other.tolist() == [[4, 0, 1]]
    huge = moved_by(margins, np.array([[500, 0, 1]]), np.array([0]), zero[:1], np.zeros((1, 3)))
    assert huge[0, 0] == x[:, 0].max() + 1


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


# Two labels; the first has two groups, which share the model's distribution and differ in that of the data.
GROUPS = np.array([[0, 0, 0], [0, 0, 1]])


@pytest.fixture(scope="module")
def grouped():
    """Counts of data and model, P(x = 0) of the model, codes, and the maps of labels and of groups."""
    rng = np.random.default_rng(2)
    n = 2000
    codes = np.repeat([*GROUPS, [1, 0, 0]], n, axis=0)
    mean = np.array([[0.5, 4.0, 1.0]])
    model = rng.poisson(mean, (len(codes), 3))
    burst = np.repeat([0.3, 1.5, 1.0], n)[:, None]
    data = rng.poisson(mean * burst * rng.gamma(1, 1, model.shape))
    zero = np.broadcast_to(np.exp(-mean), model.shape)
    by_label = GeneMargins(
        recorded(model, codes[:, 0], zero), histogram(blocks(data, codes[:, 0]), 2, 3), weights=np.full(6, 0.8)
    )
    return data, model, zero, codes, by_label


def of_groups(grouped, weights):
    data, model, zero, codes, by_label = grouped
    first = slice(0, 4000)
    recorder = MappedRecorder(MarginBlocks(0, GROUPS), by_label)
    stream = torch.Generator().manual_seed(3)
    for start in range(0, 4000, 100):
        rows = slice(start, start + 100)
        px = Poisson(torch.as_tensor(-np.log(zero[rows]), dtype=torch.float32))
        recorder.draw(px, recorder.blocks.of(codes[rows]), stream)
    observed = histogram(blocks(data[first], codes[first, 2]), 2, 3)
    return GeneMargins(recorder, observed, weights)


def largest_gap(a, b):
    values = np.arange(max(a.max(), b.max()) + 1)
    return np.abs((a[..., None] <= values).mean(0) - (b[..., None] <= values).mean(0)).max()


def test_blocks_of_cells():
    codes = np.array([[0, 0, 1], [0, 0, 2], [1, 0, 1], [0, 0, 0], [-1, 0, 1]])
    assert MarginBlocks(2, GROUPS).of(codes).tolist() == [3, 0, 1, 2, 0]
    assert MarginBlocks(2).of(codes).tolist() == [0, 0, 1, 0, 0]
    assert len(MarginBlocks(2, GROUPS)) == 4
    # a label that nothing is known of may come as any code below the number of labels, in any order of the groups
    assert MarginBlocks(2, GROUPS[::-1]).of(codes).tolist() == [2, 0, 1, 3, 0]


def test_one_histogram_has_those_of_labels_and_of_groups(grouped):
    data, _, _, codes, _ = grouped
    of_all = MarginBlocks(2, GROUPS)
    found = histogram(blocks(data, of_all.of(codes), 37), len(of_all), 3)
    first = codes[:, 0] == 0
    for into, direct in (
        (of_all.labels, histogram(blocks(data, codes[:, 0]), 2, 3)),
        (of_all.positions, histogram(blocks(data[first], codes[first, 2]), 2, 3)),
    ):
        gathered = found.gathered(into)
        for name in ("keys", "counts", "n_cells"):
            np.testing.assert_array_equal(getattr(gathered, name), getattr(direct, name))


def test_groups_get_their_own_margins(grouped):
    data, model, zero, codes, by_label = grouped
    both = by_label.joined(of_groups(grouped, np.ones(6)))
    moved = moved_by(both, model, both.blocks.of(codes), zero)
    by_type = moved_by(by_label, model, codes[:, 0], zero)
    for group in (0, 1):
        rows = (codes[:, 0] == 0) & (codes[:, 2] == group)
        # samples of 2,000 cells differ by 0.043 at the 5 % level
        assert largest_gap(moved[rows], data[rows]) < 0.043
        assert largest_gap(by_type[rows], data[rows]) > 0.1
    # a label without groups is mapped as before
    other = codes[:, 0] == 1
    np.testing.assert_array_equal(moved[other], by_type[other])


def test_groups_that_are_not_followed_have_the_map_of_their_label(grouped):
    _, model, zero, codes, by_label = grouped
    both = by_label.joined(of_groups(grouped, np.zeros(6)))
    moved = moved_by(both, model, both.blocks.of(codes), zero)
    by_type = moved_by(by_label, model, codes[:, 0], zero)
    assert largest_gap(by_type[codes[:, 0] == 0], model[codes[:, 0] == 0]) > 0.1
    for group in (0, 1):
        rows = (codes[:, 0] == 0) & (codes[:, 2] == group)
        assert largest_gap(moved[rows], by_type[rows]) < 0.03


def test_groups_are_weighed_against_the_map_of_their_label(grouped):
    """Where the map of the label gives a group what it has, nothing is left to follow."""
    data, model, zero, codes, by_label = grouped
    far = of_groups(grouped, None).weights
    assert far.min() > 0.7
    mapped = moved_by(by_label, model, codes[:, 0], zero, np.random.default_rng(8).random(model.shape))
    assert of_groups((mapped, model, zero, codes, by_label), None).weights.max() < 0.2


@pytest.mark.parametrize("n", [60, 500])
def test_the_noise_of_groups_counts_in_full(n):
    """Groups that differ from their type by the sampling of their cells alone keep its margins."""
    rng = np.random.default_rng(5)
    size, mean = 4000, rng.uniform(0.2, 3, 400)
    x, drawn = rng.poisson(mean, (n, 400)), rng.poisson(mean, (size, 400))
    labels, zero = np.zeros(size, dtype=np.int64), np.broadcast_to(np.exp(-mean), drawn.shape)
    alike = GeneMargins(recorded(drawn, labels, zero), histogram(blocks(drawn, labels), 1, 400), np.zeros(400))
    recorder = MappedRecorder(MarginBlocks(0, GROUPS[:1]), alike)
    stream = torch.Generator().manual_seed(0)
    for _ in range(0, size, 100):
        recorder.draw(Poisson(torch.as_tensor(mean, dtype=torch.float32).expand(100, -1)), labels[:100], stream)
    observed = histogram(blocks(x, labels[:n]), 1, 400)
    assert GeneMargins(recorder, observed).weights.mean() < 0.15
    # a model of a type may have followed them
    assert GeneMargins(recorder.mapped, observed).weights.mean() > 0.3


def test_joined_maps_are_saved_and_taken_apart(grouped):
    _, model, zero, codes, by_label = grouped
    groups = of_groups(grouped, np.ones(6))
    both = by_label.joined(groups)
    again = GeneMargins.from_saved_state(both.saved_state())
    at = both.blocks.of(codes)
    np.testing.assert_array_equal(moved_by(again, model, at, zero), moved_by(both, model, at, zero))
    np.testing.assert_array_equal(again.blocks.groups, GROUPS)
    first = codes[:, 0] == 0
    np.testing.assert_array_equal(
        moved_by(both, model[first], at[first], zero[first]), moved_by(groups, model[first], at[first] - 2, zero[first])
    )
    # taken out, the label speaks for them
    for left in (both.without_groups([0]), both.without_groups([0, 1])):
        assert not len(left.blocks.groups)
        blocks = left.blocks.of(codes)
        np.testing.assert_array_equal(moved_by(left, model, blocks, zero), moved_by(by_label, model, blocks, zero))
    np.testing.assert_array_equal(both.without_groups([1]).blocks.groups, GROUPS)
    # a map that knows nothing of a label knows nothing of its groups
    nothing = both.without([0])
    blocks = nothing.blocks.of(codes)
    np.testing.assert_array_equal(moved_by(nothing, model[first], blocks[first], zero[first]), model[first])
    np.testing.assert_array_equal(
        moved_by(nothing, model[~first], blocks[~first], zero[~first]),
        moved_by(by_label, model[~first], blocks[~first], zero[~first]),
    )


def test_maps_without_groups_are_read(grouped):
    by_label = grouped[4]
    state = by_label.saved_state()
    del state["groups"]
    assert len(GeneMargins.from_saved_state(state).blocks) == 2


def test_groups_of_many_cells_have_margins(monkeypatch):
    """Those of labels that have several, the largest first."""
    sizes = {(0, 0, 0): 60, (0, 0, 1): 49, (0, 0, 2): 70, (1, 0, 0): 500, (2, 0, 1): 80, (2, 0, 0): 90}
    codes = np.repeat(list(sizes), list(sizes.values()), axis=0)
    composition = Composition.of(AttributeValues(codes, np.empty((len(codes), 0))), np.zeros(len(codes)))
    assert _calibration._groups_with_margins(composition).tolist() == [[0, 0, 0], [0, 0, 2], [2, 0, 0], [2, 0, 1]]
    monkeypatch.setattr(_calibration, "MAX_GROUPS", 3)
    assert _calibration._groups_with_margins(composition).tolist() == [[0, 0, 2], [2, 0, 0], [2, 0, 1]]


@pytest.fixture(scope="module")
def told():
    """A model of one type under two conditions, the second with bursts that its one dispersion does not know."""
    rng = np.random.default_rng(0)
    n, mean = 600, rng.uniform(0.5, 5, 30)
    condition = np.repeat([0, 1], n)
    rate = mean * np.where(condition[:, None] == 0, 1.0, rng.gamma(0.7, 1 / 0.7, (2 * n, 30)))
    adata = AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs["cell_type"] = "one"
    adata.obs["condition"] = np.array(["steady", "bursting"])[condition]
    scvi.settings.seed = SEED
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", categorical_covariate_keys=["condition"])
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=4, warmup_epochs=4, enable_progress_bar=False)
    return model


def test_generated_cells_have_the_margins_of_their_group(told, learned):
    whole = copy.copy(told)
    whole.margins_ = told.margins_.without_groups([0])
    assert len(told.margins_.blocks.groups) == 2
    for condition in ("steady", "bursting"):
        real = told.adata[told.adata.obs["condition"] == condition].X.toarray()
        asked = {"covariates": {"condition": condition}, "seed": 1}
        gaps = [largest_gap(model.generate(800, **asked).X.toarray(), real) for model in (told, whole)]
        learned(f"distance of the margins of {condition} cells over that by type", gaps[0] / gaps[1], below=0.7)
