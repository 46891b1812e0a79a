"""What an encoder sees of depth: (N, 1, H, W) maps, 0 = missing -> values in [0, 1], each map on its own.

Near is 1 and far is 0, so that a missing background and a far one look alike, and what is close stands out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

FLOOR = 0.1
"""The smallest valid value where no channel tells valid pixels from missing ones (0)."""
GRID = 1024
"""Percentiles are taken over about so many pixels of each map, on a regular grid."""
LEAST_RELIEF = 1e-3
"""A map's scale spans at least this share of its depth: the noise of a flat wall is not stretched to full range."""


def marked(values: Tensor, valid: Tensor, *, channel: bool) -> Tensor:
    """Set missing pixels to 0, told apart by a channel of their own or by valid values starting at FLOOR."""
    mask = valid.to(values.dtype)
    if channel:
        return torch.cat([values * mask, mask], dim=1)
    return values.mul(1 - FLOOR).add_(FLOOR).mul_(mask)


def percentile(depth: Tensor, low: float, high: float) -> Tensor:
    """Depth between two percentiles of its map."""
    return _stretched(depth, depth > 0, low, high).neg_().add_(1)


def inverse(depth: Tensor, low: float, high: float) -> Tensor:
    """Inverse depth between two percentiles of its map: near surfaces take more of the range."""
    valid = depth > 0
    return _stretched(torch.where(valid, 1 / depth, 0.0), valid, low, high)


def log_depth(depth: Tensor, near: float, far: float) -> Tensor:
    """The logarithm of metres on one scale for all maps."""
    return (math.log(far) - depth.clamp_min(near).log()).div(math.log(far / near)).clamp(0, 1)


def normals(depth: Tensor, focal: float) -> Tensor:
    """Surface normals as x (right), y (down) and z (to the viewer); x and y are shifted to [0, 1].

    Slopes are those of log depth: a pixel at depth z is z / focal wide, which makes them free of the depth's unit.
    """
    logs, valid = depth.clamp_min(1e-12).log(), depth > 0
    width = depth.shape[-1]
    x, y = (focal * width * _slope(logs, valid, axis) for axis in (3, 2))
    z = (x * x + y * y + 1).rsqrt()
    return torch.cat([(x * z + 1) / 2, (y * z + 1) / 2, z], dim=1).clamp_(0, 1)


def _slope(values: Tensor, valid: Tensor, axis: int) -> Tensor:
    """Mean of the differences to the valid neighbours before and after; 0 where there are none."""
    size = values.shape[axis]
    known = (valid.narrow(axis, 1, size - 1) & valid.narrow(axis, 0, size - 1)).to(values.dtype)
    step = values.diff(dim=axis) * known
    total, count = torch.zeros_like(values), torch.zeros_like(values)
    for start in (0, 1):
        total.narrow(axis, start, size - 1).add_(step)
        count.narrow(axis, start, size - 1).add_(known)
    return total / count.clamp_min_(1)


def _stretched(values: Tensor, valid: Tensor, low: float, high: float) -> Tensor:
    """Values between two percentiles of each map's valid ones -> [0, 1]."""
    start, end = _percentiles(values, valid, low, high)
    span = torch.maximum(end - start, LEAST_RELIEF * end).clamp_min(torch.finfo(values.dtype).tiny)
    return values.sub(start).div_(span).clamp_(0, 1)


def _sorted(rows: Tensor) -> Tensor:
    """Each row in ascending order. On a CPU NumPy sorts floats several times as fast as torch."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.sort(rows.numpy(), axis=1))
    return rows.sort(dim=1).values


def _percentiles(values: Tensor, valid: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """(N, 1, 1, 1) percentiles of the valid pixels on a grid; (0, 0) for a map without any."""
    n, _, height, width = values.shape
    step = max(1, round(math.sqrt(height * width / GRID)))
    grid, seen = (t[..., step // 2 :: step, step // 2 :: step].flatten(1) for t in (values, valid))
    ordered = _sorted(torch.where(seen, grid, torch.inf))
    last = (seen.sum(dim=1, keepdim=True) - 1).clamp_min(0)
    low_high = torch.cat([_at(ordered, low / 100 * last), _at(ordered, high / 100 * last)], dim=1)
    missed = ~seen.any(dim=1, keepdim=True)
    if missed.any():  # the grid may miss the few valid pixels of a map
        extremes = torch.stack(
            [
                torch.where(valid, values, torch.inf).amin(dim=(1, 2, 3)),
                torch.where(valid, values, 0.0).amax(dim=(1, 2, 3)),
            ],
            dim=1,
        )
        low_high = torch.where(missed, extremes, low_high)
    low_high = low_high.nan_to_num(0.0, posinf=0.0).view(n, 2, 1, 1)
    return low_high[:, :1], low_high[:, 1:]


def _at(ordered: Tensor, position: Tensor) -> Tensor:
    """(N, 1) values at fractional positions of sorted rows."""
    below = position.floor().long()
    above = (below + 1).minimum(position.ceil().long())
    return torch.lerp(ordered.gather(1, below), ordered.gather(1, above), position - below)
