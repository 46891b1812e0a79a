"""Where each member of a tar lies, and what of a tar is refused."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cmcd_core import DataError

from ..folder.paths import is_absolute, leaves, normal

BLOCK = tarfile.BLOCKSIZE
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_AGAIN = "Copy or pack it again."


class Place(NamedTuple):
    """A member: its name, and where its bytes are in the tar."""

    name: str
    offset: int
    size: int


def places(path: Path) -> Iterator[Place]:
    """Every plain file in the tar, in order; its headers are read, its contents are not.

    Raises:
        DataError: The file cannot be read, is compressed, cut off or damaged, or holds a member that is no plain file
            or whose name is absolute, leaves the tar or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            _refuse_compressed(path, file)
            yield from _places(path, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _places(path: Path, file: BinaryIO) -> Iterator[Place]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                vars(tar)["members"] = []  # tarfile keeps them all
                if not member.isdir():
                    yield Place(_checked(path, member), member.offset_data, member.size)
            end = tar.offset
    except tarfile.ReadError as error:
        cut = "unexpected end" in str(error) or "truncated" in str(error)
        raise _cut_off(path) if cut else DataError(f"{path} is no tar file, or a damaged one: {error}.", _AGAIN) from (
            error
        )
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise DataError(f"{path} is damaged: {error}.", _AGAIN) from error
    _check_end(path, file, end)


def _refuse_compressed(path: Path, file: BinaryIO) -> None:
    start = file.read(8)
    file.seek(0)
    if not start:
        raise DataError(f"{path} is empty (0 bytes); expected a tar file.", _AGAIN)
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            hint = "Decompress it: pictures gain nothing by it, and only plain tars can be read at any place."
            raise DataError(f"{path} is compressed ({name}); expected a plain tar file.", hint)


def _check_end(path: Path, file: BinaryIO, end: int) -> None:
    """tarfile takes a damaged header in the middle for the end, and a missing end mark for none."""
    file.seek(end)
    mark = file.read(2 * BLOCK)
    if any(mark[:BLOCK]) and len(mark) >= BLOCK:
        raise DataError(f"{path} is damaged: no tar header at byte {end}.", _AGAIN)
    if len(mark) < 2 * BLOCK or any(mark):
        raise _cut_off(path)


def _cut_off(path: Path) -> DataError:
    return DataError(f"{path} is cut off: it ends before its end mark ({path.stat().st_size} bytes are there).", _AGAIN)


def _checked(path: Path, member: tarfile.TarInfo) -> str:
    """The member's name in normal form, if it is a plain file that stays inside."""
    name = member.name
    if not member.isreg() or member.issparse():
        kinds = {"a link": member.issym() or member.islnk(), "a sparse file": member.issparse()}
        kind = next((kind for kind, true in kinds.items() if true), "a device or pipe")
        raise DataError(f"{path}: member {name!r} is {kind}; shards hold plain files only.", "Pack the data again.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: member {name!r}: the name is not UTF-8.", "Rename it and pack again.") from None
    if is_absolute(name) or leaves(normal(name)) or ".." in name.replace("\\", "/").split("/"):
        kind = "an absolute name" if is_absolute(name) else "a name that leaves the tar by '..'"
        raise DataError(f"{path}: member {name!r} has {kind}.", "Pack the data again, with relative names.")
    return normal(name)
