"""Cells that are asked for and not made yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from scmimic.cells import AttributeValues
from scmimic.model.generation._output import CellDescription, Chunk


class Sampler(Protocol):
    """Who draws cells, block by block."""

    judged: bool
    """Whether cells may be rejected, so that no block can be made without those before it."""

    def who(self, asked: AttributeValues, shuffle: bool) -> Any:
        """Who the cells are; none is made yet."""

    def make(self, who: Any, numbers: Iterable[int] | None = None) -> Iterator[Chunk]:
        """The cells of all blocks, or of the blocks of these numbers."""

    def run(self, asked: AttributeValues, shuffle: bool) -> Iterator[Chunk]:
        """A cell for each row."""


@dataclass
class PlannedCells:
    """Cells that are asked for and not made yet."""

    about: CellDescription
    asked: AttributeValues
    """What is asked of each cell."""
    shuffle: bool
    """Whether their order is mixed."""
    sampler: Sampler
    device: str
    """Kind of device that they are made on: those of another differ by rounding."""

    @property
    def total(self) -> int:
        """Number of cells."""
        return self.asked.n

    def all(self) -> Iterator[Chunk]:
        """All cells, in order."""
        return self.sampler.run(self.asked, self.shuffle)

    def blocks(self, numbers: Iterable[int]) -> Iterator[Chunk]:
        """The blocks of these numbers, without those before them; not where cells may be rejected."""
        return self.sampler.make(self._who, numbers)

    @cached_property
    def _who(self) -> Any:
        return self.sampler.who(self.asked, self.shuffle)
