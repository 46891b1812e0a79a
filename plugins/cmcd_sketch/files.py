"""Picture files and arrays -> (H, W, 1 | 3 | 4) float32 in [0, 1], as they were drawn: grey, RGB or RGBA."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cmcd_core import DataError

EXPECTED = "Expected a drawing as PNG, JPEG, WebP, TIFF, …; is this the right column or folder?"
_WITH_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}


def read(raw: Path | bytes | np.ndarray) -> np.ndarray:
    """A file (its first frame, upright), its bytes, or an array (H, W), (H, W, 1 | 3 | 4).

    Raises:
        DataError: Empty, truncated, too large, or no picture.
    """
    if isinstance(raw, np.ndarray):
        return _checked(raw)
    data = raw if isinstance(raw, bytes) else Path(raw).read_bytes()
    if not data:
        raise DataError("the file is empty (0 bytes)", "Fetch or export this file again.")
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
            return _checked(_native(_plain(_upright(image))))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"not a picture that Pillow can read (it begins with {data[:8]!r})", EXPECTED) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"the picture is too large to be safe: {error}", "Scale it down first.") from error
    except Exception as error:  # codecs fail in many ways: OSError, SyntaxError, struct.error, zlib.error …
        raise DataError(f"the picture is truncated or damaged: {error}", "Fetch or export this file again.") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data are no reason to refuse a picture
        return image


def _plain(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return image  # Pillow's conversion would clip these to 8 bits
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def _native(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    if image.mode == "I" and array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        return array.astype(np.uint16)  # older Pillow opens 16-bit PNGs as 32-bit integers
    return array.astype(array.dtype.newbyteorder("="))


def _checked(array: np.ndarray) -> np.ndarray:
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise DataError(
            f"an array of shape {array.shape} is not a picture",
            "Expected (height, width) or (height, width, channels) with 1, 3 or 4 channels.",
        )
    if array.dtype in (np.uint8, np.uint16):
        return pixels.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    if array.dtype.kind not in "bf":
        raise DataError(
            f"pixels of type {array.dtype} have no known range", "Expected bool, uint8, uint16, or floats in [0, 1]."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise DataError(
            f"pixel values from {low:g} to {high:g}; floating-point pictures must lie in [0, 1]",
            "Divide by the largest possible value, or store 8 bits.",
        )
    return pixels.astype(np.float32)
