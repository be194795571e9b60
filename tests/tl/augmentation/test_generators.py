import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from scmimic.tl.augmentation._generators import oversample, smote


@pytest.fixture
def cells():
    return sp.random(12, 30, density=0.5, format="csr", random_state=0, dtype=np.float32)


@pytest.mark.parametrize("k", [1, 3])
def test_smote_lies_between_a_cell_and_one_of_its_neighbours(cells, k):
    x = cells.toarray().astype(float)
    new = smote(cells, 60, np.random.default_rng(1), n_neighbors=k).toarray()
    distance = cdist(x, x)
    np.fill_diagonal(distance, np.inf)
    neighbors = np.argsort(distance, axis=1)[:, :k]
    starts, shares = [], []
    for cell in new:
        fits = []
        for a in range(12):
            for b in neighbors[a]:
                direction = x[b] - x[a]
                u = (cell - x[a]) @ direction / (direction @ direction)
                if np.abs(x[a] + u * direction - cell).max() < 1e-5:
                    fits.append((a, u))
        assert fits
        starts.append({a for a, _ in fits})
        shares.append(fits[0][1])
    assert min(shares) > -1e-6 and max(shares) < 1 + 1e-6
    # all along the segment, not at its ends
    assert np.ptp(shares) > 0.8
    assert all(sum(a in found for found in starts) >= 5 for a in range(12))


def test_smote_with_few_or_equal_cells():
    two = sp.csr_matrix([[0.0, 2.0], [4.0, 2.0]])
    new = smote(two, 50, np.random.default_rng(0)).toarray()
    assert (new[:, 1] == 2).all()
    assert new[:, 0].min() >= 0 and new[:, 0].max() <= 4 and len(np.unique(new[:, 0])) == 50
    same = sp.csr_matrix(np.ones((3, 2)))
    np.testing.assert_allclose(smote(same, 10, np.random.default_rng(0)).toarray(), 1)
    with pytest.raises(ValueError, match="there is 1"):
        smote(two[:1], 5, np.random.default_rng(0))


def test_smote_keeps_the_mean_and_shrinks_the_spread():
    x = sp.csr_matrix(np.random.default_rng(0).normal(5, 1, (400, 3)))
    new = smote(x, 4000, np.random.default_rng(1), n_neighbors=399).toarray()
    np.testing.assert_allclose(new.mean(axis=0), x.toarray().mean(axis=0), atol=0.06)
    # independent ends: var = E[(1-u)^2 + u^2] = 2/3 of that of the cells
    np.testing.assert_allclose(new.var(axis=0), x.toarray().var(axis=0) * 2 / 3, rtol=0.1)


def test_oversampling_repeats_each_cell_equally(cells):
    new = oversample(cells, 30, np.random.default_rng(0)).toarray()
    _, times = np.unique(new, axis=0, return_counts=True)
    assert len(times) == 12 and set(times) == {2, 3}
    assert {row.tobytes() for row in new} == {row.tobytes() for row in cells.toarray()}
