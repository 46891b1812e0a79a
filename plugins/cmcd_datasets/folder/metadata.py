"""The layout with metadata: a table's rows, checked cell by cell."""

from __future__ import annotations

import math
import re
from pathlib import Path

from cmcd_core import DataError

from .. import FolderOptions
from .missing import check_files
from .paths import is_absolute, leaves, normal
from .row import MASK, MODALITY_NAME, SPLITS, Found, Row, listing, split_meant
from .settings import Settings
from .table import FILE_NAME, READ_HERE, Table, read_table
from .text import nearest


def read_metadata(path: Path, settings: Settings, options: FolderOptions) -> Found:
    """All rows of the metadata file, its files looked up."""
    table = read_table(path)
    files = _file_columns(table)
    _check_spelling(table)
    label = _label_column(table, settings)
    rows = _rows(table, files, _Columns(table, label, _column(table, settings, "group_column")), options)
    _check_keys(table, rows)
    notes = check_files(path.parent, table, rows, options)
    return Found(
        rows=rows,
        modalities=frozenset(files) - {MASK},
        labels_from=label or "label",
        listed=label == "label",
        source=table.file,
        notes=[*_unread_files(table), *notes],
    )


def _file_columns(table: Table) -> dict[str, int]:
    """Modality (or mask) -> position of its column."""
    found = {}
    for position, column in enumerate(table.columns):
        if column.lower().endswith(FILE_NAME):
            name = column[: -len(FILE_NAME)]
            if not MODALITY_NAME.fullmatch(name) or not column.endswith(FILE_NAME):
                hint = f"Rename it, for example to {name.lower() or 'image'}{FILE_NAME}."
                problem = f"column '{column}' names no modality; expected small letters, digits and _"
                raise DataError(f"{table.file}, header: {problem}.", hint)
            found[name] = position
    if not set(found) - {MASK}:
        hint = "Name a column after each modality: image_file_name, depth_file_name …"
        if "file_name" in table.columns:
            hint = "Rename 'file_name' after its modality: image_file_name."
        problem = f"no column <modality>{FILE_NAME}; columns here: {listing(table.columns)}"
        raise DataError(f"{table.file}, header: {problem}.", hint)
    return found


def _check_spelling(table: Table) -> None:
    """A column 'Split' must not pass for one that nobody reads."""
    for column in table.columns:
        if column.lower() in READ_HERE and column not in READ_HERE:
            hint = f"Rename it to '{column.lower()}', or to something else if it means something else."
            raise DataError(f"{table.file}, header: column '{column}'; expected '{column.lower()}'.", hint)


def _unread_files(table: Table) -> list[str]:
    unread = [c for c in table.columns if not c.endswith(FILE_NAME) and _NEARLY_FILE_NAME.search(c)]
    return [
        f"Column '{c}' of {table.file} is not read; if it names files of a modality, "
        f"rename it to {_NEARLY_FILE_NAME.sub('', c).lower() or 'image'}{FILE_NAME}."
        for c in unread
    ]


_NEARLY_FILE_NAME = re.compile(r"_?(files?|paths?|file_?names?|file_?paths?)$", re.IGNORECASE)


def _label_column(table: Table, settings: Settings) -> str | None:
    if settings.label_column is None:
        return "label" if "label" in table.columns else None
    return _column(table, settings, "label_column")


def _column(table: Table, settings: Settings, key: str) -> str | None:
    """The column that a setting asks for; None where it asks for none."""
    name: str | None = getattr(settings, key)
    if not name or name in table.columns:
        return name or None
    columns = [c for c in table.columns if c]
    hint = f"{nearest(name, columns)}Columns here: {listing(columns, 30)}."
    raise settings.error(key, f"{table.file} has no column '{name}'.", hint)


class _Columns:
    """Positions of the columns that are not files; None where there is none."""

    def __init__(self, table: Table, label: str | None, group: str | None) -> None:
        self.id = table.position("id")
        self.split = table.position("split")
        self.weight = table.position("weight")
        self.label = table.position(label) if label else None
        self.group = table.position(group) if group else None
        if self.split is not None and not any(cells[self.split] for _, cells in table.rows):
            self.split = None  # a column left wholly empty says nothing


def _rows(table: Table, files: dict[str, int], columns: _Columns, options: FolderOptions) -> list[Row]:
    order = sorted(files.items())
    rows = []
    for line, cells in table.rows:
        paths = {
            name: _path(table, line, name, cells[position], options.allow_outside)
            for name, position in order
            if cells[position]
        }
        mask = paths.pop(MASK, None)
        row = Row("", paths, mask, line=line)
        if columns.id is not None:
            row.key = _id(table, line, cells[columns.id])
        if columns.split is not None:
            row.split = _split(table, line, cells[columns.split])
        if columns.weight is not None:
            row.weight = _weight(table, line, cells[columns.weight])
        if columns.label is not None:
            row.label = cells[columns.label] or None
        if columns.group is not None:
            row.group = cells[columns.group] or None
        rows.append(row)
    if columns.id is None:
        _name_by_files(rows)
    return rows


def _path(table: Table, line: int, modality: str, name: str, allow_outside: bool) -> str:
    column = modality + FILE_NAME
    if "\0" in name:
        raise table.error(line, column, "holds a NUL character; expected a path.")
    path = normal(name)
    if not allow_outside and (is_absolute(path) or leaves(path)):
        kind = "is absolute" if is_absolute(path) else "leaves the folder"
        hint = f"Paths are relative to the folder of {table.file}; -o data.allow_outside=true accepts others."
        raise table.error(line, column, f"'{name}' {kind}.", hint)
    return path


def _id(table: Table, line: int, text: str) -> str:
    if not text:
        raise table.error(line, "id", "empty.", "Give each row an id of its own, or remove the whole column.")
    return text


def _split(table: Table, line: int, text: str) -> str:
    if text not in SPLITS:
        said = f"'{text}' is no split" if text else "empty"
        hint = f"{split_meant(text)}Correct the cell; or remove the whole column, and the data is split for you."
        raise table.error(line, "split", f"{said}; expected train, val or test.", hint)
    return text


def _weight(table: Table, line: int, text: str) -> float:
    try:
        weight = float(text or 1)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        hint = "It tells how far the pair is trusted; an empty cell is 1."
        raise table.error(line, "weight", f"'{text}'; expected a number of at least 0.", hint)
    return weight


def _name_by_files(rows: list[Row]) -> None:
    """Keys where there is no id: the first file's path, or all of them where rows share that file.

    They come from the row's own content, so that the order of the rows changes none.
    """
    short = [next(iter(row.files.values()), row.mask or "") for row in rows]
    times: dict[str, int] = {}
    for name in short:
        times[name] = times.get(name, 0) + 1
    used: dict[str, int] = {}
    for row, name in zip(rows, short, strict=True):
        key = name if times[name] == 1 else "+".join([*row.files.values(), *([row.mask] if row.mask else [])])
        used[key] = used.get(key, 0) + 1
        row.key = key if used[key] == 1 else f"{key}#{used[key]}"


def _check_keys(table: Table, rows: list[Row]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        first = seen.setdefault(row.key, row.line)
        if first != row.line:
            hint = "Each row needs an id of its own; without the column, file names serve as ids."
            raise table.error(row.line, "id", f"'{row.key}' stands in row {first} already.", hint)
