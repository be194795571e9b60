import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from scmimic.metrics._chance import ACCURACY, AUC, ERROR, SPLIT_AUC


def test_spread_of_an_auc_is_that_of_scores_without_a_difference():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 2, 25))
    aucs = mannwhitneyu(scores[:, 0], scores[:, 1], axis=1).statistic / 25**2
    assert AUC.spread(25) == pytest.approx(aucs.std(), rel=0.05)
    assert not any(AUC.copied(auc, 25) for auc in aucs)
    # three tenths of the cells are judged
    assert SPLIT_AUC.luck(100) == AUC.luck(30)


def test_spread_of_shares_is_that_of_a_coin():
    rng = np.random.default_rng(0)
    wrong = rng.binomial(2 * 40, 0.5, size=20_000) / 80
    assert ACCURACY.spread(40) == pytest.approx(wrong.std(), rel=0.03)
    assert ERROR.luck(40) == pytest.approx(100 * ACCURACY.luck(40))


@pytest.mark.parametrize(("chance", "apart", "luck", "copies"), [(AUC, 0.8, 0.41, 0.02), (ERROR, 20.0, 58.0, 90.0)])
def test_loss_on_both_sides_of_chance(chance, apart, luck, copies):
    n = 210
    assert chance.loss(apart, n) == pytest.approx(abs(apart - chance.ideal))
    assert chance.loss(chance.ideal, n) == chance.loss(luck, n) == chance.copied(apart, n) == 0
    assert chance.loss(copies, n) == chance.copied(copies, n)
    assert chance.loss(copies, n) == pytest.approx(abs(copies - chance.ideal) - chance.luck(n))
    # no step where luck ends
    edge = chance.ideal - chance.sign * chance.luck(n)
    assert chance.loss(edge - chance.sign * 1e-9, n) == pytest.approx(0, abs=1e-8)
