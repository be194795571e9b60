"""Confidence intervals of an AUC and of a proportion."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binomtest, norm, rankdata


def auc_interval(negative: np.ndarray, positive: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the AUC of two samples of scores (DeLong et al. 1988, equations 4 to 6), on the logit scale.

    On that scale it stays within 0 and 1. At an AUC of exactly 0 or 1 the variance is 0 and the interval a point.
    """
    n, m = len(negative), len(positive)
    ranks = rankdata(np.concatenate([negative, positive]))
    # fraction of the other sample that lies on the right side of each cell's score; ties count one half
    of_negative = 1 - (ranks[:n] - rankdata(negative)) / m
    of_positive = (ranks[n:] - rankdata(positive)) / n
    auc = float(of_positive.mean())
    if auc in (0.0, 1.0):
        return auc, auc
    if min(n, m) < 2:
        return np.nan, np.nan
    error = np.sqrt(of_negative.var(ddof=1) / n + of_positive.var(ddof=1) / m)
    half = norm.ppf((1 + level) / 2) * error / (auc * (1 - auc))
    return float(expit(logit(auc) - half)), float(expit(logit(auc) + half))


def proportion_interval(count: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of `count` out of `total`."""
    interval = binomtest(count, total).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
