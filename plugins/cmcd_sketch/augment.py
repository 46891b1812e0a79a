"""How drawings vary: (N, 1, H, W) in [0, 1] -> the same, one draw a sketch; a strength of 0 changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .neighbours import largest

WAVES = 4
"""Control points of a displacement along each side."""


def warp(batch: Tensor, generator: torch.Generator, *, jitter: float, rotation: float, shear: float) -> Tensor:
    """Turn by up to ``rotation`` degrees, slant by up to ``shear``, displace smoothly by about ``jitter`` of the side.

    All in one sampling, since each blurs thin lines.
    """
    if not (jitter or rotation or shear):
        return batch
    n, _, height, width = batch.shape
    angle, slant = (2 * _draws(torch.rand, batch, generator, 2, n) - 1).unbind()
    angle, slant = angle * math.radians(rotation), slant * shear
    cos, sin = angle.cos().view(n, 1, 1), angle.sin().view(n, 1, 1)
    slant = slant.view(n, 1, 1)
    # Places are shares of the half side; turning them takes a square, which the picture need not be.
    y, x = (torch.linspace(1 / side - 1, 1 - 1 / side, side).to(batch) for side in (height, width))
    y = y[:, None] * height / width
    at = torch.stack([cos * x + (slant * cos - sin) * y, (sin * x + (slant * sin + cos) * y) * width / height], dim=-1)
    if jitter:
        waves = _draws(torch.randn, batch, generator, 2, n, WAVES, WAVES)
        moved = _smooth(batch, height).T @ waves @ _smooth(batch, width)
        at += 2 * jitter * moved.permute(1, 2, 3, 0)
    return F.grid_sample(batch, at, mode="bilinear", padding_mode="zeros", align_corners=False).clamp_(0, 1)


def thicken(batch: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Grow or shrink strokes by up to ``most`` of the longer side on each side; thin ones only lose their flanks."""
    if not most:
        return batch
    pixels = most * max(batch.shape[-2:])
    change = pixels * (2 * _draws(torch.rand, batch, generator, len(batch), 1, 1, 1) - 1)
    for done in range(math.ceil(pixels)):
        growth, loss = (change - done).clamp(0, 1), (-change - done).clamp(0, 1)
        wide = largest(batch)
        batch = batch + growth * (wide - batch) - loss * (batch - _thinner(batch, wide))
    return batch.clamp_(0, 1)


def break_strokes(batch: Tensor, generator: torch.Generator, most: float, size: float) -> Tensor:
    """Erase blots about ``size`` of the longer side wide, over up to ``most`` of the picture.

    A sketch that would lose more than half of its ink keeps all of it.
    """
    if not most:
        return batch
    n, _, height, width = batch.shape
    longer = max(height, width)
    cells = [max(2, round(side / longer / size)) + 1 for side in (height, width)]
    coarse = _draws(torch.randn, batch, generator, n, 1, *cells)
    noise = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    share = most * _draws(torch.rand, batch, generator, n, 1)
    threshold = _quantiles(noise[..., ::3, ::3].flatten(1), 1 - share).view(n, 1, 1, 1)
    sharpness = longer * size / 2  # a blot's edge is about one pixel wide
    broken = batch * (0.5 + sharpness * (threshold - noise)).clamp_(0, 1)
    left, before = broken.sum(dim=(1, 2, 3), keepdim=True), batch.sum(dim=(1, 2, 3), keepdim=True)
    return torch.where(left >= before / 2, broken, batch)


def _smooth(like: Tensor, side: int) -> Tensor:
    """(WAVES, side) weights of cubic interpolation between control points."""
    points = torch.eye(WAVES, dtype=like.dtype, device=like.device)
    return F.interpolate(points[None, None], size=(WAVES, side), mode="bicubic", align_corners=True)[0, 0]


def _thinner(batch: Tensor, wide: Tensor) -> Tensor:
    """Wide strokes lose their rim. Strokes too thin for that lose what is fainter than their ridge."""
    core = -largest(-batch)
    thin = batch - torch.minimum(largest(core), batch)
    return core + thin * batch / wide.clamp_min(1e-6)


def _quantiles(values: Tensor, shares: Tensor) -> Tensor:
    """(N, V), (N, 1) -> (N, 1): one quantile of each row."""
    ordered = values.sort(dim=1).values
    return ordered.gather(1, (shares * (values.shape[1] - 1)).round().long())


def _draws(draw: Callable[..., Tensor], batch: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    """Drawn where the generator lives, used where the batch lives."""
    return draw(shape, generator=generator, device=generator.device).to(batch)
