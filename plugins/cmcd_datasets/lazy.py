"""Samples of a split, made on access: a list of them costs seconds and memory where there are many."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from cmcd_core import Sample


class LazySamples(Sequence[Sample]):
    """A sequence whose items are made by :meth:`sample`; indices may be negative, slices give lists."""

    @abstractmethod
    def sample(self, row: int) -> Sample:
        """The sample at ``row``, from 0 to the length."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        rows = range(len(self))[index]  # IndexError beyond the ends
        return self.sample(rows) if isinstance(rows, int) else [self.sample(row) for row in rows]
