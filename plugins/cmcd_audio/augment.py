"""How sounds vary: (N, 1, bands, frames) in dB above the floor -> the same, one draw a sound. 0 is silence.

All but ``move`` write into the batch they are given: memory that is new each time costs more than the sums do.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def move(
    heights: Tensor, generator: torch.Generator, *, shift: float, tempo: float, warp: float, edges: tuple[float, float]
) -> Tensor:
    """Shift and stretch in time, scale all frequencies; what comes in from outside is silence.

    Args:
        shift: Most of the shift, as a share of the frames.
        tempo, warp: Factors are log-uniform from 1 / (1 + this) to 1 + this.
        edges: Where the bands begin and end, in mel.
    """
    if not (shift or tempo or warp):
        return heights
    n, _, bands, frames = heights.shape
    late, fast, high = (2 * _uniform(heights, generator, 3, n, 1) - 1).unbind()
    columns = torch.linspace(-1, 1, frames, device=heights.device)
    x = (columns - 2 * shift * late) * (1 + tempo) ** fast
    y = _warped(torch.arange(bands, device=heights.device), (1 + warp) ** high, edges)
    shape = (n, bands, frames)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(heights, grid.to(heights), mode="bilinear", padding_mode="zeros", align_corners=True)


def amplify(heights: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Add up to ``most`` dB to all that is above the floor, or take them away."""
    if not most:
        return heights
    gain = most * (2 * _uniform(heights, generator, len(heights), 1, 1, 1) - 1)
    return heights.addcmul_((heights > 0).to(heights), gain).clamp_min_(0)


def hiss(heights: Tensor, generator: torch.Generator, most: float) -> Tensor:
    """Mix with noise of one level in all bands, up to ``most`` dB above the floor."""
    if not most:
        return heights
    n, _, bands, frames = heights.shape
    level = most * _uniform(heights, generator, n, 1, 1, 1)
    # The power of noise in a band is spread by some 3 dB from frame to frame.
    grain = torch.randn((n, 1, bands, frames), generator=generator, device=generator.device).to(heights)
    noise = grain.mul_(3).add_(level)
    # Two powers a dB apart by d add up to the larger one and 10 log10(1 + 10^(-d/10)).
    apart = (heights - noise).abs_().mul_(-math.log(10) / 10).exp_().log1p_()
    return torch.maximum(heights, noise, out=heights).add_(apart, alpha=10 / math.log(10)).clamp_min_(0)


def mask(heights: Tensor, generator: torch.Generator, *, width: float, count: int, axis: int) -> Tensor:
    """Silence ``count`` ranges of ``axis``, each up to ``width`` of it wide, as SpecAugment does."""
    if not width:
        return heights
    n, size = len(heights), heights.shape[axis]
    wide, at = _uniform(heights, generator, 2, n, count, 1)
    wide = wide * width
    start = at * (1 - wide)
    middle = (torch.arange(size, device=heights.device) + 0.5) / size
    hidden = ((middle >= start) & (middle < start + wide)).any(dim=1)
    shape = [n, 1, 1, 1]
    shape[axis] = size
    return heights.masked_fill_(hidden.view(shape), 0.0)


def _warped(band: Tensor, factor: Tensor, edges: tuple[float, float]) -> Tensor:
    """(N, bands) where in [-1, 1] each band lies before all frequencies are multiplied by (N, 1) ``factor``."""
    low, high = edges
    step = (high - low) / (len(band) + 1)
    mels = low + step * (band + 1)  # the bands' centres
    frequency = (10 ** (mels / 2595) - 1) / factor  # in units of 700 Hz
    position = ((1 + frequency).log10() * 2595 - low) / step - 1
    return position / (len(band) - 1) * 2 - 1


def _uniform(heights: Tensor, generator: torch.Generator, *shape: int) -> Tensor:
    """Drawn where the generator lives, used where the batch lives."""
    return torch.rand(shape, generator=generator, device=generator.device).to(heights)
