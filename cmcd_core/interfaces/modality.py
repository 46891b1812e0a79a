"""A kind of input: how raw data becomes what an encoder sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .encoder import Encoder


class Modality(ABC):
    """Decoding, resizing, augmentation, encoding and display of one kind of input.

    Attributes:
        spatial: A picture: it can be cropped and flipped, together with what ``PairedLoader.aligned`` says lies on
            the same pixels.
        channels: Channels of what :meth:`encode` returns.
        storage: How decoded values are cached. ``"uint8"`` is for values in [0, 1] that came from 8 bits.
    """

    spatial: ClassVar[bool] = True
    storage: ClassVar[Literal["float32", "uint8"]] = "float32"
    channels: int

    @abstractmethod
    def decode(self, raw: Path | bytes | np.ndarray) -> Tensor:
        """Raw data -> (C, H, W) float32, deterministic.

        Spatial modalities return the native size, others one constant shape. Whatever this raises, the core wraps
        in a DataError with the sample's key, the view and the path.
        """

    def resize(self, x: Tensor, size: int) -> Tensor:
        """(..., C, H, W) -> (..., C, size, size); spatial modalities only. Default: antialiased bilinear."""
        flat = x.reshape(-1, *x.shape[-3:])
        out = F.interpolate(flat, size=(size, size), mode="bilinear", antialias=True)
        return out.reshape(*x.shape[:-2], size, size)

    def augment(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """(N, C, H, W) -> same shape; photometric or modality-specific. Default: unchanged.

        What is drawn should follow from the generator and the batch's shape alone: then several processes that share a
        batch make of it what one would.
        """
        return batch

    def augment_in_place(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The same where a mask or a dense map lies on the picture: nothing moves. Default: :meth:`augment`."""
        return self.augment(batch, generator)

    def encode(self, batch: Tensor) -> Tensor:
        """(N, C, H, W) as decoded -> (N, channels, H, W) in [0, 1], what an encoder sees. Default: unchanged."""
        return batch

    def valid(self, batch: Tensor) -> Tensor | None:
        """(N, C, H, W) as decoded -> (N, H, W) bool, which pixels hold a measurement. Default: None, all do.

        Dense objectives leave places out where most pixels hold none (``Features.valid``).
        """
        return None

    def encoder(self, architecture: str | None = None, weights: str | Path | None = None, **model_args: Any) -> Encoder:
        """A network for this modality. Default: a :class:`TimmEncoder` with ``channels`` inputs."""
        from .timm_encoder import TimmEncoder

        return TimmEncoder(architecture, in_chans=self.channels, weights=weights, **model_args)

    def doubt(self, x: Tensor) -> str:
        """What looks wrong with one decoded view, such as another unit; "" where nothing does.

        ``cmcd data check`` counts the views of each text, so it should not hold the view's own numbers.
        """
        return ""

    def picture(self, x: Tensor) -> np.ndarray:
        """(C, H, W) as decoded -> (H, W, 3) uint8, for people. Default: grey or RGB of values in [0, 1]."""
        grey = x[:3] if x.shape[0] >= 3 else x[:1].expand(3, -1, -1)
        shown: np.ndarray = (grey.nan_to_num(0.0).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        return shown
