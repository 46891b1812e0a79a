"""Where things that can be made again are kept: decoded data, teacher features, the demo data, converted weights."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import CmcdError, ConfigError

COMPLETE = "complete"
PARTIAL = ".partial-"
BUSY_SECONDS = 3600.0
"""Something unfinished that was touched this recently is still being written."""
KINDS = {
    "decoded": "your data, decoded and scaled down",
    "features": "the frozen source encoder's features",
    "demo": "the generated demo data",
    "pretrained": "weights from installed packages, converted",
}
"""What is cached, in words. Plugins may add kinds, by :func:`cache_folder`."""
MADE = ".cmcd-cache"
"""Lists the kinds that cmcd made beside it. ``CMCD_CACHE`` may name a folder that holds other things too, and a
folder called "decoded" may be a user's own: only what is listed is ever deleted."""
MADE_HEADER = "# Folders here that cmcd made. What is in them can be made again; `cmcd cache clear` deletes it.\n"


@dataclass(frozen=True)
class Entry:
    """One thing in the cache.

    Attributes:
        size: In bytes.
        made: When it was last written to, in seconds since 1970.
        busy: It is being written.
    """

    path: Path
    size: int
    made: float
    busy: bool


@dataclass(frozen=True)
class Kind:
    """The entries of one kind; ``ours`` if cmcd made their folder, so that they may be deleted."""

    name: str
    ours: bool
    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries)


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
        if kind not in _made() and not any(folder.iterdir()):
            _mark(kind)
    except OSError as error:
        raise ConfigError(
            f"cannot make the cache folder {folder}: {error.strerror}",
            "Set CMCD_CACHE to a folder that can be written.",
        ) from error
    return folder


def cached_entry(kind: str, address: str, write: Callable[[Path], None]) -> Path:
    """The folder of one cache entry; ``write(partial)`` fills it if it is not there yet.

    The entry appears whole or not at all, whatever crashes and however many processes make it at once. One whose files
    have been cut short since is made again.

    Raises:
        CmcdError: The disk is full.
    """
    folder = cache_folder(kind) / address
    if _is_whole(folder):
        return folder
    try:
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    except OSError as error:
        raise ConfigError(
            f"cannot write in the cache folder {folder.parent}: {error.strerror}",
            "Set CMCD_CACHE to a folder that can be written.",
        ) from error
    try:
        write(partial)
        partial.chmod(folder.parent.stat().st_mode & 0o777)  # mkdtemp's are for its user alone: caches are shared
        (partial / COMPLETE).write_text(json.dumps(_sizes(partial)), encoding="utf-8")
        try:
            os.replace(partial, folder)
        except OSError:  # another process was first, or debris lies there
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(partial, folder)
    except OSError as error:
        if error.errno is None:
            raise
        raise CmcdError(
            f"cannot write {folder}: {error.strerror}",
            "Free some room (`cmcd cache clear` does), or set CMCD_CACHE to a folder on another disk.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _is_whole(folder: Path) -> bool:
    """Every file has the size that it was written with."""
    try:
        text = (folder / COMPLETE).read_text(encoding="utf-8")
        return not text or bool(json.loads(text) == _sizes(folder))  # earlier versions wrote no sizes
    except (OSError, ValueError):
        return False


def contents() -> tuple[Kind, ...]:
    """What lies in the cache, kind by kind; links are neither followed nor counted.

    Raises:
        ConfigError: A folder of it cannot be read.
    """
    root, made = cache_root(), _made()
    found = []
    try:
        for name in sorted({*KINDS, *made}):
            folder = root / name
            if folder.is_symlink():
                found.append(Kind(name, False, ()))
            elif folder.is_dir():
                entries = (_entry(path) for path in sorted(folder.iterdir()) if not path.is_symlink())
                found.append(Kind(name, name in made, tuple(entries)))
    except OSError as error:
        raise ConfigError(f"cannot read the cache in {root}: {error}") from error
    return tuple(found)


def known_kinds() -> tuple[str, ...]:
    """Every kind there may be here: cmcd's own, and those that plugins added."""
    return tuple(sorted({*KINDS, *_made()}))


def remove(entry: Entry) -> None:
    """Delete one entry. A crash half-way leaves nothing that looks whole: it gets an unfinished one's name first.

    Raises:
        OSError: It is in use, or belongs to somebody else.
    """
    path = entry.path
    away = path.with_name(f"{PARTIAL}deleted-{os.getpid()}-{path.name}"[:250])
    with suppress(FileNotFoundError):  # another process was first
        path.rename(away)
        if away.is_dir() and not away.is_symlink():
            shutil.rmtree(away)
        else:
            away.unlink()


def _entry(path: Path) -> Entry:
    size, made = 0, 0.0
    inside = (Path(folder) / name for folder, folders, files in os.walk(path) for name in (*folders, *files))
    for part in (path, *inside):
        with suppress(FileNotFoundError):  # whoever writes it may be at work
            status = part.lstat()
            made = max(made, status.st_mtime)
            size += 0 if stat.S_ISDIR(status.st_mode) or part.name == COMPLETE else status.st_size
    return Entry(path, size, made, path.name.startswith(PARTIAL) and made > time.time() - BUSY_SECONDS)


def _made() -> set[str]:
    """The kinds whose folders cmcd made."""
    try:
        lines = (cache_root() / MADE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return set()
    return {line for line in lines if line and Path(line).name == line and not line.startswith((".", "#"))}


def _mark(kind: str) -> None:
    """Remember that cmcd made this kind's folder. One short append: processes do not cut into each other's."""
    file = cache_root() / MADE
    header = "" if file.exists() else MADE_HEADER
    with suppress(OSError), file.open("a", encoding="utf-8") as out:  # unmarked only means never deleted
        out.write(f"{header}{kind}\n")
