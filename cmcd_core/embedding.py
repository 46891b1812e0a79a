"""Features of files, or of a split: what ``cmcd embed`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .catalog import Catalog
from .data.decoded import BoundModality
from .data.loose import Input, Item, items_in
from .errors import ConfigError
from .files import replacing
from .interfaces.encoder import pooled
from .interfaces.loader import Split
from .progress import Progress
from .reading import Reader, open_reader
from .workbench import Side


@dataclass(frozen=True)
class Embedded:
    """Row i of the features is what the encoder says of ``keys[i]``.

    Attributes:
        keys: (n,) paths as they were named, or keys of samples.
        features: (n, D) float32, as the encoder pools them: not normalised.
        modality: What was seen.
    """

    keys: tuple[str, ...]
    features: np.ndarray
    modality: str

    def save(self, file: str | Path) -> Path:
        """Write ``keys`` and ``features`` as .npz, which ``np.load`` reads without pickle."""
        path = Path(file)
        with replacing(path) as partial, partial.open("wb") as opened:
            np.savez(opened, allow_pickle=False, keys=np.asarray(self.keys, dtype=np.str_), features=self.features)
        return path


def embed(
    encoder: str | Path,
    inputs: Input | Sequence[Input] = (),
    *,
    data: str | Path | None = None,
    split: Split | None = None,
    side: Side | None = None,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
) -> Embedded:
    """Pooled features of files and folders, or of a split.

    Args:
        encoder: A run's folder, or an encoder's.
        inputs: Files, folders (all files below), bytes or arrays of the encoder's modality.
        data: A data set (``PATH`` or ``LOADER:PATH``) instead of files; None with ``split``: the run's own.
        split: Which split of it; default: test.
        side: Which encoder of a run, ``"target"`` (default) or ``"source"``.
        progress: Told of the work; silent by default.
        catalog: Plugins to choose from; default: all that are installed.

    Raises:
        ConfigError: There is no such encoder, or neither files nor data are named.
        DataError: Something named cannot be read.
        PluginError: The encoder's modality is not installed.

    Example:
        >>> from cmcd_core import embed
        >>> found = embed(result.folder, split="test")
        >>> len(found.keys), found.features.shape, found.features.dtype
        (20, (20, 256), dtype('float32'))
    """
    named = isinstance(inputs, Input) or len(inputs) > 0
    wants_split = data is not None or split is not None
    if named and wants_split:
        raise ConfigError("files and a split were named", "Name files, or --data and --split.")
    if not named and not wants_split:
        raise ConfigError("nothing is named to embed", "Name files or folders, or a split: --split test.")
    reader, progress = open_reader(Path(encoder), side, catalog), progress or Progress()
    if wants_split:
        return embed_split(reader, data, split or "test", progress)
    return embed_items(reader, inputs, progress)


def embed_items(reader: Reader, inputs: Input | Sequence[Input], progress: Progress) -> Embedded:
    """Features of files and the like."""
    keys, features = features_of(reader, items_in(inputs), progress)
    return Embedded(keys, features.numpy(), reader.bound.name)


def features_of(
    reader: Reader, items: Sequence[Item], progress: Progress, bound: BoundModality | None = None
) -> tuple[tuple[str, ...], Tensor]:
    """Keys and (n, D) pooled features of the items that can be read; ``bound``: how their data set reads them."""
    keys: list[str] = []
    parts = []
    with progress.track(f"embed {reader.bound.name}", len(items)) as advance:
        for batch in reader.batches(items, progress.note, bound):
            keys += batch.keys
            parts.append(pooled(reader.encoder, [batch.pixels]))
            advance(len(batch.keys), "")
    return tuple(keys), torch.cat(parts)


def embed_split(reader: Reader, data: str | Path | None, split: Split, progress: Progress) -> Embedded:
    """Features of every view of a split, in its order; ``data`` None: of the run's own data."""
    there = reader.split(data, split)
    views = reader.views(there, progress)
    keys = tuple(there.samples[row].key for row in views.decoded.rows.tolist())
    return Embedded(keys, pooled(reader.encoder, views.chunks()).numpy(), reader.bound.name)
