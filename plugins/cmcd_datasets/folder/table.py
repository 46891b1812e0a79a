"""`metadata.csv` and `metadata.jsonl` as one kind of table: text cells, and the line where each row starts."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmcd_core import DataError

from .text import read_text

NAMES = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "_file_name"
READ_HERE = ("id", "split", "label", "weight")


@dataclass(frozen=True)
class Table:
    """Rows of text cells, as many in each as there are columns.

    Attributes:
        file: Name of the file, for messages.
        columns: Their names.
        rows: (line as a text editor counts, cells).
    """

    file: str
    columns: list[str]
    rows: list[tuple[int, list[str]]]

    def error(self, line: int, column: str, problem: str, hint: str = "") -> DataError:
        return DataError(f"{self.file}, row {line}, {column}: {problem}", hint)

    def position(self, column: str) -> int | None:
        return self.columns.index(column) if column in self.columns else None


def metadata_file(root: Path) -> Path | None:
    """The data set's metadata, if it has any."""
    found = [root / name for name in NAMES if os.path.isfile(root / name)]
    if len(found) == 2:
        hint = "Keep the one that is right; remove or rename the other."
        raise DataError(f"{root} holds both metadata.csv and metadata.jsonl.", hint)
    return found[0] if found else None


def read_table(path: Path) -> Table:
    """The whole metadata file."""
    text = read_text(path)
    table = _read_csv(path, text) if path.suffix == ".csv" else _read_jsonl(path, text)
    if not table.rows:
        hint = "It needs one row a pair, with a column such as image_file_name for each modality."
        raise DataError(f"{path.name} has no rows ({path}).", hint)
    return table


def _read_csv(path: Path, text: str) -> Table:
    records = _records(path, text)
    columns: list[str] = []
    for line, header in records:
        columns = [cell.strip() for cell in header]
        _check_header(path, line, columns)
        break
    width = len(columns)
    rows = []
    for line, record in records:
        if len(record) < width or any(record[width:]):
            hint = "A comma inside a cell needs quotes round the cell; an empty cell still needs its comma."
            raise DataError(f"{path.name}, row {line}: {len(record)} cells; expected {width} as in the header.", hint)
        rows.append((line, [cell.strip() for cell in record[:width]]))
    return Table(path.name, columns, rows)


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line where it starts, cells); a quoted cell may run over several lines."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for record in reader:
            if record:
                yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path.name}, row {start}: {_csv_trouble(error)} ({path}).", _CLOSE_QUOTES) from error


_CLOSE_QUOTES = 'Look for a quote (") in that row that is never closed; inside a quoted cell, write a quote twice.'


def _csv_trouble(error: csv.Error) -> str:
    text = str(error)
    if "field limit" in text:
        return f"a cell of more than {csv.field_size_limit()} characters"
    return "a quoted cell has no end" if "unexpected end of data" in text else f"not valid CSV: {text}"


def _check_header(path: Path, line: int, columns: list[str]) -> None:
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(columns) == 1 and sign in columns[0]:
            hint = "Export it again with commas as the separator."
            raise DataError(f"{path.name}, row {line}: cells are separated by {word}; expected commas.", hint)
    for position, name in enumerate(columns):
        if name and name in columns[:position]:
            raise DataError(f"{path.name}, row {line}: column '{name}' stands there twice.", "Rename or remove one.")


def _read_jsonl(path: Path, text: str) -> Table:
    objects = list(_objects(path, text))
    columns = list(dict.fromkeys(key for _, content in objects for key in content))
    rows = []
    for line, content in objects:
        rows.append((line, [_cell(path, line, column, content.get(column)) for column in columns]))
    return Table(path.name, columns, rows)


def _objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    example = 'Each row is one object: {"image_file_name": "image/1.jpg", "label": "cup"}.'
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path.name}, row {line}: not valid JSON: {error} ({path}).", example) from error
        if not isinstance(value, dict):
            raise DataError(f"{path.name}, row {line}: {type(value).__name__}; expected an object ({path}).", example)
        yield line, value


def _cell(path: Path, line: int, column: str, value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, (dict, list)) and (column in READ_HERE or column.endswith(FILE_NAME)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise DataError(f"{path.name}, row {line}, {column}: {kind}; expected a text, a number or null.")
    return json.dumps(value)
