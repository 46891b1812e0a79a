"""Masks as PNGs: the pixel is the class id, the palette makes it visible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from ..files import replacing
from .pictures import PALETTE, UNKNOWN

IGNORED = 255


def palette_picture(ids: np.ndarray) -> Image.Image:
    """(H, W) class ids from 0 to 255 as an 8-bit palette picture; colours as on the sheets of masks."""
    colours = [PALETTE[number % len(PALETTE)] for number in range(IGNORED)] + [UNKNOWN]
    picture = Image.fromarray(ids.astype(np.uint8))
    picture.putpalette([round(channel * 255) for colour in colours for channel in to_rgb(colour)])
    return picture


def write_mask(ids: np.ndarray, path: Path) -> None:
    """Write (H, W) class ids as a PNG."""
    with replacing(path) as partial:
        palette_picture(ids).save(partial, format="PNG")
