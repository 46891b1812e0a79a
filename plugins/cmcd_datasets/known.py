"""What loaders of public data sets share: rows in, samples out; each adds how its rows are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cmcd_core import ConfigError, DataError, PairedLoader, Sample
from cmcd_core.plugin import LoaderOptions

from .folder.row import MASK, SPLITS, Row
from .folder.splits import Shares, complete_splits
from .lazy import LazySamples
from .options import SplitOptions

Read = Callable[[str, Path], Any]
"""(field, file) -> what a sample holds of it."""


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
        targets: dict[str, Any] = {} if found.label is None else {"label": self._ids[found.label]}
        if found.mask is not None:
            targets[MASK] = self._read(MASK, self._root / found.mask)
        views = {name: self._read(name, self._root / file) for name, file in found.files.items()}
        return Sample(key=found.key, views=views, targets=targets, weight=found.weight)


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
        ids = {name: number for number, name in enumerate(names)}
        self.modalities = frozenset(name for row in rows for name in row.files)
        self.classes = ({"label": names} if names else {}) | ({MASK: list(mask_classes)} if mask_classes else {})
        self.notes = list(notes)
        self._splits = {
            split: RowSplit(root, [row for row in rows if row.split == split], ids, self.read) for split in SPLITS
        }

    def read(self, field: str, file: Path) -> Any:
        """What a sample holds of one file: its path, unless its layout needs decoding of its own."""
        return file

    def split(self, name: Literal["train", "val", "test"]) -> RowSplit:
        return self._splits[name]


def root_of(options: LoaderOptions, name: str) -> Path:
    """The folder or file that the user named.

    Raises:
        ConfigError, DataError: None was named, or it is not there.
    """
    if options.root is None:
        raise ConfigError(f"The {name} loader needs a folder.", f"Name it: --data {name}:PATH.")
    root = options.root.expanduser().absolute()
    if not root.exists():
        raise DataError(f"{root} does not exist.", "Check the path that --data (data.root) names.")
    return root


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
