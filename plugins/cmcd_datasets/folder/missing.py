"""Files that the metadata names and that are not there: an error, or left out and listed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cmcd_core import DataError

from .. import FolderOptions
from .paths import FileIndex
from .row import MASK, Row, counted
from .table import FILE_NAME, Table


@dataclass(slots=True)
class _Missing:
    row: Row
    modality: str
    name: str
    trouble: str


def check_files(root: Path, table: Table, rows: list[Row], options: FolderOptions) -> list[str]:
    """Look every file up; "fail" stops at the first that is missing, "skip" drops its view and says so."""
    missing = _missing(root, rows)
    empty = next((row for row in rows if not row.files), None)
    if options.on_error == "fail":
        if missing:
            raise _missing_error(root, table, missing)
        if empty:
            hint = "Name at least one file there, remove the row, or leave it out by -o data.on_error=skip."
            raise DataError(f"{table.file}, row {empty.line}: no file of any modality.", hint)
        return []
    for m in missing:
        if m.modality == MASK:
            m.row.mask = None
        else:
            del m.row.files[m.modality]
    before = len(rows)
    rows[:] = [row for row in rows if row.files]
    if not rows:
        raise _missing_error(root, table, missing)
    notes = [f"Left out, row {m.row.line} of {table.file}: {m.modality} '{m.name}' {m.trouble}." for m in missing[:20]]
    if len(missing) > 20:
        notes.append(f"Left out, in all: {counted(len(missing), 'file')} that {table.file} names.")
    if before > len(rows):
        notes.append(f"Left out: {counted(before - len(rows), 'row')} of {table.file} without any file.")
    return notes


def _missing(root: Path, rows: list[Row]) -> list[_Missing]:
    index = FileIndex(root)
    found = []
    for row in rows:
        for modality, name in row.files.items():
            if trouble := index.trouble(name):
                found.append(_Missing(row, modality, name, trouble))
        if row.mask and (trouble := index.trouble(row.mask)):
            found.append(_Missing(row, MASK, row.mask, trouble))
    return found


def _missing_error(root: Path, table: Table, missing: list[_Missing]) -> DataError:
    if not missing:
        return DataError(f"{table.file}: no row names a file of any modality.", "Fill in the file names.")
    first = missing[0]
    others = len({m.name for m in missing})
    total = f" ({others} files are missing or unusable in all)" if others > 1 else ""
    hint = f"Paths are relative to {root}. Correct them, add the files, or leave them out by -o data.on_error=skip."
    if "\\" in first.name:
        hint = f"Write / instead of \\ between folders. {hint}"
    return table.error(first.row.line, first.modality + FILE_NAME, f"'{first.name}' {first.trouble}{total}.", hint)
