"""Where things that can be made again are kept: decoded data, teacher features, the demo data."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .errors import ConfigError

COMPLETE = "complete"


def cache_root() -> Path:
    """The cache's folder: ``CMCD_CACHE``, else the platform's usual place for caches."""
    if named := os.environ.get("CMCD_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "cmcd" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cmcd"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cmcd"


def cache_folder(kind: str) -> Path:
    """The existing folder for one kind of cached data, such as ``"demo"``.

    Raises:
        ConfigError: The folder cannot be made.
    """
    folder = cache_root() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the cache folder {folder}: {error.strerror}",
            "Set CMCD_CACHE to a folder that can be written.",
        ) from error
    return folder


def cached_entry(kind: str, address: str, write: Callable[[Path], None]) -> Path:
    """The folder of one cache entry; ``write(partial)`` fills it if it is not there yet.

    The entry appears whole or not at all, whatever crashes and however many processes make it at once.
    """
    folder = cache_folder(kind) / address
    if (folder / COMPLETE).is_file():
        return folder
    try:
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    except OSError as error:
        raise ConfigError(
            f"cannot write in the cache folder {folder.parent}: {error.strerror}",
            "Set CMCD_CACHE to a folder that can be written.",
        ) from error
    try:
        write(partial)
        (partial / COMPLETE).touch()
        try:
            os.replace(partial, folder)
        except OSError:  # another process was first, or debris lies there
            if not (folder / COMPLETE).is_file():
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
