"""Sparse draws of counts: their distribution, before and after a map of zeros and counts."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import torch
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial

from scmimic.model.base._likelihoods import zero_probability
from scmimic.model.generation._draw import TILE, draw_sparse
from scmimic.model.generation.calibration._margins import GeneMargins, MarginBlocks, MarginRecorder, histogram

N = 40_000
MEANS = np.array([0.004, 0.05, 0.7, 3.0, 7.9, 8.1, 60.0])


def distribution(kind, n, theta=1.5, logit=-0.5):
    mu = torch.as_tensor(MEANS, dtype=torch.float32).expand(n, -1).contiguous()
    if kind == "poisson":
        return Poisson(mu)
    if kind == "nb":
        return NegativeBinomial(mu=mu, theta=torch.full((len(MEANS),), theta))
    return ZeroInflatedNegativeBinomial(mu=mu, theta=torch.full_like(mu, theta), zi_logits=torch.full_like(mu, logit))


def pmf(kind, mean, theta, logit, values):
    if kind == "poisson":
        return scipy.stats.poisson.pmf(values, mean)
    mass = scipy.stats.nbinom.pmf(values, theta, theta / (theta + mean))
    inflation = 0.0 if kind == "nb" else 1 / (1 + np.exp(-logit))
    return inflation * (values == 0) + (1 - inflation) * mass


def chi_square(counts, mass, n):
    """P-value of counts of values 0, 1, ..., those expected less than ten times taken together."""
    expected = np.append(mass * n, max(n - n * mass.sum(), 0))
    seen = np.bincount(np.minimum(counts.astype(int), len(mass)), minlength=len(expected))
    groups = np.minimum(np.cumsum(expected) // 10, np.sum(expected) // 10 - 1).astype(int)
    expected, seen = (np.bincount(groups, side) for side in (expected, seen))
    kept = expected > 0
    statistic = ((seen - expected)[kept] ** 2 / expected[kept]).sum()
    return scipy.stats.chi2(max(kept.sum() - 1, 1)).sf(statistic)


@pytest.mark.parametrize("theta", [0.05, 1.5, 40.0])
@pytest.mark.parametrize("kind", ["poisson", "nb", "zinb"])
def test_counts_have_scipys_distribution(kind, theta):
    if kind == "poisson" and theta != 1.5:
        pytest.skip("it has none")
    px = distribution(kind, N, theta)
    found = draw_sparse(px, torch.Generator().manual_seed(0))
    assert found.shape == (N, len(MEANS))
    assert found.dtype == np.float32
    assert found.has_canonical_format
    assert found.data.min() >= 1
    x, values = found.toarray(), np.arange(2000)
    for gene, mean in enumerate(MEANS):
        assert chi_square(x[:, gene], pmf(kind, mean, theta, -0.5, values), N) > 1e-4, mean


def test_positive_counts_of_rare_genes_keep_their_tail():
    """A count of two in a gene of which one in 30,000 cells has any: single precision would lose it."""
    mean, theta, n = 3e-5, 1.0, 400
    px = NegativeBinomial(mu=torch.full((n, 20_000), mean), theta=torch.full((20_000,), theta))
    found = draw_sparse(px, torch.Generator().manual_seed(0))
    assert found.nnz == pytest.approx(n * 20_000 * mean, rel=0.3)
    px = NegativeBinomial(mu=torch.full((n, 2_000), 0.01), theta=torch.full((2_000,), 0.01))
    more = draw_sparse(px, torch.Generator().manual_seed(0))
    ratio = (more.data > 1).mean()
    law = scipy.stats.nbinom(0.01, 0.5)
    assert ratio == pytest.approx(law.sf(1) / law.sf(0), abs=5 * (0.25 / more.nnz) ** 0.5)


def test_the_same_numbers_give_the_same_counts():
    px = distribution("nb", 3 * TILE + 1)
    a, b, c = (draw_sparse(px, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert (a != b).nnz == 0
    assert (a != c).nnz > 0


def test_cells_without_counts():
    found = draw_sparse(Poisson(torch.full((5, 3), 1e-12)), torch.Generator().manual_seed(0))
    assert found.shape == (5, 3)
    assert found.nnz == 0


def recorded(px, blocks, n_blocks):
    recorder = MarginRecorder(MarginBlocks(n_blocks), px.mu.shape[1])
    x = draw_sparse(px, torch.Generator().manual_seed(5))
    recorder.note(x, blocks, zero_probability(px).numpy())
    return recorder


@pytest.fixture(scope="module", params=[0.4, 2.5], ids=["more zeros", "fewer zeros"])
def mapped(request):
    """A model, its map to cells of other means and spread, and these cells."""
    n = 20_000
    rng = np.random.default_rng(0)
    means = np.array([0.1, 0.8, 4.0, 20.0])
    mu = torch.as_tensor(means * rng.gamma(4, 0.25, (n, 1)), dtype=torch.float32)
    px = NegativeBinomial(mu=mu, theta=torch.full((4,), 2.0))
    data = rng.negative_binomial(0.7, 0.7 / (0.7 + request.param * means), (n, 4))
    blocks = np.zeros(n, dtype=np.int64)
    observed = histogram([(sp.csr_matrix(data.astype(np.float32)), blocks)], 1, 4)
    return px, GeneMargins(recorded(px, blocks, 1), observed, np.ones(4)), data


def test_mapped_counts_have_the_margins_of_the_data(mapped):
    px, margins, data = mapped
    n = len(data)
    plain = draw_sparse(px, torch.Generator().manual_seed(1)).toarray()
    found = margins.draw(px, np.zeros(n, dtype=np.int64), torch.Generator().manual_seed(1)).toarray()
    for gene in range(4):
        # two samples of 20,000 cells differ by 0.0195 with a probability of 0.001; the zeros go from one to the other
        assert scipy.stats.ks_2samp(found[:, gene], data[:, gene]).statistic < 0.0195
        assert scipy.stats.ks_2samp(plain[:, gene], data[:, gene]).statistic > 0.04


def test_the_map_keeps_the_order_of_cells(mapped):
    """Cells of high rates have high counts, and more of them any, as they have without the map."""
    px, margins, _ = mapped
    blocks = np.zeros(len(px.mu), dtype=np.int64)
    plain = draw_sparse(px, torch.Generator().manual_seed(1)).toarray()
    found = margins.draw(px, blocks, torch.Generator().manual_seed(2)).toarray()
    for gene in range(1, 4):
        before, after = (scipy.stats.spearmanr(px.mu[:, gene], x[:, gene]).statistic for x in (plain, found))
        assert after > 0.6 * before


def test_cells_of_no_block_are_as_the_model_has_them(mapped):
    px, margins, data = mapped
    blocks = np.where(np.arange(len(data)) % 2, -1, 0)
    found = margins.draw(px, blocks, torch.Generator().manual_seed(3)).toarray()
    plain = draw_sparse(px, torch.Generator().manual_seed(4)).toarray()
    for rows, like, other in ((blocks < 0, plain, data), (blocks == 0, data, plain)):
        near, far = (scipy.stats.ks_2samp(found[rows, 2], x[rows, 2]).statistic for x in (like, other))
        assert near < 0.0275
        assert far > 0.04


@pytest.mark.parametrize("odds", [True, False], ids=["odds", "saved without odds"])
def test_no_entry_is_left_out_that_may_be_positive(mapped, odds):
    """What sixteen bits are held against is never below the chance that decides."""
    px, margins, data = mapped
    if not odds:
        state = {key: value for key, value in margins.saved_state().items() if key not in ("odds", "weights")}
        margins = GeneMargins.from_saved_state(state)
    blocks = np.where(np.arange(len(data)) % 2, -1, 0)
    before = (1 - zero_probability(px)).double()
    after = margins.positive(before, blocks[:, None], np.arange(4))
    most = margins.most(px.mu.double(), blocks)
    assert (most >= after - 1e-6).all()
    # and is of use
    assert (most[:, 0] < 3 * after[:, 0]).all()
