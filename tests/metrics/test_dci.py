import numpy as np
import pytest
from scipy.stats import entropy

from scmimic.metrics import dci
from scmimic.metrics._dci import _concentration


@pytest.fixture(scope="module")
def results(codes, factors):
    return {name: dci(latent, factors) for name, latent in codes.items()}


def test_constructed(results):
    perfect = results["perfect"]
    assert min(perfect.disentanglement, perfect.completeness, perfect.informativeness) > 0.98
    # two dimensions share the importance of each factor, of eight in all
    assert results["duplicated"].completeness == pytest.approx(1 - np.log(2) / np.log(8), abs=0.05)
    assert results["duplicated"].disentanglement > 0.98
    rotated = results["rotated"]
    assert max(rotated.disentanglement, rotated.completeness) < 0.6
    assert rotated.informativeness > 0.75
    noise = results["noise"]
    assert max(noise.disentanglement, noise.completeness) < 0.1
    assert noise.informativeness == pytest.approx(np.mean([0.5, 0.5, 0.2, 0.25]), abs=0.05)


def test_summaries_follow_from_the_importances(results):
    result = results["rotated"]
    r = result.importance
    np.testing.assert_allclose(r.sum(axis=0), 1)
    per_latent = [1 - entropy(row, base=4) for row in r]
    np.testing.assert_allclose(result.disentanglement_per_latent, per_latent)
    assert result.disentanglement == pytest.approx(np.average(per_latent, weights=r.sum(axis=1)))
    per_factor = [1 - entropy(column, base=5) for column in r.T]
    np.testing.assert_allclose(list(result.completeness_per_factor.values()), per_factor)
    assert result.completeness == pytest.approx(np.mean(per_factor))
    assert result.informativeness == pytest.approx(np.mean(list(result.informativeness_per_factor.values())))


def test_concentration():
    rows = np.array([[1.0, 0, 0], [1, 1, 1], [0, 0, 0], [2, 2, 0]])
    np.testing.assert_allclose(_concentration(rows), [1, 0, 0, 1 - np.log(2) / np.log(3)], atol=1e-12)
    np.testing.assert_allclose(_concentration(np.ones((2, 1))), [1, 1])


def test_seed_and_bad_input(codes, factors):
    few = {"max_cells": 600, "n_trees": 5}
    a, b, c = (dci(codes["rotated"], factors, seed=s, **few).completeness for s in (0, 0, 1))
    assert a == b != c
    with pytest.raises(ValueError, match="`test_fraction` must be"):
        dci(codes["perfect"], factors, test_fraction=0)


def test_constant_dimensions_know_nothing():
    """No forest can split on them: no importance, and no 0 / 0."""
    side = np.tile([0, 1], 200)
    result = dci(np.ones((400, 3)), {"side": side, "third": np.arange(400) % 3})
    assert (result.disentanglement, result.completeness) == (0, 0)
    assert (result.importance == 0).all()
    # numbers in a line of print: no arrays
    assert "array" not in repr(result)
