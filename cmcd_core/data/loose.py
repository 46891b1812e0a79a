"""Files of no data set: found, decoded and made ready for an encoder, as a run's own views are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cores import usable_cores
from ..errors import ConfigError, DataError
from ..interfaces.loader import Raw
from .decoded import BoundModality, decode_one, stored_alone, tell_left_out
from .threads import one_core_each
from .views import Views

BATCH = 64
Input = str | Path | bytes | np.ndarray
"""A file, a folder of files, or what a file would hold."""


@dataclass(frozen=True)
class Item:
    """One thing to be read.

    Attributes:
        key: Its path as it was named; of bytes and arrays their number.
        needed: It was named itself: if it cannot be read, nothing is. Others of a folder are then left out.
    """

    key: str
    raw: Raw
    needed: bool = True


@dataclass(frozen=True)
class Batch:
    """Some items, ready for an encoder.

    Attributes:
        keys: (n,) their keys.
        pixels: (n, channels, size, size).
        shapes: (n,) native (H, W) of each.
    """

    keys: tuple[str, ...]
    pixels: Tensor
    shapes: tuple[tuple[int, int], ...]


def items_in(inputs: Input | Sequence[Input]) -> list[Item]:
    """Every file that is named, in this order; of a folder all its files, hidden ones apart, sorted.

    Raises:
        ConfigError: Nothing is named.
        DataError: A path leads nowhere, or to an empty folder.
    """
    several = [inputs] if isinstance(inputs, Input) else list(inputs)
    if not several:
        raise ConfigError("no file is named", "Name files or folders.")
    items: list[Item] = []
    for number, one in enumerate(several):
        if isinstance(one, str | Path):
            items += _files(Path(one).expanduser(), str(one))
        else:
            items.append(Item(str(number), one))
    return items


def _files(path: Path, named: str) -> list[Item]:
    if path.is_file():
        return [Item(named, path)]
    if not path.is_dir():
        raise DataError(f"{named}: no such file or folder")
    found = sorted(
        below
        for below in path.rglob("*")
        if below.is_file() and not any(part.startswith(".") for part in below.relative_to(path).parts)
    )
    if not found:
        raise DataError(f"{named}: no file in this folder")
    return [Item((Path(named) / file.relative_to(path)).as_posix(), file, needed=False) for file in found]


def ready(
    items: Sequence[Item], bound: BoundModality, size: int, device: torch.device, note: Callable[[str], None]
) -> Iterator[Batch]:
    """Batches of the items that can be read, in their order; each depends on its own file alone.

    Args:
        size: Side in pixels of what the encoder sees.
        note: Told which files of folders were left out.

    Raises:
        DataError: One that was named itself cannot be read, or none can.
    """

    def make(item: Item) -> tuple[Tensor, tuple[int, int]] | DataError:
        try:
            view = decode_one(item.key, item.raw, bound)
        except DataError as error:
            if item.needed:
                raise
            return error
        alone = Views(stored_alone(view, bound, size), bound, size, device)
        return alone.plain(np.zeros(1, np.int64)), (int(view.shape[-2]), int(view.shape[-1]))

    left_out: list[DataError] = []
    with one_core_each(usable_cores()) as pool:
        for start in range(0, len(items), BATCH):
            block = items[start : start + BATCH]
            made = list(zip(block, pool.map(make, block), strict=True))
            left_out += [one for _, one in made if isinstance(one, DataError)]
            kept = [(item.key, *one) for item, one in made if not isinstance(one, DataError)]
            if kept:
                keys, pixels, shapes = zip(*kept, strict=True)
                yield Batch(keys, torch.cat(pixels).contiguous(memory_format=torch.channels_last), shapes)
    _tell(left_out, len(items), bound.name, note)


def _tell(left_out: Sequence[DataError], count: int, modality: str, note: Callable[[str], None]) -> None:
    if left_out and len(left_out) == count:
        raise DataError(f"none of the {count} files can be read as {modality}; the first: {left_out[0].message}")
    tell_left_out([error.message for error in left_out], "files", note)
