"""What a test of real against synthetic cells gives where there is nothing to find, and how far luck strays from it.

Without a difference the AUC of n cells per side has the mean 1/2 and the variance (2n + 1) / (12 n^2) (Mann & Whitney
1947), and the share of wrong cells is that of 2n tosses of a coin: with 210 cells the standard deviations are 0.028 and
2.4 %. Cross-validated forests come close to both. On two halves of PBMC68K of 209 cells, with the same numbers of each
type, forests on genes had 0.487 +- 0.030 and 51.0 +- 2.2 % with 100 trees, 0.475 +- 0.034 and 52.1 +- 3.1 % with 1,000
(20 halvings). The means are beyond chance, since samples of equal composition are more alike than random ones.

Far beyond chance a test finds something again: cells that copy the compared ones. The copy of a held-out cell stands on
the other side, so that its twin's side is the wrong answer. Three tenths of copies give an AUC of 0.28, copies alone
0.02 and an error of 90 %. The allowance for luck leaves the forests above four standard deviations of room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Standard deviations by chance that luck is given.
_LUCK = 6.0


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
