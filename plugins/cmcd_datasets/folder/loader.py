"""The `folder` loader: reads the layout once, gives samples with paths. No picture is opened here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cmcd_core import ConfigError, DataError, PairedLoader, Sample

from .. import FolderOptions
from ..lazy import LazySamples
from .metadata import read_metadata
from .pairing import read_folders
from .row import MASK, SPLITS, Found, Row, counted, listing
from .settings import read_settings
from .splits import Shares, complete_splits
from .table import metadata_file
from .text import nearest, read_names

CLASSES = "classes.txt"
MASK_CLASSES = "mask_classes.txt"


class FolderSplit(LazySamples):
    """Samples of one split, from the rows of the layout."""

    def __init__(self, root: Path, rows: Sequence[Row], ids: Mapping[str, int]) -> None:
        self._root = root
        self._rows = rows
        self._ids = ids

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self, row: int) -> Sample:
        """The sample of one row of the layout."""
        found = self._rows[row]
        views = {name: self._root / file for name, file in found.files.items()}
        targets: dict[str, Any] = {}
        if found.label is not None:
            targets["label"] = self._ids[found.label]
        if found.mask is not None:
            targets[MASK] = self._root / found.mask
        return Sample(key=found.key, views=views, targets=targets, weight=found.weight)


class FolderLoader(PairedLoader):
    """Pairs of files in a folder.

    Attributes:
        name: Of the data set: dataset.toml's, or the folder's.
        licence: dataset.toml's, or "".
    """

    def __init__(self, options: FolderOptions) -> None:
        self._root = _root(options)
        settings = read_settings(self._root, options)
        metadata = metadata_file(self._root)
        found = read_metadata(metadata, settings, options) if metadata else read_folders(self._root, settings)
        settings.check_modalities(found.modalities)
        shares = Shares(options.val_share, options.test_share)
        split_notes = complete_splits(
            found.rows, shares, options.split_seed, Path(found.source).name, settings.group_column
        )
        labels = _label_names(self._root, found)

        self.name = settings.name
        self.licence = settings.licence
        self.pairs = settings.pairs
        self.modalities = frozenset(name for row in found.rows for name in row.files)
        self.aligned = frozenset(settings.aligned) & self.modalities
        self.classes = _classes(self._root, labels, found.rows)
        self.notes = [*found.notes, *split_notes, *_unpaired(found.rows, self.modalities), *self._mask_note(found.rows)]
        self._tables = settings.tables
        ids = {name: index for index, name in enumerate(labels)}
        self._splits = {
            name: FolderSplit(self._root, [row for row in found.rows if row.split == name], ids) for name in SPLITS
        }

    def split(self, name: Literal["train", "val", "test"]) -> FolderSplit:
        return self._splits[name]

    def modality_options(self, modality: str) -> Mapping[str, Any]:
        return self._tables.get(modality, {})

    def _mask_note(self, rows: Sequence[Row]) -> list[str]:
        if self.aligned or not any(row.mask for row in rows):
            return []
        return [
            "There are masks, but no modality is said to lie on their pixel grid: "
            'if one does, write aligned = ["image"] (and the others) into dataset.toml, '
            "or add -o 'data.aligned=[\"image\"]'."
        ]


def _root(options: FolderOptions) -> Path:
    if options.root is None:
        raise ConfigError("The folder loader needs a folder.", "Name it: --data folder:PATH, or data.root in the TOML.")
    root = options.root.expanduser().absolute()
    if root.is_dir():
        return root
    if root.name.startswith("metadata.") and root.is_file():
        raise DataError(f"{root} is a file; expected the folder it lies in.", f"Write --data {root.parent}.")
    said = "is a file; expected a folder" if root.exists() else "does not exist"
    raise DataError(f"{root} {said}.", "Check the path that --data (data.root) names.")


def _label_names(root: Path, found: Found) -> list[str]:
    """Class names in the order of their ids; every label of the data is one of them."""
    listed = read_names(root / CLASSES) if found.listed else []
    used = {row.label for row in found.rows if row.label is not None}
    if not listed:
        return sorted(used)
    known = set(listed)
    if used <= known:
        return listed if used else []
    row = next(row for row in found.rows if row.label is not None and row.label not in known)
    where = f"{found.source}, row {row.line}, {found.labels_from}" if row.line else _first(row)
    problem = f"'{row.label}' is not in {CLASSES}; expected one of its {len(listed)} classes: {listing(listed)}"
    hint = f"{nearest(row.label or '', listed)}Correct the label, or add a row '{row.label}' to {CLASSES}."
    raise DataError(f"{where}: {problem}.", hint)


def _first(row: Row) -> str:
    return f"{next(iter(row.files.values()))}, class folder"


def _classes(root: Path, labels: list[str], rows: Sequence[Row]) -> dict[str, Sequence[str]]:
    classes: dict[str, Sequence[str]] = {"label": labels} if labels else {}
    if any(row.mask for row in rows) and (names := read_names(root / MASK_CLASSES)):
        classes[MASK] = names
    return classes


def _unpaired(rows: Sequence[Row], modalities: frozenset[str]) -> list[str]:
    """How many rows have one modality alone."""
    alone = Counter(next(iter(row.files)) for row in rows if len(row.files) == 1)
    if not alone:
        return []
    if len(modalities) == 1:
        return [f"There are no pairs here: all {counted(len(rows), 'row')} have {min(modalities)} alone."]
    said = ", ".join(f"{counted(alone[name], 'row')} with {name} alone" for name in sorted(alone))
    return [f"Unpaired: {said}. They serve steps 1 and 3."]
