"""From decoded arrays to what an encoder sees: resize, geometry, augmentation, encoding, in whole batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..interfaces.loader import Sample
from ..progress import Progress
from .decoded import BoundModality, DecodedViews, decode_views, tell_left_out
from .geometry import Geometry, apply_geometry, batched, draw_geometry


class Views:
    """Ready batches of one modality.

    Args:
        decoded: Its decoded views.
        bound: The modality.
        size: Side in pixels of what the encoder sees.
        device: Where batches are made and augmented.
    """

    def __init__(self, decoded: DecodedViews, bound: BoundModality, size: int, device: torch.device) -> None:
        self.decoded, self.modality, self.size, self.device = decoded, bound.modality, size, device
        spatial = self.modality.spatial
        self._resize: Callable[[Tensor, int], Tensor] | None = (
            batched(self.modality.resize, decoded.array.shape[1]) if spatial else None
        )

    def __len__(self) -> int:
        return len(self.decoded)

    def keys(self, indices: np.ndarray) -> list[str]:
        """(n,) positions -> the keys of their samples."""
        return [self.decoded.keys[index] for index in indices.tolist()]

    def at(self, size: int) -> Views:
        """The same views, seen at another size."""
        other = copy.copy(self)
        other.size = size
        return other

    def plain(self, indices: np.ndarray | Tensor) -> Tensor:
        """(n,) positions -> (n, channels, size, size), whole and unaugmented."""
        return self.encoded(self.whole(indices))

    def whole(self, indices: np.ndarray | Tensor) -> Tensor:
        """The same as decoded, which ``Modality.picture`` shows: (n, C, size, size), before ``Modality.encode``."""
        x = self._load(indices)
        if self._resize is not None and x.shape[-1] != self.size:
            x = self._resize(x, self.size)
        return x

    def augmented(
        self,
        indices: np.ndarray | Tensor,
        seed: int,
        *,
        area_min: float,
        flip: bool,
        geometry: Geometry | None = None,
        own: slice | None = None,
    ) -> Tensor:
        """(n,) positions -> (n, channels, size, size); the same ``seed`` gives the same batch.

        ``geometry`` imposes crops drawn elsewhere (a paired view's); otherwise they are drawn here. ``own`` makes those
        rows of the batch alone: what a process gets of a batch is what one process alone would have made of them.
        """
        return self.encoded(self.drawn(indices, seed, area_min=area_min, flip=flip, geometry=geometry, own=own))

    def drawn(
        self,
        indices: np.ndarray | Tensor,
        seed: int,
        *,
        area_min: float,
        flip: bool,
        geometry: Geometry | None = None,
        own: slice | None = None,
    ) -> Tensor:
        """The same as decoded, before ``Modality.encode``."""
        rows = own or slice(None)
        x = self._load(indices[rows])
        if self._resize is not None:
            drawn = torch.Generator().manual_seed(seed)
            boxes = geometry or draw_geometry(len(indices), drawn, area_min=area_min, flip=flip)
            x = apply_geometry(x, boxes[rows], self._resize, self.size)
        augment = self.modality.augment if geometry is None else self.modality.augment_in_place
        generator = torch.Generator(device=x.device).manual_seed(seed + 1)
        if len(x) == len(indices):
            return augment(x, generator)
        # What is drawn follows from the batch's shape: others' places hold copies of these rows.
        places = (torch.arange(len(indices), device=x.device) - rows.start) % len(x)
        return augment(x[places], generator)[rows]

    def chunks(self, batch_size: int = 256, rows: np.ndarray | None = None) -> Iterator[Tensor]:
        """All views (or those at ``rows``), plain, in order."""
        rows = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(rows), batch_size):
            yield self.plain(rows[start : start + batch_size])

    def _load(self, indices: np.ndarray | Tensor) -> Tensor:
        batch = self.decoded.batch(indices)
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device)

    def encoded(self, x: Tensor) -> Tensor:
        """(n, C, size, size) as decoded -> (n, channels, size, size), what an encoder sees."""
        return self.modality.encode(x).contiguous(memory_format=torch.channels_last)


def views_of(
    samples: Sequence[Sample],
    bound: BoundModality,
    size: int,
    device: torch.device,
    *,
    on_error: Literal["fail", "skip"],
    progress: Progress,
    note: Callable[[str], None],
    split: str = "",
) -> Views:
    """One modality's views of ``samples``, decoded or found in the cache; the user learns what was left out.

    Args:
        split: Which these samples are, for people.

    Raises:
        DataError: As :func:`decode_views`.
    """
    title = f"decode {bound.name}" + (f", {split}" if split else "")
    decoded = decode_views(samples, bound, size, on_error=on_error, progress=progress, title=title)
    tell_left_out(decoded.skipped, f"{bound.name} views" + (f" of {split}" if split else ""), note)
    return Views(decoded, bound, size, device)
