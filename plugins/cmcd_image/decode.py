"""Pictures of every kind -> (3, H, W) float32 in [0, 1]."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from cmcd_core import DataError

BACKGROUND = 1.0
"""Transparent pixels are shown on white, as a browser shows them."""

_ORIENTATION_TAG = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WITH_ALPHA = {"RGBA", "LA", "PA", "La", "RGBa"}


def from_file(data: bytes) -> np.ndarray:
    """Decode an image file, upright, its first frame.

    Raises:
        DataError: Empty, truncated, too large, or no picture.
    """
    if not data:
        raise DataError("the file is empty (0 bytes)", "Fetch or export this file again.")
    try:
        with Image.open(BytesIO(data)) as image:
            return from_array(_upright(_plain(image), _orientation(image)))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"not a picture that Pillow can read, or a damaged one (it begins with {data[:8]!r})",
            "Expected a JPEG, PNG, WebP, TIFF, … file; is this the right column or folder?",
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"the picture is too large to be safe: {error}", "Scale it down first.") from error
    except Exception as error:  # codecs fail in many ways: OSError, SyntaxError, struct.error, zlib.error …
        raise DataError(f"the picture is truncated or damaged: {error}", "Fetch or export this file again.") from error


def from_array(array: np.ndarray) -> np.ndarray:
    """Bring an array (H, W) or (H, W, 1 | 3 | 4) of bool, uint8, uint16, or floats in [0, 1] to RGB, (3, H, W).

    Raises:
        DataError: Another shape, type or range.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise DataError(
            f"an array of shape {array.shape} is not a picture",
            "Expected (height, width) or (height, width, channels) with 1, 3 or 4 channels.",
        )
    pixels = _unit_range(np.ascontiguousarray(array.transpose(2, 0, 1)))  # few bytes are moved while they are integers
    if len(pixels) == 4:
        alpha = pixels[3:]
        pixels = pixels[:3] * alpha + BACKGROUND * (1 - alpha)
    return pixels if len(pixels) == 3 else np.repeat(pixels, 3, axis=0)


def _unit_range(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        pixels = array.astype(np.float32)
        pixels /= np.float32(np.iinfo(array.dtype).max)
        return pixels
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"pixels of type {array.dtype} have no known range", "Expected bool, uint8, uint16, or floats in [0, 1]."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise DataError(
            f"pixel values from {low:g} to {high:g}; floating-point pictures must lie in [0, 1]",
            "Divide by the largest possible value, or store 8 bits.",
        )
    return array.astype(np.float32)


def _plain(image: Image.Image) -> Image.Image:
    """Palettes, CMYK, alpha and the rest as RGB, RGBA or a grey mode that NumPy reads without loss."""
    image.load()
    if image.mode.startswith(("I", "F")):
        return image  # Pillow's conversion would clip these to 8 bits
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("RGB")


def _upright(image: Image.Image, orientation: int) -> np.ndarray:
    if orientation in _TO_UPRIGHT:
        image = image.transpose(_TO_UPRIGHT[orientation])
    array = np.asarray(image)
    if image.mode == "I" and array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
        return array.astype(np.uint16)  # older Pillow opens 16-bit PNGs as 32-bit integers
    return array.astype(array.dtype.newbyteorder("="))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; broken EXIF data are no reason to refuse a picture."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        return 1
