"""The image modality: what the plugin's ``build`` returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cmcd_core import Encoder, Modality

from . import ImageOptions
from .augment import blur, recolour
from .decode import from_array, from_file


class Image(Modality):
    """RGB in [0, 1]; augmented as in SimCLR."""

    storage: ClassVar[Literal["float32", "uint8"]] = "uint8"
    channels = 3

    def __init__(self, options: ImageOptions) -> None:
        self.options = options

    def decode(self, raw: Path | bytes | np.ndarray) -> Tensor:
        """A file, its bytes, or an array (H, W), (H, W, 1 | 3 | 4) -> (3, H, W) in [0, 1]."""
        if isinstance(raw, np.ndarray):
            pixels = from_array(raw)
        else:
            pixels = from_file(raw if isinstance(raw, bytes) else Path(raw).read_bytes())
        return torch.from_numpy(pixels)

    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Colour jitter, greyscale and blur, drawn for each picture."""
        o = self.options
        batch = recolour(
            batch,
            generator,
            strength=o.color_jitter,
            probability=o.jitter_probability,
            grayscale=o.grayscale,
        )
        return blur(batch, generator, probability=o.blur, sigma=o.blur_sigma)

    def encoder(self, architecture: str | None = None, weights: str | Path | None = None, **model_args: Any) -> Encoder:
        """As everywhere; "efficientnet-lite0" is timm's network with weights that need no model hub."""
        from . import pretrained

        if architecture == pretrained.NAME:
            architecture = pretrained.ARCHITECTURE
            weights = pretrained.weights_file() if weights == "pretrained" else weights
        return super().encoder(architecture, weights, **model_args)
