"""SimCLR's photometric augmentation, one draw a picture, without a loop over pictures.

Brightness, contrast, saturation and hue (a rotation of the chroma plane of YIQ) are linear in the colour, keep
grey grey and so commute: the order that SimCLR shuffles does not matter, and all of them with greyscale are one
3×3 matrix and one offset a picture. Values are clamped once, at the end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
BRIGHTNESS = CONTRAST = SATURATION = 0.8
HUE = 0.2
"""Ranges at strength 1, as in SimCLR; hue in turns."""


def recolour(
    batch: Tensor, generator: torch.Generator, *, strength: float, probability: float, grayscale: float
) -> Tensor:
    """Colour jitter on a share ``probability`` of the pictures, greyscale on a share ``grayscale``."""
    n = len(batch)
    draws = torch.rand(6, n, generator=generator, device=generator.device).to(batch)
    jittered = draws[0] < probability
    brightness, contrast, saturation = (
        torch.where(jittered, _factor(draw, strength * span), 1.0)
        for draw, span in zip(draws[1:4], (BRIGHTNESS, CONTRAST, SATURATION), strict=True)
    )
    turn = torch.where(jittered, (2 * draws[4] - 1) * min(HUE * strength, 0.5), 0.0)
    saturation = torch.where(draws[5] < grayscale, 0.0, saturation)

    gain = brightness * contrast
    matrix = gain.view(n, 1, 1) * _chroma_matrices(saturation, turn)
    luma = batch.new_tensor(TO_YIQ[0]) @ batch.mean(dim=(2, 3)).T  # (N,) mean brightness
    offset = ((1 - contrast) * brightness * luma).view(n, 1, 1)
    mixed = torch.baddbmm(offset, matrix, batch.flatten(2))
    return mixed.clamp_(0, 1).view_as(batch)


def blur(batch: Tensor, generator: torch.Generator, *, probability: float, sigma: float) -> Tensor:
    """Gaussian blur of a share ``probability`` of the pictures, each with its own width.

    Rows and columns are multiplied by banded matrices: at the sizes trained on here that is faster than
    convolution, and it needs no padding, since each row of weights sums to one.
    """
    n, _, height, width = batch.shape
    draws = torch.rand(2, n, generator=generator, device=generator.device).to(batch)
    chosen = (draws[0] < probability).nonzero().flatten()
    if not len(chosen):
        return batch
    sigmas = (0.05 + 0.95 * draws[1, chosen]) * sigma * max(height, width)
    rows, columns = _weights(sigmas, height), _weights(sigmas, width)
    blurred = rows[:, None] @ batch[chosen] @ columns[:, None].transpose(-1, -2)
    return batch.index_copy(0, chosen, blurred.clamp_(0, 1))


def _factor(draw: Tensor, span: float) -> Tensor:
    low, high = max(0.0, 1 - span), 1 + span
    return low + (high - low) * draw


def _chroma_matrices(saturation: Tensor, turn: Tensor) -> Tensor:
    """(N, 3, 3) matrices that scale and turn the chroma of RGB colours and keep their luma."""
    to_yiq = saturation.new_tensor(TO_YIQ)
    cos, sin = (saturation * f(2 * math.pi * turn) for f in (torch.cos, torch.sin))
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turned = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=-1).view(-1, 3, 3)
    from_yiq = torch.linalg.inv(torch.tensor(TO_YIQ)).to(to_yiq)
    matrices: Tensor = from_yiq @ turned @ to_yiq
    return matrices


def _weights(sigmas: Tensor, size: int) -> Tensor:
    """(N, size, size) row-stochastic Gaussian weights."""
    at = torch.arange(size, device=sigmas.device, dtype=sigmas.dtype)
    distance = (at[:, None] - at) / sigmas.view(-1, 1, 1)
    return torch.softmax(-0.5 * distance**2, dim=-1)
