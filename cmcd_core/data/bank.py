"""The frozen source's features, computed once and memory-mapped.

View 0 of each sample is the whole picture; views 1 … k-1 are augmented, each with one geometry of its own that the
teacher itself saw: nothing is mirrored or cropped afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cache import cached_entry
from ..interfaces.encoder import Encoder
from ..progress import Progress
from .digest import digest, weights_digest
from .views import Views

VERSION = 1
CHUNK = 256


@dataclass(frozen=True)
class FeatureBank:
    """(k, N, D) float32 pooled features of the frozen source, memory-mapped."""

    array: np.ndarray

    @property
    def views(self) -> int:
        return int(self.array.shape[0])

    def pooled(self, view: np.ndarray, indices: np.ndarray) -> Tensor:
        """(n,) view numbers and (n,) positions -> (n, D)."""
        return torch.from_numpy(self.array[view, indices])

    def whole(self) -> Tensor:
        """(N, D) features of the whole pictures, still memory-mapped (copy-on-write: the file stays as it is)."""
        return torch.from_numpy(self.array[0])


def feature_bank(
    encoder: Encoder,
    views: Views,
    *,
    count: int,
    seed: int,
    area_min: float,
    flip: bool,
    progress: Progress,
    title: str,
) -> FeatureBank:
    """Compute the bank of ``count`` views a sample, or find it in the cache.

    The address covers the weights, the preprocessing, the data, and the geometry's seed and bounds.
    """
    encoder.eval()
    geometry = [seed, area_min, flip] if count > 1 else []
    identity = [views.decoded.digest, views.size, str(views.device.type), encoder.card, encoder.arguments]
    address = digest([VERSION, weights_digest(encoder), repr(encoder), identity, count, geometry])

    def batch(view: int, rows: np.ndarray) -> Tensor:
        if view == 0:
            return views.plain(rows)
        drawn = int(digest([seed, view, int(rows[0])])[:8], 16)
        return views.augmented(rows, drawn, area_min=area_min, flip=flip)

    def write(partial: Path) -> None:
        shape = (count, len(views), encoder.dim)
        out = np.lib.format.open_memmap(partial / "pooled.npy", "w+", dtype=np.float32, shape=shape)
        with torch.inference_mode(), progress.track(title, count * len(views)) as advance:
            for view in range(count):
                for start in range(0, len(views), CHUNK):
                    rows = np.arange(start, min(start + CHUNK, len(views)))
                    out[view, rows] = encoder(batch(view, rows)).pooled.float().cpu().numpy()
                    advance(len(rows), "")
        out.flush()

    return FeatureBank(np.load(cached_entry("features", address, write) / "pooled.npy", mmap_mode="c"))
