"""Each view is decoded once, into a memory-mapped array; training reads only that."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..cache import cached_entry
from ..config import MARGIN
from ..cores import usable_cores
from ..errors import DataError, PluginError
from ..interfaces.loader import Raw, Sample
from ..interfaces.modality import Modality
from ..progress import Progress
from .arrays import new_array
from .digest import digest, list_digest, raw_digest
from .threads import one_core_each

VERSION = 1
LISTED = 20
"""What was left out is named up to so many."""


@dataclass(frozen=True)
class BoundModality:
    """A modality with what identifies it on disk: its name, plugin, version and options.

    ``said``: names of the options that its data set set.
    """

    name: str
    identity: dict[str, Any]
    modality: Modality
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class DecodedViews:
    """One modality's views of some samples.

    Attributes:
        array: (N, C, S, S) memory-mapped (non-spatial: (N, C, H, W)), uint8 for [0, 1] or float32.
        rows: (N,) position of each in the samples given.
        names: (N,) what each one's raw data is known by; equal where two views are the same item.
        skipped: Messages of the samples left out.
        digest: Address of the content.
        keys: (N,) the sample's key of each.
    """

    array: np.ndarray
    rows: np.ndarray
    names: np.ndarray
    skipped: tuple[str, ...]
    digest: str
    keys: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: np.ndarray | Tensor) -> Tensor:
        """(n,) positions -> (n, C, S, S) float32, as ``Modality.decode`` gave them."""
        chosen = torch.from_numpy(self.array[np.asarray(indices)])
        return chosen.float().div_(255) if chosen.dtype == torch.uint8 else chosen


def decode_views(
    samples: Sequence[Sample],
    bound: BoundModality,
    size: int,
    *,
    on_error: Literal["fail", "skip"],
    progress: Progress,
    title: str,
) -> DecodedViews:
    """Decode the modality's views of ``samples`` (those that have one), or find them in the cache.

    Args:
        size: Side in pixels of what the encoder will see.

    Raises:
        DataError: A view cannot be decoded (its key, view and path are named), or there is none.
    """
    rows = [row for row, sample in enumerate(samples) if bound.name in sample.views]
    if not rows:
        raise DataError(f"no sample of this split has a view called {bound.name!r}")
    raws = [samples[row].views[bound.name] for row in rows]
    names = [raw_digest(raw) for raw in raws]
    keys = [samples[row].key for row in rows]
    address = digest([VERSION, MARGIN, bound.identity, size, on_error, list_digest(names), list_digest(keys)])

    def write(partial: Path) -> None:
        _write(partial, keys, raws, bound, size, on_error, progress, title)

    folder = cached_entry("decoded", address, write)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    kept = np.asarray(index["kept"], dtype=np.int64)
    return DecodedViews(
        np.load(folder / "views.npy", mmap_mode="r"),
        np.asarray(rows)[kept],
        np.asarray(names)[kept],
        tuple(index["skipped"]),
        address,
        tuple(keys[position] for position in index["kept"]),
    )


def tell_left_out(messages: Sequence[str], what: str, note: Callable[[str], None]) -> None:
    """The user learns of what a loader with ``on_error=skip`` left out: some by name, and how many there are."""
    for message in messages[:LISTED]:
        note(f"left out: {message}")
    if len(messages) > LISTED:
        note(f"left out: {len(messages)} {what} in all")


def decode_one(key: str, raw: Raw, bound: BoundModality) -> Tensor:
    """One view as the modality decodes it, checked.

    Raises:
        DataError: Naming key, view and path.
    """
    where = f"{raw}" if isinstance(raw, Path) else f"sample {key!r}"
    about = f" (sample {key!r}, view {bound.name!r})" if isinstance(raw, Path) else f" (view {bound.name!r})"
    try:
        value = bound.modality.decode(raw() if callable(raw) else raw)
    except DataError as error:
        raise DataError(f"{where}: {error.message}{about}", error.hint) from error
    except Exception as error:  # whatever a decoder raises is about this one file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: cannot be read as {bound.name}: {reason}{about}") from error
    if not isinstance(value, Tensor) or value.ndim != 3 or value.dtype != torch.float32:
        got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise PluginError(f"modality {bound.name!r}: decode should return a (C, H, W) float32 tensor, got {got}")
    if value.numel() and not all(map(math.isfinite, map(float, value.aminmax()))):
        raise DataError(f"{where}: holds values that are not finite{about}")
    return value


def stored_alone(view: Tensor, bound: BoundModality, size: int) -> DecodedViews:
    """One decoded view in memory, as :func:`decode_views` stores the first of a split."""
    side = _stored_side(view, size) if bound.modality.spatial else 0
    return DecodedViews(_stored(view, bound.modality, side)[None], np.zeros(1, np.int64), np.asarray([""]), (), "")


def _write(
    partial: Path,
    keys: Sequence[str],
    raws: Sequence[Raw],
    bound: BoundModality,
    size: int,
    on_error: Literal["fail", "skip"],
    progress: Progress,
    title: str,
) -> None:
    side = (
        _stored_side(decode_first(zip(keys, raws, strict=True), bound, on_error), size) if bound.modality.spatial else 0
    )

    def prepare(position: int) -> np.ndarray | DataError:
        try:
            view = decode_one(keys[position], raws[position], bound)
        except DataError as error:
            if on_error == "fail":
                raise
            return error
        return _stored(view, bound.modality, side)

    kept, skipped = _fill(partial, prepare, len(keys), progress, title)
    index = {"kept": kept, "skipped": skipped, "modality": bound.identity, "title": title}
    (partial / "index.json").write_text(json.dumps(index, default=str), encoding="utf-8")


def _fill(
    partial: Path,
    prepare: Callable[[int], np.ndarray | DataError],
    count: int,
    progress: Progress,
    title: str,
) -> tuple[list[int], list[str]]:
    """Decode in threads (codecs release the interpreter lock) into an array that is cut to what was readable."""
    kept: list[int] = []
    skipped: list[str] = []
    out: np.memmap | None = None
    with one_core_each(usable_cores()) as pool, progress.track(title, count) as advance:
        for start in range(0, count, 256):  # bounded: results wait in memory only so far ahead
            block = range(start, min(start + 256, count))
            for position, view in zip(block, pool.map(prepare, block), strict=True):
                if isinstance(view, DataError):
                    skipped.append(view.message)
                    continue
                if out is None:
                    shape = (count, *view.shape)
                    out = new_array(partial / "views.npy", shape, view.dtype)
                if view.shape != out.shape[1:]:
                    raise PluginError(f"decode should always return one shape: got {out.shape[1:]} and {view.shape}")
                out[len(kept)] = view
                kept.append(position)
            advance(len(block), "")
    if out is None:
        raise DataError(f"none of the {count} samples could be read; the first: {skipped[0]}")
    out.flush()
    if len(kept) < count:
        cut = new_array(partial / "cut.npy", (len(kept), *out.shape[1:]), out.dtype)
        cut[:] = out[: len(kept)]
        cut.flush()
        del out, cut
        os.replace(partial / "cut.npy", partial / "views.npy")
    return kept, skipped


def decode_first(views: Iterable[tuple[str, Raw]], bound: BoundModality, on_error: Literal["fail", "skip"]) -> Tensor:
    """The first of some (key, raw) views that can be read.

    Raises:
        DataError: None can, or one cannot and ``on_error`` is ``"fail"``.
    """
    last = DataError(f"there is no view called {bound.name!r}")
    for key, raw in views:
        try:
            return decode_one(key, raw, bound)
        except DataError as error:
            if on_error == "fail":
                raise
            last = error
    raise DataError(f"no {bound.name} view could be read; the last: {last.message}", last.hint)


def _stored_side(view: Tensor, size: int) -> int:
    """Room for crops where the data has the detail, no blow-up where it has not."""
    return max(size, min(round(MARGIN * size), max(view.shape[-2:])))


def _stored(view: Tensor, modality: Modality, side: int) -> np.ndarray:
    if modality.spatial:
        view = modality.resize(view, side)
        if view.shape[-3:] != (view.shape[0], side, side):
            raise PluginError(f"resize(x, {side}) should return (C, {side}, {side}), got {tuple(view.shape)}")
    if modality.storage == "uint8":
        view = (view.clamp(0, 1) * 255).round().byte()
    array: np.ndarray = view.contiguous().numpy()
    return array
