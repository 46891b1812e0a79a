"""The sketch modality: what the plugin's ``build`` returns."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cmcd_core import Modality

from . import SketchOptions
from .augment import break_strokes, thicken, warp
from .files import read
from .ink import ink
from .resize import resize


class Sketch(Modality):
    """(1, H, W) in [0, 1]: ink is 1, paper is 0."""

    storage: ClassVar[Literal["float32", "uint8"]] = "uint8"
    channels = 1

    def __init__(self, options: SketchOptions) -> None:
        self.options = options

    def decode(self, raw: Path | bytes | np.ndarray) -> Tensor:
        """A file, its bytes, or an array (H, W), (H, W, 1 | 3 | 4) -> (1, H, W), ink = 1 whatever its colour."""
        return torch.from_numpy(ink(read(raw), self.options.polarity))[None]

    def resize(self, x: Tensor, size: int) -> Tensor:
        """Averaged, but thin lines stay visible and whole."""
        return resize(x.reshape(-1, 1, *x.shape[-2:]), size).reshape(*x.shape[:-2], size, size)

    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Another hand: strokes moved, thicker or thinner, and broken, drawn for each sketch."""
        o = self.options
        batch = warp(batch, generator, jitter=o.jitter, rotation=o.rotation, shear=o.shear)
        return self.augment_in_place(batch, generator)

    def augment_in_place(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The same without moving strokes."""
        o = self.options
        batch = thicken(batch, generator, o.thickness)
        return break_strokes(batch, generator, o.gaps, o.gap_size)

    def picture(self, x: Tensor) -> np.ndarray:
        """Dark ink on white paper."""
        return super().picture(1 - x)
