"""Arrays in files, to be filled; and which rows of many are looked at."""

from __future__ import annotations

import errno
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np


def new_array(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """A .npy file mapped into memory. Its room is taken at once: a mapped file that finds the disk full later kills the
    process by a signal (SIGBUS), without a word.

    Raises:
        OSError: The disk has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    out: np.memmap = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # others: this file system cannot
                    raise OSError(error.errno, error.strerror, str(path)) from error
    return out


def evenly(count: int, most: int) -> np.ndarray:
    """(n,) int64 positions among ``count``, in order, each once: all, or ``most`` of them from the first to the last.

    Example:
        >>> evenly(10, 4).tolist(), evenly(3, 4).tolist(), evenly(0, 4).tolist()
        ([0, 3, 6, 9], [0, 1, 2], [])
    """
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
