"""Member names: KEY.FIELD.TYPE."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..folder.row import LABEL, MASK

TARGET = "target-"
RECORD = "json"
_FIELD = re.compile(rf"((?:{TARGET})?[a-z][a-z0-9_]*)\.([A-Za-z0-9][A-Za-z0-9.]*)")


class Name(NamedTuple):
    """A member's name in its parts; ``field`` is a modality, "label", "mask", "target-…" or "json"."""

    key: str
    field: str
    type: str


def parse(name: str) -> Name | None:
    """The parts of a name; None for hidden files, which are no data.

    Raises:
        ValueError: It names no field.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, rest = base.partition(".")
    if not stem:
        return None
    key = folder + slash + stem
    if rest == RECORD:
        return Name(key, RECORD, RECORD)
    if match := _FIELD.fullmatch(rest):
        return Name(key, match[1], match[2].lower())
    raise ValueError(f"member {name!r} names no modality; expected KEY.MODALITY.TYPE, such as {stem}.image.jpg")


def target_of(field: str) -> str | None:
    """The target that a field holds; None: it is a view."""
    if field.startswith(TARGET):
        return field.removeprefix(TARGET)
    return field if field in (LABEL, MASK) else None
