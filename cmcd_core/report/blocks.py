"""What a page of the report is made of: sections of figures, tables, sheets and words, which the template sets."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from markupsafe import Markup

MAGIC = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    kind: ClassVar[str] = "prose"
    words: str


@dataclass(frozen=True)
class Code:
    """Text to copy: a command, a configuration."""

    kind: ClassVar[str] = "code"
    words: str
    name: str


@dataclass(frozen=True)
class Figure:
    """A chart with its title above and what to see in it below.

    Attributes:
        width: Pixels that it needs to be legible; None: it shrinks with its place.
    """

    title: str
    body: Markup
    caption: str = ""
    width: int | None = None


@dataclass(frozen=True)
class Figures:
    """Figures side by side, where there is room."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]
    size: str = "medium"


@dataclass(frozen=True)
class Table:
    """A table that scrolls in its own box.

    Attributes:
        words: So many columns are words, at the left; the others are numbers.
        strong: Rows that are set bold.
    """

    kind: ClassVar[str] = "table"
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        address: A data: URI; empty: the picture is not there.
        mark: ``"query"``, ``"own"`` (the partner) or nothing.
    """

    address: str
    alt: str
    lines: Sequence[str] = ()
    mark: str = ""


@dataclass(frozen=True)
class Strip:
    """One row of a sheet."""

    name: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Sheet:
    """Pictures in rows, for looking at.

    Attributes:
        key: What colours are.
        narrow: Its rows are short: more of them stand side by side.
    """

    kind: ClassVar[str] = "sheet"
    title: str
    caption: str
    strips: Sequence[Strip]
    key: Markup = Markup("")  # noqa: RUF009
    narrow: bool = False


@dataclass(frozen=True)
class Folded:
    """What only some readers want to see."""

    kind: ClassVar[str] = "folded"
    summary: str
    blocks: Sequence[Block]


Block = Prose | Code | Figures | Table | Sheet | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page with a title of its own, which the contents list.

    Attributes:
        lead: What it shows, in a sentence or two.
    """

    name: str
    title: str
    lead: str
    blocks: Sequence[Block]


def address_of(file: Path, folder: Path) -> str:
    """A picture as a data: URI; empty where it is missing, no JPEG or PNG, or outside ``folder``."""
    inside = file.resolve()
    if not inside.is_relative_to(folder.resolve()) or not inside.is_file():
        return ""
    content = inside.read_bytes()
    kind = next((name for start, name in MAGIC.items() if content.startswith(start)), "")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if kind else ""
