"""Ranges that arguments must lie in, checked by tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers that an argument may have.

    Attributes
    ----------
    low, high
        Its ends.
    whole
        Whole numbers alone.
    open_low, open_high
        Whether an end is left out.
    optional
        Whether None may stand in its place.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    open_low: bool = False
    open_high: bool = False
    optional: bool = False

    def holds(self, value: Any) -> bool:
        """Whether `value` lies in the range."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        ends = []
        if self.low > -math.inf:
            ends.append(f"{'above' if self.open_low else 'at least'} {self.low:g}")
        if self.high < math.inf:
            ends.append(f"{'below' if self.open_high else 'at most'} {self.high:g}")
        kind = f"a {'whole ' if self.whole else ''}number"
        return f"{kind} {' and '.join(ends)}".rstrip() + (", or None" if self.optional else "")


class PairRange(Range):
    """Pairs of numbers that both lie in the range."""

    def holds(self, value: Any) -> bool:
        """Whether `value` is such a pair."""
        return isinstance(value, Sequence) and len(value) == 2 and all(super(PairRange, self).holds(v) for v in value)

    def __str__(self) -> str:
        return f"a pair, each {super().__str__()}"


COUNT = Range(1, whole=True)
COUNT_OR_NONE = Range(1, whole=True, optional=True)
NATURAL = Range(0, whole=True)
SEED = Range(0, whole=True, optional=True)
POSITIVE = Range(0, open_low=True)
NON_NEGATIVE = Range(0)
SHARE = Range(0, 1, open_high=True)


def check_ranges(values: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Raise ValueError for the first of `values` outside its range; those without one are not looked at."""
    for name, value in values.items():
        if name in ranges and not ranges[name].holds(value):
            raise ValueError(f"`{name}` must be {ranges[name]}, not {value!r}.")


def check_widths(name: str, widths: Any) -> tuple[int, ...]:
    """The widths of hidden layers, of which there is at least one."""
    if isinstance(widths, Integral):
        raise ValueError(f"`{name}` must list the width of each hidden layer: `({widths},)` for one.")
    widths = tuple(widths)
    if not widths or not all(COUNT.holds(width) for width in widths):
        raise ValueError(f"`{name}` must list one or several whole numbers of at least 1, not {widths}.")
    return tuple(int(width) for width in widths)
