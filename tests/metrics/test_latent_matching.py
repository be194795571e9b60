import itertools

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mutual_info_score

from scmimic.metrics import latent_matching_score

# LMS, MSAS and MSGS of drvi-py 0.2.8 for the cells below
DRVI = {
    "smi": (0.6417781389743991, 0.6417781389743991, 0.41884643299092217),
    "spn": (0.6486244714684614, 0.6486244714684615, 0.3781074360198037),
    "asc": (0.6359515833534332, 0.6359515833534332, 0.27561587789142755),
}
DRVI_TWO_LEVELS = {"smi": 0.5496611428936568, "spn": 0.5634024219006601, "asc": 0.6499591880241287}


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    labels = rng.choice(["B", "NK", "T", "mono"], 400, p=[0.1, 0.2, 0.3, 0.4])
    one_hot = np.column_stack([labels == name for name in np.unique(labels)]).astype(float)
    latent = rng.normal(size=(400, 6))
    latent[:, :3] += 3 * one_hot[:, [2, 0, 3]]
    latent[:, 3] -= 2 * one_hot[:, 1] + one_hot[:, 2]
    return latent, labels


@pytest.mark.parametrize("similarity", DRVI)
def test_is_drvis(cells, similarity):
    latent, labels = cells
    found = latent_matching_score(latent, labels, similarity=similarity, return_matching=True)
    assert (found.score, found.best, found.gap) == pytest.approx(DRVI[similarity])
    # drvi has a process for both levels of a factor of two
    both = {"no": labels != "T", "yes": labels == "T"}
    assert latent_matching_score(latent, both, similarity=similarity) == pytest.approx(DRVI_TWO_LEVELS[similarity])


@pytest.mark.parametrize("similarity", DRVI)
def test_matching_is_the_best_of_all(cells, similarity):
    latent, labels = cells
    found = latent_matching_score(latent, labels, similarity=similarity, return_matching=True)
    every = [found.similarity[list(order), range(4)].mean() for order in itertools.permutations(range(6), 4)]
    assert found.score == pytest.approx(max(every))
    assert found.similarity[found.matched, range(4)].mean() == pytest.approx(max(every))


def test_similarities(cells):
    latent, labels = cells
    found = {s: latent_matching_score(latent, labels, similarity=s, return_matching=True) for s in DRVI}
    target = labels == "NK"
    assert found["smi"].processes[1] == "factor_0: NK"
    for j in range(6):
        bins = np.digitize(latent[:, j], np.histogram_bin_edges(latent[:, j], 10)[1:-1])
        expected = mutual_info_score(bins, target) / mutual_info_score(target, target)
        assert found["smi"].similarity[j, 1] == pytest.approx(expected)
        assert found["asc"].similarity[j, 1] == pytest.approx(abs(spearmanr(latent[:, j], target).statistic))
        row = target[np.argsort(latent[:, j])]
        together = sum(a and b for a, b in itertools.pairwise(row)) / (target.sum() - 1)
        expected = max(0, together - target.mean()) / (1 - target.mean())
        assert found["spn"].similarity[j, 1] == pytest.approx(expected)


def test_numeric_factors_are_one_process(codes, factors):
    found = latent_matching_score(codes["perfect"], factors, return_matching=True)
    assert found.processes == list(factors)
    np.testing.assert_array_equal(found.matched, range(4))
    quartile = (4 * factors["library"].argsort().argsort() / 3000).astype(int)
    tenth = (10 * (factors["library"] - factors["library"].min()) / np.ptp(factors["library"])).astype(int).clip(0, 9)
    expected = mutual_info_score(tenth, quartile) / np.log(4)
    assert found.similarity[3, 3] == pytest.approx(expected)


@pytest.mark.parametrize("similarity", ["smi", "spn"])
def test_constructed(codes, factors, similarity):
    score = {name: latent_matching_score(latent, factors, similarity=similarity) for name, latent in codes.items()}
    assert score["perfect"] > 0.9
    assert score["duplicated"] > 0.9
    assert score["rotated"] < 0.55
    assert score["noise"] < 0.05
    gap = latent_matching_score(codes["duplicated"], factors, similarity=similarity, return_matching=True).gap
    assert gap < 0.02


@pytest.mark.parametrize("n_levels", [2, 8])
def test_numbers_are_divided_into_the_levels_asked_for(codes, factors, n_levels):
    found = latent_matching_score(codes["perfect"], factors, factor_bins=n_levels, return_matching=True)
    level = (n_levels * factors["library"].argsort().argsort() / 3000).astype(int)
    tenth = (10 * (factors["library"] - factors["library"].min()) / np.ptp(factors["library"])).astype(int).clip(0, 9)
    assert found.similarity[3, 3] == pytest.approx(mutual_info_score(tenth, level) / np.log(n_levels))


def test_processes_without_a_dimension_count_nothing(codes, factors):
    one = latent_matching_score(codes["perfect"][:, :1], factors, return_matching=True)
    assert one.score == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(one.matched, [0, -1, -1, -1])


def test_equal_values_do_not_keep_the_order_of_the_file():
    labels = np.repeat(["a", "b", "c"], 200)
    assert latent_matching_score(np.zeros((600, 3)), labels, similarity="spn") < 0.1


def test_unknown_similarity(cells):
    with pytest.raises(ValueError, match="`similarity` must be"):
        latent_matching_score(*cells, similarity="bmmi")
