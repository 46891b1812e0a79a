"""Views that a loader makes out of a file: computed when they are asked for, known by the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True)
class Computed:
    """Bytes made of a file when called.

    Attributes:
        make: Gives the bytes.
        known_by: Changes whenever the bytes do.
    """

    make: Callable[[], bytes]
    known_by: str

    def __call__(self) -> bytes:
        return self.make()


def computed(file: Path, how: str, make: Callable[[], bytes]) -> Computed:
    """What ``make`` gives, known by the file's path, size and time, and by ``how`` it is made."""
    try:
        status = file.stat()
        state = f"{status.st_size}|{status.st_mtime_ns}"
    except OSError:
        state = "missing"
    text = f"{file}|{state}|{how}".encode("utf-8", "surrogateescape")
    return Computed(make, blake2b(text, digest_size=16).hexdigest())


def npy(array: npt.NDArray[np.generic]) -> bytes:
    """The bytes of a .npy file."""
    out = BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


def ppm(pixels: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) -> a picture without any compression."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()


def png(ids: npt.NDArray[np.uint8]) -> bytes:
    """(H, W) -> a grey picture without loss."""
    out = BytesIO()
    Image.fromarray(ids).save(out, "png", compress_level=1)
    return out.getvalue()


def ids_from_one(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Class ids that count from 1, 0 for none -> ids that count from 0, 255 for none."""
    return np.where(labels == 0, 255, labels.astype(np.int64) - 1).astype(np.uint8)
