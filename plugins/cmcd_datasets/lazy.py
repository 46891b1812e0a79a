"""Samples of a split, made on access: a list of them costs seconds and memory where there are many."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from cmcd_core import Sample

from .folder.row import LABEL, MASK, SPLITS, Row

Read = Callable[[str, Path], Any]
"""(field, file) -> what a sample holds of it."""


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


class RowSplit(LazySamples):
    """Samples of one split, from rows."""

    def __init__(self, root: Path, rows: Sequence[Row], ids: Mapping[str, int], read: Read) -> None:
        self._root = root
        self._rows = rows
        self._ids = ids
        self._read = read

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self, row: int) -> Sample:
        """The sample of one row."""
        found = self._rows[row]
        targets: dict[str, Any] = {} if found.label is None else {LABEL: self._ids[found.label]}
        if found.mask is not None:
            targets[MASK] = self._read(MASK, self._root / found.mask)
        views = {name: self._read(name, self._root / file) for name, file in found.files.items()}
        return Sample(key=found.key, views=views, targets=targets, weight=found.weight)


def row_splits(root: Path, rows: Sequence[Row], labels: Sequence[str], read: Read) -> dict[str, RowSplit]:
    """Split -> its samples; ``labels`` are the names of the classes, in the order of their ids."""
    ids = {name: number for number, name in enumerate(labels)}
    return {split: RowSplit(root, [row for row in rows if row.split == split], ids, read) for split in SPLITS}
