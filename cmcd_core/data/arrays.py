"""Arrays in files, to be filled."""

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
