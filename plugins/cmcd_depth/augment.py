"""How depth maps vary: (N, 1, H, W) -> the same, one draw a map; what is missing stays missing."""

from __future__ import annotations

import torch
from torch import Tensor


def scale(batch: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Multiply each map by a factor, log-uniform from 1 / (1 + most) to 1 + most."""
    exponents = 2 * _uniform(batch, generator, len(batch), 1, 1, 1) - 1
    return batch * (1 + most) ** exponents


def add_noise(batch: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Add Gaussian noise that grows with the depth; it can neither make nor fill a hole."""
    if not share:
        return batch
    noise = torch.randn(batch.shape, generator=generator, device=generator.device).to(batch)
    return noise.mul_(share).add_(1).clamp_min_(0.1).mul_(batch)


def add_holes(batch: Tensor, generator: torch.Generator, probability: float, count: int, size: float) -> Tensor:
    """Punch up to ``count`` elliptic holes into a share of the maps, each up to ``size`` of the map wide."""
    n, _, height, width = batch.shape
    has_holes = _uniform(batch, generator, n, 1) < probability
    wanted = (_uniform(batch, generator, n, 1) * count).ceil()
    number = torch.arange(count, device=batch.device)
    exists = (has_holes & (number < wanted)).view(n, count, 1, 1)
    at_y, at_x, radius_y, radius_x = _uniform(batch, generator, 4, n, count, 1, 1)
    y = (torch.arange(height, device=batch.device) + 0.5).div(height).view(-1, 1)
    x = (torch.arange(width, device=batch.device) + 0.5).div(width)
    far_y, far_x = ((y - at_y) / (radius_y * size / 2)) ** 2, ((x - at_x) / (radius_x * size / 2)) ** 2
    far_y = torch.where(exists, far_y, torch.inf)
    nearest = far_y[:, 0] + far_x[:, 0]
    for hole in range(1, count):  # a map of distances at a time is much faster than one of all of them
        torch.minimum(nearest, far_y[:, hole] + far_x[:, hole], out=nearest)
    return batch.masked_fill(nearest[:, None] < 1, 0.0)


def _uniform(batch: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    """Drawn where the generator lives, used where the batch lives."""
    return torch.rand(shape, generator=generator, device=generator.device).to(batch)
