"""What a test of real against synthetic cells gives where there is nothing to find, and how far luck strays from it.

Without a difference the AUC of n cells per side has the mean 1/2 and the variance (2n + 1) / (12 n^2) (Mann & Whitney
1947), and the share of wrong cells is that of 2n tosses of a coin. Cross-validated forests on real cells keep to both:
on 209 + 209 cells of two halves of PBMC68K, AUCs have a standard deviation of 0.028 and errors of 2.4 %.

Beyond chance a test finds something again: cells that copy the compared ones. The copy of a held-out cell stands on
the other side, so that its twin's side is the wrong answer. A fifth of copies gives an AUC of 0.36, copies alone give
0.02 and an error of 90 %. Two samples with the same number of cells of each type are a little more alike than two
random ones (an AUC of 0.485 in the halves above): the allowance for luck holds that too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Standard deviations that luck is given.
_LUCK = 4.0


@dataclass(frozen=True)
class Chance:
    """Values that a test takes by chance alone."""

    ideal: float
    """What guessing gives."""
    sign: int
    """1 where values above the ideal tell the sides apart, -1 where values below do."""
    spread: Callable[[float], float]
    """Standard deviation by chance, of the number of cells per side that are judged."""
    judged: float = 1.0
    """Share of the cells that are judged."""

    def luck(self, n: float) -> float:
        """How far beyond the ideal luck may lead, with `n` cells per side."""
        return _LUCK * self.spread(max(self.judged * n, 1))

    def copied(self, value: float, n: float) -> float:
        """By how much `value` lies beyond the ideal and beyond what luck explains; 0 for all others."""
        return max(0.0, -self.sign * (value - self.ideal) - self.luck(n))

    def loss(self, value: float, n: float) -> float:
        """How far `value` is from chance: what tells the sides apart, or what is copied. What luck explains costs 0."""
        return max(0.0, self.sign * (value - self.ideal)) + self.copied(value, n)


def _auc_spread(n: float) -> float:
    return float(np.sqrt((2 * n + 1) / 12) / n)


def _share_spread(n: float) -> float:
    return float(0.5 / np.sqrt(2 * n))


def _percent_spread(n: float) -> float:
    return 100 * _share_spread(n)


AUC = Chance(0.5, 1, _auc_spread)
SPLIT_AUC = Chance(0.5, 1, _auc_spread, judged=0.3)
ERROR = Chance(50.0, -1, _percent_spread)
ACCURACY = Chance(0.5, 1, _share_spread)
