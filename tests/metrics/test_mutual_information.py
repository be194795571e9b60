import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import entropy, norm
from sklearn.metrics import mutual_info_score

from scmimic.metrics import mutual_information_gap, normalized_mutual_information

ESTIMATORS = ["posterior", "histogram", "knn"]
NARROW = 0.05**2


def two_gaussians(distance):
    """Mutual information of the side with z in nats: sides of equal number, unit variance, means `distance` apart."""

    def density(z):
        return (norm.pdf(z) + norm.pdf(z, distance)) / 2

    mixture = quad(lambda z: -density(z) * np.log(density(z)), -12, 12 + distance, limit=200)[0]
    return mixture - norm.entropy()


@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_two_gaussians(estimator, distance):
    side = np.tile([0, 1], 2000)
    mean, noise = distance * side[:, None].astype(float), np.random.default_rng(0).normal(size=(4000, 1))
    # the posterior estimate draws the codes itself
    latent = mean if estimator == "posterior" else mean + noise
    found = normalized_mutual_information(latent, side, variance=[1.0], estimator=estimator)[0, 0]
    assert found == pytest.approx(two_gaussians(distance) / np.log(2), abs=0.025)


def test_posterior_is_the_double_loop():
    rng = np.random.default_rng(0)
    level, step = rng.integers(3, size=60), rng.integers(2, size=60)
    mean, variance = 100 + 3 * rng.normal(size=(60, 2)), np.exp(rng.normal(size=(60, 2)))
    found = normalized_mutual_information(mean, {"level": level, "step": step}, variance=variance, seed=4)
    z = mean + np.sqrt(variance) * np.random.default_rng(4).standard_normal((60, 2))
    for k, codes in enumerate((level, step)):
        for j in range(2):
            total = 0.0
            for n in range(60):
                log = norm.logpdf(z[n, j], mean[:, j], np.sqrt(variance[:, j]))
                same = codes == codes[n]
                total += logsumexp(log[same]) - np.log(same.sum()) - logsumexp(log) + np.log(60)
            assert found[j, k] == pytest.approx(total / 60 / entropy(np.bincount(codes)), abs=1e-5)


def test_posterior_of_many_cells_is_taken_in_chunks(monkeypatch, codes, factors):
    whole = normalized_mutual_information(codes["rotated"], factors, variance=np.ones(5))
    monkeypatch.setattr("scmimic.metrics._mutual_information._CHUNK_VALUES", 3000 * 7)
    parts = normalized_mutual_information(codes["rotated"], factors, variance=np.ones(5))
    np.testing.assert_allclose(parts, whole, atol=1e-7)


def test_fewer_cells_estimate_the_same(codes, factors):
    noisy = codes["perfect"]
    whole, part = (
        normalized_mutual_information(noisy, factors, variance=np.full(5, 0.04), max_cells=n) for n in (None, 1500)
    )
    assert np.abs(whole - part).max() < 0.03
    assert np.abs(whole - part).max() > 0


def test_histogram_is_sklearns(codes, factors):
    latent = codes["rotated"]
    found = normalized_mutual_information(latent, factors, n_bins=12)
    quartile = np.digitize(factors["library"], np.quantile(factors["library"], [0.25, 0.5, 0.75]))
    for k, levels in enumerate([*(factors[name] for name in ("batch", "path", "step")), quartile]):
        h = entropy(np.unique(levels, return_counts=True)[1])
        for j in range(5):
            edges = np.histogram_bin_edges(latent[:, j], 12)
            expected = mutual_info_score(np.digitize(latent[:, j], edges[1:-1]), levels) / h
            assert found[j, k] == pytest.approx(expected, abs=1e-9)


def test_quantile_bins_do_not_see_the_scale(codes, factors):
    latent = codes["perfect"]
    equal = normalized_mutual_information(latent, factors, strategy="quantile")
    np.testing.assert_allclose(normalized_mutual_information(np.exp(3 * latent), factors, strategy="quantile"), equal)
    # library size in 20 equal parts knows its quartile fully; one outlying cell ruins equal widths
    assert equal[3, 3] == pytest.approx(1)
    latent = latent.copy()
    latent[0, 3] = 1e6
    assert normalized_mutual_information(latent, factors)[3, 3] < 0.01
    assert normalized_mutual_information(latent, factors, strategy="quantile")[3, 3] > 0.99


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_constructed(codes, factors, estimator):
    scores = {
        name: mutual_information_gap(latent, factors, variance=np.full(latent.shape[1], NARROW), estimator=estimator)
        for name, latent in codes.items()
    }
    assert scores["perfect"] > 0.93
    assert abs(scores["duplicated"]) < 0.01
    assert abs(scores["noise"]) < 0.03
    assert scores["rotated"] < 0.3


def test_wide_posteriors_know_less(codes, factors):
    gaps = [mutual_information_gap(codes["perfect"], factors, variance=np.full(5, v)) for v in (0.01, 0.1, 1.0)]
    assert gaps[0] > gaps[1] + 0.1 > gaps[2] + 0.2


def test_gap_is_that_of_the_matrix(codes, factors):
    matrix = np.sort(normalized_mutual_information(codes["rotated"], factors), axis=0)
    result = mutual_information_gap(codes["rotated"], factors, return_per_factor=True)
    np.testing.assert_allclose(list(result.per_factor.values()), matrix[-1] - matrix[-2])
    assert list(result.per_factor) == list(factors)
    assert result.score == pytest.approx((matrix[-1] - matrix[-2]).mean())


def test_same_seed_same_result(codes, factors):
    def at(seed):
        return mutual_information_gap(codes["perfect"], factors, variance=np.full(5, 0.1), seed=seed)

    assert at(1) == at(1)
    assert at(1) != at(2)


def test_bad_input(codes, factors):
    with pytest.raises(ValueError, match="needs the `variance`"):
        mutual_information_gap(codes["perfect"], factors, estimator="posterior")
    with pytest.raises(ValueError, match="`estimator` must be"):
        mutual_information_gap(codes["perfect"], factors, estimator="kde")
    with pytest.raises(ValueError, match="`strategy` must be"):
        mutual_information_gap(codes["perfect"], factors, strategy="kmeans")
    with pytest.raises(ValueError, match="`n_bins`"):
        mutual_information_gap(codes["perfect"], factors, n_bins=1)


def test_cells_are_drawn_without_repeats():
    """Each of forty cells is a level of its own: 39 of them hold log(39) nats, and 25 different ones much less."""
    mean, variance = 10.0 * np.arange(40)[:, None], np.full((40, 1), 1e-4)
    level = np.array([f"cell {i}" for i in range(40)])
    found = normalized_mutual_information(mean, {"cell": level}, variance=variance, max_cells=39)
    assert found[0, 0] == pytest.approx(np.log(39) / np.log(40), rel=1e-3)
