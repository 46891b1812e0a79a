"""From an encoder's maps to logits for each class at each place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcd_core import Features


class LinearMaps(nn.Module):
    """A 1×1 layer on each of the encoder's maps; their logits are added at the finest map's size.

    Args:
        dims: Channels of each map, fine to coarse; the last is the dense map.
        classes: Number of classes K.
    """

    def __init__(self, dims: Sequence[int], classes: int) -> None:
        super().__init__()
        last = len(dims) - 1
        self.layers = nn.ModuleList(nn.Conv2d(dim, classes, 1, bias=n == last) for n, dim in enumerate(dims))

    def forward(self, features: Features) -> Tensor:
        """Features -> (N, K, h, w) at the finest map's size."""
        logits = [layer(part) for layer, part in zip(self.layers, maps(features, len(self.layers)), strict=True)]
        return torch.stack([resized(each, logits[0]) for each in logits]).sum(0)


class Decoder(nn.Module):
    """A feature pyramid (Lin et al., arXiv 1612.03144): coarse maps are added to finer ones, then classified.

    Args:
        dims: Channels of each map, fine to coarse; the last is the dense map.
        classes: Number of classes K.
        width: Channels in between.
    """

    def __init__(self, dims: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, width, 1, bias=False), nn.BatchNorm2d(width)) for dim in dims
        )
        self.smooth = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: Features) -> Tensor:
        """Features -> (N, K, h, w) at the finest map's size."""
        parts = [layer(part) for layer, part in zip(self.lateral, maps(features, len(self.lateral)), strict=True)]
        merged = parts[-1]
        for finer in reversed(parts[:-1]):
            merged = finer + resized(merged, finer)
        logits: Tensor = self.classify(self.smooth(merged))
        return logits


def maps(features: Features, count: int) -> list[Tensor]:
    """The last ``count`` of the encoder's maps, fine to coarse."""
    assert features.dense is not None
    return [*(features.pyramid or ()), features.dense][-count:]


def resized(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W) of another map, bilinear."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
