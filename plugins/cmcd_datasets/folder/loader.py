"""The `folder` loader: reads the layout once, gives samples with paths. No picture is opened here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cmcd_core import PairedLoader

from .. import FolderOptions
from ..classes import label_names, target_classes
from ..lazy import RowSplit, row_splits
from ..roots import folder_of
from .metadata import read_metadata
from .pairing import read_folders
from .row import MASK, Found, Row, counted
from .settings import read_settings
from .splits import Shares, complete_splits
from .table import metadata_file


class FolderLoader(PairedLoader):
    """Pairs of files in a folder.

    Attributes:
        name: Of the data set: dataset.toml's, or the folder's.
        licence: dataset.toml's, or "".
    """

    def __init__(self, options: FolderOptions) -> None:
        root = folder_of(options, "folder")
        settings = read_settings(root, options)
        metadata = metadata_file(root)
        found = read_metadata(metadata, settings, options) if metadata else read_folders(root, settings)
        settings.check_modalities(found.modalities)
        shares = Shares(options.val_share, options.test_share)
        split_notes = complete_splits(
            found.rows, shares, options.split_seed, Path(found.source).name, settings.group_column
        )
        used = _used(found)
        labels = label_names(root, used) if found.listed and used else sorted(used)

        self.name = settings.name
        self.licence = settings.licence
        self.pairs = settings.pairs
        self.modalities = frozenset(name for row in found.rows for name in row.files)
        self.aligned = frozenset(settings.aligned) & self.modalities
        self.classes = target_classes(root, labels, [MASK] if any(row.mask for row in found.rows) else [])
        self.notes = [*found.notes, *split_notes, *_unpaired(found.rows, self.modalities), *self._mask_note(found.rows)]
        self._tables = settings.tables
        self._splits = row_splits(root, found.rows, labels, lambda _, file: file)

    def split(self, name: Literal["train", "val", "test"]) -> RowSplit:
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


def _used(found: Found) -> dict[str, str]:
    """Every label of the data -> where it stands first."""
    first: dict[str, Row] = {}
    for row in found.rows:
        if row.label is not None:
            first.setdefault(row.label, row)
    return {
        label: f"{found.source}, row {row.line}, {found.labels_from}"
        if row.line
        else f"{next(iter(row.files.values()))}, class folder"
        for label, row in first.items()
    }


def _unpaired(rows: Sequence[Row], modalities: frozenset[str]) -> list[str]:
    """How many rows have one modality alone."""
    alone = Counter(next(iter(row.files)) for row in rows if len(row.files) == 1)
    if not alone:
        return []
    if len(modalities) == 1:
        return [f"There are no pairs here: all {counted(len(rows), 'row')} have {min(modalities)} alone."]
    said = ", ".join(f"{counted(alone[name], 'row')} with {name} alone" for name in sorted(alone))
    return [f"Unpaired: {said}. They serve steps 1 and 3."]
