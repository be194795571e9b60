import numpy as np
import pytest
from scipy.stats import spearmanr

from scmimic.metrics import spearman_correlation, spearman_gap


def test_is_scipys(codes, factors):
    latent = codes["rotated"]
    found = spearman_correlation(latent, factors)
    values = [factors["batch"] == "b", factors["path"], factors["step"], factors["library"]]
    for k, value in enumerate(values):
        for j in range(5):
            assert found[j, k] == pytest.approx(spearmanr(latent[:, j], value).statistic)


def test_unordered_levels_are_taken_one_against_the_rest():
    rng = np.random.default_rng(0)
    label = rng.choice(["x", "y", "z"], 200)
    # the level in the middle of the alphabet is the one that counts, and it is the low one
    latent = rng.normal(size=200) - 4 * (label == "y")
    found = spearman_correlation(latent[:, None], {"label": label})
    assert found[0, 0] == pytest.approx(spearmanr(latent, label == "y").statistic)
    assert found[0, 0] < -0.7


def test_constructed(codes, factors):
    perfect = spearman_gap(codes["perfect"], factors, return_per_factor=True)
    assert min(perfect.per_factor.values()) > 0.93
    assert spearman_gap(codes["duplicated"], factors) == pytest.approx(0, abs=1e-12)
    assert spearman_gap(codes["noise"], factors) < 0.05
    assert spearman_gap(codes["rotated"], factors) < 0.4
    assert spearman_gap(-codes["perfect"], factors) == pytest.approx(perfect.score)


def test_a_constant_dimension_is_uncorrelated():
    assert spearman_correlation(np.ones((4, 1)), [1, 2, 3, 4])[0, 0] == 0


@pytest.mark.parametrize("function", [spearman_gap, spearman_correlation])
def test_missing_codes_are_refused(function, codes, factors):
    latent = codes["noise"].copy()
    latent[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        function(latent, factors)
