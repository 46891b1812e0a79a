"""What a task reads of each sample: labels in one tensor; masks as the views are stored, and at their own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cache import cached_entry
from ..cores import usable_cores
from ..errors import DataError
from ..interfaces.task import Task
from .arrays import new_array
from .digest import digest, list_digest, raw_digest
from .geometry import Geometry, apply_geometry
from .threads import one_core_each

VERSION = 1
KEPT_BYTES = 2**27
"""Targets at their own size that stay in memory, a split."""
AHEAD = 256
"""So many targets are read at a time: results wait in memory only so far ahead."""


@dataclass(frozen=True)
class Targets:
    """One split's targets.

    Attributes:
        array: (N, …) one target a sample; spatial tasks: (N, S, S), squashed as the views are stored.
        own: Position -> the target at its own size, read again.
        digest: Of every target.
        spatial: They follow the geometry of the views.
    """

    array: np.ndarray | Tensor
    own: Callable[[int], Tensor]
    digest: str
    spatial: bool

    def at(self, positions: np.ndarray) -> Tensor:
        """(n,) positions -> (n, …) targets as they are stored."""
        return torch.as_tensor(self.array[np.asarray(positions)])

    def cropped(self, positions: np.ndarray, geometry: Geometry | None, size: int) -> Tensor:
        """(n,) positions -> (n, size, size): what lies on the views' pixels; None: whole."""
        stored = self.at(positions)[:, None]
        moved = nearest(stored, size) if geometry is None else apply_geometry(stored, geometry, nearest, size)
        return moved[:, 0]


def nearest(x: Tensor, size: int) -> Tensor:
    """(N, C, H, W) of any type -> (N, C, size, size), each value one that was there: class ids do not mix."""
    if x.shape[-2:] == (size, size):
        return x
    rows, columns = (
        ((torch.arange(size) + 0.5) * side / size).long().clamp(max=side - 1).to(x.device) for side in x.shape[-2:]
    )
    return x[..., rows[:, None], columns]


def upsampled(output: Tensor, target: Tensor) -> Tensor:
    """(N, K, h, w) -> (N, K, H, W), bilinear, where the target is (N, H, W); other outputs as they are."""
    if output.ndim != 4 or output.shape[-2:] == target.shape[-2:]:
        return output
    return F.interpolate(output, size=target.shape[-2:], mode="bilinear", align_corners=False)


def read_targets(
    task: Task, classes: Sequence[str] | None, keys: Sequence[str], values: Sequence[Any], side: int, identity: Any
) -> Targets:
    """Read and check every target once.

    Args:
        side: Of the square that spatial targets are kept in.
        identity: What makes the task what it is, JSON-ready: part of the cache's address.

    Raises:
        DataError: A target cannot be read or has no class; its key and file are named.
    """

    kept: dict[int, Tensor] = {}

    def own(position: int) -> Tensor:
        if position in kept:
            return kept[position]
        target = read_target(task, keys[position], values[position], classes)
        if len(kept) * target.nbytes < KEPT_BYTES:  # choices on val read the same masks again and again
            kept[position] = target
        return target

    if not task.spatial:
        stacked = torch.stack([own(position) for position in range(len(values))])
        return Targets(stacked, own, raw_digest(stacked.numpy()), spatial=False)
    address = digest(
        [VERSION, identity, side, list(classes or ()), list_digest([_known_by(value) for value in values])]
    )
    folder = cached_entry("decoded", address, lambda partial: _write(partial, own, len(values), side))
    return Targets(np.load(folder / "targets.npy", mmap_mode="r"), own, address, spatial=True)


def _write(partial: Path, own: Callable[[int], Tensor], count: int, side: int) -> None:
    def prepare(position: int) -> np.ndarray:
        array: np.ndarray = nearest(own(position)[None, None], side)[0, 0].numpy()
        return array

    first = prepare(0)
    out = new_array(partial / "targets.npy", (count, *first.shape), first.dtype)
    with one_core_each(usable_cores()) as pool:
        for start in range(0, count, AHEAD):
            block = range(start, min(start + AHEAD, count))
            for position, target in zip(block, pool.map(prepare, block), strict=True):
                out[position] = target
    out.flush()


def _known_by(value: Any) -> str:
    return raw_digest(value if isinstance(value, Path | bytes) or callable(value) else np.asarray(value))


def read_target(task: Task, key: str, value: Any, classes: Sequence[str] | None = None) -> Tensor:
    """One target; with ``classes``, checked against them.

    Raises:
        DataError: Naming its key and file.
    """
    is_file = isinstance(value, Path)
    where = str(value) if is_file else f"sample {key!r}"
    about = f" (sample {key!r}, {task.target_name!r})" if is_file else f" ({task.target_name!r})"
    try:
        target = task.target(value() if callable(value) else value)
        if classes is not None:
            task.check(target, classes)
    except DataError as error:
        raise DataError(f"{where}: {error.message}{about}", error.hint) from error
    except Exception as error:  # whatever a reader raises is about this one target
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: cannot be read: {reason}{about}") from error
    return target
