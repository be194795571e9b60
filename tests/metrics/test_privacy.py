import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from scmimic.metrics import (
    _privacy,
    distance_to_closest_record,
    duplicate_fraction,
    membership_inference,
    nearest_neighbor_distance_ratio,
)

KINDS = [np.asarray, sp.csr_matrix, sp.csc_array]


@pytest.fixture
def arrays():
    """Training, unseen and synthetic cells of one distribution."""
    return np.random.default_rng(0).normal(size=(3, 300, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_distance_ratio_equals_brute_force(kind, monkeypatch):
    # chunks of two cells
    monkeypatch.setattr(_privacy, "_CHUNK_VALUES", 16)
    rng = np.random.default_rng(0)
    train, synthetic, test = rng.poisson(3, (50, 8)), rng.poisson(3, (31, 8)), rng.poisson(3, (20, 8))
    synthetic[:2] = train[:2]
    result = nearest_neighbor_distance_ratio(kind(train), kind(synthetic), kind(test))
    expected = []
    for x in (synthetic, test):
        nearest = np.sort(cdist(x, train), axis=1)[:, :2]
        expected.append(nearest[:, 0] / nearest[:, 1])
    np.testing.assert_allclose(result.synthetic, expected[0], rtol=1e-6)
    np.testing.assert_allclose(result.test, expected[1], rtol=1e-6)
    assert result.ratio == pytest.approx(np.median(expected[0]) / np.median(expected[1]))
    assert result.synthetic_low == pytest.approx(np.quantile(expected[0], 0.05))
    assert result.test_low == pytest.approx(np.quantile(expected[1], 0.05))


def test_distance_ratio_of_copies_and_of_fresh_cells(arrays):
    train, test, synthetic = arrays
    assert nearest_neighbor_distance_ratio(train, synthetic, test).ratio == pytest.approx(1, abs=0.03)
    assert nearest_neighbor_distance_ratio(train, train[:100], test).ratio == 0
    noisy = train + 0.1 * np.random.default_rng(1).normal(size=train.shape)
    assert nearest_neighbor_distance_ratio(train, noisy, test).ratio < 0.3
    # one copy in ten leaves the median alone
    some = np.vstack([train[:30], synthetic[:270]])
    result = nearest_neighbor_distance_ratio(train, some, test)
    assert result.ratio > 0.9
    assert result.synthetic_low == 0 < result.test_low


def test_distance_ratio_next_to_repeated_training_cells():
    train = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    result = nearest_neighbor_distance_ratio(train, train[:1], train[2:])
    # no single training cell stands out for the first; the second is one
    assert result.synthetic == [1]
    assert result.test == [0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_duplicates_equal_a_set_of_rows(kind, other, monkeypatch):
    monkeypatch.setattr(_privacy, "_CHUNK_VALUES", 12)
    rng = np.random.default_rng(0)
    train, synthetic = rng.poisson(0.4, (80, 4)).astype(np.float32), rng.poisson(0.4, (90, 4)).astype(np.float64)
    rows = {tuple(row) for row in train}
    expected = np.mean([tuple(row) in rows for row in synthetic])
    assert 0 < expected < 1
    assert duplicate_fraction(kind(train), other(synthetic)) == pytest.approx(expected)


def test_cells_beyond_all_training_cells_are_no_duplicates():
    rng = np.random.default_rng(0)
    train = rng.poisson(3, (20, 5)).astype(float)
    assert duplicate_fraction(train, np.vstack([train[:4], 50 * train[:8], -50 * train[:8]])) == 4 / 20


def test_duplicates_are_exact_however_the_zeros_are_stored():
    train = np.random.default_rng(0).poisson(2, (40, 30)).astype(float)
    stored = sp.csr_matrix(np.ones_like(train))
    stored.data = train.ravel().copy()
    assert duplicate_fraction(stored, train[::-1]) == 1
    assert stored.nnz == train.size
    near = train.copy()
    near[:, 7] += 1e-9
    assert duplicate_fraction(train, near) == 0
    assert duplicate_fraction(train, np.vstack([near, train[:10]])) == 0.2


def attack_by_hand(train, test, synthetic):
    """Rank-sum AUC and a scan over all thresholds."""
    scores = [-cdist(x, synthetic).min(axis=1) for x in (train, test)]
    auc = mannwhitneyu(*scores).statistic / (len(train) * len(test))
    rates = []
    for level in (0.01, 0.1):
        reached = [0.0]
        for threshold in np.concatenate(scores):
            if (scores[1] >= threshold).mean() <= level:
                reached.append((scores[0] >= threshold).mean())
        rates.append(max(reached))
    return auc, *rates


@pytest.mark.parametrize("kind", KINDS)
def test_attack_equals_brute_force(kind):
    rng = np.random.default_rng(0)
    train, test, synthetic = rng.poisson(2, (90, 6)), rng.poisson(2, (120, 6)), rng.poisson(2, (70, 6))
    synthetic[:20] = train[:20]
    result = membership_inference(kind(train), kind(test), kind(synthetic))
    expected = attack_by_hand(train, test, synthetic)
    assert (result.auc, result.tpr_at_fpr_1, result.tpr_at_fpr_10) == pytest.approx(expected)
    np.testing.assert_allclose(result.train, -cdist(train, synthetic).min(axis=1), rtol=1e-6)
    assert result.interval[0] < result.auc < result.interval[1]
    assert result.donors is None
    # numbers in a line of print: no arrays
    assert "array" not in repr(result)


def test_a_memoriser_is_caught_and_independent_cells_are_not(arrays):
    train, test, synthetic = arrays
    caught = membership_inference(train, test, train[::-1])
    assert (caught.auc, caught.tpr_at_fpr_1, caught.tpr_at_fpr_10) == (1, 1, 1)
    # half of the cells repeated: those are certain, whatever the rest looks like
    half = membership_inference(train, test, train[:150])
    assert half.auc == pytest.approx(0.75, abs=0.05)
    assert half.tpr_at_fpr_1 == pytest.approx(0.5, abs=0.02)
    fresh = membership_inference(train, test, synthetic)
    assert fresh.interval[0] < 0.5 < fresh.interval[1]
    assert fresh.tpr_at_fpr_10 == pytest.approx(0.1, abs=0.06)


def test_the_interval_covers_one_half_for_independent_cells():
    rng = np.random.default_rng(0)
    results = [membership_inference(*rng.normal(size=(3, 60, 3))) for _ in range(200)]
    covered = np.mean([r.interval[0] <= 0.5 <= r.interval[1] for r in results])
    assert covered == pytest.approx(0.95, abs=0.04)
    assert np.mean([r.auc for r in results]) == pytest.approx(0.5, abs=0.01)
    assert np.mean([r.tpr_at_fpr_10 for r in results]) == pytest.approx(0.1, abs=0.02)


def test_calibration_sharpens_the_attack():
    """Cells of very different rarity: their distance says more of that than of membership."""
    rng = np.random.default_rng(0)

    def draw(n=400):
        return rng.normal(size=(n, 5)) * rng.lognormal(0, 1, (n, 1))

    train, test, reference = draw(), draw(), draw()
    synthetic = train + 0.3 * rng.normal(size=train.shape)
    plain = membership_inference(train, test, synthetic)
    calibrated = membership_inference(train, test, synthetic, reference=reference)
    assert calibrated.auc > plain.auc
    assert calibrated.tpr_at_fpr_1 > 10 * plain.tpr_at_fpr_1
    np.testing.assert_allclose(
        calibrated.test, np.log(cdist(test, reference).min(axis=1) / cdist(test, synthetic).min(axis=1)), rtol=1e-6
    )
    fresh = membership_inference(train, test, draw(), reference=reference)
    assert fresh.interval[0] < 0.5 < fresh.interval[1]
    copies = membership_inference(train, test, train, reference=reference)
    assert copies.auc == 1
    assert np.isfinite(copies.train).all()


def test_donors_are_told_by_the_mean_over_their_cells(arrays):
    train, test, synthetic = arrays
    donors = np.repeat(["a", "b", "c"], 100), np.repeat(["x", "y"], 150)
    result = membership_inference(train, test, synthetic, train_donors=donors[0], test_donors=donors[1])
    cells = membership_inference(train, test, synthetic)
    assert result.auc == cells.auc
    np.testing.assert_allclose(result.donors.train, cells.train.reshape(3, 100).mean(axis=1))
    np.testing.assert_allclose(result.donors.test, cells.test.reshape(2, 150).mean(axis=1))
    pairs = result.donors.train[:, None] > result.donors.test
    assert result.donors.auc == pairs.mean()
    copied = membership_inference(train, test, train, train_donors=donors[0], test_donors=donors[1])
    assert (copied.donors.auc, copied.donors.tpr_at_fpr_1) == (1, 1)
    # weak traces in each cell add up over a donor
    rng = np.random.default_rng(2)
    weak = train + 1.2 * rng.normal(size=train.shape)
    donors = np.repeat(np.arange(15), 20), np.repeat(np.arange(15, 30), 20)
    result = membership_inference(train, test, weak, train_donors=donors[0], test_donors=donors[1])
    assert result.donors.auc > result.auc + 0.05


def test_subsampling_keeps_all_that_may_be_copied(arrays):
    train, test, _ = arrays
    assert membership_inference(train, test, train, max_cells=20).auc == 1
    assert len(membership_inference(train, test, train, max_cells=20).train) == 20
    assert nearest_neighbor_distance_ratio(train, train, test, max_cells=20).synthetic.tolist() == [0] * 20
    donors = np.repeat(["a", "b", "c"], 100), np.repeat(["x", "y"], 150)
    one, same, other = (
        membership_inference(
            train, test, test + 1, train_donors=donors[0], test_donors=donors[1], max_cells=50, seed=seed
        )
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.donors.train, same.donors.train)
    assert (one.train != other.train).any()


def test_the_distances_are_those_to_the_closest_record(arrays):
    train, test, synthetic = arrays
    record = distance_to_closest_record(synthetic, train, test)
    result = membership_inference(train, test, synthetic)
    np.testing.assert_array_equal(record.synthetic, -result.train)


def test_bad_input(arrays):
    train, test, synthetic = arrays
    with pytest.raises(ValueError, match="both `train_donors` and `test_donors`, or neither"):
        membership_inference(train, test, synthetic, train_donors=np.zeros(300))
    with pytest.raises(ValueError, match="2 donors are in both"):
        membership_inference(train, test, synthetic, train_donors=np.arange(300) % 2, test_donors=np.arange(300) % 3)
    with pytest.raises(ValueError, match="`test_donors` must hold one label"):
        membership_inference(train, test, synthetic, train_donors=np.zeros(300), test_donors=np.ones(10))
    with pytest.raises(ValueError, match="'reference': 3"):
        membership_inference(train, test, synthetic, reference=train[:, :3])
    with pytest.raises(ValueError, match="`train` has one cell"):
        nearest_neighbor_distance_ratio(train[:1], synthetic, test)
    with pytest.raises(ValueError, match="'synthetic': 9"):
        duplicate_fraction(train, synthetic[:, 1:])
