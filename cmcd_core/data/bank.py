"""The frozen source's features, computed once and memory-mapped.

View 0 of each sample is the whole picture; views 1 … k-1 are augmented, each with one geometry of its own that the
teacher itself saw: nothing is mirrored or cropped afterwards.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cache import cached_entry
from ..errors import ConfigError
from ..interfaces.encoder import Encoder
from ..progress import Progress
from .arrays import evenly, new_array
from .digest import digest, weights_digest
from .geometry import Geometry, draw_geometry, whole
from .views import Views

VERSION = 1
CHUNK = 256
PCA_SAMPLES = 1024
"""Pictures whose cells the principal directions come from."""


@dataclass(frozen=True)
class FeatureBank:
    """Features of k views of N samples, memory-mapped.

    Attributes:
        array: (k, N, D) float32 pooled features.
        maps: (k, N, D', h, w) float16 dense maps, where they were asked for.
        geometries: (k · N) what was cropped and mirrored, view by view, for those who must follow; with maps only.
    """

    array: np.ndarray
    maps: np.ndarray | None = None
    geometries: Geometry | None = None

    @property
    def views(self) -> int:
        return int(self.array.shape[0])

    def pooled(self, view: np.ndarray, indices: np.ndarray) -> Tensor:
        """(n,) view numbers and (n,) positions -> (n, D)."""
        return torch.from_numpy(self.array[view, indices])

    def dense(self, view: np.ndarray, indices: np.ndarray) -> Tensor:
        """(n,) view numbers and (n,) positions -> (n, D', h, w) float32."""
        assert self.maps is not None
        return torch.from_numpy(self.maps[view, indices]).float()

    def geometry(self, view: np.ndarray, indices: np.ndarray) -> Geometry:
        """What the teacher saw of each: (n,) view numbers and (n,) positions -> n geometries."""
        assert self.geometries is not None
        return self.geometries[torch.from_numpy(view * self.array.shape[1] + indices)]

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
    grid: tuple[int, int] | None = None,
    dims: int | None = None,
) -> FeatureBank:
    """Compute the bank of ``count`` views a sample, or find it in the cache.

    The address covers the weights, the preprocessing, the data, and the geometry's seed and bounds.

    Args:
        grid: Keep dense maps too, pooled to (h, w).
        dims: Keep so many principal directions of their channels (not centred: cosines stay as they are as nearly as
            can be); None: all.

    Raises:
        ConfigError: The disk has no room for the dense maps.
    """
    encoder.eval()
    bounds = [seed, area_min, flip] if count > 1 else []
    identity = [views.decoded.digest, views.size, str(views.device.type), encoder.card, encoder.arguments]
    address = digest(
        [
            VERSION,
            weights_digest(encoder),
            repr(encoder),
            identity,
            count,
            bounds,
            *([grid] if grid else []),
            *([dims] if dims else []),
        ]
    )

    def batch(view: int, rows: np.ndarray) -> Tensor:
        if view == 0:
            return views.plain(rows)
        return views.augmented(rows, _drawn(seed, view, int(rows[0])), area_min=area_min, flip=flip)

    def write(partial: Path) -> None:
        maps = (count, len(views), dims or encoder.dense_dim, *grid) if grid else None
        if maps:
            _require_room(partial, maps, progress)
        directions = _directions(encoder, views, grid, dims) if grid and dims else None
        pooled = new_array(partial / "pooled.npy", (count, len(views), encoder.dim), np.float32)
        dense = new_array(partial / "dense.npy", maps, np.float16) if maps else None
        with torch.inference_mode(), progress.track(title, count * len(views)) as advance:
            for view in range(count):
                for rows in _chunks(len(views)):
                    features = encoder(batch(view, rows))
                    pooled[view, rows] = features.pooled.float().cpu().numpy()
                    if dense is not None and grid:
                        cells = F.adaptive_avg_pool2d(features.dense, grid).float()
                        if directions is not None:
                            cells = torch.einsum("nchw,ck->nkhw", cells, directions)
                        dense[view, rows] = cells.half().cpu().numpy()
                    advance(len(rows), "")
        pooled.flush()
        if dense is not None:
            dense.flush()

    folder = cached_entry("features", address, write)
    maps = np.load(folder / "dense.npy", mmap_mode="c") if grid else None
    geometries = [_geometry(view, len(views), seed, area_min, flip) for view in range(count)] if grid else []
    followed = Geometry.cat(geometries) if grid else None
    return FeatureBank(np.load(folder / "pooled.npy", mmap_mode="c"), maps, followed)


@torch.inference_mode()
def _directions(encoder: Encoder, views: Views, grid: tuple[int, int], dims: int) -> Tensor:
    """(D', dims): the leading eigenvectors of the cells' second moments, over whole pictures."""
    moments = torch.zeros(encoder.dense_dim, encoder.dense_dim, dtype=torch.float64)
    chosen = evenly(len(views), PCA_SAMPLES)
    for start in range(0, len(chosen), CHUNK):
        features = encoder(views.plain(chosen[start : start + CHUNK]))
        cells = F.adaptive_avg_pool2d(features.dense, grid).double().cpu().permute(0, 2, 3, 1).flatten(0, 2)
        moments += cells.T @ cells
    vectors: Tensor = torch.linalg.eigh(moments).eigenvectors  # ascending
    return vectors.flip(1)[:, :dims].float().to(views.device)


def _chunks(count: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _drawn(seed: int, view: int, first: int) -> int:
    """The seed of one chunk of one view."""
    return int(digest([seed, view, first])[:8], 16)


def _geometry(view: int, count: int, seed: int, area_min: float, flip: bool) -> Geometry:
    """What :meth:`Views.augmented` draws for a view's chunks, drawn again."""
    if view == 0:
        return whole(count)
    parts = []
    for rows in _chunks(count):
        generator = torch.Generator().manual_seed(_drawn(seed, view, int(rows[0])))
        parts.append(draw_geometry(len(rows), generator, area_min=area_min, flip=flip))
    return Geometry.cat(parts)


def _require_room(folder: Path, shape: tuple[int, ...], progress: Progress) -> None:
    size, free = math.prod(shape) * 2, shutil.disk_usage(folder).free
    progress.note(f"dense source maps: {size / 1e6:.0f} MB in the cache")
    if size > 0.9 * free:
        raise ConfigError(
            f"the dense source maps take {size / 1e9:.1f} GB, and the cache's disk has {free / 1e9:.1f} GB left",
            "Lower distill.dense_dims (principal directions), distill.dense_grid or distill.views, or set CMCD_CACHE "
            "to a folder on a larger disk.",
        )
