from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats
from scipy.special import ndtr
from sklearn.covariance import LedoitWolf

from scmimic.baselines import GaussianCopula, IndependentNB
from scmimic.baselines._copula import normal_scores

GENES = 30


def planted(n: int, seed: int, sign: float = 1.0) -> np.ndarray:
    """Counts of which every second gene shares a factor (the first two with effects 1 and `sign`).

    The last gene fills each cell up to a total that no other gene has a part in, as with many genes.
    """
    rng = np.random.default_rng(seed)
    effect = np.resize([0.6, 0.0, -0.6, 0.0], GENES - 1)
    effect[:2] = [0.6, 0.6 * sign]
    library = rng.integers(8000, 16000, (n, 1))
    mean = np.linspace(8, 40, GENES - 1) * library / 12000 * np.exp(rng.standard_normal((n, 1)) * effect)
    mean[:, effect == 0] *= rng.gamma(4, 1 / 4, (n, int((effect == 0).sum())))
    x = rng.poisson(mean)
    return np.hstack([x, library - x.sum(1, keepdims=True)]).astype(np.float32)


def spearman(x: np.ndarray) -> float:
    return stats.spearmanr(x[:, 0], x[:, 1]).statistic


def table(x: np.ndarray, labels: list[str]) -> ad.AnnData:
    return ad.AnnData(sp.csr_matrix(x), obs=pd.DataFrame({"k": labels}, index=[str(i) for i in range(len(x))]))


def test_scores_are_standard_normal_under_the_margin():
    rng = np.random.default_rng(0)
    library = rng.integers(500, 3000, 4000).astype(float)
    rate, dispersion = np.array([1e-4, 1e-3, 2e-2]), np.array([1.0, 0.5, 0.1])
    x = rng.poisson(rng.gamma(1 / dispersion, library[:, None] * rate * dispersion))
    scores = normal_scores(sp.csr_matrix(x), library, rate, dispersion, rng)
    for gene in range(3):
        assert stats.kstest(scores[:, gene], "norm").pvalue > 1e-3


def test_scores_lie_between_the_cumulative_probabilities():
    rng = np.random.default_rng(1)
    x, library = rng.poisson(3.0, (40, 5)), np.full(40, 15.0)
    rate, dispersion = np.full(5, 0.2), np.full(5, 0.4)
    u = ndtr(normal_scores(sp.csr_matrix(x), library, rate, dispersion, rng).astype(float))
    margin = stats.nbinom(1 / 0.4, 1 / (1 + 0.4 * 3.0))
    assert np.all(u >= margin.cdf(x - 1) - 1e-5)
    assert np.all(u <= margin.cdf(x) + 1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_planted_correlation_is_kept_and_independent_nb_loses_it(sign):
    real = planted(2000, 0, sign)
    adata = ad.AnnData(sp.csr_matrix(real))
    copula = GaussianCopula(adata, labels_key=None).fit().generate(4000, seed=0).X.toarray()
    independent = IndependentNB(adata, labels_key=None).fit().generate(4000, seed=0).X.toarray()
    assert abs(spearman(real)) > 0.6
    assert abs(spearman(copula) - spearman(real)) < 0.08
    assert abs(spearman(independent)) < 0.15


def test_margins():
    real = planted(3000, 1)
    fake = GaussianCopula(ad.AnnData(sp.csr_matrix(real)), labels_key=None).fit().generate(6000, seed=0).X.toarray()
    error = real.std(0) * np.sqrt(1 / 3000 + 1 / 6000)
    assert np.all(np.abs(fake.mean(0) - real.mean(0)) < 5 * error)
    np.testing.assert_allclose((fake == 0).mean(0), (real == 0).mean(0), atol=0.04)
    np.testing.assert_allclose(fake.var(0), real.var(0), rtol=0.3)


def test_margins_equal_those_of_independent_nb():
    adata = ad.AnnData(sp.csr_matrix(planted(500, 2)))
    kinds = (GaussianCopula, IndependentNB)
    draw = [kind(adata, labels_key=None).fit().generate(4000, seed=0).X.toarray() for kind in kinds]
    for gene in range(GENES):
        assert stats.ks_2samp(draw[0][:, gene], draw[1][:, gene]).statistic < 0.06


@pytest.mark.parametrize("n", [20, 400])
def test_covariance_is_that_of_ledoit_wolf(n):
    """Both forms of the root (scores, triangular factor) give the shrunk correlation of scikit-learn."""
    adata = ad.AnnData(sp.csr_matrix(planted(n, 3)))
    generator = GaussianCopula(adata, labels_key=None, min_cells=2).fit()
    root, shrinkage, expressed = generator._correlations[0]
    assert len(expressed) == GENES
    assert len(root) == min(n, GENES)
    got = (1 - shrinkage) * root.T @ root + shrinkage * np.eye(GENES)
    np.testing.assert_allclose(np.diag(got), 1, atol=1e-4)
    # the scores of a given seed, drawn again
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.arange(n))[: generator.max_cells]
    again = normal_scores(
        generator._x[rows], generator._library[rows], generator.rate_[0], generator.dispersion_[0], rng
    ).astype(float)
    again = (again - again.mean(0)) / again.std(0)
    expected = LedoitWolf(assume_centered=True).fit(again)
    np.testing.assert_allclose(shrinkage, expected.shrinkage_, rtol=1e-3)
    np.testing.assert_allclose(got, expected.covariance_, atol=1e-3)


def test_few_cells_borrow_the_pooled_correlation():
    many, few = planted(1000, 4), planted(8, 5)
    adata = table(np.vstack([many, few]), ["many"] * 1000 + ["few"] * 8)
    copula = GaussianCopula(adata, labels_key="k").fit()
    pooled = copula.generate(4000, "few", seed=0).X.toarray()
    assert spearman(pooled) > 0.4
    own = GaussianCopula(adata, labels_key="k", min_cells=2).fit()
    assert own._correlations[0][0].shape[0] == 8
    assert copula._correlations[0][0].shape[0] == GENES


def test_each_label_keeps_its_own_correlation():
    adata = table(np.vstack([planted(800, 6), planted(800, 7, -1.0)]), ["plus"] * 800 + ["minus"] * 800)
    copula = GaussianCopula(adata, labels_key="k").fit()
    assert spearman(copula.generate(3000, "plus", seed=0).X.toarray()) > 0.5
    assert spearman(copula.generate(3000, "minus", seed=0).X.toarray()) < -0.5


def test_max_cells_bounds_the_scores():
    adata = ad.AnnData(sp.csr_matrix(planted(200, 8)))
    copula = GaussianCopula(adata, labels_key=None, min_cells=5, max_cells=12).fit()
    assert copula._correlations[0][0].shape == (12, GENES)
    with pytest.raises(ValueError, match="`max_cells` must be at least `min_cells`"):
        GaussianCopula(adata, labels_key=None, min_cells=50, max_cells=12)
