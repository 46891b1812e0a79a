"""What loaders of public data sets share: rows in, samples out; each adds how its rows are found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cmcd_core import DataError, PairedLoader

from .folder.row import LABEL, MASK, Row
from .folder.splits import Shares, complete_splits
from .lazy import RowSplit, row_splits
from .options import SplitOptions


class KnownLoader(PairedLoader):
    """A public data set.

    Attributes:
        name: Of the data set.
        expected: Its layout in a line, for who has another.
    """

    name: str
    expected: str

    def _fill(
        self,
        root: Path,
        rows: Sequence[Row],
        *,
        labels: Sequence[str] | None = None,
        mask_classes: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Take over rows that all have a split.

        Args:
            labels: Class names in the order of their ids; None: those of the rows, sorted.
        """
        if not rows:
            raise DataError(f"{root} holds no files of {self.name}.", f"Expected {self.expected}.")
        names = sorted({row.label for row in rows if row.label is not None}) if labels is None else list(labels)
        self.modalities = frozenset(name for row in rows for name in row.files)
        self.classes = ({LABEL: names} if names else {}) | ({MASK: list(mask_classes)} if mask_classes else {})
        self.notes = list(notes)
        self._splits = row_splits(root, rows, names, self.read)

    def read(self, field: str, file: Path) -> Any:
        """What a sample holds of one file: its path, unless its layout needs decoding of its own."""
        return file

    def split(self, name: Literal["train", "val", "test"]) -> RowSplit:
        return self._splits[name]


def split_rows(rows: list[Row], options: SplitOptions, name: str, by: str | None = None) -> list[str]:
    """Fill in the splits that the data set does not bring; returns sentences that say what was done."""
    shares = Shares(options.val_share, options.test_share)
    return complete_splits(rows, shares, options.split_seed, name, by)


def files_by_class(folder: Path, suffixes: Sequence[str]) -> list[tuple[str, Path]]:
    """(class, file) of every CLASS/FILE below, sorted; hidden files are none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not there.", "Is the data set complete, and unpacked?")
    return [
        (inside.name, file)
        for inside in sorted(folder.iterdir())
        if inside.is_dir() and not inside.name.startswith(".")
        for file in sorted(inside.iterdir())
        if file.suffix.lower() in suffixes and not file.name.startswith(".")
    ]


def lines_of(file: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error


PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".opus")
