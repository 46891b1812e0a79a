"""What both layouts are read into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

SPLITS = ("train", "val", "test")
LABEL, MASK = "label", "mask"
SPLIT_ALIASES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "testing": "test",
}
MODALITY_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(slots=True)
class Row:
    """One pair, or what there is of it. Files are paths relative to the data set's folder, with '/' between."""

    key: str
    files: dict[str, str]
    mask: str | None = None
    label: str | None = None
    split: str | None = None
    weight: float = 1.0
    group: str | None = None
    line: int = 0  # in the metadata, as a text editor counts; 0 where there is none


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a layout's reader hands to the loader.

    Attributes:
        rows: In the order of the data.
        modalities: All that the data names, also those without a single file.
        labels_from: Where a label stands, for messages: a column, or the class folders.
        listed: classes.txt gives the names of these labels.
        source: The metadata file's name, or the folder.
        notes: Sentences for the user.
    """

    rows: list[Row]
    modalities: frozenset[str]
    labels_from: str
    listed: bool
    source: str
    notes: list[str] = field(default_factory=list)


def is_split_folder(name: str) -> bool:
    """Whether a folder of this name holds a split, rightly named or not."""
    return name in SPLITS or name in SPLIT_ALIASES


def is_modality_folder(name: str) -> bool:
    """Whether a folder of this name can hold a modality's files."""
    return name != MASK and not is_split_folder(name) and MODALITY_NAME.fullmatch(name) is not None


def split_meant(name: str) -> str:
    """ "Did you mean 'val'? ", or nothing."""
    known = {**SPLIT_ALIASES, **{split: split for split in SPLITS}}
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"Did you mean '{known[close[0]]}'? " if close else ""


def counted(number: int, noun: str) -> str:
    """'1 row', '2 rows'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listing(names: Sequence[str], most: int = 10) -> str:
    """'a, b, c', cut to what a person reads."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
