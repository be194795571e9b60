import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import ks_2samp

from scmimic.metrics import _genes, gene_statistics_distance


@pytest.fixture
def pair():
    """Ties, many zeros, a gene that is nowhere expressed and two that are expressed on one side only."""
    rng = np.random.default_rng(0)
    means = rng.gamma(0.7, 2.0, 40)
    real = rng.poisson(means, (61, 40)).astype(float)
    synthetic = rng.poisson(means * rng.uniform(0.5, 2, 40), (83, 40)).astype(float)
    real[:, 3] = synthetic[:, 3] = synthetic[:, 5] = 0
    real[:, 7] = 0
    real[0, 5] = synthetic[0, 7] = 2
    return real, synthetic


def test_single_precision_has_the_order_of_its_bits(pair):
    real, synthetic = (np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)).astype(np.float32) for x in pair)
    real[:2, 0], synthetic[:2, 0] = [3e38, 1e-44], [1e-45, 2e38]
    # scipy would count in single precision, too
    expected = [ks_2samp(*xy).statistic for xy in zip(*(x.T.astype(float) for x in (real, synthetic)), strict=True)]
    np.testing.assert_allclose(gene_statistics_distance(real, synthetic).ks, expected)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize("log", [False, True])
def test_each_gene_equals_numpy_and_scipy(pair, kind, log, monkeypatch):
    # chunks of five genes
    monkeypatch.setattr(_genes, "_CHUNK_VALUES", 5 * 144)
    if log:
        pair = tuple(np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)) for x in pair)
    real, synthetic = pair
    result = gene_statistics_distance(kind(real), kind(synthetic))
    np.testing.assert_allclose(result.ks, [ks_2samp(*xy).statistic for xy in zip(real.T, synthetic.T, strict=True)])
    for x, name in ((real, "real"), (synthetic, "synthetic")):
        np.testing.assert_allclose(getattr(result, f"{name}_mean"), x.mean(axis=0))
        np.testing.assert_allclose(getattr(result, f"{name}_variance"), x.var(axis=0, ddof=1))
        np.testing.assert_allclose(getattr(result, f"{name}_zero_fraction"), (x == 0).mean(axis=0))


def test_summaries(pair):
    real, synthetic = pair
    result = gene_statistics_distance(sp.csr_matrix(real), synthetic)
    use = (real.sum(axis=0) > 0) & (synthetic.sum(axis=0) > 0)
    ratio = synthetic.mean(axis=0)[use] / real.mean(axis=0)[use]
    variances = synthetic.var(axis=0, ddof=1)[use] / real.var(axis=0, ddof=1)[use]
    assert result.mean_log_ratio == pytest.approx(np.abs(np.log(ratio)).mean())
    assert result.variance_log_ratio == pytest.approx(np.abs(np.log(variances)).mean())
    assert result.variance_ratio == pytest.approx(np.median(variances))
    assert result.zero_fraction_difference == pytest.approx(
        np.abs((real == 0).mean(axis=0) - (synthetic == 0).mean(axis=0)).mean()
    )
    assert result.ks_median == np.median(result.ks)
    expressed = (real.sum(axis=0) > 0).sum()
    assert result.missing_genes == pytest.approx(1 / expressed)
    # numbers in a line of print: no arrays
    assert "array" not in repr(result)


def test_ideal_on_the_same_cells_and_smooth_output_is_seen(pair):
    real = pair[0]
    same = gene_statistics_distance(real, real[::-1])
    assert (same.mean_log_ratio, same.variance_ratio, same.ks_median, same.missing_genes) == (0, 1, 0, 0)
    smooth = gene_statistics_distance(real, 0.1 * real + 0.9 * real.mean(axis=0))
    assert smooth.mean_log_ratio == pytest.approx(0, abs=1e-12)
    assert smooth.variance_ratio == pytest.approx(0.01)
    assert smooth.zero_fraction_difference > 0.3


def test_explicit_zeros_and_mixed_precision_change_nothing(pair):
    real, synthetic = pair
    real = np.log1p(real)
    stored = sp.csr_matrix(np.ones_like(real))
    stored.data = real.ravel().copy()
    result = gene_statistics_distance(stored, real.astype(np.float32))
    assert result.ks.max() == 0
    np.testing.assert_array_equal(result.real_zero_fraction, (real == 0).mean(axis=0))
    assert stored.nnz == real.size


def test_nothing_expressed_gives_nan():
    result = gene_statistics_distance(np.zeros((3, 2)), np.zeros((4, 2)))
    assert np.isnan(result.mean_log_ratio)
    assert np.isnan(result.missing_genes)
    assert result.ks_median == 0


def test_bad_input(pair):
    real, synthetic = pair
    with pytest.raises(ValueError, match="`synthetic` holds negative"):
        gene_statistics_distance(real, synthetic - 1)
    with pytest.raises(ValueError, match="`real` has one cell"):
        gene_statistics_distance(real[:1], synthetic)
    with pytest.raises(ValueError, match="'synthetic': 39"):
        gene_statistics_distance(real, synthetic[:, 1:])
