import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from scmimic.metrics import sap_score
from scmimic.metrics._factors import as_factors
from scmimic.metrics._sap import _predictability


def test_numbers_are_predicted_by_a_line(codes, factors):
    (step,) = as_factors({"step": factors["step"]}, 3000)
    expected = [np.corrcoef(column, factors["step"])[0, 1] ** 2 for column in codes["rotated"].T]
    np.testing.assert_allclose(_predictability(codes["rotated"], step), expected)
    assert _predictability(np.ones((3000, 1)), step) == 0


def test_two_levels_are_parted_by_the_best_threshold():
    rng = np.random.default_rng(0)
    side = rng.random(300) < 0.2
    latent = rng.normal(size=(300, 1)) - 1.5 * side[:, None]
    (factor,) = as_factors(side, 300)
    found = _predictability(latent, factor)[0]
    best = max(balanced_accuracy_score(side, sign * latent[:, 0] <= sign * t) for t in latent[:, 0] for sign in (1, -1))
    assert best - 0.02 < found <= best + 1e-12


def test_levels_without_order_take_several_thresholds():
    level = np.repeat(["b", "c", "a"], 50)
    latent = np.repeat([0.0, 1.0, 2.0], 50)[:, None]
    assert _predictability(latent, as_factors(level, 150)[0])[0] == pytest.approx(1)
    assert _predictability(np.zeros((150, 1)), as_factors(level, 150)[0])[0] == pytest.approx(1 / 3)


def test_constructed(codes, factors):
    perfect = sap_score(codes["perfect"], factors, return_per_factor=True)
    np.testing.assert_allclose(list(perfect.per_factor.values()), [0.5, 0.5, 1, 1], atol=0.03)
    assert sap_score(codes["duplicated"], factors) == 0
    assert sap_score(codes["noise"], factors) < 0.03
    assert sap_score(codes["rotated"], factors) < 0.35


def test_three_ordered_levels_are_predicted_by_a_line():
    rng = np.random.default_rng(0)
    dose = rng.integers(3, size=200)
    latent = dose[:, None] + rng.normal(size=(200, 1))
    (factor,) = as_factors({"dose": dose}, 200)
    assert _predictability(latent, factor)[0] == pytest.approx(np.corrcoef(latent[:, 0], dose)[0, 1] ** 2)
