"""What arguments may be: one description for each kind of value, which checks values and says in words what it takes.

What is no number of the range, no truth value or none of the choices raises ValueError, whatever else it is. Where
other things stand (the name of a column, a list, a dict), a value of another kind raises TypeError. Every message names
the argument.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np

_LONGEST_REPR = 80


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """A kind of value.

    Attributes
    ----------
    optional
        Whether None may stand in its place.
    """

    optional: bool = False

    @property
    def or_none(self) -> Self:
        """The same kind, or None."""
        return replace(self, optional=True)

    @abstractmethod
    def fits(self, value: Any) -> bool:
        """Whether a value is of this kind at all; what is not raises TypeError."""

    def within(self, value: Any) -> bool:
        """Whether a value of this kind is in range."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """What a value must be."""

    def holds(self, value: Any) -> bool:
        """Whether `value` may stand there."""
        return self.optional if value is None else self.fits(value) and self.within(value)

    def check(self, /, **values: Any) -> None:
        """Raise TypeError or ValueError for the first of the named values that may not stand there."""
        for name, value in values.items():
            if not self.holds(value):
                error = ValueError if self.fits(value) else TypeError
                raise error(self.complain(name, value))

    def complain(self, name: str, value: Any) -> str:
        """What is said of a value that may not stand there."""
        if isinstance(value, set | frozenset):
            return (
                f"`{name}` is a set, whose order changes from one run of Python to the next: give a list, such as "
                f"`sorted({name})`."
            )
        return f"`{name}` must be {self}, not {shown(value)}."

    def __str__(self) -> str:
        return self.describe() + (", or None" if self.optional else "")


@dataclass(frozen=True)
class Range(Kind):
    """Numbers.

    Attributes
    ----------
    low, high
        Ends of the range.
    whole
        Whole numbers alone.
    open_low, open_high
        Whether an end is left out.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    open_low: bool = False
    open_high: bool = False

    def fits(self, value: Any) -> bool:
        """Whatever is no number of the range is a wrong one."""
        return True

    def within(self, value: Any) -> bool:
        """Whether it is a number of the range, and one that arrays can hold; truth values are no numbers."""
        value = _plain(value)
        if not _is_number(value, whole=self.whole):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        largest = 2**63 - 1 if self.whole else sys.float_info.max
        return bool(above and below and -largest <= value <= largest)

    def describe(self) -> str:
        """A number, with the ends of its range."""
        ends = []
        if self.low > -math.inf:
            ends.append(f"{'above' if self.open_low else 'at least'} {_number(self.low)}")
        if self.high < math.inf:
            ends.append(f"{'below' if self.open_high else 'at most'} {_number(self.high)}")
        return f"a {'whole ' if self.whole else ''}number {' and '.join(ends)}".rstrip()


@dataclass(frozen=True)
class PairRange(Range):
    """Pairs of numbers that both lie in the range.

    Attributes
    ----------
    growing
        Whether the second must be larger.
    """

    growing: bool = False

    def within(self, value: Any) -> bool:
        """Whether it is a list, a tuple or an array of two numbers of the range."""
        if not isinstance(value, list | tuple | np.ndarray) or getattr(value, "ndim", 1) != 1 or len(value) != 2:
            return False
        first, second = value
        return super().within(first) and super().within(second) and not (self.growing and first >= second)

    def describe(self) -> str:
        """A pair, with the ends of their range."""
        return f"a pair{', the first smaller' if self.growing else ''}, each {super().describe()}"


@dataclass(frozen=True)
class Dimension(Range):
    """A latent dimension: its name, of which ``"Z1"`` is the first, or its position, of which 0 is the first."""

    def fits(self, value: Any) -> bool:
        """Whether it is text or a whole number."""
        return isinstance(value, str) or super().fits(value)

    def within(self, value: Any) -> bool:
        """Whether it may be a name, or is no negative number."""
        return re.fullmatch(r"Z[1-9]\d*", value) is not None if isinstance(value, str) else super().within(value)

    def describe(self) -> str:
        """Both ways to say it."""
        return "the name of a latent dimension (the first is 'Z1') or its position (the first is 0)"


@dataclass(frozen=True)
class Threads(Range):
    """Numbers of threads as joblib counts them: -1 are all cores, -2 all but one."""

    whole: bool = True

    def within(self, value: Any) -> bool:
        """Whether it is a whole number other than 0."""
        return super().within(value) and value != 0

    def describe(self) -> str:
        """A number of threads."""
        return "a whole number other than 0 (-1: all cores)"


@dataclass(frozen=True)
class Flag(Kind):
    """True and False, of Python or NumPy; not what is merely taken for them, such as text or 1."""

    def fits(self, value: Any) -> bool:
        """Whatever is no truth value is a wrong one."""
        return True

    def within(self, value: Any) -> bool:
        """Whether it is a truth value."""
        return isinstance(value, bool | np.bool_)

    def describe(self) -> str:
        """The two truth values."""
        return "True or False"


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few values.

    Attributes
    ----------
    values
        All of them.
    """

    values: tuple[Any, ...] = ()

    def fits(self, value: Any) -> bool:
        """Whatever is no choice is a wrong one."""
        return True

    def within(self, value: Any) -> bool:
        """Whether it is one of the values, of their type."""
        return any(type(value) is type(known) and value == known for known in map(_plain, self.values))

    def holds(self, value: Any) -> bool:
        """Whether `value` may stand there; NumPy's text and numbers count as Python's."""
        return super().holds(_plain(value))

    def describe(self) -> str:
        """All of the values."""
        return alternatives(self.values)


@dataclass(frozen=True)
class Text(Kind):
    """Text, such as the name of a column, a layer or a key.

    Attributes
    ----------
    what
        What it is called.
    """

    what: str = "text"

    def fits(self, value: Any) -> bool:
        """Whether it is text."""
        return isinstance(value, str)

    def describe(self) -> str:
        """What it is called."""
        return self.what


@dataclass(frozen=True)
class FilePath(Kind):
    """Paths of files and folders."""

    def fits(self, value: Any) -> bool:
        """Whether it is text or a path."""
        return isinstance(value, str | os.PathLike)

    def describe(self) -> str:
        """A path."""
        return "a path, as text or `pathlib.Path`"


@dataclass(frozen=True)
class Listed(Kind):
    """Several values in an order: a list, a tuple, an array; not text, not a dict, and no set.

    The order of a set is another one in every process of Python, so that the same seed would not give the same cells.

    Attributes
    ----------
    of
        What each must be.
    least, most
        How many there must be, and may be.
    alone
        Whether one value may stand for a list of it.
    """

    of: Kind
    least: int = 1
    most: int | None = None
    alone: bool = False

    def fits(self, value: Any) -> bool:
        """Whether it is a collection with an order, or one value alone where that may be."""
        return self._is_list(value) or (self.alone and not isinstance(value, set | frozenset) and self.of.fits(value))

    def within(self, value: Any) -> bool:
        """Whether there are enough, all as they must be."""
        if self.alone and self.of.holds(value):
            return True
        if not self._is_list(value):
            return False
        most = len(value) if self.most is None else self.most
        return self.least <= len(value) <= most and all(map(self.of.holds, value))

    @staticmethod
    def _is_list(value: Any) -> bool:
        unlisted = str | bytes | set | frozenset | Mapping
        return isinstance(value, Collection) and not isinstance(value, unlisted) and getattr(value, "ndim", 1) > 0

    def describe(self) -> str:
        """What each must be."""
        number = f" of {self.least}" if self.least == self.most else f" of at least {self.least}" if self.least else ""
        return f"{self.of}, or a list{number} of such" if self.alone else f"a list{number}, each {self.of}"

    def complain(self, name: str, value: Any) -> str:
        """As for other kinds; a list without anything needs no description of what is in it."""
        if self._is_list(value) and len(value) == 0:
            return f"`{name}` is empty: give at least one."
        return super().complain(name, value)


@dataclass(frozen=True)
class Ordered(Kind):
    """Anything but a set, whose order is another one in every process of Python."""

    def fits(self, value: Any) -> bool:
        """Whether it is no set."""
        return not isinstance(value, set | frozenset)

    def describe(self) -> str:
        """What has an order."""
        return "in order, as a list or a dict is"


@dataclass(frozen=True)
class Settings(Kind):
    """Arguments by name."""

    def fits(self, value: Any) -> bool:
        """Whether it is a dict whose keys are text."""
        return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)

    def describe(self) -> str:
        """A dict."""
        return "a dict from the names of settings to their values"


@dataclass(frozen=True)
class Label(Kind):
    """What can stand for a type or a batch: text, a number or a truth value."""

    def fits(self, value: Any) -> bool:
        """Whether it is one of these."""
        return isinstance(value, str | bool | np.bool_ | Real) and value == value

    def describe(self) -> str:
        """What a label is."""
        return "text, a number or a truth value, as in the column"


@dataclass(frozen=True)
class Instance(Kind):
    """Objects of a class.

    Attributes
    ----------
    types
        The class, or several.
    """

    types: tuple[type, ...] = ()

    def fits(self, value: Any) -> bool:
        """Whether it is an object of one of the classes."""
        return isinstance(value, self.types)

    def describe(self) -> str:
        """The names of the classes."""
        return f"of type {' or '.join(kind.__name__ for kind in self.types)}"

    def complain(self, name: str, value: Any) -> str:
        """As for other kinds; of an object the type says more than its content."""
        is_simple = value is None or isinstance(value, str | Real | os.PathLike)
        return f"`{name}` must be {self}, not {shown(value) if is_simple else type(value).__name__}."


COUNT = Range(1, whole=True)
COUNT_OR_NONE = COUNT.or_none
SEVERAL = Range(2, whole=True)
NATURAL = Range(0, whole=True)
SEED = Range(0, 2**32 - 1, whole=True)
"""What scikit-learn, NumPy's old generators and ``scvi.settings.seed`` take."""
SEED_OR_NONE = SEED.or_none
POSITIVE = Range(0, open_low=True)
NON_NEGATIVE = Range(0)
NUMBER = Range()
PROBABILITY = Range(0, 1)
SHARE = Range(0, 1, open_high=True)
PART = Range(0, 1, open_low=True, open_high=True)
"""A part of the cells that leaves some on both sides."""
QUANTILES = PairRange(0, 1, growing=True)
SIZE = PairRange(0, open_low=True)
"""Width and height."""
THREADS = Threads()
FLAG = Flag()
TEXT = Text()
LABEL = Label()
COLUMN = Text("the name of a column")
LAYER = Text("the name of a layer", optional=True)
KEY = Text("the name of a key")
PATH = FilePath()
SETTINGS = Settings()
ORDERED = Ordered(optional=True)
COLUMNS = Listed(COLUMN, alone=True)
DIMENSIONS = Listed(Dimension(0, whole=True), alone=True)
ANY_DIMENSIONS = Listed(Dimension(0, whole=True), least=0, alone=True)


def check_arguments(values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    """Check the values, such as the local variables of a function that begins, that have a kind in a table."""
    for name, value in values.items():
        if name in kinds:
            kinds[name].check(**{name: value})


def check_widths(name: str, widths: Any) -> tuple[int, ...]:
    """The widths of hidden layers, of which there is at least one."""
    if isinstance(widths, Integral):
        raise ValueError(f"`{name}` must list the width of each hidden layer: `({widths},)` for one.")
    Listed(COUNT).check(**{name: widths})
    return tuple(int(width) for width in widths)


def parameter_names(*functions: Callable[..., Any]) -> list[str]:
    """Names of all arguments of these functions or constructors, each once, without further keywords."""
    parameters = (p for function in functions for p in inspect.signature(function).parameters.values())
    return list(dict.fromkeys(p.name for p in parameters if p.kind is not p.VAR_KEYWORD))


def check_keywords(
    given: Iterable[str],
    known: Iterable[str],
    *,
    what: str,
    hints: Mapping[str, str] | None = None,
) -> None:
    """Raise TypeError for the first keyword that `what` does not take, and say which is meant.

    Parameters
    ----------
    given
        Names of the keywords.
    known
        Those that there are; the first are the likelier ones.
    what
        What does not know them.
    hints
        What to write in the place of keywords that people bring from elsewhere.
    """
    known, hints = list(known), hints or {}
    for name in given:
        if name in known:
            continue
        if name in hints:
            raise TypeError(f"{what} does not take `{name}`: {hints[name]}.")
        close = [other for other in known if name in other.split("_") or other in name.split("_")]
        close += difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        meant = f"is `{close[0]}` meant?" if close else f"it takes {', '.join(known)}."
        raise TypeError(f"{what} does not take `{name}`: {meant}")


def check_rows(name: str, rows: Any, n: int) -> np.ndarray:
    """Row numbers below `n` from row numbers (negative ones count from the end), a mask or a slice; None are all."""
    if rows is None:
        return np.arange(n)
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    chosen = np.asarray(rows)
    if chosen.size == 0:
        return np.arange(0)
    if chosen.ndim != 1 or chosen.dtype.kind not in "biu" or isinstance(rows, set | frozenset | Mapping):
        raise TypeError(f"`{name}` must be a list of row numbers or a mask, not {shown(rows)}.")
    if chosen.dtype.kind == "b" and len(chosen) != n:
        raise ValueError(f"`{name}` is a mask of {len(chosen)} rows, but there are {n}.")
    if chosen.dtype.kind != "b" and (chosen.min() < -n or chosen.max() >= n):
        raise ValueError(f"`{name}` must be row numbers below {n}, not {chosen.min()} to {chosen.max()}.")
    return np.arange(n)[chosen]


def alternatives(values: Iterable[Any]) -> str:
    """Values as a sentence lists them: ``'a', 'b' or 'c'``."""
    *first, last = map(repr, values)
    return f"{', '.join(first)} or {last}" if first else last


def shown(value: Any) -> str:
    """A value as a message shows it: in one line, and not all of what is large."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_REPR else f"{text[: _LONGEST_REPR - 3]}..."


def _is_number(value: Any, *, whole: bool) -> bool:
    return isinstance(value, Integral if whole else Real) and not isinstance(value, bool)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
