"""Masks from files, bytes and arrays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cmcd_core import DataError


def read_mask(value: Any) -> Tensor:
    """A picture of class ids (grey or palette; a path, its bytes, or an array) -> (H, W) uint8.

    Raises:
        DataError: It is a colour picture, or holds no whole numbers within 0 to 255.
    """
    if isinstance(value, Path | bytes):
        with Image.open(io.BytesIO(value) if isinstance(value, bytes) else value) as picture:
            if picture.mode not in ("L", "P", "1", "I;16", "I"):
                raise DataError(
                    f"a mask is one number a pixel, and this is a {picture.mode} picture",
                    "Save it as 8-bit grey or palette PNG: pixel values are class ids, 255 is ignored.",
                )
            if picture.format == "JPEG":
                raise DataError("a JPEG changes class ids", "Save masks as PNG.")
            array = np.asarray(picture)
    else:
        array = np.asarray(value)
    if array.ndim != 2 or not (array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)) or not array.size:
        raise DataError(
            f"a mask is an (H, W) array of class ids, and this is {array.dtype} of shape {array.shape}",
            "Give whole numbers, one a pixel; 255 is ignored.",
        )
    if int(array.min()) < 0 or int(array.max()) > 255:
        raise DataError(f"class ids go from 0 to 255, and here from {array.min()} to {array.max()}")
    return torch.from_numpy(array.astype(np.uint8))
