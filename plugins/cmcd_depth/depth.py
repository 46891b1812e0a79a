"""The depth modality: what the plugin's ``build`` returns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cmcd_core import DataError, Modality

from . import DepthOptions
from .augment import add_holes, add_noise, scale
from .colours import colour
from .encodings import inverse, log_depth, marked, normals, percentile
from .files import read
from .units import to_depth, unit_doubt


class Depth(Modality):
    """(1, H, W) maps, 0 where depth is missing; metres, or an arbitrary scale where the unit has none."""

    def __init__(self, options: DepthOptions) -> None:
        self.options = options
        self.channels = (3 if options.encoding == "normals" else 1) + int(options.validity)
        self.near, self.far = options.window

    def decode(self, raw: Path | bytes | np.ndarray) -> Tensor:
        """A 16-bit, 8-bit or float picture, a .npy file, its bytes, or an array -> (1, H, W), 0 = missing."""
        o = self.options
        depth = to_depth(read(raw), o.unit, metres=o.needs_metres)
        seen = bool(depth.any())
        # The window is applied before anything is resized: near and far surfaces are not blended across it.
        if o.near or o.far:
            depth[(depth < (o.near or 0)) | (depth > (o.far or math.inf))] = 0
        if not ((depth > 0) & (depth >= self.near) & (depth <= self.far)).any():
            raise DataError(*self._nothing_left(seen))
        return torch.from_numpy(depth)[None]

    def resize(self, x: Tensor, size: int) -> Tensor:
        """Average valid depth only; a pixel with less than half of its support valid is missing."""
        flat = x.reshape(-1, 1, *x.shape[-2:])
        both = flat.repeat(1, 2, 1, 1)
        torch.gt(flat, 0, out=both[:, 1:])
        both = F.interpolate(both, size=(size, size), mode="bilinear", antialias=True)
        total, share = both[:, :1], both[:, 1:]
        depth = (total / share.clamp_min(0.5)).masked_fill_(share < 0.5, 0.0)
        return depth.reshape(*x.shape[:-2], size, size)

    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Another scale, more noise and more holes; holes stay holes."""
        o = self.options
        batch = add_noise(scale(batch, generator, o.scale_jitter), generator, o.noise)
        return add_holes(batch, generator, o.hole_probability, o.hole_count, o.hole_size)

    def encode(self, batch: Tensor) -> Tensor:
        """Near is 1, far is low, missing is 0; (N, channels, H, W)."""
        o = self.options
        match o.encoding:
            case "percentile":
                values = percentile(batch, *o.percentiles)
            case "inverse":
                values = inverse(batch, *o.percentiles)
            case "log":
                values = log_depth(batch, self.near, self.far)
            case "normals":
                values = normals(batch, o.focal)
        return marked(values, batch > 0, channel=o.validity)

    def valid(self, batch: Tensor) -> Tensor:
        """Where depth is not missing."""
        return batch[:, 0] > 0

    def doubt(self, x: Tensor) -> str:
        """Another unit than the one it was read in."""
        return "" if self.options.unit in ("relative", "disparity") else unit_doubt(x.numpy())

    def picture(self, x: Tensor) -> np.ndarray:
        """Near is yellow, far is violet, missing is black."""
        batch = x[None, :1].float()
        return colour(percentile(batch, *self.options.percentiles)[0, 0], batch[0, 0] > 0)

    def _nothing_left(self, seen: bool) -> tuple[str, str]:
        if not seen:
            return "no pixel holds a depth (all are 0, negative or not finite)", "Leave this sample out."
        return (
            f"no pixel lies within {self.near:g} to {self.far:g} metres",
            f"Check near, far and the unit ({self.options.unit}), or leave this sample out.",
        )
