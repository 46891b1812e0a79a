"""The names of classes that lie beside the data: classes.txt for labels, mask_classes.txt and the like for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cmcd_core import DataError

from .folder.row import LABEL, listing
from .folder.text import nearest, read_names

CLASSES = "classes.txt"


def label_names(root: Path, used: Mapping[str, str]) -> list[str]:
    """Class names in the order of their ids: those of classes.txt, or the labels, sorted.

    Args:
        used: Every label of the data -> where one stands, for messages.

    Raises:
        DataError: A label is not in classes.txt.
    """
    listed = read_names(root / CLASSES)
    if not listed:
        return sorted(used)
    known = set(listed)
    for name, where in used.items():
        if name not in known:
            problem = f"'{name}' is not in {CLASSES}; expected one of its {len(listed)} classes: {listing(listed)}"
            hint = f"{nearest(name, listed)}Correct the label, or add a row '{name}' to {CLASSES}."
            raise DataError(f"{where}: {problem}.", hint)
    return listed


def target_classes(root: Path, labels: Sequence[str], targets: Iterable[str]) -> dict[str, Sequence[str]]:
    """Target -> the names of its classes: the labels', and those of each other target that a file lists."""
    classes: dict[str, Sequence[str]] = {LABEL: labels} if labels else {}
    for name in sorted(targets):
        if name != LABEL and (names := read_names(root / f"{name}_{CLASSES}")):
            classes[name] = names
    return classes
