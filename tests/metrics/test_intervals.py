import warnings

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from scmimic.metrics._intervals import auc_interval, proportion_interval


def loop_variance(negative, positive):
    """DeLong's variance from all pairs of scores."""
    wins = np.array([[(p > q) + 0.5 * (p == q) for q in negative] for p in positive])
    return wins.mean(), wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)


def test_interval_is_delongs_on_the_logit_scale():
    rng = np.random.default_rng(0)
    negative, positive = rng.normal(size=35).round(1), rng.normal(0.8, size=50).round(1)
    auc, variance = loop_variance(negative, positive)
    assert auc == pytest.approx(roc_auc_score([0] * 35 + [1] * 50, np.r_[negative, positive]))
    low, high = auc_interval(negative, positive)
    assert logit(low) + logit(high) == pytest.approx(2 * logit(auc))
    half = (logit(high) - logit(low)) / 2
    assert half == pytest.approx(norm.ppf(0.975) * np.sqrt(variance) / (auc * (1 - auc)))
    assert 0 < low < auc < high < 1


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_interval_holds_the_true_auc_in_95_of_100_samples(shift):
    rng = np.random.default_rng(0)
    true = norm.cdf(shift / np.sqrt(2))
    inside = 0
    for _ in range(400):
        low, high = auc_interval(rng.normal(size=60), rng.normal(shift, size=60))
        inside += low <= true <= high
    # the standard error of 95 % in 400 is 1.1 %
    assert abs(inside / 400 - 0.95) < 0.035


def test_ends_of_the_scale():
    assert auc_interval(np.zeros(5), np.ones(5)) == (1, 1)
    assert auc_interval(np.ones(5), np.zeros(5)) == (0, 0)
    assert auc_interval(np.full(5, 0.5), np.full(5, 0.5)) == (0.5, 0.5)
    assert np.isnan(auc_interval(np.array([0.0]), np.array([-1.0, 1.0]))).all()


@pytest.mark.parametrize(("count", "total"), [(0, 10), (7, 20), (20, 20)])
def test_proportion_is_wilsons_formula(count, total):
    z, p = norm.ppf(0.975), count / total
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    assert proportion_interval(count, total) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize("sizes", [(1, 5), (5, 1), (1, 1)])
def test_one_score_has_no_interval(sizes):
    """A variance needs two; the user gets no warning of numpy's."""
    rng = np.random.default_rng(0)
    negative, positive = (rng.normal(size=n) for n in sizes)
    negative[0], positive[0] = 0.1, 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(auc_interval(negative, positive)).all()


def test_two_scores_a_side_are_enough():
    negative, positive = np.array([0.1, 0.5]), np.array([0.3, 0.9])
    auc, variance = loop_variance(negative, positive)
    low, high = auc_interval(negative, positive)
    half = norm.ppf(0.975) * np.sqrt(variance) / (auc * (1 - auc))
    assert (logit(low), logit(high)) == pytest.approx((logit(auc) - half, logit(auc) + half))
