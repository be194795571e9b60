import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData
from scipy import stats
from scipy.optimize import minimize_scalar

from scmimic.datasets import SplatParameters, _splat_dispersion, splat, splat_estimate
from scmimic.datasets._splat_dispersion import estimate_dispersion
from scmimic.datasets._splat_estimate import _fit_gamma

ONE = {"n_batches": 1, "n_groups": 1}


def negative_binomial(dispersion, *, n=400, genes=300, seed=0):
    rng = np.random.default_rng(seed)
    library, mean = rng.lognormal(0, 0.3, n), rng.lognormal(1, 1, genes)
    mean = library[:, None] * mean
    return rng.poisson(rng.gamma(1 / dispersion, mean * dispersion))


@pytest.fixture(scope="module")
def simulated():
    return splat(500, 1000, parameters=SplatParameters(lib_loc=10, lib_scale=0.4, mean_shape=1.5), **ONE)


@pytest.fixture(scope="module")
def found(simulated):
    return splat_estimate(simulated)


def test_parameters_come_back(found):
    assert found.lib_loc == pytest.approx(10, abs=0.05)
    assert found.lib_scale == pytest.approx(0.4, abs=0.03)
    assert not found.lib_norm
    assert found.mean_shape == pytest.approx(1.5, rel=0.15)
    assert found.out_prob == pytest.approx(0.05, abs=0.02)
    assert found.out_fac_loc == pytest.approx(4, abs=0.3)
    assert found.out_fac_scale == pytest.approx(0.5, abs=0.2)
    assert 25 < found.bcv_df < 150
    kept = ("de_prob", "de_fac_loc", "path_from", "dropout_type", "batch_fac_loc")
    assert all(getattr(found, name) == getattr(SplatParameters(), name) for name in kept)


def test_simulation_from_the_estimate_has_the_same_genes(simulated, found):
    again = splat(500, 1000, parameters=found, seed=1, **ONE)
    quantiles = np.linspace(0.1, 0.9, 17)

    def curve(adata):
        mean = np.asarray(adata.X.mean(axis=0)).ravel()
        # over the median gene: the outliers drawn decide how much is left for the others
        return np.quantile(np.log(np.maximum(mean / np.median(mean), 1e-6)), quantiles)

    np.testing.assert_allclose(curve(again), curve(simulated), atol=0.3)


def test_more_dispersion_gives_more():
    found = [
        splat_estimate(splat(400, 500, parameters=SplatParameters(bcv_common=bcv), **ONE)).bcv_common
        for bcv in (0.1, 0.4, 0.8)
    ]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.1, abs=0.06)


def test_correction_is_splatters(simulated, found):
    common, df = estimate_dispersion(sp.csr_matrix(simulated.X, dtype=np.float64))
    assert found.bcv_common == pytest.approx(0.1 + 0.25 * common)
    assert found.bcv_df == df


@pytest.mark.parametrize("dispersion", [0.05, 0.4, 2.0])
def test_common_dispersion_of_negative_binomial_counts(dispersion):
    common, df = estimate_dispersion(sp.csr_matrix(negative_binomial(dispersion), dtype=float))
    assert common == pytest.approx(dispersion, rel=0.05)
    assert df > 300


def test_common_dispersion_is_the_maximum_of_the_likelihood():
    y = negative_binomial(0.4, n=80, genes=30)
    library = y.sum(axis=1)

    def one_gene(counts, size):
        def loss(log_share):
            mean = library * np.exp(log_share)
            return -stats.nbinom.logpmf(counts, size, size / (size + mean)).sum()

        centre = np.log(counts.sum() / library.sum())
        best = minimize_scalar(loss, bounds=(centre - 2, centre + 2), method="bounded", options={"xatol": 1e-8})
        mean = library * np.exp(best.x)
        return -best.fun - 0.5 * np.log((mean / (1 + mean / size)).sum())

    def total(log_dispersion):
        return -sum(one_gene(counts, np.exp(-log_dispersion)) for counts in y.T)

    best = minimize_scalar(total, bounds=(-3, 1), method="bounded", options={"xatol": 1e-4})
    common, _ = estimate_dispersion(sp.csr_matrix(y, dtype=float))
    # a spline between factors of two in the one, the exact maximum in the other
    assert common == pytest.approx(np.exp(best.x), rel=0.01)


@pytest.mark.parametrize("df", [8, 40])
def test_prior_degrees_of_freedom(df):
    dispersion = 0.3 * df / np.random.default_rng(1).chisquare(df, 1500)
    _, found = estimate_dispersion(sp.csr_matrix(negative_binomial(dispersion, genes=1500), dtype=float))
    # read from deviances, which hold the counts' own noise, too
    assert df < found < 7 * df


def test_gamma_fit_takes_no_notice_of_the_tails():
    rng = np.random.default_rng(0)
    means = rng.gamma(0.8, 1 / 0.3, 4000)
    shape, rate = _fit_gamma(means)
    # the tied tails bend the fit a little, as they do in the original
    assert shape == pytest.approx(0.8, rel=0.1)
    assert rate == pytest.approx(0.3, rel=0.15)
    means[means > np.quantile(means, 0.92)] *= 50
    far = _fit_gamma(means)
    assert far == pytest.approx((shape, rate), rel=1e-3)


def test_normal_library_sizes_are_seen():
    parameters = SplatParameters(lib_loc=20_000, lib_scale=4_000, lib_norm=True)
    found = splat_estimate(splat(150, 200, parameters=parameters, **ONE))
    skewed = splat_estimate(splat(150, 200, parameters=SplatParameters(lib_loc=10, lib_scale=0.8), **ONE))
    assert found.lib_norm
    assert found.lib_loc == pytest.approx(20_000, rel=0.06)
    assert found.lib_scale == pytest.approx(4_000, rel=0.25)
    assert not skewed.lib_norm


def test_dropout_curve_is_that_of_the_zeros():
    parameters = SplatParameters(lib_loc=8, dropout_type="experiment", dropout_mid=3.0)
    adata = splat(500, 600, parameters=parameters, **ONE)
    without = splat(500, 600, parameters=dataclasses.replace(parameters, dropout_type="none"), **ONE)
    assert splat_estimate(adata).dropout_shape < 0
    # the logarithm of the mean at which half of the cells are at zero
    mean = np.asarray(without.X.mean(axis=0)).ravel()
    half = np.abs((without.X.toarray() == 0).mean(axis=0) - 0.5) < 0.05
    assert splat_estimate(without).dropout_mid == pytest.approx(np.log(mean[half]).mean(), abs=0.3)


def test_dense_sparse_layer_and_view(simulated):
    small = simulated[:200, :300].copy()
    expected = splat_estimate(small)
    dense = AnnData(np.zeros(small.shape), layers={"counts": small.X.toarray().astype(int)})
    assert splat_estimate(dense, layer="counts") == expected
    assert splat_estimate(simulated[:200, :300]) == expected
    assert splat_estimate(AnnData(small.X.tocsc())) == expected


def test_data_are_left_alone(simulated):
    small = simulated[:100, :100].copy()
    before = small.X.copy()
    splat_estimate(small)
    assert (before != small.X).nnz == 0
    assert before.dtype == small.X.dtype


def test_large_data_are_thinned_alike(monkeypatch, simulated):
    counts = sp.csr_matrix(simulated.X, dtype=float)
    monkeypatch.setattr(_splat_dispersion, "_MAX_CELLS", 200)
    monkeypatch.setattr(_splat_dispersion, "_MAX_GENES", 300)
    assert estimate_dispersion(counts) == estimate_dispersion(counts)
    assert estimate_dispersion(counts, seed=1)[0] == pytest.approx(estimate_dispersion(counts)[0], rel=0.1)


def test_bad_input(simulated):
    small = simulated[:50, :50].copy()
    with pytest.raises(KeyError, match="spliced"):
        splat_estimate(small, layer="spliced")
    for value, message in ((0.5, "no integers"), (-1, "negative"), (np.nan, "NaN")):
        bad = small.copy()
        bad.X = bad.X.toarray()
        bad.X[0, 0] = value
        with pytest.raises(ValueError, match=message):
            splat_estimate(bad)
    empty = small.copy()
    empty.X = sp.csr_matrix(sp.diags([0.0] + [1.0] * 49) @ empty.X)
    with pytest.raises(ValueError, match="1 cells .* have no counts"):
        splat_estimate(empty)
    with pytest.raises(ValueError, match="9 cells"):
        splat_estimate(small[:9])
    with pytest.raises(ValueError, match="5 genes"):
        splat_estimate(small[:, np.argsort(-small.X.toarray().sum(axis=0))[:5]])
    same = AnnData(np.ones((20, 30)))
    with pytest.raises(ValueError, match="same mean"):
        splat_estimate(same)
