"""Depth files and arrays -> (H, W) arrays of what they hold, whatever it means."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cmcd_core import DataError

EXPECTED = "Expected a 16-bit or 8-bit grey PNG or TIFF, a float TIFF, or a .npy file of shape (height, width)."
_NPY = b"\x93NUMPY"


def read(raw: Path | bytes | np.ndarray) -> np.ndarray:
    """The (H, W) numbers of a file, its bytes, or an array.

    Raises:
        DataError: Empty, truncated, or no single-channel map of numbers.
    """
    if isinstance(raw, np.ndarray):
        return _single_channel(raw)
    data = raw if isinstance(raw, bytes) else Path(raw).read_bytes()
    if not data:
        raise DataError("the file is empty (0 bytes)", EXPECTED)
    try:
        return _single_channel(_npy(data) if data.startswith(_NPY) else _picture(data))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"not a depth map (the file begins with {data[:8]!r})", EXPECTED) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"the depth map is too large to be safe: {error}", "Scale it down first.") from error
    except Exception as error:  # codecs fail in many ways: OSError, SyntaxError, struct.error, zlib.error …
        raise DataError(f"the depth map is truncated or damaged: {error}", EXPECTED) from error


def _npy(data: bytes) -> np.ndarray:
    array: np.ndarray = np.load(BytesIO(data), allow_pickle=False)  # a pickle can run code
    return array


def _picture(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as image:
        if image.mode == "P" or image.mode == "1":
            raise DataError(f"a picture of mode {image.mode} shows depth, but does not hold it", EXPECTED)
        values = np.asarray(image)
    if image.mode == "I" and values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max:
        return values.astype(np.uint16)  # older Pillow opens 16-bit PNGs as 32-bit integers
    return values


def _single_channel(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "uif":
        raise DataError(f"values of type {array.dtype} are no depth", EXPECTED)
    if array.ndim == 3 and array.shape[2] == 3 and (array == array[..., :1]).all():
        array = array[..., 0]  # a grey map saved as RGB
    elif array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim == 3:
        raise DataError(f"shape {array.shape}: a colour picture or a stack of maps is not one depth map", EXPECTED)
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"shape {array.shape} is not that of a depth map", EXPECTED)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
