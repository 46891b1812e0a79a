"""Resizing that keeps thin lines: a stroke is drawn at least about one pixel wide, and wide ones keep their width."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .neighbours import beside, largest, mean

COARSE = 4
"""Beyond this factor, the largest ink of each cell stands for it before lines are widened."""
THIN, WIDE = 0.6, 0.2
"""Of the ink that a line one pixel wide would lose: what loses this share is kept fully, or is left to averaging."""
OPEN, FULL = 0.12, 0.45
"""Lines with less ink around them than the first are widened fully; with more than the second, as in hatching, not."""


def resize(x: Tensor, size: int) -> Tensor:
    """(N, 1, H, W) in [0, 1] -> (N, 1, size, size) in [0, 1]."""
    average = _average(x, size)
    factor = math.sqrt(max(x.shape[-2] / size, 1) * max(x.shape[-1] / size, 1))
    if factor == 1:
        return average
    cells = [2 * size if side > COARSE * size else side for side in x.shape[-2:]]
    if cells != list(x.shape[-2:]):
        x = F.adaptive_max_pool2d(x, cells)
    for axis, side in zip((-2, -1), cells, strict=True):
        x = widened(x, axis, side / size)
    lines = _average(x, size)
    # Both compared at their peaks nearby: it is the stroke's width that counts, not how far its flank is.
    loss = 1 - 1 / factor
    lost = (1 - largest(average) / largest(lines).clamp_min(1e-6)) / loss
    density = mean(average)
    weight = ((lost - WIDE) / (THIN - WIDE)).clamp_(0, 1) * ((FULL - density) / (FULL - OPEN)).clamp_(0, 1)
    # Averaging spreads even a widened line over two pixels: its middle tones are lifted, its extremes stay.
    return torch.lerp(average, lines + loss * lines * (1 - lines), weight).clamp_(0, 1)


def widened(x: Tensor, axis: int, width: float) -> Tensor:
    """Ink spread along ``axis`` so that a line one pixel wide becomes ``width`` pixels wide; ``width`` < 1 is 1."""
    while width > 1:
        x = torch.lerp(x, beside(x, axis, torch.maximum), min((width - 1) / 2, 1.0))
        width -= 2
    return x


def _average(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True).clamp_(0, 1)
