"""Crops and flips as numbers, so that every view of a pair and its mask can share them.

A crop's shape comes from a short list while its place is free: samples of one shape are then resized together by the
modality's own ``resize``, which keeps holes and thin lines, at a tenth of the cost of one call a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

RATIOS = (3 / 4, 1.0, 4 / 3)
SCALES = 4


@dataclass(frozen=True)
class Geometry:
    """(N,) boxes as shares of the side, and (N,) mirrorings. ``shape`` numbers the distinct box shapes."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    shape: Tensor
    flip: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Geometry:
        """The numbers of some samples."""
        return Geometry(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def cat(cls, parts: Sequence[Geometry]) -> Geometry:
        """Several one after the other."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def whole(count: int) -> Geometry:
    """The whole picture, ``count`` times."""
    zero, one = torch.zeros(count), torch.ones(count)
    shape = torch.full((count,), SCALES * len(RATIOS))  # a number that no drawn crop has
    return Geometry(zero, zero, one, one, shape, zero.bool())


def draw_geometry(count: int, generator: torch.Generator, *, area_min: float, flip: bool) -> Geometry:
    """Random resized crops: area uniform in [area_min, 1], aspect 3/4 to 4/3, place uniform, mirrored by chance."""
    areas = torch.linspace(area_min, 1.0, SCALES)
    ratios = torch.tensor(RATIOS)
    shape = torch.randint(SCALES * len(RATIOS), (count,), generator=generator)
    area, ratio = areas[shape // len(RATIOS)], ratios[shape % len(RATIOS)]
    height, width = (area / ratio).sqrt().clamp(max=1.0), (area * ratio).sqrt().clamp(max=1.0)
    place = torch.rand(2, count, generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    return Geometry(place[0] * (1 - height), place[1] * (1 - width), height, width, shape, mirrored)


def apply_geometry(x: Tensor, geometry: Geometry, resize: Callable[[Tensor, int], Tensor], size: int) -> Tensor:
    """(N, C, S, S) -> (N, C, size, size): crop, resize, mirror, each sample by its own numbers."""
    side = x.shape[-1]
    top, left = (geometry.top * side).round().long().tolist(), (geometry.left * side).round().long().tolist()
    out = x.new_empty(*x.shape[:2], size, size)
    for shape in sorted(set(geometry.shape.tolist())):
        members = (geometry.shape == shape).nonzero().flatten()
        first = int(members[0])
        height = max(1, round(float(geometry.height[first]) * side))
        width = max(1, round(float(geometry.width[first]) * side))
        crops = torch.stack(
            [
                x[i, :, (y := min(top[i], side - height)) : y + height, (z := min(left[i], side - width)) : z + width]
                for i in members.tolist()
            ]
        )
        out[members] = resize(crops, size)
    flipped = geometry.flip.nonzero().flatten()
    out[flipped] = out[flipped].flip(-1)
    return out


def batched(resize: Callable[[Tensor, int], Tensor], channels: int) -> Callable[[Tensor, int], Tensor]:
    """``resize`` for (N, C, H, W): itself if it takes batches as a loop over samples would do, else that loop."""

    def loop(x: Tensor, size: int) -> Tensor:
        return torch.stack([resize(one, size) for one in x])

    probe = torch.rand(2, channels, 9, 7, generator=torch.Generator().manual_seed(0))
    try:
        together = resize(probe, 6)
        same = torch.allclose(together, loop(probe, 6), atol=1e-5)
    except Exception:  # a plugin's resize may well be written for one sample; then the loop serves
        same = False
    return resize if same else loop
