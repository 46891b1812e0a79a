"""File names out of the metadata: kept inside the folder, and looked up with one listing a folder."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def is_absolute(name: str) -> bool:
    """Whether the name is absolute on any system, so that data travels between them."""
    return name[:1] in ("/", "\\") or _DRIVE.match(name) is not None


def normal(name: str) -> str:
    """The name without '.', '..' and doubled '/', so that one file has one name. By text alone: links stay."""
    if ".." in name or "//" in name or "./" in name:
        return os.path.normpath(name).replace(os.sep, "/")
    return name


def leaves(name: str) -> bool:
    """Whether a normal, relative name leads out of its folder."""
    return name == ".." or name.startswith("../")


class FileIndex:
    """Tells whether files exist: lists each folder once rather than asking for each file (slow over a network)."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._folders: dict[str, dict[str, bool]] = {}

    def trouble(self, name: str) -> str:
        """Why this is no file that can be read: "" where it is one."""
        folder, _, base = name.rpartition("/")
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = self._list(folder)
        return "" if known.get(base) else self._ask(name)

    def _list(self, folder: str) -> dict[str, bool]:
        path = os.path.join(self._root, folder) if folder else self._root
        try:
            with os.scandir(path) as entries:
                return {entry.name: entry.is_file() for entry in entries}
        except OSError:
            return {}  # the single file then tells what is wrong

    def _ask(self, name: str) -> str:
        """Of the few that the listing does not name: absent, odd, or spelt otherwise on a system that allows it."""
        path = os.path.join(self._root, name)
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            return "is a link to nowhere" if os.path.islink(path) else "does not exist"
        except (OSError, ValueError) as error:
            return f"cannot be read ({getattr(error, 'strerror', None) or error})"
        if stat.S_ISDIR(mode):
            return "is a folder, not a file"
        return "" if stat.S_ISREG(mode) else "is not a regular file"
