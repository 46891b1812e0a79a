"""One pass over a tar: its members, gathered into samples."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cmcd_core import DataError

from ..folder.row import LABEL
from .names import RECORD, Name, parse
from .tar import Place, places

MOST_TEXT = 1 << 20
"""Bytes of a label or a .json; larger ones are something else."""


@dataclass(slots=True)
class Found:
    """One sample: its members by field, the text of its label, and what its .json says under "cmcd"."""

    members: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # field -> type, offset, size
    label: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)  # field -> member


def scan(path: Path) -> dict[str, Found]:
    """Samples by the key in their names, in the order of the tar.

    Raises:
        DataError: A damaged tar, a member that names no modality or stands there twice, a bad label or .json.
    """
    samples: dict[str, Found] = {}
    with path.open("rb") as file:
        for place in places(path):
            if name := _name(path, place):
                sample = samples.setdefault(name.key, Found())
                _once(path, sample, name, place)
                _put(path, file, sample, name, place)
    return samples


def _name(path: Path, place: Place) -> Name | None:
    try:
        return parse(place.name)
    except ValueError as error:
        raise DataError(f"{path}: {error}.", "The part after the key's dot says what the file is a view of.") from None


def _once(path: Path, sample: Found, name: Name, place: Place) -> None:
    if other := sample.seen.get(name.field):
        raise DataError(
            f"{path}: {other} and {place.name} are both the {name.field} of sample {name.key!r}.",
            "A key's members stand there once each: what comes before the first dot of a name is the key.",
        )
    sample.seen[name.field] = place.name


def _put(path: Path, file: BinaryIO, sample: Found, name: Name, place: Place) -> None:
    if name.field == RECORD:
        sample.record = _record(path, place, _text(path, file, place))
    elif name.field == LABEL:
        if name.type != "txt":
            raise DataError(f"{path}: {place.name}: a label is a text file with the name of the class, KEY.label.txt.")
        sample.label = _text(path, file, place).strip() or None
    else:
        sample.members[name.field] = (name.type, place.offset, place.size)


def _text(path: Path, file: BinaryIO, place: Place) -> str:
    if place.size > MOST_TEXT:
        raise DataError(f"{path}: {place.name} has {place.size} bytes; expected a short text.")
    file.seek(place.offset)
    try:
        return file.read(place.size).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: {place.name} is not UTF-8 text.", "Save it as UTF-8 and pack it again.") from None


def _record(path: Path, place: Place, text: str) -> dict[str, Any]:
    """What stands under "cmcd"; other programs' .json files have no such entry."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {place.name} is not valid JSON: {error}.") from None
    record = content.get("cmcd", {}) if isinstance(content, dict) else {}
    kinds = {"key": str, "weight": int | float, "targets": dict, "known_by": dict}
    for name, value in record.items() if isinstance(record, dict) else [("cmcd", record)]:
        if name not in kinds or not isinstance(value, kinds[name]) or isinstance(value, bool):
            known = ", ".join(kinds)
            raise DataError(f"{path}: {place.name}: cannot read {name} = {value!r} under 'cmcd'.", f"Known: {known}.")
    if not 0 <= record.get("weight", 1) < float("inf"):
        raise DataError(f"{path}: {place.name}: weight {record['weight']!r}; expected a number of at least 0.")
    return record
