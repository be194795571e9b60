import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr, spearmanr

from scmimic.metrics import correlation_distance


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200, 1))
    real = rng.poisson(np.exp(0.5 * shared + rng.normal(size=8) * 0.5)).astype(float)
    synthetic = rng.poisson(np.exp(rng.normal(size=8) * 0.5), (150, 8)).astype(float)
    return real, synthetic


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("statistic", ["rms", "mean_absolute"])
def test_equals_scipy_pair_by_pair(pair, kind, method, statistic):
    real, synthetic = pair
    function = {"pearson": pearsonr, "spearman": spearmanr}[method]
    pairs = [(g, h) for g in range(8) for h in range(g)]
    d = np.array(
        [function(synthetic[:, g], synthetic[:, h])[0] - function(real[:, g], real[:, h])[0] for g, h in pairs]
    )
    expected = np.sqrt((d**2).mean()) if statistic == "rms" else np.abs(d).mean()
    found = correlation_distance(kind(real), kind(synthetic), method=method, statistic=statistic)
    assert found == pytest.approx(expected)


def test_a_replicate_comes_down_to_sampling_noise_and_independent_genes_do_not(pair):
    rng = np.random.default_rng(1)
    cells = np.linalg.cholesky(0.5 * np.eye(30) + 0.5) @ rng.normal(size=(30, 4000))
    real, replicate = cells.T[:2000], cells.T[2000:]
    independent = rng.permuted(real, axis=0)
    assert correlation_distance(real, real) == 0
    # (1 - r^2)^2 is the variance of a correlation times the number of cells
    assert correlation_distance(real, replicate) == pytest.approx(0.75 * np.sqrt(2 / 2000), rel=0.3)
    assert correlation_distance(real, independent) == pytest.approx(0.5, abs=0.02)
    noise = rng.normal(size=(2, 500, 40))
    assert correlation_distance(*noise) == pytest.approx(np.sqrt(2 / 500), rel=0.05)


def test_genes_of_the_highest_real_mean_are_compared(pair):
    real, synthetic = pair
    top = np.argsort(-real.mean(axis=0))[:3]
    assert correlation_distance(real, synthetic, max_genes=3) == pytest.approx(
        correlation_distance(real, synthetic, genes=top)
    )
    mask = np.isin(np.arange(8), top)
    assert correlation_distance(real, synthetic, genes=mask) == pytest.approx(
        correlation_distance(real[:, mask], synthetic[:, mask])
    )
    other = synthetic.copy()
    other[:, ~mask] = 0
    assert correlation_distance(real, synthetic, max_genes=3) == correlation_distance(real, other, max_genes=3)


def test_constant_genes(pair):
    real, synthetic = pair
    constant = synthetic.copy()
    constant[:, 0] = 1
    # pandas gives NaN for the constant gene: no correlation
    expected = (pd.DataFrame(constant).corr().fillna(0) - pd.DataFrame(real).corr()).to_numpy()
    found = correlation_distance(real, constant)
    assert found == pytest.approx(np.sqrt((expected[np.triu_indices(8, 1)] ** 2).mean()))
    # constant in the real cells: left out
    assert correlation_distance(constant, synthetic) == correlation_distance(constant[:, 1:], synthetic[:, 1:])


def test_subsampling(pair):
    real, synthetic = pair
    some = correlation_distance(real, synthetic, max_cells=50, seed=1)
    assert some == correlation_distance(real, synthetic, max_cells=50, seed=1)
    assert some != correlation_distance(real, synthetic, max_cells=50, seed=2)
    assert correlation_distance(real, synthetic, max_cells=None) == correlation_distance(real, synthetic)


def test_bad_input(pair):
    real, synthetic = pair
    with pytest.raises(ValueError, match="`method` must be"):
        correlation_distance(real, synthetic, method="kendall")
    with pytest.raises(ValueError, match="`statistic` must be"):
        correlation_distance(real, synthetic, statistic="max")
    with pytest.raises(ValueError, match="at least three"):
        correlation_distance(real, synthetic[:2])
    with pytest.raises(ValueError, match="1 of the 1 genes"):
        correlation_distance(real, synthetic, genes=[0])
    with pytest.raises(IndexError):
        correlation_distance(real, synthetic, genes=[9])
