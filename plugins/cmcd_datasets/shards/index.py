"""The index of one tar: which samples it holds and where; made once, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from cmcd_core import DataError, cache_folder

from .names import target_of
from .scan import Found, scan

VERSION = 1
_ENTRY = np.dtype([("field", "i4"), ("offset", "i8"), ("size", "i8"), ("known_by", "S32")])


class Entry(NamedTuple):
    """One member of a sample."""

    field: str
    type: str
    offset: int
    size: int
    known_by: str


@dataclass(frozen=True)
class TarIndex:
    """What one tar holds, in columns: a million samples must not be a million objects.

    Attributes:
        path: The tar.
        names: (rows) what the members of each sample are called.
        records: Row -> what its .json says under "cmcd", its digests apart.
        labels: (rows) position in ``label_names``, or -1.
        label_names: The texts of the labels.
        fields: Distinct "image.jpg", which entries refer to.
        entries: (members) of type ``_ENTRY``, row after row.
        starts: (rows + 1) where each row's entries begin.
    """

    path: Path
    names: list[str]
    records: dict[int, dict[str, Any]]
    labels: npt.NDArray[np.int32]
    label_names: list[str]
    fields: list[str]
    entries: npt.NDArray[np.void]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def key(self, row: int) -> str:
        key: str = self.records.get(row, {}).get("key", self.names[row])
        return key

    def label(self, row: int) -> str | None:
        number = int(self.labels[row])
        return self.label_names[number] if number >= 0 else None

    def row(self, row: int) -> list[Entry]:
        """The members of one sample, its label and .json apart."""
        found = []
        for number, offset, size, known_by in self.entries[self.starts[row] : self.starts[row + 1]].tolist():
            field, _, kind = self.fields[number].partition(".")
            found.append(Entry(field, kind, offset, size, known_by.decode()))
        return found

    def modalities(self) -> set[str]:
        return {name for field in self.fields if target_of(name := field.partition(".")[0]) is None}

    def targets(self) -> set[str]:
        """Names of the targets; a label that is a text is none of them."""
        of_members = {target_of(field.partition(".")[0]) for field in self.fields}
        of_records = {name for record in self.records.values() for name in record.get("targets", {})}
        return {name for name in of_members | of_records if name is not None}


def tar_index(path: Path) -> TarIndex:
    """The tar's index, from the cache where the tar has not changed since.

    Raises:
        DataError: The tar cannot be read, is damaged, or holds what is refused.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    address = f"{VERSION}|{path}|{status.st_size}|{status.st_mtime_ns}"
    digest = hashlib.blake2b(address.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
    file = cache_folder("shards") / f"{digest}.npz"
    index = _kept(file, path)
    if index is None:
        index = _columns(path, scan(path))
        _keep(file, index)
    return index


def _columns(path: Path, samples: dict[str, Found]) -> TarIndex:
    fields: dict[str, int] = {}
    label_names: dict[str, int] = {}
    entries: list[tuple[int, int, int, str]] = []
    starts, labels = [0], []
    records: dict[int, dict[str, Any]] = {}
    for row, sample in enumerate(samples.values()):
        known_by = sample.record.pop("known_by", {})
        for field, (kind, offset, size) in sample.members.items():
            number = fields.setdefault(f"{field}.{kind}", len(fields))
            entries.append((number, offset, size, str(known_by.get(field, ""))))
        starts.append(len(entries))
        labels.append(-1 if sample.label is None else label_names.setdefault(sample.label, len(label_names)))
        if sample.record:
            records[row] = sample.record
    return TarIndex(
        path=path,
        names=list(samples),
        records=records,
        labels=np.asarray(labels, np.int32),
        label_names=list(label_names),
        fields=list(fields),
        entries=np.asarray(entries, _ENTRY),
        starts=np.asarray(starts, np.int64),
    )


def _keep(file: Path, index: TarIndex) -> None:
    """The file appears whole or not at all."""
    text = json.dumps([index.names, list(index.records.items()), index.label_names, index.fields])
    partial = file.with_name(f".partial-{os.getpid()}-{file.name}")
    try:
        with partial.open("wb") as out:
            arrays = {"labels": index.labels, "entries": index.entries, "starts": index.starts}
            np.savez(out, text=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]
        os.replace(partial, file)
    except OSError:
        return  # it is made again next time
    finally:
        partial.unlink(missing_ok=True)


def _kept(file: Path, path: Path) -> TarIndex | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            names, records, label_names, fields = json.loads(kept["text"].tobytes())
            columns = {name: kept[name] for name in ("labels", "entries", "starts")}
        return TarIndex(
            path=path, names=names, records=dict(records), label_names=label_names, fields=fields, **columns
        )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # absent, or damaged: it is made again
