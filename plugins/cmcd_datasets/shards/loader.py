"""The `shards` loader: samples out of tars, at any place, without extraction."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cmcd_core import DataError, PairedLoader, Sample

from .. import ShardsOptions
from ..classes import label_names, target_classes
from ..folder.row import LABEL, SPLITS, split_meant
from ..folder.settings import Settings, read_settings
from ..lazy import LazySamples
from ..roots import folder_of
from .index import Entry, TarIndex, tar_index
from .member import Member, array_in
from .names import target_of

_THREADS = 8  # headers are read over a network too


class Tar:
    """One tar and its index; mapped into memory when an array in it is first asked for."""

    def __init__(self, index: TarIndex, label_ids: Mapping[str, int]) -> None:
        self.index = index
        self._label_ids = label_ids

    @cached_property
    def _content(self) -> np.ndarray:
        return np.memmap(self.index.path, np.uint8, "r")

    def sample(self, row: int) -> Sample:
        index = self.index
        record = index.records.get(row, {})
        views: dict[str, Any] = {}
        targets: dict[str, Any] = dict(record.get("targets", {}))
        if (label := index.label(row)) is not None:
            targets[LABEL] = self._label_ids[label]
        for entry in index.row(row):
            target = target_of(entry.field)
            place, name = (views, entry.field) if target is None else (targets, target)
            place[name] = self._raw(index.names[row], entry)
        return Sample(key=index.key(row), views=views, targets=targets, weight=float(record.get("weight", 1.0)))

    def _raw(self, name: str, entry: Entry) -> Any:
        if entry.type == "npy" and (array := array_in(self._content, entry.offset, entry.size)) is not None:
            return array
        member = f"{name}.{entry.field}.{entry.type}"
        return Member(self.index.path, member, entry.offset, entry.size, entry.known_by)


class ShardSplit(LazySamples):
    """Samples of one split, tar after tar."""

    def __init__(self, tars: Sequence[Tar]) -> None:
        self._tars = tars
        self._ends = list(accumulate(len(tar.index) for tar in tars))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def sample(self, row: int) -> Sample:
        """The sample at ``row`` of the split."""
        number = bisect_right(self._ends, row)
        return self._tars[number].sample(row - (self._ends[number - 1] if number else 0))


class ShardsLoader(PairedLoader):
    """Pairs in tar files.

    Attributes:
        name: Of the data set: dataset.toml's, or the folder's.
        licence: dataset.toml's, or "".
    """

    def __init__(self, options: ShardsOptions) -> None:
        root = folder_of(options, "shards")
        settings = _settings(root, options)
        paths = split_tars(root)
        with ThreadPoolExecutor(_THREADS) as pool:
            indices = {split: list(pool.map(tar_index, found)) for split, found in paths.items()}
        every = [index for found in indices.values() for index in found]
        _check_keys(every)
        self.name = settings.name
        self.licence = settings.licence
        self.pairs = settings.pairs
        self.modalities = frozenset(name for index in every for name in index.modalities())
        settings.check_modalities(self.modalities)
        self.aligned = frozenset(settings.aligned) & self.modalities
        labels = label_names(root, _used(every))
        self.classes = target_classes(root, labels, {target for index in every for target in index.targets()})
        self.notes = _absent(paths)
        self._tables = settings.tables
        ids = {name: number for number, name in enumerate(labels)}
        self._splits = {split: ShardSplit([Tar(index, ids) for index in found]) for split, found in indices.items()}

    def split(self, name: Literal["train", "val", "test"]) -> ShardSplit:
        return self._splits[name]

    def modality_options(self, modality: str) -> Mapping[str, Any]:
        return self._tables.get(modality, {})


def split_tars(root: Path) -> dict[str, list[Path]]:
    """The tars of each split, by name.

    Raises:
        DataError: There is none, or one's name begins with no split.
    """
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for path in sorted(root.glob("*.tar")):
        split = re.split(r"[^A-Za-z]", path.name, maxsplit=1)[0]
        if split not in found:
            hint = f"{split_meant(split)}A shard's name begins with its split: train-000000.tar."
            raise DataError(f"{path} is of no split; expected train, val or test.", hint)
        found[split].append(path)
    if not any(found.values()):
        raise DataError(f"{root} holds no tar files.", "Expected train-000000.tar …, as `cmcd data pack` writes them.")
    return found


def _settings(root: Path, options: ShardsOptions) -> Settings:
    settings = read_settings(root, options)
    for key in ("label_column", "group_column"):
        if getattr(settings, key):
            raise settings.error(key, "shards have no columns.", "Remove it: labels lie in KEY.label.txt.")
    return settings


def _check_keys(indices: Sequence[TarIndex]) -> None:
    """A key is unique in the whole data set."""
    owner: dict[str, Path] = {}
    for index in indices:
        for row in range(len(index)):
            key = index.key(row)
            if other := owner.get(key):
                hint = "A key stands for one sample of the whole data set: pack it again with keys of its own."
                raise DataError(f"{index.path}: sample {key!r} is in {other.name} already.", hint)
            owner[key] = index.path


def _used(indices: Sequence[TarIndex]) -> dict[str, str]:
    """Every label of the data -> where it stands first."""
    used: dict[str, str] = {}
    for index in indices:
        for name in index.label_names:
            used.setdefault(name, f"{index.path}, label")
    return used


def _absent(paths: Mapping[str, Sequence[Path]]) -> list[str]:
    absent = [split for split in SPLITS if not paths[split]]
    return [f"There are no {' and no '.join(absent)} shards."] if absent else []
