"""Writes the tars of a data set and what lies beside them, whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ..errors import CmcdError, ConfigError, DataError
from ..interfaces.loader import SPLITS, PairedLoader, Split
from ..progress import Progress
from .members import LABEL, members


@dataclass(frozen=True)
class PackedSplit:
    """What was written of one split."""

    samples: int
    shards: int
    size: int


def pack(
    loader: PairedLoader, name: str, out: Path, *, shard_size: int, progress: Progress
) -> dict[Split, PackedSplit]:
    """Write ``OUT/train-000000.tar …``, dataset.toml and the names of the classes.

    Args:
        name: Of the data set, where its loader has none.
        shard_size: Bytes after which a new tar is begun.

    Raises:
        ConfigError: ``out`` is there and not an empty folder.
        DataError: A sample cannot be read or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already", "Name another folder; nothing is overwritten.")
    partial = out.absolute().with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _write_settings(loader, name, partial)
        written = {split: _write_split(loader, split, partial, shard_size, progress) for split in SPLITS}
        if not any(packed.samples for packed in written.values()):
            raise DataError(f"{name}: there is no sample to pack")
        if out.is_dir():
            out.rmdir()
        os.replace(partial, out)
    except OSError as error:
        raise CmcdError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _write_settings(loader: PairedLoader, name: str, folder: Path) -> None:
    settings: dict[str, Any] = {
        "name": str(getattr(loader, "name", "") or name),
        "licence": str(getattr(loader, "licence", "")),
        "pairs": loader.pairs,
        "aligned": sorted(loader.aligned),
    }
    for modality in sorted(loader.modalities):
        if said := {key: value for key, value in loader.modality_options(modality).items() if value is not None}:
            settings[modality] = said
    (folder / "dataset.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    for target, names in loader.classes.items():
        if names:
            _check_names(target, names)
            file = "classes.txt" if target == LABEL else f"{target}_classes.txt"
            (folder / file).write_text("".join(f"{each}\n" for each in names), encoding="utf-8")


def _check_names(target: str, names: Sequence[str]) -> None:
    """A text file of names, one a line, must give the same names back."""
    for name in names:
        if [name] != [line.strip() for line in name.splitlines()] or not name:
            raise DataError(f"class {name!r} of {target}: such a name cannot be packed", "Names are one line of text.")
    if len(set(names)) < len(names):
        raise DataError(f"classes of {target}: two have one name, which cannot be packed")


def _write_split(loader: PairedLoader, split: Split, folder: Path, shard_size: int, progress: Progress) -> PackedSplit:
    samples = loader.split(split)
    shards = _Shards(folder, split, shard_size)
    try:
        with progress.track(f"pack {split}", len(samples)) as advance:
            for sample in samples:
                shards.write(list(members(sample, loader.classes)))
                advance(1, "")
    finally:
        shards.close()
    return PackedSplit(len(samples), shards.count, shards.total)


class _Shards:
    """The tars of one split. The same data give the same bytes: members carry no time and no owner."""

    def __init__(self, folder: Path, split: str, shard_size: int) -> None:
        self._folder = folder
        self._split = split
        self._shard_size = shard_size
        self._tar: tarfile.TarFile | None = None
        self._size = 0
        self.count = 0
        self.total = 0

    def write(self, parts: Sequence[tuple[str, bytes]]) -> None:
        size = sum(len(content) for _, content in parts)
        if self._tar is None or (self._size and self._size + size > self._shard_size):
            self._begin()
        assert self._tar is not None
        for name, content in parts:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            self._tar.addfile(info, io.BytesIO(content))
        self._size += size
        self.total += size

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()

    def _begin(self) -> None:
        self.close()
        path = self._folder / f"{self._split}-{self.count:06d}.tar"
        self._tar = tarfile.open(path, "w:", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed by close)
        self._size = 0
        self.count += 1
