"""Text files that people wrote: decoded with plain words about what is wrong with them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from cmcd_core import DataError

_SAVE_AS = "Save it as UTF-8 (in Excel: 'CSV UTF-8', in an editor: encoding UTF-8) and try again."
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark; line ends are left as they are."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if raw.startswith(_WIDE) or b"\0" in raw:
        raise DataError(f"{path.name} is not UTF-8 text: it looks like UTF-16 or a binary file ({path}).", _SAVE_AS)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(f"{path.name}, row {row}: byte 0x{byte:02x} is not valid UTF-8 ({path}).", _SAVE_AS) from error


def read_names(path: Path) -> list[str]:
    """Class names, one a line, in the order of their ids; [] where the file is absent or empty."""
    if not path.exists():
        return []
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    seen: dict[str, int] = {}
    for row, name in enumerate(lines, start=1):
        if not name:
            hint = "A class's id is its row, so none may be left empty: remove the row or name the class."
            raise DataError(f"{path.name}, row {row}: empty; expected one class name a row ({path}).", hint)
        if name in seen:
            hint = "Each class stands there once: remove one of the rows, or rename one of the classes."
            raise DataError(f"{path.name}, row {row}: '{name}' stands in row {seen[name]} already ({path}).", hint)
        seen[name] = row
    return lines


def nearest(name: str, known: Iterable[str]) -> str:
    """ "Did you mean 'depth'? ", or nothing."""
    close = get_close_matches(name.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.6)
    if not close:
        return ""
    return f"Did you mean '{next(k for k in known if k.lower() == close[0])}'? "
