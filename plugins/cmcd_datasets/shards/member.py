"""One member of a tar as a view: bytes when called for, or an array that lies in the file."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cmcd_core import DataError

_HEADER = 65_536
"""More than any .npy header of plain numbers."""


@dataclass(frozen=True, slots=True)
class Member:
    """Bytes in a tar, read when called.

    Attributes:
        known_by: A digest of the bytes that the packer wrote, so that caches find them without reading them; "" where
            there is none.
    """

    path: Path
    name: str
    offset: int
    size: int
    known_by: str = ""

    def __call__(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        if len(content) < self.size:
            raise DataError(f"{self.path} is cut off within {self.name}.", "Copy or pack it again.")
        return content


def array_in(file: npt.NDArray[np.uint8], offset: int, size: int) -> npt.NDArray[np.generic] | None:
    """The array of a .npy member, lying in the mapped file; None where it is not one of plain numbers."""
    head = BytesIO(file[offset : offset + min(size, _HEADER)].tobytes())
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran, dtype = read[np.lib.format.read_magic(head)](head)
    except (ValueError, KeyError, EOFError):
        return None
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.hasobject or head.tell() + count * dtype.itemsize != size:
        return None
    flat = np.frombuffer(file, dtype, count, offset + head.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
