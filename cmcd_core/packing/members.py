"""What a sample becomes in a tar: members KEY.FIELD.TYPE, and one .json for all that is no file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..data.digest import raw_digest
from ..errors import DataError
from ..interfaces.loader import Sample

LABEL = "label"
FILES = ("mask",)
"""Targets with a name of their own; others are written as target-NAME."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_STARTS: Mapping[bytes, str] = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"\x93NUMPY": "npy",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"ID3": "mp3",
    b"\xff\xfb": "mp3",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"P5": "pgm",
    b"P6": "ppm",
}


def members(sample: Sample, classes: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every member of one sample.

    Raises:
        DataError: A view cannot be read, or a target cannot be written.
    """
    stem = member_key(sample.key)
    record: dict[str, Any] = {"key": sample.key} if sample.key != stem else {}
    if sample.weight != 1:
        record["weight"] = sample.weight
    known_by: dict[str, str] = {}
    for field, raw in _raws(sample):
        content, kind = _content(sample.key, field, raw)
        yield f"{stem}.{field}.{kind}", content
        if kind != "npy":  # arrays are read in place
            known_by[field] = raw_digest(content)
    plain = dict(_plain_targets(sample))
    if (label := _label(plain.get(LABEL), classes.get(LABEL, ()))) is not None:
        del plain[LABEL]
        yield f"{stem}.{LABEL}.txt", label.encode()
    if plain:
        record["targets"] = plain
    yield f"{stem}.json", json.dumps({"cmcd": record | {"known_by": known_by}}).encode()


def member_key(key: str) -> str:
    """A key as members are called: no dot, no empty part, nothing that a shell or a file system minds.

    Other characters than letters, digits, "-", "_" and "/" are percent-encoded, so that no two keys become one.
    """
    slash = "/" if all(key.split("/")) else "%2F"
    return slash.join("".join(map(_encoded, part)) for part in key.split("/")) or "%"


def _encoded(character: str) -> str:
    if character.isalnum() or character in "-_":
        return character
    return (
        "%2E" if character == "." else "%7E" if character == "~" else quote(character, safe="", errors="surrogatepass")
    )


def _raws(sample: Sample) -> Iterator[tuple[str, Any]]:
    """Views and targets that are files of their own."""
    yield from sample.views.items()
    for name, value in sample.targets.items():
        if isinstance(value, Path | bytes | np.ndarray) or callable(value):
            if not _NAME.fullmatch(name):
                raise DataError(
                    f"sample {sample.key!r}: the target {name!r} has no name for a file: small letters only"
                )
            yield name if name in FILES else f"target-{name}", value


def _plain_targets(sample: Sample) -> Iterator[tuple[str, Any]]:
    """Targets that JSON holds without loss."""
    for name, value in sample.targets.items():
        if isinstance(value, Path | bytes | np.ndarray) or callable(value):
            continue
        plain = value.item() if isinstance(value, np.generic) else value
        try:
            same = json.loads(json.dumps(plain)) == plain
        except (TypeError, ValueError):
            same = False
        if not same:
            raise DataError(
                f"sample {sample.key!r}: the target {name!r} is a {type(value).__name__}, which cannot be packed",
                "Its loader should give a number, a text, a list, a path, bytes or an array.",
            )
        yield name, plain


def _label(value: Any, names: Sequence[str]) -> str | None:
    """The name of a label that has one."""
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if known else None


def _content(key: str, field: str, raw: Any) -> tuple[bytes, str]:
    """The bytes of a view and their type."""
    if isinstance(raw, np.ndarray):
        out = io.BytesIO()
        try:
            np.lib.format.write_array(out, raw, allow_pickle=False)
        except ValueError as error:
            raise DataError(f"sample {key!r}, {field}: an array of {raw.dtype} cannot be packed: {error}") from error
        return out.getvalue(), "npy"
    suffix = ""
    if isinstance(raw, Path):
        suffix = re.sub(r"[^a-z0-9]", "", raw.suffix.lower())
        try:
            content = raw.read_bytes()
        except OSError as error:
            raise DataError(f"{raw}: {error.strerror or error} (sample {key!r}, {field})") from error
    else:
        content = _computed(key, field, raw) if callable(raw) else raw
    return content, suffix or _sniffed(content)


def _computed(key: str, field: str, raw: Callable[[], bytes]) -> bytes:
    try:
        return raw()
    except DataError:
        raise
    except Exception as error:  # whatever a loader's reading raises is about this one view
        raise DataError(f"sample {key!r}, {field}: cannot be read: {error}") from error


def _sniffed(content: bytes) -> str:
    if content[:4] == b"RIFF":
        return "webp" if content[8:12] == b"WEBP" else "wav"
    return next((kind for start, kind in _STARTS.items() if content.startswith(start)), "bin")
